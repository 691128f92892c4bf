//! Who the node is: the keys that grow from its words.

use std::path::Path;
use std::sync::Arc;

use libp2p::Multiaddr;
use samara_protocol::hash::BlockHash;
use samara_protocol::keys::{KeyTree, Seed};
use samara_protocol::signature::SecretKey;
use zeroize::Zeroizing;

use crate::config::{ConfigError, NetworkFile, NodeConfig};
use crate::seed::console::ProcessConsole;
use crate::seed::source::{SeedArguments, SourceError, WordsArguments};
use crate::transport::Transport;

/// Why the node's keys are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The configuration names no source, or a wrong one.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The words cannot be read.
    #[error("cannot read the node's words")]
    Words(#[from] SourceError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// The node's keys.
pub struct Identity {
    /// Everything that grows from the words on this chain.
    pub keys: Arc<KeyTree>,
    /// The validator key, if the node has the role.
    pub validator: Option<SecretKey>,
    /// Identity on the network. A host's and a chain node's is theirs for good, because others look
    /// for it; a renter's is drawn at each start, because nobody should.
    pub node: SecretKey,
}

impl Identity {
    /// Reads the words from where the configuration says they are. May ask on the terminal.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(
        config: &NodeConfig,
        network: &NetworkFile,
        data: &Path,
    ) -> Result<Self, IdentityError> {
        let seed = seed(config, data)?;
        let keys = Arc::new(KeyTree::new(&seed, &network.genesis()?.hash()));
        let validator = config.chain.as_ref().filter(|role| role.validator);
        let validator = validator.map(|role| voting_key(&seed, role.validator_index));
        let node = if config.chain.is_some() || config.host.is_some() {
            keys.host_identity(0)
        } else {
            let mut bytes = Zeroizing::new([0u8; 32]);
            getrandom::fill(bytes.as_mut()).map_err(IdentityError::Random)?;
            SecretKey::from_bytes(&bytes)
        };
        Ok(Self { keys, validator, node })
    }

    /// The account that the node's wallet is about when it has no renter: a host's identity is its
    /// account.
    pub fn account(&self, config: &NodeConfig) -> SecretKey {
        if config.host.is_some() { self.keys.host_identity(0) } else { self.keys.account(0) }
    }
}

/// The seed of the node's words.
fn seed(config: &NodeConfig, data: &Path) -> Result<Seed, IdentityError> {
    let (words_from, sealing_passphrase_from, seed_passphrase_from) = config.words.sources(data)?;
    let arguments = SeedArguments {
        words: WordsArguments {
            words_from: Some(words_from),
            sealing_passphrase_from: Some(sealing_passphrase_from),
        },
        seed_passphrase_from: Some(seed_passphrase_from),
    };
    Ok(arguments.read(&mut ProcessConsole)?)
}

/// The first validators' keys are part of the genesis document, so no validator's key can depend on it.
/// Votes name the chain themselves.
fn voting_key(seed: &Seed, index: u32) -> SecretKey {
    KeyTree::new(seed, &BlockHash::default()).validator(index)
}

/// The validator key of a data folder, whether it votes or not, by the index that is given or
/// configured. May ask on the terminal.
///
/// # Errors
/// [`IdentityError`].
pub fn validator_key(
    config: &NodeConfig,
    data: &Path,
    index: Option<u32>,
) -> Result<SecretKey, IdentityError> {
    let configured = config.chain.as_ref().map_or(0, |role| role.validator_index);
    Ok(voting_key(&seed(config, data)?, index.unwrap_or(configured)))
}

/// Reads multiaddresses.
///
/// # Errors
/// [`ConfigError::Value`] naming the key and the text.
pub fn addresses(key: &'static str, texts: &[String]) -> Result<Vec<Multiaddr>, ConfigError> {
    let parse = |text: &String| {
        text.parse().map_err(|error: libp2p::multiaddr::Error| ConfigError::Value {
            key,
            value: text.clone(),
            reason: format!("{error}; write it as in /ip4/127.0.0.1/tcp/9981"),
        })
    };
    texts.iter().map(parse).collect()
}

/// What others are told to dial: the configured external addresses, or those listened on.
pub fn external(config: &NodeConfig, transport: &Transport) -> Vec<String> {
    if config.external.is_empty() {
        transport.listen_addresses().iter().map(ToString::to_string).collect()
    } else {
        config.external.clone()
    }
}
