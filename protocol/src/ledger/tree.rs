//! The authenticated tree over the state: roots, proofs, and their check.
//!
//! A Jellyfish Merkle tree ([`jmt`]) with plain BLAKE3 as its hash. A value's place is the BLAKE3 hash
//! of its encoded [`StateKey`], its leaf commits to the BLAKE3 hash of its encoded value, and the
//! tree's version is the block's height. Only this module knows jmt; the store sees opaque bytes.

use std::collections::{BTreeMap, BTreeSet};

use jmt::proof::SparseMerkleProof;
use jmt::storage::{LeafNode, NibblePath, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, SimpleHasher, Version};

use super::reader::{StateError, StateReader};
use super::state::{StateKey, StateProof};
use crate::encoding::{self, DecodeError};
use crate::hash::Digest;
use crate::units::Height;

/// Plain BLAKE3 behind jmt's hasher trait.
struct Blake3(blake3::Hasher);

impl SimpleHasher for Blake3 {
    fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// A store's nodes, as jmt reads them.
struct Nodes<'a, R: ?Sized>(&'a R);

impl<R: StateReader + ?Sized> TreeReader for Nodes<'_, R> {
    fn get_node_option(&self, node_key: &NodeKey) -> anyhow::Result<Option<Node>> {
        let Some(bytes) = self.0.node(&encode_node_key(node_key))? else { return Ok(None) };
        Ok(Some(encoding::decode(&bytes)?))
    }

    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        // Asked only to hand the value back beside its proof, and nobody here looks at it.
        Ok(Some(Vec::new()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("the state tree is never restored from leaves")
    }
}

/// What an update of the tree leaves.
pub(super) struct TreeUpdate {
    /// Root after the update.
    pub root: Digest,
    /// New nodes.
    pub nodes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Nodes that the new tree no longer reaches.
    pub stale_nodes: BTreeSet<Vec<u8>>,
}

/// Applies changed values to the tree of the height before.
pub(super) fn update<R: StateReader + ?Sized>(
    reader: &R,
    height: Height,
    values: &BTreeMap<StateKey, Option<Vec<u8>>>,
) -> Result<TreeUpdate, StateError> {
    let nodes = Nodes(reader);
    // jmt takes a missing root for an empty tree; a store that lost it must not get away with that.
    let below = height.0.checked_sub(1).map(|version| NodeKey::new(version, root_path()));
    if let Some(below) = &below {
        nodes.get_node(below).map_err(|error| tree_error(height, error))?;
    }
    let entries = values.iter().map(|(key, value)| (key_hash(key), value.clone()));
    let (root, batch) = JellyfishMerkleTree::<_, Blake3>::new(&nodes)
        .put_value_set(entries, height.0)
        .map_err(|error| tree_error(height, error))?;
    let mut stale_nodes: BTreeSet<_> =
        batch.stale_node_index_batch.iter().map(|stale| encode_node_key(&stale.node_key)).collect();
    if let Some(below) = &below {
        // jmt copies the root of an unchanged tree without calling the old one stale.
        stale_nodes.insert(encode_node_key(below));
    }
    let nodes = batch
        .node_batch
        .nodes()
        .iter()
        .map(|(key, node)| (encode_node_key(key), encoding::encode(node)))
        .collect();
    Ok(TreeUpdate { root: Digest(root.0), nodes, stale_nodes })
}

/// Proves that a key has its value, or has none, in the state after `height`.
///
/// # Errors
/// [`StateError`] when the tree of that height was pruned or cannot be read.
pub fn prove<R: StateReader + ?Sized>(
    reader: &R,
    height: Height,
    key: &StateKey,
) -> Result<StateProof, StateError> {
    let (_, proof) = JellyfishMerkleTree::<_, Blake3>::new(&Nodes(reader))
        .get_with_proof(key_hash(key), height.0)
        .map_err(|error| tree_error(height, error))?;
    Ok(StateProof(encoding::encode(&proof)))
}

/// Why a state proof proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The proof does not decode.
    #[error("the proof of {key:?} cannot be read")]
    Malformed {
        /// The key in question.
        key: StateKey,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The proof does not lead from this value to the root.
    #[error("the proof of {key:?} does not hold under state root {root}: {reason}")]
    False {
        /// The key in question.
        key: StateKey,
        /// The root it should lead to.
        root: Digest,
        /// The tree's own words.
        reason: String,
    },
}

impl StateProof {
    /// Most bytes of an encoded proof: a leaf and 256 siblings of at most 66 bytes each.
    pub const MAX_BYTES: usize = 17 * 1024;
}

/// Checks that `key` has `value`, or has none, under a header's state root.
///
/// # Errors
/// [`ProofError`] when the proof is malformed or proves something else.
pub fn verify_proof(
    state_root: &Digest,
    key: &StateKey,
    value: Option<&[u8]>,
    proof: &StateProof,
) -> Result<(), ProofError> {
    let decoded: SparseMerkleProof<Blake3> =
        encoding::decode_limited(&proof.0, StateProof::MAX_BYTES)
            .map_err(|source| ProofError::Malformed { key: *key, source })?;
    decoded.verify(RootHash(state_root.0), key_hash(key), value).map_err(|error| {
        ProofError::False { key: *key, root: *state_root, reason: error.to_string() }
    })
}

/// Place of a key in the tree.
fn key_hash(key: &StateKey) -> KeyHash {
    KeyHash(*blake3::hash(&encoding::encode(key)).as_bytes())
}

/// The path of a root: no nibbles.
fn root_path() -> NibblePath {
    std::iter::empty().collect()
}

/// Height first and big-endian, so that a store keeps the nodes of one height together.
fn encode_node_key(key: &NodeKey) -> Vec<u8> {
    let mut bytes = key.version().to_be_bytes().to_vec();
    bytes.extend(encoding::encode(key.nibble_path()));
    bytes
}

/// The store's own error where there is one below jmt's.
fn tree_error(height: Height, error: anyhow::Error) -> StateError {
    match error.downcast::<StateError>() {
        Ok(error) => error,
        Err(error) => StateError::Tree { height, source: error.into() },
    }
}
