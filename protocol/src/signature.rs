//! Ed25519 keys and signatures, and the one rule by which a signature counts.
//!
//! Consensus depends on every node judging a signature alike, so [`PublicKey::verify`] is the only
//! place where one is checked: RFC 8032 with the strict rule of `ed25519-dalek` (canonical scalars,
//! no small-order keys or points, cofactorless equation). There is no batch verification, because
//! batch and single rules agree only under ZIP 215.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::hash::byte_id;

byte_id!(
    /// An Ed25519 public key. Any 32 bytes: a key that is not a point verifies nothing.
    PublicKey, 32
);

impl PublicKey {
    /// Whether `signature` is this key's signature of `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
        })
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Placeholder bytes for a signature not made yet; verifies under no key.
    pub const EMPTY: Self = Self([0; 64]);
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(&self.0[..4]))
    }
}

// Serde has no impl for arrays of 64 bytes; two halves encode to the same 64 bytes.
impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (left, right) = self.0.split_at(32);
        let halves: ([u8; 32], [u8; 32]) = (
            left.try_into().expect("invariant: half of 64 bytes"),
            right.try_into().expect("invariant: half of 64 bytes"),
        );
        halves.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (left, right) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&left);
        bytes[32..].copy_from_slice(&right);
        Ok(Self(bytes))
    }
}

/// A signing key. Zeroized when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key with these 32 secret bytes (RFC 8032's private key).
    #[must_use]
    pub fn from_bytes(bytes: &Zeroizing<[u8; 32]>) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The 32 secret bytes, for handing the key to a library that holds its own copy.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message. Callers sign digests made under a domain string, never a peer's raw bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_verifies() {
        let key = SecretKey::from_bytes(&Zeroizing::new([7; 32]));
        let signature = key.sign(b"message");
        assert!(key.public().verify(b"message", &signature));
        assert!(!key.public().verify(b"massage", &signature));
        assert!(!PublicKey([0; 32]).verify(b"message", &Signature::EMPTY));
        assert_eq!(format!("{key:?}"), "SecretKey(redacted)");
    }

    #[test]
    fn encodes_to_64_bytes() {
        let signature = Signature([9; 64]);
        let bytes = crate::encoding::encode(&signature);
        assert_eq!(bytes.len(), 64);
        assert_eq!(crate::encoding::decode(&bytes), Ok(signature));
    }
}
