//! Nodes, their identity and where they lie.
//!
//! ```text
//! stored = body || addresses (inner nodes only)
//! body   = version (1) || kind (1) || level (1) || count (vi) || count * slot
//! slot   = shared (vi) || rest of the key (bytes) || value (bytes)                             in a leaf
//!        = shared (vi) || rest of the key (bytes) || digest (32) || items (vi) || bytes (vi)   above
//! addresses = slabs (vi) || slabs * id (16) || count * (slab (vi) || offset (vi) || length (vi))
//! ```
//!
//! A node's identity is `BLAKE3 derive_key("samara v1 tree node", body)`. Addresses are not part of it, so
//! the same contents have the same digest wherever they lie, and a node that moves to another slab
//! changes nothing above it. They need no digest of their own either: a wrong one leads to bytes with
//! another digest. Slab number 0 is the slab in which the node itself lies, whose id is not known
//! before it is stored; number i is the i-th id of the list.
//!
//! A key is written as what it does not share with the key before it. Above the leaves a slot's key is
//! the last key below it.

use serde::{Deserialize, Serialize};

use super::TreeKind;
use super::codec::{Reader, put_bytes, put_varint, varint_len};
use crate::hash::{Digest, SlabId};

/// Version of nodes written by this code.
pub const VERSION: u8 = 1;
/// Most bytes of a key.
pub const MAX_KEY: usize = 4_352;
/// Most bytes of a stored node: the plaintext of the usual frame.
pub const MAX_STORED: usize = 65_520;
/// Most levels above the leaves; a tree this high would have more items than a `u64` counts.
pub const MAX_LEVEL: u8 = 32;
/// What an item counts at least, so that the number of items in a node is bounded.
pub(super) const MIN_WEIGHT: usize = 32;
/// Most slots in a node.
const MAX_SLOTS: usize = MAX_STORED / MIN_WEIGHT;
/// Most bytes of a child's address: its slab's id, and the numbers of slab (2), offset (5), length (3).
const MAX_ADDRESS: usize = 16 + 2 + 5 + 3;
/// Domain of a node's digest.
const DOMAIN: &str = "samara v1 tree node";

/// Where a node's bytes lie: plaintext bytes of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The slab.
    pub slab: SlabId,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
}

/// A node as its parent knows it. Two references with one digest mean the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRef {
    /// Digest of its body.
    pub digest: Digest,
    /// 0 for leaves.
    pub level: u8,
    /// Items in all leaves below it, or in it.
    pub items: u64,
    /// Bytes of its body and of all bodies below it.
    pub bytes: u64,
    /// Where it lies; nowhere yet if none.
    pub address: Option<Address>,
}

/// What a slot has under its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Value(Vec<u8>),
    Node(NodeRef),
}

/// A key of a node and what is under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) key: Vec<u8>,
    pub(super) held: Held,
}

/// A node as it was read. Its keys ascend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: TreeKind,
    pub(super) level: u8,
    pub(super) slots: Vec<Slot>,
}

/// A node that is stored nowhere yet. Its children are stored, or came before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// What its parent will know of it.
    pub reference: NodeRef,
    /// Its body.
    pub body: Vec<u8>,
    /// Its children, in order.
    pub children: Vec<NodeRef>,
}

/// Why bytes are no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The bytes end too early.
    #[error("the node is cut off")]
    Cut,
    /// Bytes after its end.
    #[error("{0} bytes follow the node")]
    Trailing(usize),
    /// More bytes than a frame has.
    #[error("a node of {0} bytes; at most {MAX_STORED} are allowed")]
    TooLong(usize),
    /// Written by a newer program.
    #[error("the node has version {0}, this program reads {VERSION}: use a newer one")]
    Version(u8),
    /// A number that is too large or not in its shortest form.
    #[error("a number in the node is out of its range or not in its shortest form")]
    Number,
    /// No slots, keys that do not ascend, or not written as short as they can be.
    #[error("the node's keys are not in order or not in their shortest form")]
    Keys,
    /// Of another tree or level, or with other sums than its parent says.
    #[error("the node is not what its parent says")]
    Other,
}

impl Held {
    /// Bytes that a slot takes beside its key, counted with the longest address.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Value(value) => varint_len(value.len() as u64) + value.len(),
            Self::Node(node) => {
                Digest::LEN + varint_len(node.items) + varint_len(node.bytes) + MAX_ADDRESS
            }
        }
    }
}

/// Bytes that a key takes when it shares that many with the one before.
pub(super) fn key_weight(key: &[u8], shared: usize) -> usize {
    let rest = key.len() - shared;
    varint_len(shared as u64) + varint_len(rest as u64) + rest
}

