//! Every kind of entry, and the sealed pieces of a head.

use std::ops::Range;

use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::journal::head::{
    Binding, HeadBase, HeadTail, Segment, nothing_precedes, seal_base, seal_tail,
};
use samara_protocol::journal::quorum::HeadSet;
use samara_protocol::journal::{
    BackupCounts, BackupId, BackupLabel, BackupOrigin, Change, CheckpointName, Content, Entry,
    Extent, HostIndex, JournalPoint, Made, SlabRecord, StoredFile, StoredPath, UserId, VaultEvent,
    VaultId,
};
use samara_protocol::units::{Amount, ChainTime, Epoch};

use crate::contract::{GENESIS, epoch, revision};
use crate::{Area, secret};

const KEY: [u8; 32] = [0x24; 32];

fn slab() -> SlabRecord {
    slab_on(0..30)
}

/// A slab of 10 data shards on these hosts.
pub fn slab_on(hosts: Range<u16>) -> SlabRecord {
    SlabRecord {
        id: SlabId([31; 16]),
        data: 10,
        column: 22,
        frame: 16,
        hosts: hosts.map(HostIndex).collect(),
        descriptor: Digest([32; 32]),
    }
}

fn path(path: &str) -> StoredPath {
    StoredPath::new(path).unwrap()
}

fn file(content: Content) -> StoredFile {
    StoredFile {
        size: 70_000,
        modified: 1_600_000_000_000,
        executable: true,
        hash: Digest([33; 32]),
        content,
    }
}

fn events() -> Vec<(&'static str, VaultEvent)> {
    let extent = Extent { slab: slab().id, offset: 300, length: 70_000 };
    let there = path("fotos/2026/wald.jpg");
    vec![
        ("created", VaultEvent::Created { name: "home".into() }),
        ("renamed", VaultEvent::Renamed { name: "Zuhause \u{1f341}".into() }),
        (
            "put in slabs",
            VaultEvent::Put { path: there.clone(), file: file(Content::Extents(vec![extent])) },
        ),
        (
            "put inline",
            VaultEvent::Put { path: path("note"), file: file(Content::Inline(b"leaf".to_vec())) },
        ),
        ("moved", VaultEvent::Moved { from: there.clone(), to: path("wald.jpg") }),
        ("deleted", VaultEvent::Deleted { path: there.clone() }),
        ("version removed", VaultEvent::VersionRemoved { path: there, version: 300 }),
        ("removed", VaultEvent::Removed),
        ("put and erased", VaultEvent::Put { path: path("gone"), file: file(Content::Erased) }),
        ("set", VaultEvent::Set { name: "owner".into(), value: vec![48; 8] }),
        ("noted", VaultEvent::Noted { text: "of another place".into() }),
    ]
}

/// What people say of a backup.
pub fn label() -> BackupLabel {
    BackupLabel {
        name: "before the move".into(),
        description: "all of it".into(),
        tags: vec!["home".into()],
        pinned: true,
        expires: Some(ChainTime(1_800_000_000_000)),
    }
}

/// How a backup came about.
pub fn origin() -> BackupOrigin {
    BackupOrigin {
        chain_time: ChainTime(1_700_000_000_000),
        by: Some(UserId([47; 8])),
        schedule: Some("nightly".into()),
        quoted: Amount(1_000),
        counts: BackupCounts { vaults: 1, events: 300, versions: 3, files: 2, bytes: 70_004 },
    }
}

fn made() -> Made {
    Made {
        chain_time: ChainTime(1_700_000_000_000),
        by: Some(UserId([47; 8])),
        first: Some(1_650_000_000_000),
    }
}

