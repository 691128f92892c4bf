//! What a local network consists of, and its folders and files before the first start.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use samara_protocol::chain::ChainParameters;
use samara_protocol::hash::BlockHash;
use samara_protocol::keys::{KeyTree, Phrase};
use samara_protocol::signature::SecretKey;
use zeroize::Zeroizing;

use super::error::TestnetError;
use crate::config::network::{Allocation, GenesisValidator, Parameters};
use crate::config::{ChainConfig, ChainPeer, NetworkFile, NodeConfig, RenterConfig, WordsConfig};
use crate::data::NEW_VALIDATOR;
use crate::host::{ByteCount, HostConfig, VolumeConfig};
use crate::seed::command::WordCount;
use crate::seed::{command, store};

/// How many nodes of each kind, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The network's folder.
    pub folder: PathBuf,
    /// Validators, at least 1.
    pub validators: usize,
    /// Hosts.
    pub hosts: usize,
    /// Renters.
    pub renters: usize,
    /// Bytes that each host offers.
    pub host_capacity: u64,
    /// The chain's rules.
    pub parameters: ChainParameters,
}

impl Plan {
    /// A network that reacts fast: what tests and people at a terminal want.
    #[must_use]
    pub fn local(folder: PathBuf, validators: usize, hosts: usize, renters: usize) -> Self {
        Self {
            folder,
            validators,
            hosts,
            renters,
            host_capacity: HOST_CAPACITY,
            parameters: ChainParameters::default(),
        }
    }
}

/// Bytes that a host of a local network offers: more than anybody stores there, as nothing is
/// reserved on disk.
const HOST_CAPACITY: u64 = 1_000_000_000_000;

/// What a node of a local network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Votes, and serves the chain.
    Validator,
    /// Stores sectors.
    Host,
    /// Stores files.
    Renter,
}

impl Role {
    /// The role's name in folder names and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Host => "host",
            Self::Renter => "renter",
        }
    }
}

/// One node's place in the network.
#[derive(Clone, Debug)]
pub struct NodePlace {
    /// What it is for.
    pub role: Role,
    /// Its number among its kind, from 0.
    pub number: usize,
    /// Its data folder.
    pub folder: PathBuf,
}

impl NodePlace {
    /// Its name: `host-3`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.role.name(), self.number)
    }

    /// The file with its words, readable by the owner only.
    #[must_use]
    pub fn words(&self) -> PathBuf {
        self.folder.join("words")
    }

    /// Where a host keeps sectors.
    #[must_use]
    pub fn sectors(&self) -> PathBuf {
        self.folder.join("sectors")
    }

    /// What it logs.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// The file with the names of all nodes that were made.
const NODES: &str = "nodes";

/// A network on disk.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its folder.
    pub folder: PathBuf,
    /// Its nodes: validators, hosts, renters.
    pub nodes: Vec<NodePlace>,
    /// Nodes that it once had, and whose folders are gone.
    pub deleted: Vec<NodePlace>,
}

impl Layout {
    /// The network's file.
    #[must_use]
    pub fn network_file(&self) -> PathBuf {
        self.folder.join("network.toml")
    }

    /// Nodes of one kind, in order.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &NodePlace> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// Finds the nodes of a network made before.
    ///
    /// # Errors
    /// [`TestnetError::NoNetwork`] when there is none in the folder.
    pub fn find(folder: &Path) -> Result<Self, TestnetError> {
        if !folder.join("network.toml").is_file() {
            return Err(TestnetError::NoNetwork(folder.to_owned()));
        }
        let made = std::fs::read_to_string(folder.join(NODES)).unwrap_or_default();
        let (mut nodes, mut deleted) = (Vec::new(), Vec::new());
        for role in [Role::Validator, Role::Host, Role::Renter] {
            // Folders may have been deleted: a network is there to lose nodes.
            let there = numbers(folder, role)?;
            let once: BTreeSet<usize> =
                made.lines().filter_map(|name| number(name, role)).collect();
            let place = |number: &usize| {
                let folder = folder.join(format!("{}-{number}", role.name()));
                NodePlace { role, number: *number, folder }
            };
            nodes.extend(there.iter().map(place));
            deleted.extend(once.difference(&there).map(place));
        }
        Ok(Self { folder: folder.to_owned(), nodes, deleted })
    }

