//! Configuration: one TOML file, overlaid by `SAMARA_*` environment variables and flags.
//!
//! Unknown keys are refused with the line and a caret under the key. A table that is present switches
//! its role on; a node may have several roles.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use samara_protocol::sector::SectorSize;
use samara_protocol::units::Millis;
use samara_renter::contract::LineRates;
use samara_renter::garbage::GarbageOptions;
use samara_renter::repair::RepairOptions;
use serde::{Deserialize, Serialize};

use crate::fetch::Network;
use crate::host::{ByteCount, HostConfig};

use crate::seed::source::{PassphraseSource, SeedSource};

pub mod folders;
pub mod network;
mod public_url;

pub use network::{ChainPeer, NetworkFile};
pub use public_url::{PublicUrl, PublicUrlError};

/// A configuration with all defaults and explanations.
pub const SAMPLE: &str = include_str!("samara.toml");

/// What `samara node` is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// The network file: genesis document and chain peers.
    pub network: PathBuf,
    /// Multiaddresses to listen on for other nodes.
    pub listen: Vec<String>,
    /// Addresses that others are told, if they differ from the ones listened on.
    pub external: Vec<String>,
    /// Address of the local HTTP API.
    pub api: SocketAddr,
    /// Under which address others reach it, through a proxy: what download links begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<PublicUrl>,
    /// Where this node's words come from.
    pub words: WordsConfig,
    /// Follows the chain in full and serves it to light nodes.
    pub chain: Option<ChainConfig>,
    /// Stores sectors for others.
    pub host: Option<HostConfig>,
    /// Stores files with hosts.
    pub renter: Option<RenterConfig>,
}

/// Where the words come from. Never from the command line itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WordsConfig {
    /// `prompt`, `stdin`, `environment`, `file:PATH` or `sealed:PATH`; a path is relative to the
    /// data folder.
    pub from: String,
    /// Passphrase of a sealed file: `none`, `prompt`, `environment` or `file:PATH`.
    pub sealing_passphrase: String,
    /// Passphrase of the words themselves (BIP39): `none`, `prompt`, `environment` or `file:PATH`.
    pub seed_passphrase: String,
}

/// The chain role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainConfig {
    /// Whether this node votes when the validator set lists its key; else it only follows.
    pub validator: bool,
    /// Which validator key of the words it votes with. A node that was recovered keeps it: it follows
    /// first, and votes two blocks past the others' tips. A new one only where the chain cannot go on
    /// without it.
    pub validator_index: u32,
    /// Multiaddress for the consensus engine's own connections.
    pub consensus_listen: String,
    /// Multiaddresses of other nodes' engines.
    pub consensus_peers: Vec<String>,
}

/// The renter role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RenterConfig {
    /// Smallest sector in bytes; a power of two from 16 KiB.
    pub minimum_sector: Option<u32>,
    /// Largest sector in bytes; a power of two up to 4 MiB.
    pub maximum_sector: Option<u32>,
    /// Seconds between two looks at the health of slabs.
    pub health_seconds: u64,
    /// Seconds for which a host may be silent before its shards count as missing.
    pub silence_seconds: u64,
    /// Bytes of sectors that are sent to hosts in a second, whatever for; 0 for no limit.
    pub upload_rate: ByteCount,
    /// Bytes of sectors that are fetched from hosts in a second, whatever for; 0 for no limit.
    pub download_rate: ByteCount,
    /// Bytes a second that repair moves at most; 0 for no repair.
    pub repair_rate: ByteCount,
    /// Bytes an hour that audits read at most; 0 for no audits.
    pub audit_bytes: ByteCount,
    /// Reads an hour that audits make at most; 0 for no audits.
    pub audit_requests: u64,
    /// Bytes of files in a second, on average, that garbage collection may rewrite; 0 for none.
    pub rewrite_rate: ByteCount,
    /// Networks of the operator's own from which files may be fetched by URL, and where webhooks may
    /// be, though their addresses are not public.
    pub allowed_networks: Vec<Network>,
}

impl Default for RenterConfig {
    fn default() -> Self {
        let repair = RepairOptions::default();
        Self {
            minimum_sector: None,
            maximum_sector: None,
            health_seconds: repair.interval.0 / 1_000,
            silence_seconds: repair.patience.0 / 1_000,
            upload_rate: ByteCount(0),
            download_rate: ByteCount(0),
            repair_rate: ByteCount(repair.bandwidth),
            audit_bytes: ByteCount(repair.audit_bytes),
            audit_requests: repair.audit_requests,
            rewrite_rate: ByteCount(GarbageOptions::default().rewrite_rate),
            allowed_networks: Vec::new(),
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            network: PathBuf::from("network.toml"),
            listen: vec!["/ip4/0.0.0.0/tcp/0".to_owned()],
            external: Vec::new(),
            api: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_url: None,
            words: WordsConfig::default(),
            chain: None,
            host: None,
            renter: None,
        }
    }
}

