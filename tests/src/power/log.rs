//! The shim's notes, as `shim.c` writes them.

use std::io::{self, BufReader, Read};
use std::path::Path;

const MAGIC: u32 = 0x5257_4f50;
const HEADER: usize = 40;

/// One change of files or names, or a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Inode of the file, or of the folder that has the entry.
    pub node: u64,
    /// What happened.
    pub change: Change,
}

/// What happened to a file or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes were written.
    Write {
        /// Where they begin.
        offset: u64,
        /// They themselves.
        bytes: Vec<u8>,
    },
    /// The file has this length from now on.
    Length(u64),
    /// Everything before is durable.
    Sync,
    /// A new file in the folder.
    Create {
        /// Its name.
        name: String,
        /// Its inode.
        inode: u64,
        /// Its permissions.
        mode: u32,
    },
    /// A new folder in the folder.
    MakeFolder {
        /// Its name.
        name: String,
        /// Its inode.
        inode: u64,
        /// Its permissions.
        mode: u32,
    },
    /// The folder lost this entry.
    Remove(String),
    /// An entry of the folder got another name.
    Rename {
        /// Its name before.
        from: String,
        /// Inode of the folder it is in now.
        folder: u64,
        /// Its name now.
        to: String,
    },
    /// One more name for a file.
    Link {
        /// The name.
        name: String,
        /// The file's inode.
        inode: u64,
    },
}

/// Reads all records of a log and hands them on in order. A record that is cut short at the end is no
/// record: its process was killed while it wrote it. A log that is not there has none.
///
/// # Errors
/// The system's, and for a log that no shim wrote.
pub fn read_log(path: &Path, mut each: impl FnMut(Record)) -> io::Result<()> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER];
    while fill(&mut input, &mut header)? {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
        if word(0) != MAGIC {
            return Err(io::Error::other("not a record"));
        }
        let length = usize::try_from(long(32)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        if !fill(&mut input, &mut bytes)? {
            break;
        }
        let change = change(word(4), long(16), long(24), bytes)?;
        each(Record { node: long(8), change });
    }
    Ok(())
}

fn change(kind: u32, other: u64, offset: u64, bytes: Vec<u8>) -> io::Result<Change> {
    let mode = u32::try_from(offset).unwrap_or(0);
    Ok(match kind {
        1 => Change::Write { offset, bytes },
        2 => Change::Length(offset),
        3 => Change::Sync,
        4 => Change::Create { name: text(bytes)?, inode: other, mode },
        5 => Change::MakeFolder { name: text(bytes)?, inode: other, mode },
        6 => Change::Remove(text(bytes)?),
        7 => {
            let names = text(bytes)?;
            let (from, to) =
                names.split_once('\0').ok_or_else(|| io::Error::other("a rename has two names"))?;
            Change::Rename { from: from.to_owned(), folder: other, to: to.to_owned() }
        }
        8 => Change::Link { name: text(bytes)?, inode: other },
        _ => return Err(io::Error::other(format!("unknown kind of record {kind}"))),
    })
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Fills a buffer; false if the input ends before.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        done => done.map(|()| true),
    }
}
