//! Heads: the small sealed records at the hosts that lead to everything else.
//!
//! A slot at a host holds pieces one after another: first a base, then tails. Each is
//! `length: u32 LE | version: u8 | epoch counter: u64 LE | writer: 16 | sequence: u64 LE | nonce: 24 |
//! XChaCha20-Poly1305 ciphertext`, where `length` counts what follows it. The associated data binds the
//! genesis hash, the contract, the piece's own header and the plain BLAKE3 hash of all slot bytes
//! before it; so a piece opens only in its place, in its slot, on its chain. The same journal is sealed
//! anew for each contract, so that two hosts cannot tell that they serve one renter.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

use super::checkpoint::CheckpointName;
use super::entry::{Change, Entry, JournalPoint};
use super::quorum::HeadSet;
use super::slab_record::{HostIndex, SlabRecord};
use crate::contract::{ContractId, Revision};
use crate::encoding::{self, DecodeError};
use crate::hash::{BlockHash, Digest};
use crate::host::message::{MAX_HEAD, SignedSlot};
use crate::signature::PublicKey;
use crate::units::Epoch;

/// Version of pieces written by this code.
pub const VERSION: u8 = 3;
const HEADER: usize = 1 + 8 + 16 + 8 + 24;
const TAG: usize = 16;

/// The first piece of a slot: everything that the tails build upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadBase {
    /// Epoch of the writer.
    pub epoch: Epoch,
    /// One of the contracts under which this journal was first written. It stays the same for good,
    /// across renewals and recoveries: two heads are of one journal if it is the same in both.
    pub origin: ContractId,
    /// Index of the account that holds the writer's money.
    pub account: u64,
    /// Hosts whose heads count.
    pub head_set: HeadSet,
    /// Hosts by number, needed to fetch the segments.
    pub hosts: Vec<PublicKey>,
    /// The latest revision of each contract, so that a host that goes back is found out.
    pub revisions: Vec<(HostIndex, Revision)>,
    /// What the oldest entries have led to; none as long as the segments begin at position 0.
    pub checkpoint: Option<CheckpointName>,
    /// Older parts of the journal, in order. The first begins at the checkpoint's point or before it,
    /// and ends behind it.
    pub segments: Vec<Segment>,
    /// The journal's point after the checkpoint and all segments: where the tails begin.
    pub point: JournalPoint,
}

/// A part of the journal that lives in slabs: encoded entries, one after another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Point before its first entry.
    pub from: JournalPoint,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of the encoded list of entries.
    pub length: u64,
    /// Slabs that hold the bytes, in order; all full but the last.
    pub slabs: Vec<SlabRecord>,
}

impl Segment {
    /// Position behind its last entry.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.from.position.saturating_add(self.entries)
    }
}

/// A later piece of a slot: entries that were appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadTail {
    /// Point before its first entry.
    pub from: JournalPoint,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// A slot opened: the base and all entries of the tails, checked to follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The base.
    pub base: HeadBase,
    /// Entries after the base's point.
    pub entries: Vec<Entry>,
    /// The journal's point after all entries.
    pub point: JournalPoint,
    /// Epoch of the last piece.
    pub epoch: Epoch,
    /// Sequence of the last piece.
    pub sequence: u64,
}

impl Head {
    /// Hosts by number: the base's, and those that its entries added since.
    #[must_use]
    pub fn hosts(&self) -> Vec<PublicKey> {
        let mut hosts = self.base.hosts.clone();
        for entry in &self.entries {
            if let Change::HostAdded { index, host } = &entry.change
                && usize::from(index.0) == hosts.len()
            {
                hosts.push(*host);
            }
        }
        hosts
    }
}

/// Why a slot is not a head of this seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The slot is empty: no head was ever written.
    #[error("the slot is empty")]
    Empty,
    /// The slot's bytes are cut or over the limit.
    #[error("the head's pieces are cut off or too long")]
    Framing,
    /// Written by a newer program.
    #[error("the head has version {0}, this program reads {VERSION}: use a newer one")]
    Version(u8),
    /// A piece does not open: damaged, from elsewhere, or another key's.
    #[error("piece {piece} of the head does not open under this seed's keys")]
    Seal {
        /// Number of the piece, from 0.
        piece: usize,
    },
    /// A piece opens and does not decode.
    #[error("piece {piece} of the head: {source}")]
    Decode {
        /// Number of the piece, from 0.
        piece: usize,
        /// What is wrong.
        source: DecodeError,
    },
    /// Pieces do not follow each other, or are not what the slot's signature says.
    #[error("the head's pieces do not follow each other")]
    Order,
}

/// What a piece is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The chain.
    pub genesis: &'a BlockHash,
    /// The contract whose slot it is.
    pub contract: &'a ContractId,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The slot's sequence after this piece is written.
    pub sequence: u64,
    /// Plain BLAKE3 hash of all bytes of the slot before this piece.
    pub preceding: Digest,
}

