//! Trees against `BTreeMap`s.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq};
use proptest::{prop_oneof, proptest};
use samara_protocol::hash::SlabId;
use samara_protocol::tree::{
    Address, Builder, Difference, Edits, Limits, Lookup, NodeRef, Packer, Scan, Step, Sweep,
    TreeError, TreeKind, Walk,
};

use crate::store::{Store, digest, rules};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

const KIND: TreeKind = TreeKind::Files;

/// Nodes of about a dozen items, so that few items make high trees.
fn small() -> Limits {
    Limits::new(256, 500).unwrap()
}

#[derive(Clone, Debug)]
enum Action {
    Put(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    RemoveBelow(Vec<u8>),
    /// A run of neighbouring keys.
    Run(u16, u16),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => any::<u16>().prop_map(run_key),
        1 => vec(0u8..3, 0..6),
        1 => vec(any::<u8>(), 0..60),
    ]
}

fn run_key(number: u16) -> Vec<u8> {
    format!("dir{}/file{}", number % 7, number / 7 % 300).into_bytes()
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (key(), vec(any::<u8>(), 0..60)).prop_map(|(key, value)| Action::Put(key, value)),
        4 => key().prop_map(Action::Remove),
        1 => prop_oneof![
            Just(b"dir3/".to_vec()), Just(b"dir5/file2".to_vec()), Just(b"dir".to_vec()),
            vec(0u8..3, 1..3), Just(Vec::new()),
        ].prop_map(Action::RemoveBelow),
        2 => any::<(u16, u16)>().prop_map(|(from, count)| Action::Run(from, count % 400)),
    ]
}

fn carry_out(actions: &[Action], map: &mut Map) -> Edits {
    let mut edits = Edits::default();
    for action in actions {
        match action {
            Action::Put(key, value) => {
                map.insert(key.clone(), value.clone());
                edits.put(key.clone(), value.clone());
            }
            Action::Remove(key) => {
                map.remove(key);
                edits.remove(key.clone());
            }
            Action::RemoveBelow(prefix) => {
                map.retain(|key, _| !key.starts_with(prefix));
                edits.remove_below(prefix.clone());
            }
            Action::Run(from, count) => {
                for number in *from..from.saturating_add(*count) {
                    let value = number.to_le_bytes().to_vec();
                    map.insert(run_key(number), value.clone());
                    edits.put(run_key(number), value);
                }
            }
        }
    }
    edits
}

