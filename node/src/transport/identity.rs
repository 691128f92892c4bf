//! Conversions between Samara identity keys and libp2p peer ids.
//!
//! A peer id of an Ed25519 key is an identity multihash of the key's protobuf form, so it contains
//! the key and the two convert both ways without a lookup. Peers with other kinds of keys have no
//! Samara identity and are refused when they connect.

use libp2p::PeerId;
use libp2p::identity::Keypair;
use samara_protocol::signature::{PublicKey, SecretKey};

/// Identity multihash (code 0) of 36 bytes: protobuf field 1 (key type) = 1 (Ed25519), field 2 of 32 bytes.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The libp2p name of the peer with this identity key.
#[must_use]
pub fn peer_id(key: &PublicKey) -> PeerId {
    let mut bytes = [0; PREFIX.len() + 32];
    bytes[..PREFIX.len()].copy_from_slice(&PREFIX);
    bytes[PREFIX.len()..].copy_from_slice(&key.0);
    PeerId::from_bytes(&bytes).expect("invariant: an identity multihash of 36 bytes")
}

/// The identity key inside a peer id, or `None` if the peer's key is not Ed25519.
#[must_use]
pub fn public_key(peer: &PeerId) -> Option<PublicKey> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PREFIX)?;
    Some(PublicKey(key.try_into().ok()?))
}

/// libp2p's form of an identity key.
pub(super) fn keypair(secret: &SecretKey) -> Keypair {
    // libp2p zeroizes the copy that it is handed.
    Keypair::ed25519_from_bytes(secret.to_bytes().as_mut_slice())
        .expect("invariant: any 32 bytes are an Ed25519 secret key")
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::{keypair, peer_id, public_key};
    use samara_protocol::signature::{PublicKey, SecretKey};

    #[test]
    fn peer_id_is_the_key() {
        for seed in 0..32 {
            let secret = SecretKey::from_bytes(&Zeroizing::new([seed; 32]));
            let theirs = keypair(&secret).public().to_peer_id();
            assert_eq!(peer_id(&secret.public()), theirs);
            assert_eq!(public_key(&theirs), Some(secret.public()));
        }
    }

    #[test]
    fn bytes_that_are_no_point_still_convert() {
        let key = PublicKey([0xff; 32]);
        assert_eq!(public_key(&peer_id(&key)), Some(key));
    }

    #[test]
    fn other_kinds_of_keys_have_no_identity() {
        assert_eq!(public_key(&libp2p::PeerId::random()), None);
    }
}
