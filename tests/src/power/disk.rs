//! The folder that a disk would hold, from what was done and what was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore as _;

use super::log::{Change, Record};

/// What a disk writes as a whole, bytes.
const PAGE: u64 = 4 << 10;

/// What becomes of changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Luck {
    /// All are lost.
    Nothing,
    /// All are there, as after `kill -9`.
    Everything,
    /// Each page is as after any of its changes, each file as long as after any of its own, and each change
    /// of names is there or not.
    Some,
}

type NodeId = u64;

/// A folder as the disk under it holds it: durable contents and names, and the changes since.
#[derive(Clone, Debug)]
pub struct Disk {
    root: NodeId,
    nodes: BTreeMap<NodeId, Node>,
    /// Inodes are given again when a file is gone; nodes never are.
    inodes: BTreeMap<u64, NodeId>,
    /// Changes of names that are not durable, in order.
    names: Vec<Naming>,
}

#[derive(Clone, Debug)]
struct Node {
    mode: u32,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    File(Bytes),
    Folder(BTreeMap<String, NodeId>),
}

/// A file's durable bytes, and what was done since.
#[derive(Clone, Debug, Default)]
struct Bytes {
    durable: Vec<u8>,
    changes: Vec<Edit>,
}

#[derive(Clone, Debug)]
enum Edit {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// A change of names that happens as a whole: what each name leads to from then on.
#[derive(Clone, Debug)]
struct Naming(Vec<(NodeId, String, Option<NodeId>)>);

impl Disk {
    /// Reads a folder; all that it holds counts as durable.
    ///
    /// # Errors
    /// The system's, and for names that are no text.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut disk =
            Self { root: 0, nodes: BTreeMap::new(), inodes: BTreeMap::new(), names: Vec::new() };
        disk.root = disk.take_in(folder)?;
        Ok(disk)
    }

    fn take_in(&mut self, path: &Path) -> io::Result<NodeId> {
        let about = std::fs::symlink_metadata(path)?;
        let content = if about.is_dir() {
            let mut entries = BTreeMap::new();
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                let name = entry.file_name().into_string();
                let name = name.map_err(|name| io::Error::other(format!("{}", name.display())))?;
                entries.insert(name, self.take_in(&entry.path())?);
            }
            Content::Folder(entries)
        } else {
            Content::File(Bytes { durable: std::fs::read(path)?, changes: Vec::new() })
        };
        Ok(self.add(about.ino(), about.mode() & 0o7777, content))
    }

    fn add(&mut self, inode: u64, mode: u32, content: Content) -> NodeId {
        let id = self.nodes.keys().next_back().map_or(0, |last| last + 1);
        self.nodes.insert(id, Node { mode, content });
        self.inodes.insert(inode, id);
        id
    }

    fn node(&self, inode: u64) -> NodeId {
        *self.inodes.get(&inode).unwrap_or_else(|| panic!("inode {inode} was never seen"))
    }

    /// Takes note of what a process did.
    ///
    /// # Panics
    /// For changes of what is not in this folder.
    pub fn apply(&mut self, record: Record) {
        let node = self.node(record.node);
        match record.change {
            Change::Write { offset, bytes } => self.edit(node, Edit::Write(offset, bytes)),
            Change::Length(length) => self.edit(node, Edit::Length(length)),
            Change::Sync => self.sync(node),
            Change::Create { name, inode, mode } => {
                let file = self.add(inode, mode, Content::File(Bytes::default()));
                self.names.push(Naming(vec![(node, name, Some(file))]));
            }
            Change::MakeFolder { name, inode, mode } => {
                let folder = self.add(inode, mode, Content::Folder(BTreeMap::new()));
                self.names.push(Naming(vec![(node, name, Some(folder))]));
            }
            Change::Remove(name) => self.names.push(Naming(vec![(node, name, None)])),
            Change::Rename { from, folder, to } => {
                let target = self.node(folder);
                let named = self.named(node, &from);
                self.names.push(Naming(vec![(node, from, None), (target, to, Some(named))]));
            }
            Change::Link { name, inode } => {
                let file = self.node(inode);
                self.names.push(Naming(vec![(node, name, Some(file))]));
            }
        }
    }

    fn edit(&mut self, node: NodeId, edit: Edit) {
        match self.nodes.get_mut(&node).map(|node| &mut node.content) {
            Some(Content::File(bytes)) => bytes.changes.push(edit),
            _ => panic!("node {node} is no file"),
        }
    }

    /// What a name leads to for the process, which sees all changes.
    fn named(&self, folder: NodeId, name: &str) -> NodeId {
        let latest = self.names.iter().rev().flat_map(|naming| &naming.0);
        let mut latest = latest.filter(|(at, entry, _)| *at == folder && entry == name);
        let durable = || match &self.nodes[&folder].content {
            Content::Folder(entries) => entries.get(name).copied(),
            Content::File(_) => None,
        };
        let found = latest.next().map_or_else(durable, |(_, _, node)| *node);
        found.unwrap_or_else(|| panic!("{name} leads to nothing"))
    }

    fn sync(&mut self, node: NodeId) {
        match self.nodes.get_mut(&node).map(|node| &mut node.content) {
            Some(Content::File(bytes)) => bytes.settle(),
            _ => self.sync_folder(node),
        }
    }

    /// Makes the changes of a folder's names durable, with earlier ones of names that they stand on.
    fn sync_folder(&mut self, folder: NodeId) {
        let mut touched: BTreeSet<(NodeId, String)> = BTreeSet::new();
        let (mut durable, mut rest) = (Vec::new(), Vec::new());
        for naming in std::mem::take(&mut self.names).into_iter().rev() {
            let concerned = naming
                .0
                .iter()
                .any(|(at, name, _)| *at == folder || touched.contains(&(*at, name.clone())));
            if concerned {
                touched.extend(naming.0.iter().map(|(at, name, _)| (*at, name.clone())));
                durable.push(naming);
            } else {
                rest.push(naming);
            }
        }
        rest.reverse();
        self.names = rest;
        for naming in durable.into_iter().rev() {
            self.name(naming);
        }
    }

    fn name(&mut self, naming: Naming) {
        for (folder, name, node) in naming.0 {
            let Some(Content::Folder(entries)) =
                self.nodes.get_mut(&folder).map(|node| &mut node.content)
            else {
                panic!("node {folder} is no folder");
            };
            match node {
                Some(node) => entries.insert(name, node),
                None => entries.remove(&name),
            };
        }
    }

    /// Power is lost: of what was not synced, so much is left as luck has it.
    pub fn lose_power(&mut self, luck: Luck, random: &mut ChaCha8Rng) {
        for naming in std::mem::take(&mut self.names) {
            let kept = match luck {
                Luck::Nothing => false,
                Luck::Everything => true,
                Luck::Some => random.next_u64().is_multiple_of(2),
            };
            if kept {
                self.name(naming);
            }
        }
        for node in self.nodes.values_mut() {
            if let Content::File(bytes) = &mut node.content {
                match luck {
                    Luck::Nothing => bytes.changes.clear(),
                    Luck::Everything => bytes.settle(),
                    Luck::Some => bytes.settle_partly(random),
                }
            }
        }
    }

    /// Writes what is durable to a folder that is not there yet.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        self.write_node(self.root, folder)
    }

    fn write_node(&self, node: NodeId, path: &Path) -> io::Result<()> {
        let Node { mode, content } = &self.nodes[&node];
        match content {
            Content::File(bytes) => {
                let file = File::create_new(path)?;
                write_sparse(&file, &bytes.durable)?;
                file.set_permissions(Permissions::from_mode(*mode))
            }
            Content::Folder(entries) => {
                DirBuilder::new().mode(0o700).create(path)?;
                entries
                    .iter()
                    .try_for_each(|(name, node)| self.write_node(*node, &path.join(name)))?;
                std::fs::set_permissions(path, Permissions::from_mode(*mode))
            }
        }
    }
}