fn differences(before: &Map, after: &Map) -> Vec<Difference> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    differ
        .map(|key| Difference {
            key: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn edits_in_any_batches_give_the_tree_that_is_built_from_what_they_leave(
        batches in vec(vec(action(), 0..30), 1..8),
        prefix in prop_oneof![Just(b"".to_vec()), Just(b"dir2/".to_vec()), Just(vec![1])],
        from in key(),
        lazy in any::<bool>(),
    ) {
        let rules = rules(KIND, small());
        let store = Store { lazy, ..Store::default() };
        let (mut store, mut map, mut root) = (store, Map::new(), None);
        for batch in batches {
            let (before, old) = (map.clone(), root);
            let edits = carry_out(&batch, &mut map);
            let rebuilt = store.rebuild(&rules, root, edits.clone());
            let (edited, new) = store.apply(&rules, root, edits);
            root = edited;
            prop_assert_eq!(digest(root), digest(rebuilt));
            let built = Store::default().build(&rules, map.clone());
            prop_assert_eq!(digest(root), digest(built));
            prop_assert_eq!(root.map(|r| (r.items, r.bytes, r.level)),
                built.map(|r| (r.items, r.bytes, r.level)));
            prop_assert_eq!(root.map_or(0, |root| root.items), map.len() as u64);
            let items: Map = store.scan(KIND, root, b"", b"").into_iter().collect();
            prop_assert_eq!(&items, &map);
            // Only nodes that the old tree has not are new, each once, and all of them are used.
            let reached = |store: &mut Store, root: Option<NodeRef>| -> BTreeSet<_> {
                let roots: Vec<_> = root.into_iter().collect();
                store.reach(KIND, &roots).iter().map(|node| node.digest).collect()
            };
            let (had, has) = (reached(&mut store, old), reached(&mut store, root));
            let made: Vec<_> = new.iter().map(|node| node.reference.digest).collect();
            let distinct: BTreeSet<_> = made.iter().copied().collect();
            prop_assert_eq!(made.len(), distinct.len());
            prop_assert_eq!(distinct, has.difference(&had).copied().collect());
            prop_assert_eq!(store.diff(KIND, old, root), differences(&before, &map));
        }
        let wanted: Vec<_> = map
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && **key >= from)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        prop_assert_eq!(store.scan(KIND, root, &prefix, &from), wanted);
        for key in map.keys().take(20).chain([&from]) {
            prop_assert_eq!(store.lookup(KIND, root, key), map.get(key).cloned());
        }
    }

    #[test]
    fn nodes_keep_to_their_limits_and_the_frames(
        sizes in vec((0usize..4_000, 0usize..8_192), 1..200), frames in 1u64..4,
    ) {
        let rules = rules(KIND, Limits::STORED);
        let mut builder = Builder::new(&rules);
        let mut nodes = Vec::new();
        for (number, (key, value)) in (0u16..).zip(sizes) {
            let key = [&number.to_be_bytes()[..], &vec![7; key]].concat();
            nodes.extend(builder.push(key, vec![1; value]).unwrap());
        }
        let (last, root) = builder.finish();
        let root = root.unwrap();
        nodes.extend(last);
        let frame = 65_520u32;
        let mut packer = Packer::new(frame, u64::from(frame) * frames);
        let (mut slab, mut leaves) = (0u8, Vec::new());
        for node in &nodes {
            if node.reference.level == 0 {
                leaves.push(node.body.len());
            }
            if !packer.place(node).unwrap() {
                prop_assert!(packer.take().len() as u64 <= u64::from(frame) * frames);
                slab += 1;
                packer.stored(SlabId([slab; 16]));
                prop_assert!(packer.place(node).unwrap());
            }
        }
        packer.take();
        packer.stored(SlabId([0; 16]));
        for node in &nodes {
            let address = packer.resolve(node.reference).unwrap().address.unwrap();
            prop_assert!(address.length <= frame);
            let end = address.offset + address.length - 1;
            prop_assert_eq!(address.offset / frame, end / frame);
        }
        leaves.pop();
        prop_assert!(leaves.iter().all(|bytes| (32 << 10..=(60 << 10) + 8).contains(bytes)));
        prop_assert_eq!(root.bytes, nodes.iter().map(|node| node.body.len() as u64).sum::<u64>());
    }
}

fn numbered(count: u32) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    (0..count).map(|number| (number.to_be_bytes().to_vec(), vec![9; 20]))
}

#[test]
fn other_keys_and_kinds_have_other_boundaries() {
    let build = |kind| Store::default().build(&rules(kind, small()), numbered(2_000)).unwrap();
    let (files, slabs) = (build(TreeKind::Files), build(TreeKind::Slabs));
    assert_ne!(files.bytes, slabs.bytes);
}

#[test]
fn what_is_not_the_node_asked_for_is_refused() {
    let rules = rules(KIND, small());
    let mut store = Store::default();
    let root = store.build(&rules, numbered(500)).unwrap();
    let other = store.build(&rules, numbered(400)).unwrap();
    let (bytes, others) = (store.fetch(&root), store.fetch(&other));
    let feed =
        |node: &NodeRef, bytes: &[u8]| Lookup::new(KIND, Some(*node), vec![]).feed(node, bytes);
    assert_eq!(feed(&root, &bytes), Ok(()));
    let swapped = TreeError::Digest { expected: root.digest, found: other.digest };
    assert_eq!(feed(&root, &others), Err(swapped));
    assert!(matches!(feed(&root, &bytes[1..]), Err(TreeError::Node { .. })));
    let lies = NodeRef { items: root.items + 1, ..root };
    assert!(matches!(feed(&lies, &bytes), Err(TreeError::Node { .. })));
    let mut wrong_kind = Lookup::new(TreeKind::Slabs, Some(root), vec![]);
    assert!(matches!(wrong_kind.feed(&root, &bytes), Err(TreeError::Node { .. })));
}

