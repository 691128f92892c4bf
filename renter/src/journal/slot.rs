//! One contract's head slot, from the owner's side: what it holds, and one write to it at a time.

use std::sync::Arc;

use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::hash::BlockHash;
use samara_protocol::host::message::{MAX_HEAD, Refusal, SlotState};
use samara_protocol::journal::Entry;
use samara_protocol::journal::head::{self, Head, HeadBase};
use samara_protocol::keys::tree::HeadKey;
use samara_protocol::units::{Epoch, Millis};

use super::error::JournalError;
use super::image::{Prepared, Sealer, SlotImage};
use super::local;
use crate::contract::{ContractError, ContractHandle, HeadAnswer, Reports};
use crate::world::{Randomness, Store};

/// First wait after a failure; it doubles.
const RETRY: u64 = 1_000;
/// Longest wait.
const RETRY_MAX: u64 = 300_000;

/// One contract's slot.
pub(super) struct Slot {
    /// No other slot of this process has the same: what comes of a write belongs to the slot that it was
    /// made for, not to one that has taken its place.
    pub(super) serial: u64,
    pub(super) handle: ContractHandle,
    pub(super) key: HeadKey,
    /// What it holds, as far as this process has written it.
    pub(super) image: Option<SlotImage>,
    /// Highest sequence that a write has used or a host has shown.
    pub(super) sequence: u64,
    /// Highest sequence that the host confirmed.
    pub(super) confirmed: u64,
    /// Whether a call is on its way.
    pub(super) busy: bool,
    /// Whether its head was compared with the journal since this process began.
    pub(super) compared: bool,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// Local time before which it is left alone.
    pub(super) retry_at: u64,
    pub(super) problem: Option<String>,
}

impl Slot {
    pub(super) fn new(serial: u64, handle: ContractHandle, key: HeadKey) -> Self {
        Self {
            serial,
            handle,
            key,
            image: None,
            sequence: 0,
            confirmed: 0,
            busy: false,
            compared: false,
            failures: 0,
            retry_at: 0,
            problem: None,
        }
    }

    /// Journal position that the slot reaches, if known.
    pub(super) fn position(&self) -> Option<u64> {
        self.image.as_ref().map(|image| image.point.position)
    }

    /// Whether the slot starts with this base and reaches this position.
    pub(super) fn holds(&self, base: u64, position: u64) -> bool {
        self.image.as_ref().is_some_and(|i| i.base == base && i.point.position >= position)
    }

    /// Takes the result of a write.
    pub(super) fn settle(&mut self, written: Written, now: u64) {
        self.busy = false;
        self.sequence = self.sequence.max(written.sequence);
        match written.result {
            Ok(done) => {
                if let Done::Written(image) = done {
                    self.confirmed = self.confirmed.max(image.state.sequence);
                    self.image = Some(*image);
                }
                self.compared = true;
                self.failures = 0;
                self.retry_at = 0;
                self.problem = None;
            }
            Err(failure) => {
                if failure.slot_unknown {
                    self.image = None;
                }
                self.failures = self.failures.saturating_add(1);
                // A conflict is mended by the full put that follows at once, but not for ever.
                let at_once = failure.conflict && self.failures < 3;
                let wait = RETRY.saturating_mul(1 << self.failures.min(16).saturating_sub(1));
                self.retry_at = if at_once { 0 } else { now.saturating_add(wait.min(RETRY_MAX)) };
                self.problem = Some(failure.reason);
            }
        }
    }

    /// Time until it may be tried again.
    pub(super) fn wait(&self, now: u64) -> Millis {
        Millis(self.retry_at.saturating_sub(now))
    }
}

/// A write to do.
pub(super) struct Job {
    /// Of the slot.
    pub(super) serial: u64,
    /// Whether the head is only to be read and compared.
    pub(super) compares: bool,
    pub(super) handle: ContractHandle,
    pub(super) key: HeadKey,
    pub(super) contract: ContractId,
    pub(super) genesis: BlockHash,
    pub(super) epoch: Epoch,
    pub(super) random: Arc<dyn Randomness>,
    pub(super) reports: Reports,
    pub(super) number: u64,
    pub(super) base: Arc<HeadBase>,
    /// Entries after the base's point.
    pub(super) tail: Vec<Entry>,
    pub(super) image: Option<SlotImage>,
    pub(super) sequence: u64,
    pub(super) confirmed: u64,
    /// The journal's entries, also those before the base.
    pub(super) store: Arc<dyn Store>,
}

/// What came of a write.
pub(super) struct Written {
    pub(super) contract: ContractId,
    /// Of the slot.
    pub(super) serial: u64,
    /// Highest sequence used or seen.
    pub(super) sequence: u64,
    pub(super) result: Result<Done, Failure>,
}

/// What a call was for.
pub(super) enum Done {
    /// The head is of this journal, or there is none.
    Compared,
    /// The slot holds this now.
    Written(Box<SlotImage>),
}

/// Why a write failed.
pub(super) struct Failure {
    /// Whether the slot may have changed.
    slot_unknown: bool,
    conflict: bool,
    /// Whether another writer of the same epoch was found.
    diverged: bool,
    reason: String,
}

impl From<ContractError> for Failure {
    fn from(error: ContractError) -> Self {
        let conflict =
            matches!(&error, ContractError::Refused { refusal: Refusal::HeadConflict(_), .. });
        let internal =
            matches!(&error, ContractError::Refused { refusal: Refusal::Internal(_), .. });
        let slot_unknown = conflict || internal || error.is_in_doubt();
        Self { slot_unknown, conflict, diverged: false, reason: error.to_string() }
    }
}

