//! Reading files: what is to be put, and the steps that every pass over a file's bytes takes.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use samara_protocol::hash::Digest;
use samara_protocol::journal::StoredPath;

use super::Vaults;
use crate::transfer::Piece;
use crate::world::{FileEntry, FileError, ReadFile, compute};

/// Bytes hashed on the runtime's own thread; more go to a compute thread.
const HASH_HERE: usize = 16 << 10;

/// A file to put.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) source: PathBuf,
    pub(super) path: StoredPath,
    pub(super) entry: FileEntry,
}

/// Fills a buffer as far as the file goes.
pub(super) async fn fill(file: &mut dyn ReadFile, buffer: &mut [u8]) -> Result<usize, FileError> {
    let mut at = 0;
    while at < buffer.len() {
        match file.read(&mut buffer[at..]).await? {
            0 => break,
            read => at += read,
        }
    }
    Ok(at)
}

/// Takes bytes into a hash, large ones off the runtime's threads.
pub(crate) async fn update(
    vaults: &Vaults,
    mut hasher: blake3::Hasher,
    bytes: Bytes,
) -> blake3::Hasher {
    if bytes.len() <= HASH_HERE {
        hasher.update(&bytes);
        return hasher;
    }
    compute(vaults.world.compute.as_ref(), move || {
        hasher.update(&bytes);
        hasher
    })
    .await
}

/// Adds pieces; one that goes on where the last ends becomes part of it.
pub(crate) fn join(pieces: &mut Vec<Piece>, new: Vec<Piece>) {
    for piece in new {
        match pieces.last_mut() {
            Some(last)
                if last.slab == piece.slab
                    && last.offset.checked_add(last.length) == Some(piece.offset) =>
            {
                last.length = last.length.saturating_add(piece.length);
            }
            _ => pieces.push(piece),
        }
    }
}

/// Hash of a file on disk.
pub(super) async fn hash_file(vaults: &Vaults, path: &Path) -> Result<Digest, FileError> {
    let mut file = vaults.world.files.open(path).await?;
    let mut hasher = blake3::Hasher::new();
    loop {
        let mut buffer = vec![0; vaults.options.chunk];
        let read = fill(file.as_mut(), &mut buffer).await?;
        buffer.truncate(read);
        let end = read < vaults.options.chunk;
        hasher = update(vaults, hasher, Bytes::from(buffer)).await;
        if end {
            return Ok(Digest(*hasher.finalize().as_bytes()));
        }
    }
}