#[test]
fn a_wrong_address_leads_to_an_error_and_not_to_other_items() {
    let rules = rules(KIND, small());
    let mut store = Store::default();
    let root = store.build(&rules, numbered(500)).unwrap();
    let mut scan = Scan::new(KIND, Some(root), vec![], &[]);
    let Step::Need(nodes) = scan.step() else { panic!("nothing is loaded") };
    scan.feed(&nodes[0], &store.fetch(&nodes[0])).unwrap();
    let Step::Need(nodes) = scan.step() else { panic!("no child is loaded") };
    let wrong = NodeRef { address: nodes[1].address, ..nodes[0] };
    assert!(matches!(scan.feed(&nodes[0], &store.fetch(&wrong)), Err(TreeError::Digest { .. })));
}

#[test]
fn items_that_could_not_be_cut_and_keys_out_of_order_are_refused() {
    let mut builder = Builder::new(&rules(KIND, Limits::STORED));
    builder.push(vec![5], vec![]).unwrap();
    assert_eq!(builder.push(vec![5], vec![]), Err(TreeError::Order));
    assert!(matches!(builder.push(vec![6], vec![0; 30_000]), Err(TreeError::ItemTooLarge { .. })));
    assert!(matches!(builder.push(vec![6; 5_000], vec![]), Err(TreeError::ItemTooLarge { .. })));
    assert_eq!(Limits::new(10, 21), None);
}

#[test]
fn a_node_that_moved_to_another_slab_leaves_its_parents_the_same() {
    let rules = rules(KIND, small());
    let mut store = Store::default();
    let root = store.build(&rules, numbered(500)).unwrap();
    let moved = Store::default().build(&rules, numbered(500)).unwrap();
    let far = Address { slab: SlabId([1; 16]), offset: 1, length: 2 };
    assert_eq!(root.digest, NodeRef { address: Some(far), ..moved }.digest);
}

#[test]
fn a_sweep_reads_every_node_and_goes_on_behind_one_that_is_gone() {
    let rules = rules(KIND, small());
    let mut store = Store::default();
    let root = store.build(&rules, numbered(3_000)).unwrap();
    let all = store.reach(KIND, &[root]).len();
    let sweep = |store: &mut Store, prefix: &[u8], gone: Option<usize>| {
        let mut sweep = Sweep::new(KIND, Some(root), prefix.to_vec());
        let mut read = 0;
        loop {
            let nodes = sweep.next_nodes();
            if nodes.is_empty() {
                return read;
            }
            for node in nodes {
                if gone != Some(read) {
                    sweep.feed(&node, &store.fetch(&node)).unwrap();
                }
                read += 1;
            }
        }
    };
    assert_eq!(sweep(&mut store, b"", None), all);
    // The last node is a leaf; behind the root there is nothing without it.
    assert_eq!(sweep(&mut store, b"", Some(all - 1)), all);
    assert_eq!(sweep(&mut store, b"", Some(0)), 1);
    // What has nothing below a prefix is not read: as many as a scan reads.
    let some = numbered(3_000).nth(700).unwrap().0;
    for length in 0..=some.len() {
        store.reads = 0;
        store.scan(KIND, Some(root), &some[..length], b"");
        let scanned = store.reads;
        assert_eq!(sweep(&mut store, &some[..length], None), scanned, "{length}");
    }
    // Bytes of another node are refused.
    let other = store.build(&rules, numbered(400)).unwrap();
    let bytes = store.fetch(&other);
    assert!(Sweep::new(KIND, Some(root), vec![]).feed(&root, &bytes).is_err());
}