/// Plain BLAKE3 hash of no bytes: what precedes a base.
#[must_use]
pub fn nothing_precedes() -> Digest {
    Digest(*blake3::hash(&[]).as_bytes())
}

/// Seals a base; nothing precedes it ([`nothing_precedes`]).
#[must_use]
pub fn seal_base(
    key: &[u8; 32],
    binding: &Binding<'_>,
    nonce: [u8; 24],
    base: &HeadBase,
) -> Vec<u8> {
    seal(key, binding, nonce, &encoding::encode(base))
}

/// Seals a tail.
#[must_use]
pub fn seal_tail(
    key: &[u8; 32],
    binding: &Binding<'_>,
    nonce: [u8; 24],
    tail: &HeadTail,
) -> Vec<u8> {
    seal(key, binding, nonce, &encoding::encode(tail))
}

fn seal(key: &[u8; 32], binding: &Binding<'_>, nonce: [u8; 24], plain: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.push(VERSION);
    header.extend_from_slice(&binding.epoch.counter.to_le_bytes());
    header.extend_from_slice(&binding.epoch.writer);
    header.extend_from_slice(&binding.sequence.to_le_bytes());
    header.extend_from_slice(&nonce);
    let aad = associated_data(binding.genesis, binding.contract, &header, &binding.preceding);
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &aad })
        .expect("invariant: sealing fails only for plaintexts over 256 GiB");
    let length = u32::try_from(header.len() + sealed.len()).unwrap_or(u32::MAX);
    let mut piece = length.to_le_bytes().to_vec();
    piece.extend_from_slice(&header);
    piece.extend_from_slice(&sealed);
    piece
}

fn associated_data(
    genesis: &BlockHash,
    contract: &ContractId,
    header: &[u8],
    preceding: &Digest,
) -> Vec<u8> {
    let mut aad = Vec::with_capacity(32 + 32 + header.len() + 32);
    aad.extend_from_slice(&genesis.0);
    aad.extend_from_slice(&contract.0);
    aad.extend_from_slice(header);
    aad.extend_from_slice(&preceding.0);
    aad
}

/// Opens a slot: every piece, in order, against the state that the contract's key signed.
///
/// # Errors
/// [`HeadError`]; nothing of a slot is used unless all of it opens.
pub fn open(
    key: &[u8; 32],
    genesis: &BlockHash,
    contract: &ContractId,
    slot: &SignedSlot,
    bytes: &[u8],
) -> Result<Head, HeadError> {
    if bytes.is_empty() {
        return Err(HeadError::Empty);
    }
    let state = &slot.state;
    if bytes.len() > MAX_HEAD || bytes.len() != state.length as usize {
        return Err(HeadError::Framing);
    }
    if state.hash != Digest(*blake3::hash(bytes).as_bytes()) || !slot.verify(genesis, contract) {
        return Err(HeadError::Order);
    }
    let before = blake3::Hasher::new();
    let mut pieces = Pieces { key, genesis, contract, bytes, at: 0, number: 0, before };
    let (first, plain) = pieces.next()?.ok_or(HeadError::Framing)?;
    let decode = |piece| move |source| HeadError::Decode { piece, source };
    let base: HeadBase = encoding::decode(&plain).map_err(decode(0))?;
    let mut head = Head {
        entries: Vec::new(),
        point: base.point,
        epoch: first.epoch,
        sequence: first.sequence,
        base,
    };
    while let Some((header, plain)) = pieces.next()? {
        let tail: HeadTail = encoding::decode(&plain).map_err(decode(pieces.number - 1))?;
        let follows = header.sequence == head.sequence.wrapping_add(1)
            && header.epoch == head.epoch
            && tail.from == head.point;
        if !follows {
            return Err(HeadError::Order);
        }
        head.sequence = header.sequence;
        head.point = tail.entries.iter().fold(head.point, |point, entry| point.after(entry));
        head.entries.extend(tail.entries);
    }
    if head.sequence == state.sequence && head.epoch == state.epoch {
        Ok(head)
    } else {
        Err(HeadError::Order)
    }
}

struct PieceHeader {
    epoch: Epoch,
    sequence: u64,
}

/// Walks the pieces of a slot.
struct Pieces<'a> {
    key: &'a [u8; 32],
    genesis: &'a BlockHash,
    contract: &'a ContractId,
    bytes: &'a [u8],
    at: usize,
    number: usize,
    /// Has taken in all pieces so far.
    before: blake3::Hasher,
}