/// How many first bytes two keys share.
pub(super) fn shared_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Node {
    /// The node's canonical bytes.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.kind as u8, self.level];
        put_varint(&mut out, self.slots.len() as u64);
        let mut before: &[u8] = &[];
        for slot in &self.slots {
            let shared = shared_length(before, &slot.key);
            put_varint(&mut out, shared as u64);
            put_bytes(&mut out, &slot.key[shared..]);
            match &slot.held {
                Held::Value(value) => put_bytes(&mut out, value),
                Held::Node(node) => {
                    out.extend_from_slice(&node.digest.0);
                    put_varint(&mut out, node.items);
                    put_varint(&mut out, node.bytes);
                }
            }
            before = &slot.key;
        }
        out
    }

    /// The node with these bytes, which lie in `slab`, and its reference without an address.
    pub(super) fn read(stored: &[u8], slab: Option<SlabId>) -> Result<(Self, NodeRef), NodeError> {
        if stored.len() > MAX_STORED {
            return Err(NodeError::TooLong(stored.len()));
        }
        let mut reader = Reader::new(stored);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(NodeError::Version(version));
        }
        let kind = TreeKind::from_byte(reader.byte()?).ok_or(NodeError::Other)?;
        let level = reader.byte()?;
        if level > MAX_LEVEL {
            return Err(NodeError::Number);
        }
        let slots = read_slots(&mut reader, level)?;
        let body = &stored[..reader.position()];
        let mut node = Self { kind, level, slots };
        let reference = node.reference(body);
        if level > 0 {
            node.read_addresses(&mut reader, slab)?;
        }
        if reader.is_at_end() {
            Ok((node, reference))
        } else {
            Err(NodeError::Trailing(stored.len() - reader.position()))
        }
    }

    fn read_addresses(
        &mut self,
        reader: &mut Reader<'_>,
        own: Option<SlabId>,
    ) -> Result<(), NodeError> {
        let count = reader.length(self.slots.len())?;
        let mut slabs = Vec::with_capacity(count);
        for _ in 0..count {
            slabs.push(SlabId(reader.array()?));
        }
        for slot in &mut self.slots {
            let number = reader.length(slabs.len())?;
            let (offset, length) = (reader.u32()?, reader.u32()?);
            let slab = match number.checked_sub(1) {
                Some(index) => slabs.get(index).copied(),
                None => own,
            };
            if let Held::Node(node) = &mut slot.held {
                node.address = slab.map(|slab| Address { slab, offset, length });
            }
        }
        Ok(())
    }

    /// What a parent knows of this node, whose body is given.
    pub(super) fn reference(&self, body: &[u8]) -> NodeRef {
        let (mut items, mut bytes) = (0u64, body.len() as u64);
        for slot in &self.slots {
            match &slot.held {
                Held::Value(_) => items = items.saturating_add(1),
                Held::Node(node) => {
                    items = items.saturating_add(node.items);
                    bytes = bytes.saturating_add(node.bytes);
                }
            }
        }
        let digest = Digest(blake3::derive_key(DOMAIN, body));
        NodeRef { digest, level: self.level, items, bytes, address: None }
    }

    /// References to its children; none for a leaf.
    pub(super) fn children(&self) -> impl Iterator<Item = (&[u8], &NodeRef)> {
        self.slots.iter().filter_map(|slot| match &slot.held {
            Held::Node(node) => Some((&slot.key[..], node)),
            Held::Value(_) => None,
        })
    }

    /// The last key in it or below it.
    pub(super) fn last_key(&self) -> &[u8] {
        self.slots.last().map_or(&[], |slot| &slot.key)
    }
}

fn read_slots(reader: &mut Reader<'_>, level: u8) -> Result<Vec<Slot>, NodeError> {
    let count = reader.length(MAX_SLOTS)?;
    if count == 0 {
        return Err(NodeError::Keys);
    }
    let mut slots: Vec<Slot> = Vec::with_capacity(count);
    for _ in 0..count {
        let before = slots.last().map_or(&[][..], |slot| &slot.key);
        let shared = reader.length(before.len())?;
        let rest = reader.length(MAX_KEY - shared)?;
        let rest = reader.take(rest)?;
        // Ascending and as short as can be: what follows the shared bytes is greater in its first byte.
        let ascends = match (before.get(shared), rest.first()) {
            (Some(old), Some(new)) => old < new,
            (None, Some(_)) => true,
            (_, None) => slots.is_empty(),
        };
        if !ascends {
            return Err(NodeError::Keys);
        }
        let mut key = Vec::with_capacity(shared + rest.len());
        key.extend_from_slice(&before[..shared]);
        key.extend_from_slice(rest);
        let held = read_held(reader, level)?;
        slots.push(Slot { key, held });
    }
    Ok(slots)
}