impl Default for WordsConfig {
    fn default() -> Self {
        Self {
            from: "sealed:words.sealed".to_owned(),
            sealing_passphrase: "prompt".to_owned(),
            seed_passphrase: "none".to_owned(),
        }
    }
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            validator: false,
            validator_index: 0,
            consensus_listen: "/ip4/0.0.0.0/tcp/0".to_owned(),
            consensus_peers: Vec::new(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not a valid {what}:\n{reason}", path = .path.display())]
    Malformed {
        /// Which kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Line, caret and reason.
        reason: String,
    },
    /// A value has no meaning.
    #[error("{key} = \"{value}\": {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The system has no home folder to derive others from.
    #[error("there is no home folder; name a data folder with --data")]
    NoHome,
}

impl NodeConfig {
    /// Reads a configuration file; paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`] when the file is missing, is not TOML, or has unknown keys or senseless values.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            action: "read the configuration",
            path: path.to_owned(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Malformed {
            what: "configuration",
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(config)
    }

    /// Writes the configuration as TOML.
    ///
    /// # Errors
    /// [`ConfigError::File`].
    pub fn write(&self, path: &Path) -> Result<(), ConfigError> {
        let text = toml::to_string_pretty(self).map_err(|error| ConfigError::Malformed {
            what: "configuration",
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        std::fs::write(path, text).map_err(|source| ConfigError::File {
            action: "write the configuration",
            path: path.to_owned(),
            source,
        })
    }
}

impl RenterConfig {
    /// The renter's own settings.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a sector size that is none.
    pub fn to_renter(&self) -> Result<samara_renter::RenterConfig, ConfigError> {
        let size = |key, bytes: Option<u32>, default: SectorSize| match bytes {
            None => Ok(default),
            Some(bytes) => SectorSize::new(u64::from(bytes))
                .ok()
                .filter(|size| *size >= SectorSize::HOST_MIN)
                .ok_or_else(|| ConfigError::Value {
                    key,
                    value: bytes.to_string(),
                    reason: "sectors have a power of two from 16384 to 4194304 bytes".to_owned(),
                }),
        };
        let mut config = samara_renter::RenterConfig::default();
        let transfer = &mut config.transfer;
        transfer.minimum_column =
            size("renter.minimum_sector", self.minimum_sector, transfer.minimum_column)?;
        transfer.maximum_column =
            size("renter.maximum_sector", self.maximum_sector, transfer.maximum_column)?;
        config.repair = RepairOptions {
            interval: Millis::seconds(self.health_seconds.max(1)),
            patience: Millis::seconds(self.silence_seconds),
            bandwidth: self.repair_rate.0,
            audit_bytes: self.audit_bytes.0,
            audit_requests: self.audit_requests,
            ..config.repair
        };
        config.garbage.rewrite_rate = self.rewrite_rate.0;
        config.line = LineRates { upload: self.upload_rate.0, download: self.download_rate.0 };
        Ok(config)
    }
}

impl WordsConfig {
    /// The sources that the texts name, paths resolved against the data folder.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a text that names no source.
    pub fn sources(
        &self,
        data: &Path,
    ) -> Result<(SeedSource, PassphraseSource, PassphraseSource), ConfigError> {
        let resolve = |text: &str| match text.split_once(':') {
            Some((kind, path)) => format!("{kind}:{}", data.join(path).display()),
            None => text.to_owned(),
        };
        fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
            key: &'static str,
            text: String,
        ) -> Result<T, ConfigError> {
            text.parse().map_err(|error: T::Err| ConfigError::Value {
                key,
                value: text.clone(),
                reason: error.to_string(),
            })
        }
        Ok((
            parse("words.from", resolve(&self.from))?,
            parse("words.sealing_passphrase", resolve(&self.sealing_passphrase))?,
            parse("words.seed_passphrase", resolve(&self.seed_passphrase))?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_shown_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samara.toml");
        std::fs::write(&path, "api = \"127.0.0.1:0\"\nlissten = []\n").unwrap();
        let error = NodeConfig::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("lissten"), "{error}");
    }

    #[test]
    fn the_sample_says_the_defaults() {
        let read: NodeConfig = toml::from_str(SAMPLE).unwrap();
        assert_eq!(
            toml::to_string(&read).unwrap(),
            toml::to_string(&NodeConfig::default()).unwrap()
        );
        // What is commented out must be valid as well: tables and keys have no space after `# `
        // but in their values.
        let lines: Vec<String> = SAMPLE
            .lines()
            .filter_map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.starts_with('[') || is_setting(setting) => {
                    Some(setting.to_owned())
                }
                Some(_) => None,
                None => Some(line.to_owned()),
            })
            .collect();
        let read: NodeConfig = toml::from_str(&lines.join("\n")).unwrap();
        assert!(read.chain.is_some() && read.host.is_some() && read.renter.is_some());
    }

    fn is_setting(line: &str) -> bool {
        line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samara.toml");
        let config = NodeConfig { chain: Some(ChainConfig::default()), ..NodeConfig::default() };
        config.write(&path).unwrap();
        let read = NodeConfig::read(&path).unwrap();
        assert_eq!(toml::to_string(&read).unwrap(), toml::to_string(&config).unwrap());
    }

    #[test]
    fn a_word_source_without_meaning_is_refused_by_its_key() {
        let words = WordsConfig { from: "thin air".to_owned(), ..WordsConfig::default() };
        let error = words.sources(Path::new("/data")).unwrap_err().to_string();
        assert!(error.contains("words.from") && error.contains("thin air"), "{error}");
    }
}