    /// Writes words, configurations and the network file of a new network.
    ///
    /// # Errors
    /// [`TestnetError`] when the folder holds a network already or cannot be written.
    pub fn create(plan: &Plan) -> Result<Self, TestnetError> {
        let folder = std::path::absolute(&plan.folder)
            .map_err(|source| TestnetError::File { path: plan.folder.clone(), source })?;
        if folder.join("network.toml").exists() {
            return Err(TestnetError::Exists(folder));
        }
        let nodes = places(&folder, plan);
        let layout = Self { folder, nodes, deleted: Vec::new() };
        let phrases = layout.draw_words()?;
        let faucet = draw_secret()?;
        let ports = Ports::draw(2 * plan.validators)?;
        let network = layout.network(plan, &phrases, &faucet, &ports)?;
        for place in &layout.nodes {
            layout
                .configuration(place, plan, &network, &ports)
                .write(&place.folder.join("samara.toml"))?;
            if place.role == Role::Validator {
                let marker = place.folder.join(NEW_VALIDATOR);
                std::fs::write(&marker, "")
                    .map_err(|source| TestnetError::File { path: marker, source })?;
            }
        }
        layout.write_names()?;
        network.write(&layout.network_file())?;
        Ok(layout)
    }

    /// Makes a folder for one more renter with known words: an empty machine, as after a loss.
    ///
    /// # Errors
    /// [`TestnetError`] when the folder cannot be written.
    pub fn add_renter(&mut self, phrase: &Phrase) -> Result<NodePlace, TestnetError> {
        let all = self.nodes.iter().chain(&self.deleted);
        let renters = all.filter(|place| place.role == Role::Renter);
        let number = renters.map(|place| place.number + 1).max().unwrap_or(0);
        let folder = self.folder.join(format!("{}-{number}", Role::Renter.name()));
        let place = NodePlace { role: Role::Renter, number, folder };
        std::fs::create_dir_all(&place.folder)
            .map_err(|source| TestnetError::File { path: place.folder.clone(), source })?;
        store::store_plain(&place.words(), phrase)
            .map_err(|error| TestnetError::Words(error.to_string()))?;
        let config =
            NodeConfig { renter: Some(RenterConfig::default()), ..self.basic_configuration() };
        config.write(&place.folder.join("samara.toml"))?;
        self.nodes.push(place.clone());
        self.write_names()?;
        Ok(place)
    }

    /// Writes down which nodes there are, so that one whose folder is gone is missed.
    fn write_names(&self) -> Result<(), TestnetError> {
        let path = self.folder.join(NODES);
        let names = self.nodes.iter().chain(&self.deleted).map(|place| place.name() + "\n");
        std::fs::write(&path, names.collect::<String>())
            .map_err(|source| TestnetError::File { path, source })
    }

    fn draw_words(&self) -> Result<Vec<Phrase>, TestnetError> {
        let mut phrases = Vec::new();
        for place in &self.nodes {
            std::fs::create_dir_all(&place.folder)
                .map_err(|source| TestnetError::File { path: place.folder.clone(), source })?;
            let phrase = command::draw(WordCount::Twelve)
                .map_err(|error| TestnetError::Words(error.to_string()))?;
            store::store_plain(&place.words(), &phrase)
                .map_err(|error| TestnetError::Words(error.to_string()))?;
            phrases.push(phrase);
        }
        Ok(phrases)
    }

    fn network(
        &self,
        plan: &Plan,
        phrases: &[Phrase],
        faucet: &SecretKey,
        ports: &Ports,
    ) -> Result<NetworkFile, TestnetError> {
        let seeds: Vec<_> =
            phrases.iter().take(plan.validators).map(|phrase| phrase.seed("")).collect();
        let validators = seeds
            .iter()
            // Keys of the first validators are part of the genesis document and so cannot depend on it.
            .map(|seed| KeyTree::new(seed, &BlockHash::default()).validator(0).public())
            .map(|key| GenesisValidator { key: key.to_string(), power: 1 })
            .collect();
        let mut network = NetworkFile {
            name: format!("samara-local-{}", hex::encode(&faucet.public().0[..4])),
            genesis_time: crate::clock::now().0,
            test_faucet: Some(hex::encode(*faucet.to_bytes())),
            peers: Vec::new(),
            consensus_peers: Vec::new(),
            validators,
            allocations: vec![Allocation {
                account: faucet.public().to_string(),
                coins: "1000000000".to_owned(),
            }],
            parameters: Parameters::from(&plan.parameters),
        };
        let genesis = network.genesis()?.hash();
        for (number, seed) in seeds.iter().enumerate() {
            let identity = KeyTree::new(seed, &genesis).host_identity(0).public();
            network
                .peers
                .push(ChainPeer { key: identity.to_string(), address: ports.address(2 * number) });
            network.consensus_peers.push(ports.address(2 * number + 1));
        }
        Ok(network)
    }