fn read_held(reader: &mut Reader<'_>, level: u8) -> Result<Held, NodeError> {
    if level == 0 {
        let length = reader.length(MAX_STORED)?;
        return Ok(Held::Value(reader.take(length)?.to_vec()));
    }
    let digest = Digest(reader.array()?);
    let (items, bytes) = (reader.varint(u64::MAX)?, reader.varint(u64::MAX)?);
    Ok(Held::Node(NodeRef { digest, level: level - 1, items, bytes, address: None }))
}

impl NewNode {
    /// The node with these slots, which fit into one.
    pub(super) fn new(kind: TreeKind, level: u8, slots: Vec<Slot>) -> (Vec<u8>, Self) {
        let node = Node { kind, level, slots };
        let body = node.body();
        let reference = node.reference(&body);
        let children = node.children().map(|(_, child)| *child).collect();
        (node.last_key().to_vec(), Self { reference, body, children })
    }

    /// The bytes to store, once it is known where each child lies. Addresses in slab `None` are in the
    /// slab that this node goes to.
    pub(super) fn stored(&self, addresses: &[(Option<SlabId>, u32, u32)]) -> Vec<u8> {
        let mut out = self.body.clone();
        if self.reference.level == 0 {
            return out;
        }
        let mut slabs: Vec<SlabId> = Vec::new();
        let mut tail = Vec::with_capacity(addresses.len() * 9);
        for (slab, offset, length) in addresses {
            let number = slab.map_or(0, |slab| {
                let known = slabs.iter().position(|id| *id == slab);
                1 + known.unwrap_or_else(|| {
                    slabs.push(slab);
                    slabs.len() - 1
                })
            });
            put_varint(&mut tail, number as u64);
            put_varint(&mut tail, u64::from(*offset));
            put_varint(&mut tail, u64::from(*length));
        }
        put_varint(&mut out, slabs.len() as u64);
        slabs.iter().for_each(|slab| out.extend_from_slice(&slab.0));
        out.extend_from_slice(&tail);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn a_leaf_reads_back_in_one_form_only(
            items in btree_map(vec(0u8..4, 0..8), vec(any::<u8>(), 0..6), 1..40),
            flip in any::<(usize, u8)>(),
        ) {
            let slots = items.into_iter().map(|(key, value)| Slot { key, held: Held::Value(value) });
            let (_, new) = NewNode::new(TreeKind::Files, 0, slots.collect());
            let mut stored = new.stored(&[]);
            let (node, reference) = Node::read(&stored, None).unwrap();
            prop_assert_eq!(reference, new.reference);
            prop_assert_eq!(node.body(), stored.clone());
            let at = flip.0 % stored.len();
            stored[at] ^= flip.1 | 1;
            if let Ok((node, other)) = Node::read(&stored, None) {
                prop_assert_eq!(node.body(), stored);
                prop_assert!(other.digest != new.reference.digest);
            }
        }

        #[test]
        fn an_inner_node_reads_back_with_its_addresses(
            keys in btree_map(vec(any::<u8>(), 0..8), any::<(u64, u8, u32, u32)>(), 1..40),
        ) {
            let own = SlabId([9; 16]);
            let child = |items: u64| NodeRef {
                digest: Digest([items as u8; 32]), level: 2, items, bytes: items / 2, address: None,
            };
            let slot = |(key, from): (&Vec<u8>, &(u64, u8, u32, u32))| Slot {
                key: key.clone(),
                held: Held::Node(child(from.0)),
            };
            let (last, new) = NewNode::new(TreeKind::Slabs, 3, keys.iter().map(slot).collect());
            prop_assert_eq!(Some(&last), keys.keys().last());
            let id = |slab: u8| Some(slab % 4).filter(|slab| *slab > 0).map(|slab| SlabId([slab; 16]));
            let addresses: Vec<_> = keys.values().map(|(_, s, o, l)| (id(*s), *o, *l)).collect();
            let stored = new.stored(&addresses);
            let (node, reference) = Node::read(&stored, Some(own)).unwrap();
            prop_assert_eq!(reference, new.reference);
            for ((_, read), (slab, offset, length)) in node.children().zip(addresses) {
                let slab = slab.unwrap_or(own);
                prop_assert_eq!(read.address, Some(Address { slab, offset, length }));
            }
        }

        #[test]
        fn any_bytes_are_a_node_or_an_error(bytes in vec(any::<u8>(), 0..200), level in 0u8..3) {
            let _ = Node::read(&bytes, None);
            let mut framed = vec![VERSION, 0, level];
            framed.extend(bytes);
            let _ = Node::read(&framed, Some(SlabId([1; 16])));
        }
    }

    #[test]
    fn a_node_longer_than_a_frame_is_refused() {
        assert_eq!(Node::read(&vec![1; MAX_STORED + 1], None), Err(NodeError::TooLong(65_521)));
    }
}