fn write_sparse(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(bytes.len() as u64)?;
    let mut offset = 0;
    for chunk in bytes.chunks(64 << 10) {
        if chunk.iter().any(|byte| *byte != 0) {
            file.write_all_at(chunk, offset)?;
        }
        offset += chunk.len() as u64;
    }
    Ok(())
}

fn length_of(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

/// An offset in a buffer. Files of tests fit into memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("invariant: a file of a test fits into memory")
}

impl Edit {
    fn length_after(&self, before: u64) -> u64 {
        match self {
            Self::Write(offset, bytes) => before.max(offset + length_of(bytes)),
            Self::Length(length) => *length,
        }
    }

    /// Does it to `page`, the bytes from `start` on.
    fn apply(&self, page: &mut [u8], start: u64) {
        let end = start + length_of(page);
        match self {
            Self::Write(offset, bytes) => {
                let from = start.max(*offset);
                let to = end.min(offset + length_of(bytes));
                if from < to {
                    let source = &bytes[index(from - offset)..index(to - offset)];
                    page[index(from - start)..index(to - start)].copy_from_slice(source);
                }
            }
            // What is cut off comes back as zeros if the file grows again.
            Self::Length(length) if *length < end => {
                page[index(length.saturating_sub(start))..].fill(0)
            }
            Self::Length(_) => {}
        }
    }
}

impl Bytes {
    /// All changes are durable.
    fn settle(&mut self) {
        for edit in self.changes.drain(..) {
            let length = index(edit.length_after(length_of(&self.durable)));
            self.durable.resize(length, 0);
            edit.apply(&mut self.durable, 0);
        }
    }

    /// Each page is as after any of the changes, drawn apart, and so is the length.
    fn settle_partly(&mut self, random: &mut ChaCha8Rng) {
        if self.changes.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.changes);
        let mut draw = || index(random.next_u64() % (changes.len() as u64 + 1));
        let mut lengths = vec![length_of(&self.durable)];
        for edit in &changes {
            lengths.push(edit.length_after(lengths[lengths.len() - 1]));
        }
        let longest = lengths.iter().copied().max().unwrap_or(0).next_multiple_of(PAGE);
        self.durable.resize(index(longest), 0);
        for page in pages(&changes, &lengths) {
            let start = page * PAGE;
            let bytes = &mut self.durable[index(start)..index(start + PAGE)];
            changes[..draw()].iter().for_each(|edit| edit.apply(bytes, start));
        }
        self.durable.truncate(index(lengths[draw()]));
    }
}

/// Pages that changes touch.
fn pages(changes: &[Edit], lengths: &[u64]) -> BTreeSet<u64> {
    let mut pages = BTreeSet::new();
    for (edit, before) in changes.iter().zip(lengths) {
        let (from, to) = match edit {
            Edit::Write(offset, bytes) => (*offset, offset + length_of(bytes)),
            Edit::Length(length) => (*length, *before),
        };
        if from < to {
            pages.extend(from / PAGE..to.div_ceil(PAGE));
        }
    }
    pages
}
