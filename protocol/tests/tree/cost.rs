//! What things cost, in nodes and bytes, on trees of a million files and of many slabs. Run with
//! `--nocapture` for the figures of the decision record.

use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::journal::{
    Content, Extent, FileState, HostIndex, SlabRecord, StoredFile, StoredPath, VaultId, Version,
};
use samara_protocol::tree::files::{PathEntry, version_key};
use samara_protocol::tree::slabs::slab_item;
use samara_protocol::tree::{Edits, Item, Limits, TreeKind};

use crate::store::{Store, rules};

const FILES: u64 = 1_000_000;
const FILES_OF_A_FOLDER: u64 = 1_000;

fn path(number: u64) -> StoredPath {
    let folder = number / FILES_OF_A_FOLDER;
    StoredPath::new(format!("photos/{:02}/{folder:04}/IMG_{number:07}.jpg", folder % 12)).unwrap()
}

fn file(number: u64, path: StoredPath) -> PathEntry {
    let hash = *blake3::hash(&number.to_le_bytes()).as_bytes();
    // Small files share slabs: about 400 in each.
    let slab = *blake3::hash(&(number / 400).to_le_bytes()).as_bytes().first_chunk().unwrap();
    let (offset, length) = (number as u32 % 400 * 100_000, 90_000 + number as u32 % 1_000);
    let extent = Extent { slab: SlabId(slab), offset, length };
    let time = 1_700_000_000_000 + number;
    let file = StoredFile {
        size: u64::from(length),
        modified: time - 5_000_000,
        executable: false,
        hash: Digest(hash),
        content: Content::Extents(vec![extent]),
    };
    let versions = vec![Version { number, time, since: number, file }];
    let file = Some(FileState { versions, deleted: false });
    PathEntry { vault: VaultId([3; 16]), path, file, folder: false }
}

fn items() -> Vec<Item> {
    let mut items: Vec<Item> = (0..FILES).flat_map(|n| file(n, path(n)).items()).collect();
    items.sort();
    items
}

#[test]
fn a_million_files_cost_what_changes() {
    let rules = rules(TreeKind::Files, Limits::STORED);
    let mut store = Store::default();
    let items = items();
    let names: usize = (0..FILES).map(|n| format!("IMG_{n:07}.jpg").len()).sum();
    let root = store.build(&rules, items.iter().cloned()).unwrap();
    let stored: usize = store.slabs.values().map(Vec::len).sum();
    let nodes = store.reach(TreeKind::Files, &[root]).len();
    let per_file = (root.bytes - names as u64) as f64 / FILES as f64;
    println!("{nodes} nodes, {} levels, {} bytes, {stored} in frames", root.level + 1, root.bytes);
    println!(
        "{per_file:.1} bytes per file beside its name; one item in memory {}",
        items[0].1.len()
    );
    assert!(per_file <= 110.0, "{per_file} bytes per file");
    assert_eq!(root.items, FILES);
    assert_eq!(root.level, 2);

    store.reads = 0;
    assert!(store.lookup(TreeKind::Files, Some(root), &items[123_456].0).is_some());
    assert_eq!(store.reads, 3);

    // One file in the middle: its leaf and the nodes above it are new.
    let (mut new_nodes, mut new_bytes, mut most, mut edits_made) = (0, 0, 0, 0);
    for number in (500..FILES).step_by(40_009) {
        let mut edits = Edits::default();
        file(number, StoredPath::new(format!("{}.new", path(number))).unwrap()).edit(&mut edits);
        store.reads = 0;
        let (after, new) = store.apply(&rules, Some(root), edits);
        assert!(store.reads <= 12, "{} nodes read", store.reads);
        new_nodes += new.len();
        new_bytes += new.iter().map(|node| node.body.len()).sum::<usize>();
        (most, edits_made) = (most.max(new.len()), edits_made + 1);
        store.reads = 0;
        let found = store.diff(TreeKind::Files, Some(root), after);
        assert_eq!(found.len(), 1);
        assert!(store.reads <= 2 * (new.len() + 2), "{} nodes read for {}", store.reads, new.len());
    }
    println!(
        "one put: {:.2} new nodes, at most {most}, {} bytes on average of {edits_made}",
        f64::from(u32::try_from(new_nodes).unwrap()) / f64::from(edits_made),
        new_bytes / edits_made as usize
    );
    assert!(new_nodes <= 5 * edits_made as usize && most <= 16);

    // A new folder of a thousand files.
    let mut edits = Edits::default();
    for number in 0..1_000 {
        let path = StoredPath::new(format!("photos/05/new/{number:05}.jpg")).unwrap();
        file(FILES + number, path).edit(&mut edits);
    }
    let (_, new) = store.apply(&rules, Some(root), edits);
    println!("a folder of 1,000 files: {} new nodes", new.len());
    assert!(new.len() <= 12, "{} new nodes", new.len());

    // A folder of a thousand files goes.
    let mut edits = Edits::default();
    edits.remove_below(b"\x03".repeat(16).into_iter().chain(*b"photos/05/0005/").collect());
    store.reads = 0;
    let (after, new) = store.apply(&rules, Some(root), edits);
    println!("a folder of 1,000 files removed: {} new nodes, {} read", new.len(), store.reads);
    assert_eq!(after.unwrap().items, FILES - 1_000);
    assert!(new.len() <= 10 && store.reads <= 12);

    store.together = 0;
    let listed = store.scan(TreeKind::Files, Some(root), b"", b"");
    assert!(listed == items);
    println!("a list asks for at most {} nodes at once", store.together);
    assert!(store.together <= 64);
    let key = version_key(&VaultId([3; 16]), &path(777_777), 777_777);
    let from = listed.partition_point(|(known, _)| *known < key);
    store.reads = 0;
    let prefix = &key[..key.len() - 10];
    let one = store.scan(TreeKind::Files, Some(root), prefix, b"");
    assert!(one.contains(&listed[from]));
    assert!(store.reads <= 5, "{} nodes read for one folder's few names", store.reads);
}

#[test]
fn a_slab_costs_at_most_128_bytes() {
    let rules = rules(TreeKind::Slabs, Limits::STORED);
    // Thirty hosts of a table of 1,000, so that most numbers have two bytes.
    let record = |number: u64| {
        let hash = blake3::hash(&number.to_le_bytes());
        let mut lot = [0; 60];
        hash_fill(&hash, &mut lot);
        let host = |pair: &[u8]| HostIndex(u16::from_le_bytes([pair[0], pair[1]]) % 1_000);
        SlabRecord {
            id: SlabId(*hash.as_bytes().first_chunk().unwrap()),
            data: 10,
            column: 22,
            frame: 16,
            hosts: lot.chunks(2).map(host).collect(),
            descriptor: Digest(*blake3::hash(hash.as_bytes()).as_bytes()),
        }
    };
    let slabs = 50_000;
    let mut items: Vec<Item> = (0..slabs).map(|number| slab_item(&record(number))).collect();
    items.sort();
    let root = Store::default().build(&rules, items).unwrap();
    let each = root.bytes as f64 / slabs as f64;
    println!("{each:.1} bytes per slab");
    assert!(each <= 128.0, "{each} bytes per slab");
}

fn hash_fill(hash: &blake3::Hash, out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(hash.as_bytes());
    hasher.finalize_xof().fill(out);
}
