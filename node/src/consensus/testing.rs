//! What tests of consensus share: keys, and nodes on loopback.

use std::path::Path;
use std::time::Duration;

use libp2p::Multiaddr;
use samara_protocol::signature::SecretKey;
use zeroize::Zeroizing;

use super::{ConsensusConfig, Role};

/// Far more than a test takes; only a hang reaches it.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// The key with this number.
pub fn key(index: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([index + 1; 32]))
}

/// A node on a free port of 127.0.0.1 that votes with the key of its number, or follows.
pub fn config(index: u8, voting: bool, folder: &Path, peers: &[Multiaddr]) -> ConsensusConfig {
    ConsensusConfig {
        folder: folder.to_owned(),
        name: format!("node {index}"),
        listen: "/ip4/127.0.0.1/tcp/0".parse().unwrap(),
        peers: peers.to_vec(),
        network_key: key(index + 100),
        role: if voting { Role::Validator(Box::new(key(index))) } else { Role::FullNode },
        propose_timeout: ConsensusConfig::PROPOSE_TIMEOUT,
    }
}
