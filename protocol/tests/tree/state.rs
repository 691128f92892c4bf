//! The fold of a journal, made of checkpoints and compared with the fold of its entries.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq};
use proptest::{prop_oneof, proptest};
use samara_protocol::encoding::encode;
use samara_protocol::hash::{Digest, SlabId, digest as hash};
use samara_protocol::journal::{
    BackupId, BackupLabel, Change, CheckpointName, Content, Entry, Extent, HostIndex, JournalPoint,
    JournalState, Made, SlabRecord, StoredFile, StoredPath, VaultEvent, VaultId,
};
use samara_protocol::signature::PublicKey;
use samara_protocol::tree::checkpoint::{
    Changes, CheckpointError, CheckpointRoot, StateReader, TreeEdits, Trees,
};
use samara_protocol::tree::events::{Event, EventReader, EventRecord, event_key};
use samara_protocol::tree::files::{FileReader, folder_prefix};
use samara_protocol::tree::{Edits, Limits, NodeRef, Rules, TreeKind};

use crate::store::{Store, digest, rules};

const PATHS: [&str; 7] = ["a", "a/b", "a/b!c", "a!", "ab", "photos/2026/été.jpg", "z"];

fn path() -> impl Strategy<Value = StoredPath> {
    // Mostly the same two, so that files move onto what others left.
    prop_oneof![0..2usize, 0..PATHS.len()].prop_map(|index| StoredPath::new(PATHS[index]).unwrap())
}

fn slab_id() -> impl Strategy<Value = SlabId> {
    (0u8..6).prop_map(|byte| SlabId([byte; 16]))
}

fn content() -> impl Strategy<Value = Content> {
    let extent = || {
        (slab_id(), any::<u32>(), 0u32..1_000_000).prop_map(|(slab, offset, length)| Extent {
            slab,
            offset,
            length,
        })
    };
    prop_oneof![
        4 => vec(extent(), 0..3).prop_map(Content::Extents),
        // More than one piece of a value.
        1 => (extent(), 400usize..1_500).prop_map(|(extent, n)| Content::Extents(vec![extent; n])),
        2 => vec(any::<u8>(), 0..50).prop_map(Content::Inline),
        1 => (any::<u8>(), 4_000usize..9_000).prop_map(|(b, n)| Content::Inline(vec![b; n])),
        1 => Just(Content::Erased),
    ]
}

