//! Checkpoint trees: nodes, the items of each tree, checkpoint roots.

use samara_protocol::encoding::encode;
use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::keys::tree::MetadataKey;
use samara_protocol::tree::checkpoint::{CheckpointRoot, StateReader};
use samara_protocol::tree::events::{EventReader, EventRecord};
use samara_protocol::tree::files::{FileReader, PathEntry};
use samara_protocol::tree::held::{HeldReader, edit_held, held_key};
use samara_protocol::tree::slabs::{read_slab, slab_item};
use samara_protocol::tree::{
    Address, Apply, BoundaryKey, Builder, Diff, Edits, Item, Limits, Lookup, NodeRef, Reach, Rules,
    Scan, Step, TreeError, TreeKind, Walk,
};
use zeroize::Zeroizing;

use super::{Fields, value};

/// Steps that a walk over a single node can take at most.
const STEPS: usize = 64;
/// A leaf below this (bytes) is the only one of its tree.
const SINGLE: usize = 30_000;

/// Stored nodes, fed to every walk.
pub fn tree_node(data: &[u8]) {
    let kind = match data.get(1) {
        Some(1) => TreeKind::Events,
        Some(2) => TreeKind::Slabs,
        Some(3) => TreeKind::Held,
        _ => TreeKind::Files,
    };
    let Some(root) = reference(data) else {
        // No node at all: also not one of another name.
        let digest = Digest(blake3::hash(data).into());
        let wanted =
            NodeRef { digest, level: 0, items: 1, bytes: data.len() as u64, address: None };
        let refused = Scan::new(kind, Some(wanted), vec![], &[]).feed(&wanted, data);
        return assert!(refused.is_err_and(|error| !error.to_string().is_empty()));
    };
    let mut scan = Scan::new(kind, Some(root), vec![], &[]);
    if let Err(error) = scan.feed(&root, data) {
        assert!(!matches!(error, TreeError::Digest { .. }), "{error}");
        return;
    }
    let leaf = walk(scan, &root, data);
    assert_eq!(leaf.is_some(), root.level == 0);
    if let Some(items) = leaf.filter(|_| data.len() < SINGLE) {
        rebuild(kind, items.concat(), data);
    }
    walk(Lookup::new(kind, Some(root), b"b".to_vec()), &root, data);
    walk(Reach::new(kind, [root], [].into()), &root, data);
    walk(Diff::new(kind, None, Some(root)), &root, data);
    let mut edits = Edits::default();
    edits.put(b"b".to_vec(), b"c".to_vec());
    edits.remove_below(b"f".to_vec());
    let apply = Apply::new(&rules(kind), Some(root), edits);
    walk(apply.expect("invariant: the edits are small"), &root, data);
}

/// Everything that a walk gives, or nothing if it wants another node than the root.
fn walk<W: Walk>(mut walk: W, root: &NodeRef, stored: &[u8]) -> Option<Vec<W::Part>> {
    let mut parts = Vec::new();
    for _ in 0..STEPS {
        match walk.step() {
            Step::Need(nodes) if nodes.contains(root) => {
                walk.feed(root, stored).expect("the node was taken before");
            }
            Step::Need(_) => return None,
            Step::Part(part) => parts.push(part),
            Step::Done(_) => return Some(parts),
        }
    }
    panic!("a walk over one node does not end");
}

/// A leaf has one form: its items give its bytes again.
fn rebuild(kind: TreeKind, items: Vec<Item>, stored: &[u8]) {
    let mut builder = Builder::new(&rules(kind));
    for (key, value) in items {
        match builder.push(key, value) {
            Ok(nodes) => assert!(nodes.is_empty()),
            // Readers take longer items than writers make.
            Err(error) => return assert!(matches!(error, TreeError::ItemTooLarge { .. })),
        }
    }
    let (nodes, _) = builder.finish();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].body, stored);
}

pub(super) fn rules(kind: TreeKind) -> Rules {
    Rules::new(kind, boundary_key(), Limits::STORED)
}

pub(super) fn boundary_key() -> BoundaryKey {
    BoundaryKey::new(&MetadataKey::from_bytes(&Zeroizing::new([0x27; 32])))
}