impl Pieces<'_> {
    fn next(&mut self) -> Result<Option<(PieceHeader, Vec<u8>)>, HeadError> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(HeadError::Framing)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length < HEADER + TAG || length > rest.len() {
            return Err(HeadError::Framing);
        }
        let (header, sealed) = rest[..length].split_at(HEADER);
        if header[0] != VERSION {
            return Err(HeadError::Version(header[0]));
        }
        let field = |from: usize| -> [u8; 8] {
            header[from..from + 8].try_into().expect("invariant: the slice has 8 bytes")
        };
        let parsed = PieceHeader {
            epoch: Epoch {
                counter: u64::from_le_bytes(field(1)),
                writer: header[9..25].try_into().expect("invariant: the slice has 16 bytes"),
            },
            sequence: u64::from_le_bytes(field(25)),
        };
        let preceding = Digest(*self.before.finalize().as_bytes());
        let aad = associated_data(self.genesis, self.contract, header, &preceding);
        let plain = XChaCha20Poly1305::new(self.key.into())
            .decrypt(XNonce::from_slice(&header[33..]), Payload { msg: sealed, aad: &aad })
            .map_err(|_| HeadError::Seal { piece: self.number })?;
        self.before.update(&self.bytes[self.at..self.at + 4 + length]);
        self.at += 4 + length;
        self.number += 1;
        Ok(Some((parsed, plain)))
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::host::message::SlotState;
    use crate::signature::SecretKey;

    const KEY: [u8; 32] = [3; 32];
    const GENESIS: BlockHash = BlockHash([4; 32]);
    const EPOCH: Epoch = Epoch { counter: 2, writer: [5; 16] };

    fn contract() -> SecretKey {
        SecretKey::from_bytes(&Zeroizing::new([6; 32]))
    }

    fn entry(number: u8) -> Entry {
        let change = Change::Setting { name: "n".into(), value: vec![number] };
        Entry { time: 1, salt: [number; 16], change }
    }

    fn slot(tails: u8) -> (Vec<u8>, SignedSlot) {
        let id = contract().public();
        let mut bytes = Vec::new();
        let mut point = JournalPoint::default();
        let mut sequence = 7;
        for number in 0..=tails {
            let preceding = Digest(*blake3::hash(&bytes).as_bytes());
            let binding =
                Binding { genesis: &GENESIS, contract: &id, epoch: EPOCH, sequence, preceding };
            let nonce = [number; 24];
            if number == 0 {
                let base = HeadBase {
                    epoch: EPOCH,
                    origin: id,
                    account: 0,
                    head_set: HeadSet::default(),
                    hosts: vec![],
                    revisions: vec![],
                    checkpoint: None,
                    segments: vec![],
                    point,
                };
                bytes.extend(seal_base(&KEY, &binding, nonce, &base));
            } else {
                let entries = vec![entry(number)];
                let tail = HeadTail { from: point, entries };
                point = point.after(&tail.entries[0]);
                bytes.extend(seal_tail(&KEY, &binding, nonce, &tail));
            }
            sequence += 1;
        }
        let hash = Digest(*blake3::hash(&bytes).as_bytes());
        let length = u32::try_from(bytes.len()).unwrap();
        let state = SlotState { sequence: sequence - 1, length, hash, epoch: EPOCH };
        (bytes, SignedSlot::sign(&GENESIS, state, &contract()))
    }

    fn resign(bytes: &[u8], slot: &SignedSlot) -> SignedSlot {
        let hash = Digest(*blake3::hash(bytes).as_bytes());
        let length = u32::try_from(bytes.len()).unwrap();
        SignedSlot::sign(&GENESIS, SlotState { length, hash, ..slot.state }, &contract())
    }

    #[test]
    fn a_slot_opens_to_its_entries() {
        let (bytes, slot) = slot(3);
        let head = open(&KEY, &GENESIS, &contract().public(), &slot, &bytes).unwrap();
        assert_eq!(head.entries, vec![entry(1), entry(2), entry(3)]);
        assert_eq!(head.point.position, 3);
        assert_eq!(head.sequence, 10);
    }

    #[test]
    fn any_flipped_byte_is_found_even_when_the_slot_is_signed_again() {
        let (bytes, slot) = slot(2);
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            let id = contract().public();
            assert!(open(&KEY, &GENESIS, &id, &slot, &damaged).is_err(), "{index}");
            let signed = resign(&damaged, &slot);
            assert!(open(&KEY, &GENESIS, &id, &signed, &damaged).is_err(), "{index}");
        }
    }

    #[test]
    fn a_dropped_tail_is_found() {
        let (bytes, whole) = slot(2);
        let (short, _) = slot(1);
        assert_eq!(&bytes[..short.len()], &short[..]);
        let signed = resign(&short, &whole);
        let opened = open(&KEY, &GENESIS, &contract().public(), &signed, &short);
        assert_eq!(opened, Err(HeadError::Order));
    }
}