    /// What all nodes have in common.
    fn basic_configuration(&self) -> NodeConfig {
        NodeConfig {
            network: self.network_file(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            words: WordsConfig {
                from: "file:words".to_owned(),
                sealing_passphrase: "none".to_owned(),
                seed_passphrase: "none".to_owned(),
            },
            ..NodeConfig::default()
        }
    }

    fn configuration(
        &self,
        place: &NodePlace,
        plan: &Plan,
        network: &NetworkFile,
        ports: &Ports,
    ) -> NodeConfig {
        let mut config = self.basic_configuration();
        match place.role {
            Role::Validator => {
                let own = ports.address(2 * place.number + 1);
                config.listen = vec![ports.address(2 * place.number)];
                config.chain = Some(ChainConfig {
                    validator: true,
                    consensus_peers: network
                        .consensus_peers
                        .iter()
                        .filter(|peer| **peer != own)
                        .cloned()
                        .collect(),
                    consensus_listen: own,
                    ..ChainConfig::default()
                });
            }
            Role::Host => {
                config.host = Some(HostConfig {
                    volumes: vec![VolumeConfig {
                        path: place.sectors(),
                        limit: ByteCount(plan.host_capacity),
                    }],
                    // An operator gets one shard of a slab if there are enough; here each host is its own.
                    operator: place.name(),
                    ..HostConfig::default()
                });
            }
            Role::Renter => config.renter = Some(RenterConfig::default()),
        }
        config
    }
}

/// Numbers of the nodes of one kind that have a folder, in order.
fn numbers(folder: &Path, role: Role) -> Result<BTreeSet<usize>, TestnetError> {
    let fail = |source| TestnetError::File { path: folder.to_owned(), source };
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| number(name, role));
        if entry.path().is_dir() {
            numbers.extend(number);
        }
    }
    Ok(numbers)
}

/// The number in the name of a node of one kind.
fn number(name: &str, role: Role) -> Option<usize> {
    let suffix = name.strip_prefix(role.name())?.strip_prefix('-')?;
    suffix.parse().ok().filter(|number: &usize| number.to_string() == suffix)
}

fn places(folder: &Path, plan: &Plan) -> Vec<NodePlace> {
    let kinds = [
        (Role::Validator, plan.validators),
        (Role::Host, plan.hosts),
        (Role::Renter, plan.renters),
    ];
    kinds
        .into_iter()
        .flat_map(|(role, count)| (0..count).map(move |number| (role, number)))
        .map(|(role, number)| NodePlace {
            role,
            number,
            folder: folder.join(format!("{}-{number}", role.name())),
        })
        .collect()
}

fn draw_secret() -> Result<SecretKey, TestnetError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|error| TestnetError::Words(error.to_string()))?;
    Ok(SecretKey::from_bytes(&bytes))
}

/// Ports that were free a moment ago, all different.
struct Ports(Vec<u16>);

impl Ports {
    fn draw(count: usize) -> Result<Self, TestnetError> {
        let fail = |source| TestnetError::File { path: PathBuf::from("127.0.0.1"), source };
        // All are held until the last is found, so that none is given twice.
        let held = (0..count)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail)?;
        held.iter()
            .map(|listener| listener.local_addr().map(|address| address.port()))
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
            .map_err(fail)
    }

    fn address(&self, index: usize) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.0[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_folder_is_gone_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::local(folder.path().join("net"), 1, 3, 1);
        let layout = Layout::create(&plan).unwrap();
        std::fs::remove_dir_all(&layout.of(Role::Host).nth(1).unwrap().folder).unwrap();
        let found = Layout::find(&layout.folder).unwrap();
        let names = |places: &[NodePlace]| places.iter().map(NodePlace::name).collect::<Vec<_>>();
        assert_eq!(names(&found.nodes), ["validator-0", "host-0", "host-2", "renter-0"]);
        assert_eq!(names(&found.deleted), ["host-1"]);
        // One that was made before the names were written down is there all the same.
        std::fs::remove_file(layout.folder.join(NODES)).unwrap();
        assert_eq!(Layout::find(&layout.folder).unwrap().nodes.len(), 4);
    }
}
