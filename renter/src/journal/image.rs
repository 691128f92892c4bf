//! What one contract's head slot holds, and the bytes that bring it forward.

use samara_protocol::contract::ContractId;
use samara_protocol::hash::{BlockHash, Digest};
use samara_protocol::host::message::SlotState;
use samara_protocol::journal::Entry;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::{
    Binding, HeadBase, HeadTail, nothing_precedes, seal_base, seal_tail,
};
use samara_protocol::keys::tree::HeadKey;
use samara_protocol::units::Epoch;

use crate::world::{Randomness, random_bytes};

/// Who seals, and for which slot.
pub(super) struct Sealer<'a> {
    pub(super) key: &'a HeadKey,
    pub(super) genesis: &'a BlockHash,
    pub(super) contract: &'a ContractId,
    pub(super) epoch: Epoch,
    pub(super) random: &'a dyn Randomness,
}

/// A slot as this node has written it, and its host has confirmed.
#[derive(Clone)]
pub(super) struct SlotImage {
    /// What the host confirmed.
    pub(super) state: SlotState,
    /// Which base it starts with.
    pub(super) base: u64,
    /// The journal's point that it reaches.
    pub(super) point: JournalPoint,
    /// Has taken in all bytes of the slot.
    hasher: blake3::Hasher,
}

impl std::fmt::Debug for SlotImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotImage")
            .field("sequence", &self.state.sequence)
            .field("base", &self.base)
            .field("position", &self.point.position)
            .finish_non_exhaustive()
    }
}

/// A write on its way.
pub(super) struct Prepared {
    /// The slot before.
    pub(super) expected: SlotState,
    /// Whether the bytes are the whole slot, not ones to append.
    pub(super) whole: bool,
    pub(super) bytes: Vec<u8>,
    /// The slot after.
    pub(super) image: SlotImage,
}

impl SlotImage {
    /// An append of entries that follow this slot's point.
    pub(super) fn append(&self, sealer: &Sealer<'_>, entries: Vec<Entry>) -> Prepared {
        let mut image = self.clone();
        let bytes = image.seal_tail(sealer, entries);
        Prepared { expected: self.state, whole: false, bytes, image }
    }

    /// A whole slot in the place of `expected`: the base, and one tail with all entries since. Its
    /// sequence starts at `sequence`.
    pub(super) fn full(
        sealer: &Sealer<'_>,
        number: u64,
        base: &HeadBase,
        entries: Vec<Entry>,
        expected: SlotState,
        sequence: u64,
    ) -> Prepared {
        let binding = Binding {
            genesis: sealer.genesis,
            contract: sealer.contract,
            epoch: sealer.epoch,
            sequence,
            preceding: nothing_precedes(),
        };
        let nonce = random_bytes(sealer.random);
        let mut bytes = seal_base(sealer.key.as_bytes(), &binding, nonce, base);
        let mut image = Self {
            state: SlotState { sequence, epoch: sealer.epoch, ..SlotState::default() },
            base: number,
            point: base.point,
            hasher: blake3::Hasher::new(),
        };
        image.take(&bytes);
        if !entries.is_empty() {
            bytes.extend(image.seal_tail(sealer, entries));
        }
        Prepared { expected, whole: true, bytes, image }
    }

    fn seal_tail(&mut self, sealer: &Sealer<'_>, entries: Vec<Entry>) -> Vec<u8> {
        let sequence = self.state.sequence.saturating_add(1);
        let binding = Binding {
            genesis: sealer.genesis,
            contract: sealer.contract,
            epoch: sealer.epoch,
            sequence,
            preceding: self.state.hash,
        };
        let from = self.point;
        self.point = entries.iter().fold(from, |point, entry| point.after(entry));
        let tail = HeadTail { from, entries };
        let nonce = random_bytes(sealer.random);
        let bytes = seal_tail(sealer.key.as_bytes(), &binding, nonce, &tail);
        self.state.sequence = sequence;
        self.take(&bytes);
        bytes
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.state.hash = Digest(*self.hasher.finalize().as_bytes());
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.state.length = self.state.length.saturating_add(length);
    }
}
