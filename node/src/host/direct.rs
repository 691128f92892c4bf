//! Sector files past the page cache.
//!
//! A host writes each sector once and reads few of them soon, so the page cache would copy every byte
//! and push out what is of use. Large files are written and read directly where the file system can,
//! through aligned scratch memory that is used again; elsewhere and for small ones the cache is used.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Mutex;

use samara_protocol::sync::lock;

use crate::disk::remove_if_there;

/// Alignment that every common device takes, bytes.
const ALIGNMENT: usize = 4 << 10;
/// Bytes of scratch memory, and of one write or read.
const CHUNK: usize = 1 << 20;
/// Files and ranges below this (bytes) go through the page cache.
const DIRECT_FROM: usize = 256 << 10;
/// Scratch buffers kept.
const KEPT: usize = 4;

/// Aligned memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Scratch(Mutex<Vec<Vec<u8>>>);

impl Scratch {
    fn with<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let kept = lock(&self.0).pop();
        let mut memory = kept.unwrap_or_else(|| vec![0; CHUNK + ALIGNMENT]);
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let done = work(&mut memory[start..start + CHUNK]);
        let mut kept = lock(&self.0);
        if kept.len() < KEPT {
            kept.push(memory);
        }
        done
    }

    /// Makes a new file with these bytes, durable except for its name.
    pub(super) fn write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        if data.len() >= DIRECT_FROM && data.len().is_multiple_of(ALIGNMENT) {
            match self.write_directly(path, data) {
                Err(error) if cannot(&error) => {
                    remove_if_there(path)?;
                }
                done => return done,
            }
        }
        let mut file = File::create_new(path)?;
        file.write_all(data)?;
        file.sync_all()
    }

    fn write_directly(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = direct(options.write(true).create_new(true))?.open(path)?;
        self.with(|scratch| {
            data.chunks(CHUNK).try_for_each(|chunk| {
                let aligned = &mut scratch[..chunk.len()];
                aligned.copy_from_slice(chunk);
                file.write_all(aligned)
            })
        })?;
        file.sync_all()
    }

    /// Bytes of a file, fewer where it is too short.
    pub(super) fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let aligned = offset.is_multiple_of(ALIGNMENT as u64) && length.is_multiple_of(ALIGNMENT);
        if length >= DIRECT_FROM && aligned {
            match self.read_directly(path, offset, length) {
                Err(error) if cannot(&error) => {}
                done => return done,
            }
        }
        let mut file = File::open(path)?;
        let mut data = Vec::with_capacity(length);
        file.seek(SeekFrom::Start(offset))?;
        file.take(length as u64).read_to_end(&mut data)?;
        Ok(data)
    }

    fn read_directly(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut options = OpenOptions::new();
        let mut file = direct(options.read(true))?.open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut data = Vec::with_capacity(length);
        self.with(|scratch| {
            while data.len() < length {
                let wanted = CHUNK.min(length - data.len());
                let read = file.read(&mut scratch[..wanted])?;
                data.extend_from_slice(&scratch[..read]);
                // Only at the end of a file is it not aligned any more.
                if read == 0 || !read.is_multiple_of(ALIGNMENT) {
                    break;
                }
            }
            Ok(data)
        })
    }
}

#[cfg(target_os = "linux")]
fn direct(options: &mut OpenOptions) -> io::Result<&mut OpenOptions> {
    use std::os::unix::fs::OpenOptionsExt as _;
    Ok(options.custom_flags(libc::O_DIRECT))
}

#[cfg(not(target_os = "linux"))]
fn direct(_: &mut OpenOptions) -> io::Result<&mut OpenOptions> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the file system does no direct access, or not with this alignment.
fn cannot(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::default();
        for (number, length) in
            [1, 16 << 10, DIRECT_FROM, CHUNK, 4 * CHUNK, CHUNK + 1].into_iter().enumerate()
        {
            let path = folder.path().join(number.to_string());
            let data: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
            scratch.write(&path, &data).unwrap();
            assert_eq!(scratch.read(&path, 0, length).unwrap(), data);
            // Beyond the end there is nothing.
            assert_eq!(scratch.read(&path, 0, 8 * CHUNK).unwrap(), data);
            let start = (length / 2).next_multiple_of(ALIGNMENT).min(length);
            let rest = scratch.read(&path, start as u64, DIRECT_FROM).unwrap();
            assert_eq!(rest, data[start..length.min(start + DIRECT_FROM)]);
            assert!(scratch.write(&path, &data).is_err(), "files are never replaced");
        }
    }
}
