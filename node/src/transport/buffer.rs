//! Reusable buffers for large bodies.
//!
//! A fresh 4 MiB buffer costs more in page faults than reading into it, so buffers of large bodies
//! come back here when the last [`Bytes`] over them is dropped. At most a fixed number of free
//! buffers is kept, and those that nobody needed for a whole period are given up by
//! [`BufferPool::trim`]. Memory grows with the bytes that arrived, never with the length claimed.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt as _};
use samara_protocol::sync::lock;

/// Bodies up to this size (bytes) are read into a buffer of exactly their size.
const SMALL: usize = 64 << 10;

/// Bodies longer than this (bytes) are worth a pooled buffer.
const POOLED_FROM: usize = 1 << 20;

/// How many times what has arrived a buffer may be.
const GROWTH: usize = 8;

/// Free buffers shared by all connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct BufferPool(Arc<Mutex<Free>>);

#[derive(Debug)]
struct Free {
    /// Fully initialised buffers, so that reading into one needs no zeroing.
    buffers: Vec<Vec<u8>>,
    /// Most free buffers kept.
    limit: usize,
    /// Fewest free buffers since the last trim: so many were never needed.
    unused: usize,
}

/// A body in a buffer that returns to its pool.
struct Pooled {
    buffer: Vec<u8>,
    length: usize,
    pool: BufferPool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.buffer));
    }
}

impl BufferPool {
    /// A pool that keeps at most `limit` free buffers.
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Free { buffers: Vec::new(), limit, unused: 0 })))
    }

    /// Reads exactly `length` bytes. The caller has checked `length` against the channel's limit.
    pub(super) async fn read(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        length: usize,
    ) -> io::Result<Bytes> {
        let mut buffer = vec![0; length.min(SMALL)];
        reader.read_exact(&mut buffer).await?;
        if length <= SMALL {
            return Ok(Bytes::from(buffer));
        }
        let mut filled = buffer.len();
        if length > POOLED_FROM
            && let Some(mut free) = self.take(length)
        {
            free[..filled].copy_from_slice(&buffer);
            buffer = free;
        }
        while filled < length {
            let end = buffer.len().max(filled.saturating_mul(GROWTH)).min(length);
            if buffer.len() < end {
                // Fresh zeroed memory is not touched before bytes arrive.
                let mut larger = vec![0; end];
                larger[..filled].copy_from_slice(&buffer[..filled]);
                buffer = larger;
            }
            reader.read_exact(&mut buffer[filled..end]).await?;
            filled = end;
        }
        if length <= POOLED_FROM {
            return Ok(Bytes::from(buffer));
        }
        Ok(Bytes::from_owner(Pooled { buffer, length, pool: self.clone() }))
    }

    /// Gives up the free buffers that nobody needed since the last call.
    pub(super) fn trim(&self) {
        let mut free = self.lock();
        let keep = free.buffers.len().saturating_sub(free.unused);
        free.buffers.truncate(keep);
        free.unused = keep;
    }

    fn take(&self, length: usize) -> Option<Vec<u8>> {
        let mut free = self.lock();
        let index = free.buffers.iter().rposition(|buffer| buffer.len() >= length)?;
        let buffer = free.buffers.swap_remove(index);
        free.unused = free.unused.min(free.buffers.len());
        Some(buffer)
    }

    fn put(&self, buffer: Vec<u8>) {
        let mut free = self.lock();
        if free.buffers.len() < free.limit {
            free.buffers.push(buffer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        // No invariant spans two fields that a panic could tear.
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::BufferPool;

    #[test]
    fn reads_bodies_of_all_sizes_and_reuses_large_buffers() {
        let pool = BufferPool::new(2);
        for length in [0, 1, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 3 << 20, 2 << 20] {
            let bytes: Vec<u8> = (0..length).map(|i: u32| (i % 251) as u8).collect();
            let body = block_on(pool.read(&mut Cursor::new(&bytes), bytes.len())).unwrap();
            assert_eq!(body, bytes);
        }
        assert!(pool.lock().buffers.iter().any(|buffer| buffer.len() == 3 << 20));
    }

    #[test]
    fn a_short_body_is_an_error_and_a_claimed_length_reserves_nothing() {
        let pool = BufferPool::new(2);
        let error = block_on(pool.read(&mut Cursor::new(&[1, 2, 3]), 6 << 20)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(pool.lock().buffers.is_empty());
    }

    #[test]
    fn keeps_few_buffers_and_gives_up_unused_ones() {
        let pool = BufferPool::new(2);
        let bytes = vec![7; 2 << 20];
        let read = || block_on(pool.read(&mut Cursor::new(&bytes), bytes.len())).unwrap();
        drop([read(), read(), read()]);
        assert_eq!(pool.lock().buffers.len(), 2);
        drop(read());
        pool.trim();
        pool.trim();
        assert!(pool.lock().buffers.is_empty());
    }
}
