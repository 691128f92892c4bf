//! Checkpoint trees: where nodes are cut, their bytes, and the keys and values of each tree.

use samara_protocol::encoding::encode;
use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::journal::{
    Backup, BackupId, Change, CheckpointName, Content, Entry, Extent, FileState, HeldExtents,
    HeldSpan, JournalPoint, Made, SlabRecord, StoredFile, StoredPath, UserId, VaultEvent, VaultId,
    Version,
};
use samara_protocol::keys::tree::MetadataKey;
use samara_protocol::tree::checkpoint::{CheckpointRoot, Trees, VaultRow};
use samara_protocol::tree::events::{EventRecord, event_key};
use samara_protocol::tree::files::PathEntry;
use samara_protocol::tree::held::held_key;
use samara_protocol::tree::slabs::slab_item;
use samara_protocol::tree::{
    Address, BoundaryKey, Builder, Limits, NewNode, NodeRef, Packer, Rules, TreeKind,
};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::journal::{label, origin, slab_on};
use crate::{Area, secret};

const VAULT: VaultId = VaultId([35; 16]);

/// The nodes of numbered items, and the root.
fn numbered(kind: TreeKind, limits: Limits, count: u32) -> (Vec<NewNode>, NodeRef) {
    let key = BoundaryKey::new(&MetadataKey::from_bytes(&Zeroizing::new([0x27; 32])));
    let mut builder = Builder::new(&Rules::new(kind, key, limits));
    let mut nodes = Vec::new();
    for number in 0..count {
        let key = format!("folder {:03}/file {number:06}", number / 100).into_bytes();
        nodes.extend(builder.push(key, vec![number as u8; number as usize % 90]).unwrap());
    }
    let (last, root) = builder.finish();
    nodes.extend(last);
    (nodes, root.unwrap())
}

fn nodes(area: &mut Area) {
    for (name, kind) in
        [("files", TreeKind::Files), ("events", TreeKind::Events), ("slabs", TreeKind::Slabs)]
    {
        let (_, root) = numbered(kind, Limits::STORED, 20_000);
        area.value(&format!("root of 20000 items: {name}"), &root);
    }
    let (nodes, root) = numbered(TreeKind::Files, Limits::new(256, 500).unwrap(), 40);
    area.value("root of 40 items in small nodes", &root);
    // Slabs so small that a parent has children in its own slab and in others.
    let mut packer = Packer::new(700, 700);
    let mut images = Vec::new();
    for node in &nodes {
        if !packer.place(node).unwrap() {
            images.push(packer.take());
            packer.stored(SlabId([images.len() as u8; 16]));
            assert!(packer.place(node).unwrap());
        }
    }
    images.push(packer.take());
    packer.stored(SlabId([images.len() as u8; 16]));
    for (number, image) in images.iter().enumerate() {
        area.bytes(&format!("slab {} of 40 items in small nodes", number + 1), image);
    }
    area.value("root of 40 items in small nodes, stored", &packer.resolve(root).unwrap());
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

fn items(area: &mut Area) {
    let path = StoredPath::new("fotos/2026/wald.jpg").unwrap();
    let extent = Extent { slab: SlabId([31; 16]), offset: 300, length: 70_000 };
    let version = |number, content| Version {
        number,
        time: 1_700_000_000_123,
        since: 390,
        file: file(content),
    };
    let versions = vec![
        version(300, Content::Extents(vec![extent])),
        version(0, Content::Inline(b"leaf".to_vec())),
    ];
    let entry = PathEntry {
        vault: VAULT,
        path: path.clone(),
        file: Some(FileState { versions, deleted: true }),
        folder: true,
    };
    for (number, (key, value)) in entry.items().into_iter().enumerate() {
        let name = ["version 0", "version 300", "mark"][number];
        area.bytes(&format!("file key: {name}"), &key);
        area.bytes(&format!("file value: {name}"), &value);
    }
    let event = VaultEvent::Deleted { path };
    let change = Change::Vault { vault: VAULT, number: 300, made: Made::default(), event };
    let entry = Entry { time: 1_700_000_000_123, salt: [34; 16], change };
    let digest = entry.digest();
    area.bytes("event key: 300", &event_key(&VAULT, 300));
    area.value("event: here", &EventRecord::Here(entry));
    area.value("event: stored", &EventRecord::Stored { digest, extents: vec![extent] });
    area.value("event: erased", &EventRecord::Erased(digest));
    let (key, value) = slab_item(&slab());
    area.bytes("slab key", &key);
    area.bytes("slab value", &value);
    area.bytes("held key: 300 to 500", &held_key(&HeldSpan { until: 500, since: 300 }));
    area.value("held value", &HeldExtents { vault: VAULT, extents: vec![extent] });
}

fn slab() -> SlabRecord {
    slab_on(100..130)
}

fn root(area: &mut Area) {
    let node = |byte: u8| {
        let address = Address { slab: SlabId([byte; 16]), offset: 65_520, length: 40_000 };
        let digest = Digest([byte; 32]);
        Some(NodeRef { digest, level: 2, items: 1_000, bytes: 70_000, address: Some(address) })
    };
    let settings = [("owner".to_owned(), ByteBuf::from(vec![48; 8]))].into();
    let chain = Digest([36; 32]);
    let (name, owner) = ("home".into(), Some(UserId([47; 8])));
    let row = VaultRow { name, created: 5, next: 301, chain, settings, owner, arriving: false };
    let point = JournalPoint { position: 400, hash: Digest([38; 32]) };
    let checkpoint = CheckpointName {
        point,
        digest: Digest([39; 32]),
        length: 700,
        root: vec![slab()],
        trees: vec![SlabId([40; 16])],
    };
    let backup = Backup {
        label: label(),
        origin: origin(),
        scope: Some(VAULT),
        point,
        created: 1_700_000_000_000,
        checkpoint: Some(checkpoint.clone()),
    };
    let root = CheckpointRoot {
        version: CheckpointRoot::VERSION,
        point,
        hosts: vec![secret(2).public()],
        vaults: [(VAULT, row)].into(),
        backups: [(BackupId([37; 16]), backup)].into(),
        settings: [("allowance".into(), ByteBuf::from(vec![1, 2, 3]))].into(),
        checkpoint: Some(checkpoint),
        trees: Trees { files: node(1), events: node(2), slabs: None, held: node(3) },
        metadata: vec![slab()],
    };
    area.value("checkpoint root", &root);
    area.bytes("checkpoint root digest", root.digest().as_bytes());
    assert_eq!(CheckpointRoot::read(&encode(&root)), Ok(root));
}

#[test]
fn tree() {
    let mut area = Area::new("tree");
    nodes(&mut area);
    items(&mut area);
    root(&mut area);
    area.finish();
}
