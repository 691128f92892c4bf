//! The Merkle sum tree over a contract's ordered sectors.
//!
//! ```text
//! leaf(entry)       = BLAKE3 derive_key("samara v1 sector leaf", root (32) || bytes (u64 LE))
//! node(left, right) = BLAKE3 derive_key("samara v1 sector node",
//!                         left hash (32) || left bytes (u64 LE) || right hash (32) || right bytes (u64 LE))
//! ```
//!
//! The shape is that of RFC 6962: a list of n > 1 sectors splits at the largest power of two below n,
//! so appending never changes a full subtree, and a tree is known by its full subtrees (its *peaks*),
//! one for each bit of n. An empty list has the root of zeros, which no hash is known to give.

use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::{Deserialize, Serialize};

use super::{ProofError, SectorEntry, bounded_vec};
use crate::hash::Digest;

static LEAF: LazyLock<ContextKey> =
    LazyLock::new(|| hash_derive_key_context("samara v1 sector leaf"));
static NODE: LazyLock<ContextKey> =
    LazyLock::new(|| hash_derive_key_context("samara v1 sector node"));

/// A subtree: its hash and the bytes of all sectors below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) hash: Digest,
    pub(super) bytes: u64,
}

impl Node {
    pub(super) fn leaf(entry: &SectorEntry) -> Self {
        let bytes = u64::from(entry.size.bytes());
        let hash = blake3::Hasher::new_from_context_key(&LEAF)
            .update(&entry.root.0)
            .update(&bytes.to_le_bytes())
            .finalize();
        Self { hash: Digest(*hash.as_bytes()), bytes }
    }

    /// Parent of two neighbours, unless their sum overflows.
    pub(super) fn join(left: &Self, right: &Self) -> Option<Self> {
        let bytes = left.bytes.checked_add(right.bytes)?;
        let hash = blake3::Hasher::new_from_context_key(&NODE)
            .update(&left.hash.0)
            .update(&left.bytes.to_le_bytes())
            .update(&right.hash.0)
            .update(&right.bytes.to_le_bytes())
            .finalize();
        Some(Self { hash: Digest(*hash.as_bytes()), bytes })
    }

    /// Parent of two subtrees whose sectors are listed in memory.
    pub(super) fn join_listed(left: &Self, right: &Self) -> Self {
        Self::join(left, right)
            .expect("invariant: listed sectors of 4 MiB stay far below 2^64 bytes")
    }
}

/// Root of the tree over no sectors.
#[must_use]
pub const fn empty_data_root() -> Digest {
    Digest::ZERO
}

/// Root and total bytes of the tree over `entries`.
#[must_use]
pub fn data_root(entries: &[SectorEntry]) -> (Digest, u64) {
    let tree = entries.iter().collect::<SectorTree>();
    (tree.root(), tree.bytes())
}

/// The peaks of a sector tree: all that appending needs, at most 64 hashes.
///
/// One peak for each set bit of the count, highest first. It can be stored; decoding refuses peaks that
/// do not fit the count, but cannot know whether they are true, so it is for one's own disk only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredTree")]
pub struct SectorTree {
    count: u64,
    peaks: Vec<Node>,
}

/// A [`SectorTree`] whose peaks have not been checked against its count.
#[derive(Deserialize)]
struct StoredTree {
    count: u64,
    #[serde(deserialize_with = "bounded_vec::<64, _, _>")]
    peaks: Vec<Node>,
}

impl TryFrom<StoredTree> for SectorTree {
    type Error = ProofError;

    fn try_from(stored: StoredTree) -> Result<Self, ProofError> {
        let expected = stored.count.count_ones() as usize;
        if stored.peaks.len() != expected {
            return Err(ProofError::Siblings { expected, actual: stored.peaks.len() });
        }
        // Far below the largest sum, so that appending to a decoded tree cannot overflow either.
        let total = stored.peaks.iter().try_fold(0u64, |sum, peak| sum.checked_add(peak.bytes));
        match total {
            Some(total) if total <= u64::MAX / 2 => {
                Ok(Self { count: stored.count, peaks: stored.peaks })
            }
            _ => Err(ProofError::Sums(u64::MAX)),
        }
    }
}

