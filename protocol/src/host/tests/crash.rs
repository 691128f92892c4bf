//! Random requests over a disk that fails between any two writes and loses what was not durable.
//!
//! The model is what was acknowledged. After every step and every crash the host shows exactly that,
//! every acknowledged sector can be read, and after a start no other sector takes room.

use std::collections::BTreeMap;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};

use super::{GENESIS, World, data, epoch};
use crate::hash::{Digest, SectorRoot};
use crate::host::message::{ContractCall, HostResponse, Refusal, SignedSlot, SlotState};
use crate::host::store::HostStore as _;
use crate::sector::SectorEntry;
use crate::units::{ChainTime, Epoch, Millis};

#[derive(Debug, Clone)]
enum Step {
    Store(u8),
    /// Appends every stored sector whose bit is set, removes every listed one whose bit is set.
    Commit {
        append: u16,
        remove: u16,
    },
    Promise(u8),
    Put(u8),
    Append(u8),
    Read(u8),
    Corrupt(u8),
    Pass(u8),
    Sweep,
    FailAfter(u8),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..12).prop_map(Step::Store),
        5 => (0u16.., 0u16..).prop_map(|(append, remove)| {
            Step::Commit { append, remove: remove & remove >> 5 }
        }),
        1 => (0u8..4).prop_map(Step::Promise),
        2 => (0u8..).prop_map(Step::Put),
        3 => (1u8..).prop_map(Step::Append),
        3 => (0u8..12).prop_map(Step::Read),
        1 => (0u8..12).prop_map(Step::Corrupt),
        2 => (0u8..40).prop_map(Step::Pass),
        2 => Just(Step::Sweep),
        2 => (0u8..4).prop_map(Step::FailAfter),
        2 => Just(Step::Crash),
    ]
}

/// What was acknowledged.
struct Model {
    temporary: BTreeMap<SectorRoot, (SectorEntry, ChainTime)>,
    promised: Epoch,
    slot: SlotState,
    head: Vec<u8>,
    /// Sectors whose bytes were changed behind the host's back.
    corrupt: BTreeMap<SectorRoot, ()>,
    failing: bool,
}

impl Model {
    fn needs(&self, world: &World, root: &SectorRoot) -> bool {
        self.temporary.contains_key(root) || world.list.iter().any(|entry| entry.root == *root)
    }
}

/// Whether an answer was given; in its place a failing disk may only give an internal error.
fn given<T>(model: &Model, answer: Result<T, Refusal>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(Refusal::Internal(_)) if model.failing => None,
        Err(refusal) => panic!("refused: {refusal}"),
    }
}

fn take(world: &mut World, model: &mut Model, step: &Step) {
    match *step {
        Step::Store(number) => {
            let entry = data(number.into(), 10).0;
            let held = model.needs(world, &entry.root);
            let stored = world.store(number.into(), 10);
            if given(model, stored).is_some() {
                model.temporary.insert(entry.root, (entry, world.facts.now));
                if !held {
                    model.corrupt.remove(&entry.root);
                }
            }
            // Once the host has noticed the damage, storing again mends it.
            if !world.host.damaged_sectors().contains(&entry.root)
                && world.host.check_sector(&entry) == Ok(true)
            {
                model.corrupt.remove(&entry.root);
            }
        }
        Step::Commit { append, remove } => commit(world, model, append, remove),
        Step::Promise(counter) => {
            let wanted = epoch(counter.into());
            let before = std::mem::replace(&mut world.epoch, wanted);
            let answer = world.call(ContractCall::Promise);
            if wanted < model.promised {
                assert!(matches!(answer, Err(Refusal::Fenced { .. })), "{answer:?}");
                world.epoch = before;
            } else if given(model, answer).is_some() {
                model.promised = wanted;
            } else {
                world.epoch = before;
            }
        }
        Step::Put(byte) => write_head(world, model, None, vec![byte; usize::from(byte)]),
        Step::Append(byte) => write_head(world, model, Some(model.slot), vec![byte; 3]),
        Step::Read(number) => {
            let entry = data(number.into(), 10).0;
            let known = model.needs(world, &entry.root);
            match world.read(entry.root, 1_024) {
                Ok(HostResponse::Range { data: bytes, .. }) => {
                    assert!(known);
                    assert_eq!(bytes, data(number.into(), 10).1);
                }
                Err(Refusal::Damaged(_)) => assert!(model.corrupt.contains_key(&entry.root)),
                Err(Refusal::UnknownSector(_)) => assert!(!known, "sector {number} was lost"),
                Err(Refusal::Internal(_)) if model.failing => {}
                other => panic!("{other:?}"),
            }
        }
        Step::Corrupt(number) => {
            let root = data(number.into(), 10).0.root;
            if model.needs(world, &root) && !model.corrupt.contains_key(&root) {
                world.store.corrupt(&root, 5);
                model.corrupt.insert(root, ());
            }
        }
        Step::Pass(seconds) => world.pass(Millis::seconds(seconds.into())),
        Step::Sweep => {
            let now = world.facts.now;
            if world.host.sweep(now).is_ok() {
                let over = |since: &ChainTime| since.plus(Millis::seconds(60)) <= now;
                model.temporary.retain(|_, (_, since)| !over(since));
            } else {
                assert!(model.failing);
            }
        }
        Step::FailAfter(writes) => {
            model.failing = true;
            world.store.fail_after(writes.into());
        }
        Step::Crash => {
            world.crash();
            model.failing = false;
        }
    }
}