/// What a parent would say of a node, read by the table in `docs/formats.md` and no further than that.
fn reference(stored: &[u8]) -> Option<NodeRef> {
    let mut rest = stored.get(3..)?;
    let level = stored[2];
    let (mut items, mut below) = (0u64, 0u64);
    for _ in 0..varint(&mut rest)? {
        varint(&mut rest)?;
        skip_bytes(&mut rest)?;
        if level == 0 {
            skip_bytes(&mut rest)?;
            items += 1;
        } else {
            rest = rest.get(Digest::LEN..)?;
            items = items.saturating_add(varint(&mut rest)?);
            below = below.saturating_add(varint(&mut rest)?);
        }
    }
    let body = &stored[..stored.len() - rest.len()];
    let bytes = below.saturating_add(body.len() as u64);
    let digest = Digest(blake3::derive_key("samara v1 tree node", body));
    let address = Address { slab: SlabId([1; 16]), offset: 0, length: 0 };
    Some(NodeRef { digest, level, items, bytes, address: Some(address) })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn skip_bytes(rest: &mut &[u8]) -> Option<()> {
    let length = usize::try_from(varint(rest)?).ok()?;
    *rest = rest.get(length..)?;
    Some(())
}

/// Pairs of keys and values in the order of a tree.
fn items(data: &[u8]) -> Vec<Item> {
    let all = Fields(data).all(64);
    let pair = |pair: &[&[u8]]| (pair[0].to_vec(), pair[1].to_vec());
    let mut items: Vec<Item> = all.chunks_exact(2).map(pair).collect();
    items.sort();
    items.dedup_by(|a, b| a.0 == b.0);
    items
}

/// Items of the file tree: keys and values by turns.
pub fn file_items(data: &[u8]) {
    let Some(entries) = files(items(data)) else { return };
    for entry in entries {
        let again = entry.items();
        // A mark that says nothing is not written.
        if !again.is_empty() {
            assert!(again.is_sorted_by(|a, b| a.0 < b.0));
            assert_eq!(files(again), Some(vec![entry]));
        }
    }
}

fn files(items: Vec<Item>) -> Option<Vec<PathEntry>> {
    let (mut reader, mut entries) = (FileReader::default(), Vec::new());
    for (key, value) in items {
        entries.extend(reader.take(&key, value).ok()?);
    }
    entries.extend(reader.finish().ok()?);
    Some(entries)
}

/// Items of the event tree: keys and values by turns; and the input as one value.
pub fn event_items(data: &[u8]) {
    if let Some(record) = value::<EventRecord>(data) {
        let _ = record.digest();
    }
    let mut reader = EventReader::default();
    for (key, value) in items(data) {
        match reader.take(&key, value) {
            Ok(Some(event)) => event.edit(&mut Edits::default()),
            Ok(None) => {}
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
    let _ = reader.finish();
}

/// Items of the tree of held extents: keys and values by turns.
pub fn held_items(data: &[u8]) {
    let mut reader = HeldReader::default();
    for (key, value) in items(data) {
        match reader.take(&key, value) {
            Ok(Some((span, held))) => edit_held(&mut Edits::default(), &span, Some(&held)),
            Ok(None) => {}
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
    if let Ok(Some((span, held))) = reader.finish() {
        let key = held_key(&span);
        assert_eq!(reader.take(&key, encode(&held)), Ok(None));
        assert_eq!(reader.finish(), Ok(Some((span, held))));
    }
}

/// An item of the slab table: the key behind its length, the value.
pub fn slab_items(data: &[u8]) {
    let mut fields = Fields(data);
    let (key, value) = (fields.bytes(), fields.0);
    if let Ok(record) = read_slab(key, value) {
        let (key_again, value_again) = slab_item(&record);
        assert_eq!(key_again, key);
        assert!(value_again.len() <= value.len());
        assert_eq!(read_slab(&key_again, &value_again), Ok(record));
    }
}

/// A checkpoint: the root behind its length, then items of the file tree; and the input as a root.
pub fn checkpoint_root(data: &[u8]) {
    if let Ok(root) = CheckpointRoot::read(data) {
        assert_eq!(encode(&root), data);
        let _ = root.digest();
    }
    let mut fields = Fields(data);
    let Ok(root) = CheckpointRoot::read(fields.bytes()) else { return };
    let mut reader = StateReader::new(&root);
    for (key, value) in items(fields.0) {
        if reader.take_slab(&key, &value).is_ok() {
            continue;
        }
        if reader.take_held(&key, value.clone()).is_ok() {
            continue;
        }
        if let Err(error) = reader.take_file(&key, value) {
            return assert!(!error.to_string().is_empty());
        }
    }
    if let Ok(state) = reader.finish() {
        assert_eq!(CheckpointRoot::new(&state, root.trees, root.metadata.clone()), root);
    }
}
