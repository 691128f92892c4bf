//! The network file: what a node must know of a network before it can join.

use std::path::Path;

use samara_protocol::chain::{ChainParameters, Genesis, Validator, ValidatorSet};
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, ChainTime, Millis};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Genesis document, chain peers, and on test networks a faucet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// The chain's name.
    pub name: String,
    /// The chain's time before the first block, milliseconds since the Unix epoch.
    pub genesis_time: u64,
    /// Hex secret of an account that gives money to whoever asks. Test networks only: whoever reads
    /// this file can spend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_faucet: Option<String>,
    /// Nodes that serve the chain to light nodes.
    #[serde(default)]
    pub peers: Vec<ChainPeer>,
    /// Multiaddresses of consensus engines, for nodes with the chain role.
    #[serde(default)]
    pub consensus_peers: Vec<String>,
    /// The first validators.
    pub validators: Vec<GenesisValidator>,
    /// Balances before the first block.
    #[serde(default)]
    pub allocations: Vec<Allocation>,
    /// The chain's rules.
    pub parameters: Parameters,
}

/// A node that serves the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainPeer {
    /// Its identity key, hex.
    pub key: String,
    /// Its multiaddress.
    pub address: String,
}

/// A validator of the first set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// Its key, hex.
    pub key: String,
    /// Weight of its vote.
    pub power: u64,
}

/// A balance at genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// The account's key, hex.
    pub account: String,
    /// Coins, as in `2.5`.
    pub coins: String,
}

/// Rules of the chain in units that people write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Longest time between blocks, milliseconds.
    pub heartbeat_ms: u64,
    /// Least fee, coins.
    pub minimum_fee: String,
    /// Shortest proof period, milliseconds.
    pub minimum_period_ms: u64,
    /// Shortest proof window, milliseconds.
    pub minimum_window_ms: u64,
    /// Fewest blocks before a window closes.
    pub minimum_window_blocks: u32,
    /// Most transactions in a block.
    pub block_transactions: u32,
    /// Most bytes of transactions in a block.
    pub block_bytes: u32,
    /// Most deadlines processed in a block.
    pub block_deadlines: u32,
}

impl From<&ChainParameters> for Parameters {
    fn from(parameters: &ChainParameters) -> Self {
        Self {
            heartbeat_ms: parameters.heartbeat.0,
            minimum_fee: parameters.minimum_fee.to_string(),
            minimum_period_ms: parameters.minimum_period.0,
            minimum_window_ms: parameters.minimum_window.0,
            minimum_window_blocks: parameters.minimum_window_blocks,
            block_transactions: parameters.block_transactions,
            block_bytes: parameters.block_bytes,
            block_deadlines: parameters.block_deadlines,
        }
    }
}

impl NetworkFile {
    /// Reads a network file.
    ///
    /// # Errors
    /// [`ConfigError`] when the file is missing or malformed.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            action: "read the network file",
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| ConfigError::Malformed {
            what: "network file",
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`ConfigError::File`].
    pub fn write(&self, path: &Path) -> Result<(), ConfigError> {
        let text = toml::to_string_pretty(self).map_err(|error| ConfigError::Malformed {
            what: "network file",
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        std::fs::write(path, text).map_err(|source| ConfigError::File {
            action: "write the network file",
            path: path.to_owned(),
            source,
        })
    }

    /// The genesis document that the file describes.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a key, an amount or a validator set that is none.
    pub fn genesis(&self) -> Result<Genesis, ConfigError> {
        let validators = self
            .validators
            .iter()
            .map(|v| Ok(Validator { key: key("validators.key", &v.key)?, power: v.power }))
            .collect::<Result<Vec<_>, ConfigError>>()?;
        let validators = ValidatorSet::new(validators).map_err(|error| ConfigError::Value {
            key: "validators",
            value: format!("{} validators", self.validators.len()),
            reason: error.to_string(),
        })?;
        let allocations = self
            .allocations
            .iter()
            .map(|a| {
                Ok((key("allocations.account", &a.account)?, coins("allocations.coins", &a.coins)?))
            })
            .collect::<Result<Vec<_>, ConfigError>>()?;
        let rules = &self.parameters;
        let parameters = ChainParameters {
            heartbeat: Millis(rules.heartbeat_ms),
            minimum_fee: coins("parameters.minimum_fee", &rules.minimum_fee)?,
            minimum_period: Millis(rules.minimum_period_ms),
            minimum_window: Millis(rules.minimum_window_ms),
            minimum_window_blocks: rules.minimum_window_blocks,
            block_transactions: rules.block_transactions,
            block_bytes: rules.block_bytes,
            block_deadlines: rules.block_deadlines,
        };
        Ok(Genesis {
            version: Genesis::VERSION,
            name: self.name.clone(),
            time: ChainTime(self.genesis_time),
            validators,
            allocations,
            parameters,
        })
    }
}

impl ChainPeer {
    /// The peer's key.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if it is none.
    pub fn public_key(&self) -> Result<PublicKey, ConfigError> {
        key("peers.key", &self.key)
    }
}

fn key(name: &'static str, text: &str) -> Result<PublicKey, ConfigError> {
    text.parse().map_err(|error: samara_protocol::hash::ParseIdError| ConfigError::Value {
        key: name,
        value: text.to_owned(),
        reason: error.to_string(),
    })
}

fn coins(name: &'static str, text: &str) -> Result<Amount, ConfigError> {
    text.parse().map_err(|error: samara_protocol::units::ParseAmountError| ConfigError::Value {
        key: name,
        value: text.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> NetworkFile {
        NetworkFile {
            name: "test".into(),
            genesis_time: 1,
            test_faucet: None,
            peers: vec![],
            consensus_peers: vec![],
            validators: vec![GenesisValidator { key: "01".repeat(32), power: 1 }],
            allocations: vec![Allocation { account: "02".repeat(32), coins: "1.5".into() }],
            parameters: Parameters::from(&ChainParameters::default()),
        }
    }

    #[test]
    fn the_file_fixes_the_genesis() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.toml");
        file().write(&path).unwrap();
        let read = NetworkFile::read(&path).unwrap();
        assert_eq!(read, file());
        assert_eq!(read.genesis().unwrap().hash(), file().genesis().unwrap().hash());
        assert_eq!(read.genesis().unwrap().parameters, ChainParameters::default());
    }

    #[test]
    fn a_bad_key_is_named() {
        let mut bad = file();
        bad.validators[0].key = "xyz".into();
        let error = bad.genesis().unwrap_err().to_string();
        assert!(error.contains("validators.key") && error.contains("xyz"), "{error}");
    }
}