fn commit(world: &mut World, model: &mut Model, append: u16, remove: u16) {
    let bit = |bits: u16, index: usize| index < 16 && bits >> index & 1 == 1;
    let damaged = world.host.damaged_sectors();
    let append: Vec<_> = (model.temporary.values())
        .enumerate()
        .filter(|(index, (entry, _))| bit(append, *index) && !damaged.contains(&entry.root))
        .map(|(_, (entry, _))| *entry)
        .collect();
    let remove: Vec<_> =
        (0..world.list.len()).filter(|index| bit(remove, *index)).map(|i| i as u64).collect();
    let answer = world.do_commit(&append, &remove, Vec::new());
    if given(model, answer).is_some() {
        for entry in append {
            model.temporary.remove(&entry.root);
        }
        model.promised = model.promised.max(world.epoch);
    }
}

fn write_head(world: &mut World, model: &mut Model, expected: Option<SlotState>, bytes: Vec<u8>) {
    let head = match expected {
        Some(_) => [model.head.clone(), bytes.clone()].concat(),
        None => bytes.clone(),
    };
    let state = SlotState {
        sequence: model.slot.sequence + 1,
        length: u32::try_from(head.len()).unwrap(),
        hash: Digest(*blake3::hash(&head).as_bytes()),
        epoch: world.epoch,
    };
    let new = SignedSlot::sign(&GENESIS, state, &world.key);
    let answer = match expected {
        Some(expected) => world.call(ContractCall::HeadAppend { expected, tail: bytes, new }),
        None => {
            let expected = model.slot;
            world.call(ContractCall::HeadPut { expected, head: bytes, new })
        }
    };
    if given(model, answer).is_some() {
        (model.slot, model.head) = (state, head);
        model.promised = model.promised.max(world.epoch);
    }
}

fn check(world: &mut World, model: &Model, reopened: bool) {
    let Ok(HostResponse::Head { status, head }) = world.call(ContractCall::Head) else {
        panic!("the head is always shown")
    };
    assert_eq!(status.revision.revision, world.revision);
    assert_eq!((status.slot.state, status.promised.epoch), (model.slot, model.promised));
    assert_eq!(head, model.head);
    let listed = world.call(ContractCall::Sectors { from: 0 });
    assert_eq!(listed, Ok(HostResponse::Sectors(world.list.clone())));
    let mut needed: Vec<_> = world.list.clone();
    needed.extend(model.temporary.values().map(|(entry, _)| *entry));
    needed.sort_unstable_by_key(|entry| entry.root);
    needed.dedup();
    let stored = world.store.stored().unwrap();
    for entry in &needed {
        assert!(stored.contains(entry), "an acknowledged sector is gone");
    }
    if reopened {
        assert_eq!(stored, needed, "a sector that nobody needs takes room");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_acknowledged_survives(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let mut model = Model {
            temporary: BTreeMap::new(),
            promised: Epoch::default(),
            slot: SlotState::default(),
            head: Vec::new(),
            corrupt: BTreeMap::new(),
            failing: false,
        };
        for step in &steps {
            take(&mut world, &mut model, step);
            if !model.failing {
                check(&mut world, &model, matches!(step, Step::Crash));
            }
        }
        world.crash();
        check(&mut world, &model, true);
    }
}