impl SectorTree {
    /// The tree over no sectors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sectors in the list.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of all sectors.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.peaks.iter().map(|peak| peak.bytes).sum()
    }

    /// Appends a sector: amortised two hashes.
    pub fn append(&mut self, entry: &SectorEntry) {
        let mut node = Node::leaf(entry);
        for _ in 0..self.count.trailing_ones() {
            let left = self.peaks.pop().expect("invariant: one peak for each set bit of the count");
            node = Node::join_listed(&left, &node);
        }
        self.peaks.push(node);
        self.count += 1;
    }

    /// The data root: the peaks joined from the right.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_data_root() };
        peaks.fold(*last, |right, left| Node::join_listed(left, &right)).hash
    }
}

impl<'a> FromIterator<&'a SectorEntry> for SectorTree {
    fn from_iter<I: IntoIterator<Item = &'a SectorEntry>>(entries: I) -> Self {
        let mut tree = Self::new();
        entries.into_iter().for_each(|entry| tree.append(entry));
        tree
    }
}

/// Where a list of `count` sectors splits: the largest power of two below it. Needs `count > 1`.
pub(super) fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

    use super::*;
    use crate::encoding;
    use crate::hash::SectorRoot;
    use crate::sector::SectorSize;

    pub(crate) fn entries(max: usize) -> impl Strategy<Value = Vec<SectorEntry>> {
        let entry = (any::<[u8; 32]>(), 10u8..=22).prop_map(|(root, log2)| SectorEntry {
            root: SectorRoot(root),
            size: SectorSize::from_log2(log2).unwrap(),
        });
        proptest::collection::vec(entry, 0..max)
    }

    /// The definition of the module's head, word by word.
    fn oracle(entries: &[SectorEntry]) -> ([u8; 32], u64) {
        match entries {
            [] => ([0; 32], 0),
            [entry] => {
                let bytes = u64::from(entry.size.bytes());
                let mut preimage = entry.root.0.to_vec();
                preimage.extend(bytes.to_le_bytes());
                (blake3::derive_key("samara v1 sector leaf", &preimage), bytes)
            }
            entries => {
                let mut middle = 1;
                while middle * 2 < entries.len() {
                    middle *= 2;
                }
                let (left, left_bytes) = oracle(&entries[..middle]);
                let (right, right_bytes) = oracle(&entries[middle..]);
                let mut preimage = left.to_vec();
                preimage.extend(left_bytes.to_le_bytes());
                preimage.extend(right);
                preimage.extend(right_bytes.to_le_bytes());
                (blake3::derive_key("samara v1 sector node", &preimage), left_bytes + right_bytes)
            }
        }
    }

    proptest! {
        #[test]
        fn the_root_is_the_oracles(entries in entries(70)) {
            let (root, bytes) = oracle(&entries);
            prop_assert_eq!(data_root(&entries), (Digest(root), bytes));
        }

        #[test]
        fn a_stored_tree_goes_on_where_it_was(entries in entries(40), cut: usize) {
            let cut = cut % (entries.len() + 1);
            let first = entries[..cut].iter().collect::<SectorTree>();
            let mut tree: SectorTree = encoding::decode(&encoding::encode(&first)).unwrap();
            prop_assert_eq!(&tree, &first);
            entries[cut..].iter().for_each(|entry| tree.append(entry));
            prop_assert_eq!((tree.root(), tree.bytes()), data_root(&entries));
            prop_assert_eq!(tree.count(), entries.len() as u64);
        }
    }

    #[test]
    fn peaks_that_do_not_fit_are_refused() {
        let peak = Node { hash: Digest([1; 32]), bytes: u64::MAX };
        let stored = |count: u64, peaks: &[Node]| encoding::encode(&(count, peaks));
        assert!(encoding::decode::<SectorTree>(&stored(3, &[peak])).is_err());
        assert!(encoding::decode::<SectorTree>(&stored(3, &[peak, peak])).is_err());
        assert!(encoding::decode::<SectorTree>(&stored(1, &[peak; 65])).is_err());
    }
}