impl Job {
    /// Brings the slot to the end of the tail, or only looks at what it holds.
    pub(super) async fn run(self) -> Written {
        let mut sequence = self.sequence;
        let result = if self.compares {
            self.look().await.map(|_| Done::Compared)
        } else {
            self.write(&mut sequence).await.map(|image| Done::Written(Box::new(image)))
        };
        Written { contract: self.contract, serial: self.serial, sequence, result }
    }

    /// Reads the head, and compares it with the journal.
    async fn look(&self) -> Result<SlotState, Failure> {
        let answer = self.handle.link().head().await?;
        let shown = answer.status.slot.state;
        self.check(&shown);
        self.compare(&answer).await?;
        Ok(shown)
    }

    async fn write(&self, sequence: &mut u64) -> Result<SlotImage, Failure> {
        let prepared = match &self.image {
            Some(image) => self.prepare(image, *sequence),
            None => {
                let shown = self.look().await?;
                // Only over what was read: a write of another copy, or of the life before, that comes
                // in between makes a conflict, and is read before anything is written again.
                self.full(shown, (*sequence).max(shown.sequence).saturating_add(1))
            }
        };
        let Prepared { expected, whole, bytes, image } = prepared;
        *sequence = (*sequence).max(image.state.sequence);
        if image.state.length as usize > MAX_HEAD {
            let reason = format!("a head of {} bytes is over the limit", image.state.length);
            let (slot_unknown, conflict, diverged) = (false, false, false);
            return Err(Failure { slot_unknown, conflict, diverged, reason });
        }
        if whole {
            self.handle.head_put(expected, bytes, image.state).await?;
        } else {
            self.handle.head_append(expected, bytes, image.state).await?;
        }
        Ok(image)
    }

    /// An append where it is possible and fits, else the whole slot.
    fn prepare(&self, image: &SlotImage, sequence: u64) -> Prepared {
        if image.base == self.number && image.state.epoch == self.epoch {
            let skip = image.point.position.saturating_sub(self.base.point.position);
            let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.tail.len());
            let prepared = image.append(&self.sealer(), self.tail[skip..].to_vec());
            if prepared.image.state.length as usize <= MAX_HEAD {
                return prepared;
            }
        }
        self.full(image.state, sequence.max(image.state.sequence).saturating_add(1))
    }

    fn full(&self, expected: SlotState, sequence: u64) -> Prepared {
        let tail = self.tail.clone();
        SlotImage::full(&self.sealer(), self.number, &self.base, tail, expected, sequence)
    }

    fn sealer(&self) -> Sealer<'_> {
        Sealer {
            key: &self.key,
            genesis: &self.genesis,
            contract: &self.contract,
            epoch: self.epoch,
            random: self.random.as_ref(),
        }
    }

    /// A head of this very epoch that this journal does not lead to was written by another copy of this
    /// node's folder, or by this node before its folder was set back. To write over it would destroy
    /// what was acknowledged. (Heads of lower epochs were judged when this epoch was claimed; a host
    /// that holds a higher one refuses.)
    async fn compare(&self, answer: &HeadAnswer) -> Result<(), Failure> {
        let slot = &answer.status.slot;
        let key = self.key.as_bytes();
        let Ok(head) = head::open(key, &self.genesis, &self.contract, slot, &answer.head) else {
            // Empty, or damaged at the host: there is nothing in it to be lost.
            return Ok(());
        };
        if head.epoch != self.epoch || self.leads_to(&head).await? {
            return Ok(());
        }
        Err(Failure {
            slot_unknown: true,
            conflict: false,
            diverged: true,
            reason: format!(
                "the host holds a head of this epoch at position {} that this journal does not lead to",
                head.point.position
            ),
        })
    }

    /// Whether a head's point lies on this journal. Before the base its last entry tells, whose salt no
    /// other entry has; one without entries shows the point of a base that this node has had.
    async fn leads_to(&self, head: &Head) -> Result<bool, Failure> {
        let (mut at, point) = (self.base.point, &head.point);
        if point.position < at.position {
            let Some(last) = head.entries.last() else {
                let known = local::has_point(self.store.as_ref(), point).await;
                return known.map_err(Failure::local);
            };
            let known = local::entry(self.store.as_ref(), point.position.saturating_sub(1)).await;
            return known.map(|known| known.as_ref() == Some(last)).map_err(Failure::local);
        }
        for entry in &self.tail {
            if at.position == point.position {
                break;
            }
            at = at.after(entry);
        }
        Ok(at == *point)
    }

    /// A host that shows less than it confirmed is found out.
    fn check(&self, shown: &SlotState) {
        if shown.sequence < self.confirmed {
            let reason = format!(
                "it shows head sequence {} after it confirmed {}",
                shown.sequence, self.confirmed
            );
            self.reports.false_answer(&self.handle.host(), &reason);
        }
    }
}

/// Bytes that a base takes in a slot.
pub(super) fn base_bytes(base: &HeadBase) -> usize {
    encoding::encode(base).len()
}

impl Failure {
    /// Nothing was asked of the host.
    fn local(error: JournalError) -> Self {
        let reason = error.to_string();
        Self { slot_unknown: true, conflict: false, diverged: false, reason }
    }

    /// Whether another writer of the same epoch was found.
    pub(super) const fn diverged(&self) -> bool {
        self.diverged
    }

    /// What happened, for people.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}
