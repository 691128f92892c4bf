//! Entries, heads and slab descriptors: plain, sealed and hostile, and sealed with hostile contents.
//!
//! Nobody but the owner can seal, but a renter must also survive what a broken program of the owner
//! sealed. Contents are sealed here by the tables of `docs/formats.md`, not by the code that is tested.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use samara_protocol::encoding::encode;
use samara_protocol::hash::Digest;
use samara_protocol::host::message::{SignedSlot, SlotState};
use samara_protocol::journal::head::{self, Head, HeadBase, HeadError, HeadTail};
use samara_protocol::journal::{Entry, JournalState, SlabRecord};
use samara_protocol::slab::{Geometry, SlabDescriptor};
use samara_protocol::units::Epoch;

use super::fixtures::{EPOCH, GENESIS, HEAD_KEY, SLAB_KEY, contract};
use super::{Fields, value};

/// Pieces of a slot that are made at most.
const MAX_PIECES: usize = 6;

/// One entry.
pub fn entry(data: &[u8]) {
    if let Some(entry) = value::<Entry>(data) {
        fold(&[entry]);
    }
}

/// Entries as segments hold them.
pub fn entries(data: &[u8]) {
    if let Some(entries) = value::<Vec<Entry>>(data) {
        fold(&entries);
    }
}

/// The state after as many entries as follow each other.
fn fold(entries: &[Entry]) {
    let mut state = JournalState::default();
    for entry in entries {
        let before = state.point;
        match state.apply(entry) {
            Ok(()) => assert_eq!(state.point, before.after(entry)),
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
}

/// Slab records and geometries.
pub fn slab_record(data: &[u8]) {
    if let Some(record) = value::<SlabRecord>(data) {
        assert!(record.replaces(&record));
        let _ = (record.capacity(), record.column_bytes());
    }
    value::<Geometry>(data);
}

/// Plain bases of heads.
pub fn head_base(data: &[u8]) {
    value::<HeadBase>(data);
}

/// Plain tails of heads.
pub fn head_tail(data: &[u8]) {
    if let Some(tail) = value::<HeadTail>(data) {
        fold(&tail.entries);
    }
}

/// A slot whose bytes are hostile, and whose signature is over them.
pub fn head_slot(data: &[u8]) {
    if let Err(error) = open(data) {
        assert!(!error.to_string().is_empty());
    }
}

/// A slot of sealed pieces with hostile contents: a base, then tails.
pub fn head_pieces(data: &[u8]) {
    let plain = Fields(data).all(MAX_PIECES);
    let mut slot = Vec::new();
    for (number, plain) in (0..).zip(&plain) {
        let piece = seal_piece(&slot, SEQUENCE + number, plain);
        slot.extend(piece);
    }
    match open(&slot) {
        Ok(head) => {
            assert!(encode(&head.base).len() <= plain[0].len());
            assert_eq!(head.sequence, SEQUENCE + plain.len() as u64 - 1);
            assert!(head.hosts().len() >= head.base.hosts.len());
            fold(&head.entries);
        }
        Err(HeadError::Seal { piece }) => panic!("piece {piece} does not open"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Sequence of the first piece.
const SEQUENCE: u64 = 5;

/// Opens a slot under the vectors' keys.
fn open(bytes: &[u8]) -> Result<Head, HeadError> {
    let (epoch, sequence) = last_header(bytes).unwrap_or_default();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let hash = Digest(*blake3::hash(bytes).as_bytes());
    let state = SlotState { sequence, length, hash, epoch };
    let slot = SignedSlot::sign(&GENESIS, state, contract());
    head::open(&HEAD_KEY, &GENESIS, &contract().public(), &slot, bytes)
}

/// What the last piece's header says, which the slot's state must repeat.
fn last_header(bytes: &[u8]) -> Option<(Epoch, u64)> {
    let (mut rest, mut last) = (bytes, None);
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let piece = behind.get(..u32::from_le_bytes(*length) as usize)?;
        let mut fields = Fields(piece.get(1..33)?);
        let (counter, writer) = (u64::from_le_bytes(fields.array()), fields.array());
        last = Some((Epoch { counter, writer }, u64::from_le_bytes(fields.array())));
        rest = &behind[piece.len()..];
    }
    last
}

/// A piece that follows `before` in a slot.
fn seal_piece(before: &[u8], sequence: u64, plain: &[u8]) -> Vec<u8> {
    let nonce = [0; 24];
    let counter = EPOCH.counter.to_le_bytes();
    let header =
        [&[head::VERSION][..], &counter, &EPOCH.writer, &sequence.to_le_bytes(), &nonce].concat();
    let preceding = blake3::hash(before);
    let (genesis, contract) = (&GENESIS.0[..], contract().public());
    let aad = [genesis, &contract.0, &header, preceding.as_bytes()].concat();
    let sealed = seal(&HEAD_KEY, nonce, plain, &aad);
    let length = u32::try_from(header.len() + sealed.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &header, &sealed].concat()
}

fn seal(key: &[u8; 32], nonce: [u8; 24], plain: &[u8], aad: &[u8]) -> Vec<u8> {
    XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad })
        .expect("invariant: an input is below the cipher's limit of 256 GiB")
}

/// Slab descriptors, plain; and the same bytes sealed, which must say the same.
pub fn descriptor(data: &[u8]) {
    let plain = SlabDescriptor::from_bytes(data);
    if let Ok(descriptor) = &plain {
        assert_eq!(descriptor.to_bytes(), data);
        let _ = descriptor.hash();
    }
    let key = blake3::derive_key("samara v1 slab descriptor key", &SLAB_KEY);
    let sealed = seal(&key, [1; 24], data, b"samara v1 slab descriptor");
    let opened = SlabDescriptor::open(&SLAB_KEY, &[&[1; 24][..], &sealed].concat());
    assert_eq!(opened.ok(), plain.ok());
}

/// Sealed slab descriptors.
pub fn descriptor_sealed(data: &[u8]) {
    if let Ok(descriptor) = SlabDescriptor::open(&SLAB_KEY, data) {
        let nonce = Fields(data).array();
        assert_eq!(descriptor.seal(&SLAB_KEY, nonce), data);
    }
}