fn changes() -> Vec<(String, Change)> {
    let vault = VaultId([35; 16]);
    let mut changes: Vec<(String, Change)> = [
        ("host added", Change::HostAdded { index: HostIndex(300), host: secret(2).public() }),
        ("slabs stored", Change::SlabsStored(vec![slab()])),
        ("slabs released", Change::SlabsReleased(vec![slab().id, SlabId([36; 16])])),
        (
            "backup created",
            Change::BackupCreated {
                id: BackupId([37; 16]),
                scope: Some(vault),
                label: label().into(),
                origin: origin().into(),
            },
        ),
        ("backup deleted", Change::BackupDeleted(BackupId([37; 16]))),
        (
            "backup labelled",
            Change::BackupLabelled { id: BackupId([37; 16]), label: Box::default() },
        ),
        (
            "vault reserved",
            Change::VaultReserved { vault: VaultId([35; 16]), name: "home 2".into() },
        ),
        (
            "vault opened",
            Change::VaultOpened { vault: VaultId([35; 16]), owner: Some(UserId([47; 8])) },
        ),
        ("setting", Change::Setting { name: "allowance".into(), value: vec![1, 2, 3] }),
    ]
    .map(|(name, change)| (name.to_owned(), change))
    .into();
    for (number, (name, event)) in (0..).zip(events()) {
        changes
            .push((format!("vault {name}"), Change::Vault { vault, number, made: made(), event }));
    }
    changes
}

fn entry(change: Change) -> Entry {
    Entry { time: 1_700_000_000_123, salt: [34; 16], change }
}

#[test]
fn journal() {
    let mut area = Area::new("journal");
    area.value("slab record", &slab());
    let mut point = JournalPoint::default();
    for (name, change) in changes() {
        let entry = entry(change);
        area.value(&format!("entry: {name}"), &entry);
        area.bytes(&format!("entry digest: {name}"), entry.digest().as_bytes());
        point = point.after(&entry);
    }
    area.value("point after all entries", &point);
    let moved = entry(Change::SlabsMoved(vec![slab()]));
    area.value("entry: slabs moved", &moved);
    area.bytes("entry digest: slabs moved", moved.digest().as_bytes());
    let extents = vec![Extent { slab: slab().id, offset: 300, length: 70_000 }];
    let event = VaultEvent::Relocated { path: path("wald.jpg"), version: 300, extents };
    let relocated = Change::Vault { vault: VaultId([35; 16]), number: 8, made: made(), event };
    area.value("entry: vault relocated", &entry(relocated));

    let checkpoint = CheckpointName {
        point: JournalPoint { position: 2, hash: Digest([43; 32]) },
        digest: Digest([44; 32]),
        length: 700,
        root: vec![slab()],
        trees: vec![SlabId([45; 16])],
    };
    let (backup, slabs) = (Some(BackupId([46; 16])), vec![slab()]);
    let stored = Change::Checkpointed { checkpoint: checkpoint.clone(), backup, slabs };
    area.value("entry: checkpointed", &entry(stored));

    let head_set = HeadSet {
        generation: 4,
        hosts: vec![HostIndex(0), HostIndex(2)],
        previous: vec![vec![HostIndex(1)]],
    };
    let segment = Segment {
        from: JournalPoint::default(),
        entries: point.position,
        length: 4_096,
        slabs: vec![slab()],
    };
    let base = HeadBase {
        epoch: epoch(),
        origin: secret(1).public(),
        account: 1,
        head_set,
        hosts: vec![secret(2).public()],
        revisions: vec![(HostIndex(0), revision())],
        checkpoint: Some(checkpoint),
        segments: vec![segment],
        point,
    };
    area.value("head base", &base);
    let tail = HeadTail { from: point, entries: vec![entry(changes()[0].1.clone())] };
    area.value("head tail", &tail);
    let contract = secret(1).public();
    let binding = |sequence: u64, epoch: Epoch, preceding: Digest| Binding {
        genesis: &GENESIS,
        contract: &contract,
        epoch,
        sequence,
        preceding,
    };
    let sealed = seal_base(&KEY, &binding(5, epoch(), nothing_precedes()), [41; 24], &base);
    area.bytes("head base sealed", &sealed);
    let preceding = Digest(*blake3::hash(&sealed).as_bytes());
    let sealed = seal_tail(&KEY, &binding(6, epoch(), preceding), [42; 24], &tail);
    area.bytes("head tail sealed", &sealed);
    area.finish();
}