fn event() -> impl Strategy<Value = VaultEvent> {
    let file = (any::<u64>(), any::<u64>(), any::<bool>(), any::<[u8; 32]>(), content()).prop_map(
        |(size, modified, executable, hash, content)| StoredFile {
            size,
            modified,
            executable,
            hash: Digest(hash),
            content,
        },
    );
    prop_oneof![
        2 => "[a-e]{1,2}".prop_map(|name| VaultEvent::Created { name }),
        1 => "[a-e]{1,2}".prop_map(|name| VaultEvent::Renamed { name }),
        10 => (path(), file).prop_map(|(path, file)| VaultEvent::Put { path, file }),
        6 => (path(), path()).prop_map(|(from, to)| VaultEvent::Moved { from, to }),
        4 => path().prop_map(|path| VaultEvent::Deleted { path }),
        4 => (path(), 0u64..20)
            .prop_map(|(path, version)| VaultEvent::VersionRemoved { path, version }),
        2 => path().prop_map(|path| VaultEvent::FolderMade { path }),
        1 => path().prop_map(|path| VaultEvent::FolderRemoved { path }),
        1 => Just(VaultEvent::Removed),
        1 => ("[a-z]{1,2}", vec(any::<u8>(), 0..3))
            .prop_map(|(name, value)| VaultEvent::Set { name, value }),
        1 => Just(VaultEvent::Noted { text: "of another place".into() }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let slab = (slab_id(), vec(0u16..2_000, 1..40), any::<u8>()).prop_map(|(id, hosts, byte)| {
        let hosts = hosts.into_iter().map(HostIndex).collect();
        let descriptor = Digest([byte; 32]);
        SlabRecord { id, data: 2, column: 22, frame: 16, hosts, descriptor }
    });
    prop_oneof![
        1 => any::<[u8; 32]>()
            .prop_map(|key| Change::HostAdded { index: HostIndex(0), host: PublicKey(key) }),
        5 => slab.prop_map(|slab| Change::SlabsStored(vec![slab])),
        1 => slab_id().prop_map(|id| Change::SlabsReleased(vec![id])),
        20 => (0u8..3, event()).prop_map(|(vault, event)| {
            Change::Vault { vault: VaultId([vault; 16]), number: 0, made: Made::default(), event }
        }),
        1 => (any::<u8>(), "[a-z]{1,9}").prop_map(|(id, name)| Change::BackupCreated {
            id: BackupId([id; 16]),
            label: Box::new(BackupLabel { name, ..BackupLabel::default() }),
            origin: Box::default(),
            scope: (id % 2 == 0).then_some(VaultId([id % 3; 16])),
        }),
        1 => any::<u8>().prop_map(|id| Change::BackupDeleted(BackupId([id; 16]))),
        1 => (any::<u8>(), "[a-z]{1,9}").prop_map(|(id, name)| Change::BackupLabelled {
            id: BackupId([id; 16]),
            label: Box::new(BackupLabel { name, pinned: true, ..BackupLabel::default() }),
        }),
        2 => (any::<u8>(), slab_id()).prop_map(|(id, tree)| {
            let (id, hosts) = (SlabId([id; 16]), vec![HostIndex(1)]);
            let descriptor = Digest([1; 32]);
            let root = SlabRecord { id, data: 1, column: 14, frame: 14, hosts, descriptor };
            let checkpoint = CheckpointName {
                point: JournalPoint::default(),
                digest: Digest([2; 32]),
                length: 9,
                root: vec![root.clone()],
                trees: vec![tree],
            };
            Change::Checkpointed { checkpoint, backup: None, slabs: vec![root] }
        }),
        1 => ("[a-z]{1,2}", vec(any::<u8>(), 0..9))
            .prop_map(|(name, value)| Change::Setting { name, value }),
    ]
}

/// Vaults and slabs, so that most of what follows can happen.
fn start() -> Vec<(Change, u64, u8)> {
    let vault = |byte: u8| {
        let event = VaultEvent::Created { name: format!("vault {byte}") };
        (
            Change::Vault { vault: VaultId([byte; 16]), number: 0, made: Made::default(), event },
            1,
            1,
        )
    };
    let slab = |byte: u8| {
        let (id, descriptor) = (SlabId([byte; 16]), Digest([byte; 32]));
        let hosts = vec![HostIndex(3), HostIndex(300)];
        let slab = SlabRecord { id, data: 1, column: 22, frame: 16, hosts, descriptor };
        (Change::SlabsStored(vec![slab]), 1, 1)
    };
    (0..2).map(vault).chain((0..5).map(slab)).collect()
}

/// Gives a change the numbers that the state asks for.
fn fit(change: Change, state: &JournalState) -> Change {
    match change {
        Change::HostAdded { host, .. } => {
            Change::HostAdded { index: HostIndex(state.hosts.len() as u16), host }
        }
        Change::Vault { vault, made, event, .. } => {
            let number = state.vaults.get(&vault).map_or(0, |vault| vault.next);
            Change::Vault { vault, number, made, event }
        }
        Change::Checkpointed { mut checkpoint, slabs, .. } => {
            let open = state.backups.iter().find(|(_, backup)| backup.checkpoint.is_none());
            checkpoint.point = open.map_or(state.point, |(_, backup)| backup.point);
            Change::Checkpointed { checkpoint, backup: open.map(|(id, _)| *id), slabs }
        }
        other => other,
    }
}

struct Forest {
    store: Store,
    files: Rules,
    events: Rules,
    slabs: Rules,
    held: Rules,
}

impl Forest {
    fn new() -> Self {
        let rules = |kind| rules(kind, Limits::STORED);
        Self {
            store: Store::default(),
            files: rules(TreeKind::Files),
            events: rules(TreeKind::Events),
            slabs: rules(TreeKind::Slabs),
            held: rules(TreeKind::Held),
        }
    }

    fn apply(&mut self, trees: Trees, edits: TreeEdits) -> Trees {
        Trees {
            files: self.store.apply(&self.files, trees.files, edits.files).0,
            events: self.store.apply(&self.events, trees.events, edits.events).0,
            slabs: self.store.apply(&self.slabs, trees.slabs, edits.slabs).0,
            held: self.store.apply(&self.held, trees.held, edits.held).0,
        }
    }

    fn state(&mut self, root: &CheckpointRoot) -> Result<JournalState, CheckpointError> {
        let mut reader = StateReader::new(root);
        for (key, value) in self.store.scan(TreeKind::Slabs, root.trees.slabs, b"", b"") {
            reader.take_slab(&key, &value)?;
        }
        for (key, value) in self.store.scan(TreeKind::Files, root.trees.files, b"", b"") {
            reader.take_file(&key, value)?;
        }
        for (key, value) in self.store.scan(TreeKind::Held, root.trees.held, b"", b"") {
            reader.take_held(&key, value)?;
        }
        reader.finish()
    }

    fn events(&mut self, root: Option<NodeRef>) -> Vec<Event> {
        let (mut reader, mut events) = (EventReader::default(), Vec::new());
        for (key, value) in self.store.scan(TreeKind::Events, root, b"", b"") {
            events.extend(reader.take(&key, value).unwrap());
        }
        events.extend(reader.finish().unwrap());
        events
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn checkpoints_of_any_history_give_its_fold(
        changes in vec((change(), any::<u64>(), any::<u8>()), 0..250),
    ) {
        let changes = start().into_iter().chain(changes);
        let (mut forest, mut state) = (Forest::new(), JournalState::default());
        let (mut trees, mut pending) = (Trees::default(), Changes::default());
        let mut taken: Vec<Entry> = Vec::new();
        for (change, time, lot) in changes {
            let entry = Entry { time, salt: [lot; 16], change: fit(change, &state) };
            // The writer releases no slab that is in use; of one, the fold would forget the live bytes.
            let in_use = |id: &SlabId| {
                state.slabs.get(id).is_some_and(|slab| slab.live > 0 || slab.pins > 0)
            };
            if matches!(&entry.change, Change::SlabsReleased(ids) if ids.iter().any(in_use)) {
                continue;
            }
            if pending.apply(&mut state, &entry).is_ok() {
                taken.push(entry);
            }
            if lot % 16 > 0 {
                continue;
            }
            // A checkpoint by what changed, one by everything.
            let edits = std::mem::take(&mut pending).edits(&state);
            trees = forest.apply(trees, edits);
            let mut all = Changes::all(&state);
            let (mut events, mut again) = (Changes::default(), JournalState::default());
            taken.iter().for_each(|entry| events.apply(&mut again, entry).unwrap());
            let anew = forest.apply(Trees::default(), std::mem::take(&mut all).edits(&state));
            prop_assert_eq!(digest(trees.files), digest(anew.files));
            prop_assert_eq!(digest(trees.slabs), digest(anew.slabs));
            prop_assert_eq!(digest(trees.held), digest(anew.held));
            let anew = forest.apply(Trees::default(), events.edits(&state));
            prop_assert_eq!(digest(trees.events), digest(anew.events));

            let root = CheckpointRoot::new(&state, trees, vec![]);
            let root = CheckpointRoot::read(&encode(&root)).unwrap();
            let back = forest.state(&root);
            prop_assert_eq!(back.as_ref(), Ok(&state));
            // The events' digests give each vault's chain.
            let mut chains: BTreeMap<VaultId, (u64, Digest)> = BTreeMap::new();
            for event in forest.events(trees.events) {
                let (next, chain) = chains.entry(event.vault).or_default();
                prop_assert_eq!(event.number, *next);
                let digest = event.record.digest();
                *chain = hash("samara v1 journal chain", &(*chain, digest));
                *next += 1;
                let EventRecord::Here(entry) = event.record else { panic!("all are here") };
                prop_assert!(taken.contains(&entry));
            }
            let expected: BTreeMap<_, _> =
                state.vaults.iter().map(|(id, vault)| (*id, (vault.next, vault.chain))).collect();
            prop_assert_eq!(chains, expected);
        }
    }

    #[test]
    fn any_items_are_files_and_events_or_errors(
        items in vec((vec(any::<u8>(), 0..30), vec(any::<u8>(), 0..90)), 0..8),
        rest in vec((vec(0u8..18, 0..6), vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let (mut files, mut events) = (FileReader::default(), EventReader::default());
        let prefixed = rest.into_iter().map(|(key, value)| {
            ([&[1; 16][..], b"a/b", &[0], &key].concat(), value)
        });
        for (key, value) in items.into_iter().chain(prefixed) {
            let _ = (files.take(&key, value.clone()), events.take(&key, value.clone()));
            let _ = samara_protocol::tree::slabs::read_slab(&key, &value);
            let _ = CheckpointRoot::read(&value);
        }
        let _ = (files.finish(), events.finish());
    }
}

fn event_of(number: u64, record: EventRecord) -> Event {
    Event { vault: VaultId([1; 16]), number, record }
}

#[test]
fn an_erased_event_keeps_its_digest_and_all_others() {
    let mut forest = Forest::new();
    let setting = |number: u64| {
        let change = Change::Setting { name: "n".into(), value: vec![1; 20_000] };
        EventRecord::Here(Entry { time: number, salt: [2; 16], change })
    };
    let mut edits = Edits::default();
    let mut events: Vec<Event> = (254..260).map(|n| event_of(n, setting(n))).collect();
    events.iter().for_each(|event| event.edit(&mut edits));
    let edits = TreeEdits { events: edits, ..TreeEdits::default() };
    let trees = forest.apply(Trees::default(), edits);
    assert_eq!(forest.events(trees.events), events);

    let erased = EventRecord::Erased(events[2].record.digest());
    events[2].record = erased;
    let mut edits = Edits::default();
    events[2].edit(&mut edits);
    let trees = forest.apply(trees, TreeEdits { events: edits, ..TreeEdits::default() });
    assert_eq!(forest.events(trees.events), events);
    let key = event_key(&VaultId([1; 16]), 256);
    assert!(forest.store.lookup(TreeKind::Events, trees.events, &key).is_some());
}

#[test]
fn a_missing_piece_is_named_and_a_newer_root_too() {
    let file = StoredFile {
        size: 1,
        modified: 2,
        executable: false,
        hash: Digest([3; 32]),
        content: Content::Inline(vec![4; 20_000]),
    };
    let mut state = JournalState::default();
    let vault = VaultId([1; 16]);
    for (number, event) in (0..).zip([
        VaultEvent::Created { name: "home".into() },
        VaultEvent::Put { path: StoredPath::new("a").unwrap(), file },
    ]) {
        let change = Change::Vault { vault, number, made: Made::default(), event };
        state.apply(&Entry { time: 1, salt: [0; 16], change }).unwrap();
    }
    let mut forest = Forest::new();
    let trees = forest.apply(Trees::default(), Changes::all(&state).edits(&state));
    let items = forest.store.scan(TreeKind::Files, trees.files, &folder_prefix(&vault, None), b"");
    assert_eq!(items.len(), 3);
    let root = CheckpointRoot::new(&state, trees, vec![]);
    for missing in 0..3 {
        let mut reader = StateReader::new(&root);
        let kept = items.iter().enumerate().filter(|(index, _)| *index != missing);
        let mut result = Ok(());
        for (_, (key, value)) in kept {
            result = result.and_then(|()| reader.take_file(key, value.clone()));
        }
        let result = result.and_then(|()| reader.finish().map(|_| ()));
        assert!(matches!(result, Err(CheckpointError::File(_))), "{missing}: {result:?}");
    }
    let mut newer = encode(&root);
    newer[0] = CheckpointRoot::VERSION + 1;
    assert_eq!(CheckpointRoot::read(&newer), Err(CheckpointError::Version(newer[0])));
    let nowhere = CheckpointRoot { vaults: BTreeMap::new(), ..root };
    assert!(matches!(forest.state(&nowhere), Err(CheckpointError::Vault { .. })));
}
