//! Fuzz targets: every decoder of bytes that come from outside (invariant I7).
//!
//! A target takes any bytes and panics if a decoder does, or if one of its promises is broken: what
//! decodes encodes to the same bytes where the format has one form, else to its one shortest form; a
//! proof that holds is the true one. Memory is measured by whoever runs a target, see
//! [`Target::allowance`].
//!
//! `tests/tests/fuzz.rs` runs all targets over the corpora, over mutations of them and over random ones.
//! The package in `tests/fuzz` gives them to libFuzzer. Both share `tests/fuzz/corpus`, which [`corpus`]
//! makes from the golden vectors.

mod archive;
mod chain;
pub mod corpus;
mod fixtures;
mod host;
mod journal;
pub mod mutate;
mod sector;
mod shell;
mod tree;

use std::fmt::Debug;

use samara_protocol::encoding::{decode, decode_canonical, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use archive::{archive, archive_documents};
pub use chain::{
    block, certificate, chain_request, chain_response, chain_values, genesis, header, light_state,
    recovery_record, scan_state, state_proof, transaction, validators,
};
pub use host::{
    announcement, contract_call, host_papers, host_request, host_response, revision, terms, voucher,
};
pub use journal::{
    descriptor, descriptor_sealed, entries, entry, head_base, head_pieces, head_slot, head_tail,
    slab_record,
};
pub use sector::{chunk_proof, outboard, position_proof, range_proof, storage_proof};
pub use shell::{
    api_bodies, engine_messages, frames, network_toml, samara_toml, sealed_words, texts,
    validator_change, wire_request, wire_response,
};
pub use tree::{checkpoint_root, event_items, file_items, held_items, slab_items, tree_node};

/// A function that takes hostile bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its corpus.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&[u8]),
    /// Bytes of memory that one byte of input may reserve, see [`Target::allowance`].
    pub per_byte: usize,
}

impl Target {
    /// Bytes that a run may have allocated at any moment, whatever the input is: the text of an error, and
    /// the buffer that a transport frame is first read into (64 KiB).
    const FIXED: usize = 72 << 10;
    /// What the lists of a value may take in advance, whatever the input's length: serde's limit of
    /// 1 MiB for a list, for lists that are open at the same time.
    const LISTS: usize = 4 << 20;

    /// Most bytes that may be allocated at any moment of a run over an input of `length` bytes.
    ///
    /// An element of a list may take one byte of the input and many in memory, and a list of n elements is
    /// reserved as soon as n bytes are left. So the factor is that of the largest element, up to a
    /// limit that no length passes; beyond it memory follows what came.
    #[must_use]
    pub const fn allowance(&self, length: usize) -> usize {
        let in_advance = length.saturating_mul(self.per_byte);
        let in_advance = if in_advance < Self::LISTS { in_advance } else { Self::LISTS };
        Self::FIXED + in_advance + length * 64
    }
}

macro_rules! targets {
    ($($name:ident: $per_byte:literal,)*) => {
        /// All targets.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $name, per_byte: $per_byte }),*];
    };
}

targets! {
    announcement: 64,
    api_bodies: 64,
    archive: 512,
    archive_documents: 256,
    block: 512,
    certificate: 128,
    chain_request: 256,
    chain_response: 512,
    chain_values: 64,
    checkpoint_root: 256,
    chunk_proof: 64,
    contract_call: 64,
    descriptor: 64,
    descriptor_sealed: 64,
    engine_messages: 256,
    entries: 256,
    entry: 128,
    event_items: 128,
    file_items: 128,
    frames: 64,
    genesis: 128,
    head_base: 256,
    head_pieces: 256,
    head_slot: 256,
    head_tail: 256,
    header: 64,
    held_items: 64,
    host_papers: 64,
    host_request: 256,
    host_response: 256,
    light_state: 256,
    network_toml: 256,
    outboard: 64,
    position_proof: 64,
    range_proof: 64,
    recovery_record: 64,
    revision: 64,
    samara_toml: 256,
    scan_state: 256,
    sealed_words: 64,
    slab_items: 64,
    slab_record: 64,
    state_proof: 64,
    storage_proof: 64,
    terms: 64,
    texts: 64,
    transaction: 256,
    tree_node: 128,
    validator_change: 64,
    validators: 128,
    voucher: 64,
    wire_request: 256,
    wire_response: 512,
}

/// Decodes a value. What decodes encodes to one form only, which is no longer, reads back as the same
/// value, and is the only one that is canonical.
fn value<T>(data: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let value = match decode::<T>(data) {
        Ok(value) => value,
        Err(error) => {
            // Errors are shown and logged.
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let bytes = encode(&value);
    assert!(bytes.len() <= data.len(), "a value became longer");
    assert_eq!(decode_canonical::<T>(&bytes).as_ref(), Ok(&value));
    assert_eq!(decode_canonical::<T>(data).is_ok(), bytes == data);
    Some(value)
}

/// Takes fields off the front of an input. What is missing is zero or empty.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.take(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length, `u16` little-endian.
    fn bytes(&mut self) -> &'a [u8] {
        let length = u16::from_le_bytes(self.array());
        self.take(usize::from(length))
    }

    /// At most `limit` byte strings, until the input ends.
    fn all(&mut self, limit: usize) -> Vec<&'a [u8]> {
        let mut all = Vec::new();
        while !self.0.is_empty() && all.len() < limit {
            all.push(self.bytes());
        }
        all
    }
}

/// The input that [`Fields::all`] reads as these byte strings.
fn fields(all: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for bytes in all {
        let length = u16::try_from(bytes.len()).expect("invariant: samples are short");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out
}
