//! The bytes of an archive on their way out: written by a sync core, taken by an async owner.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use samara_protocol::hash::Digest;
use samara_protocol::sync::lock;

/// A buffer that grows until it is taken. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Output(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    hasher: blake3::Hasher,
    total: u64,
}

impl Output {
    /// Takes what has come since the last call.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0).bytes)
    }

    /// Bytes so far, and their BLAKE3 hash.
    pub(super) fn end(&self) -> (u64, Digest) {
        let state = lock(&self.0);
        (state.total, Digest(*state.hasher.finalize().as_bytes()))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = lock(&self.0);
        state.bytes.extend_from_slice(bytes);
        state.hasher.update(bytes);
        state.total = state.total.saturating_add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
