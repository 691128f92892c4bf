//! The head slot: promise, compare-and-append, full put.

use super::core::{Ask, Host, Live, bad, fence};
use super::message::{HeadReceipt, HostResponse, MAX_HEAD, Refusal, SignedSlot, SlotState};
use super::store::{HostStore, HostWrite};

impl<S: HostStore> Host<S> {
    /// Refuses lower epochs from now on, durably, and shows the head as it is at that moment.
    pub(super) fn promise(&self, ask: &Ask<'_>, live: &mut Live) -> Result<HostResponse, Refusal> {
        fence(ask.epoch(), &live.record.promised)?;
        // Whoever saw the end of the contract on the chain counts on its host never again.
        ask.on_chain(live)?;
        if ask.epoch() > live.record.promised.epoch || !live.known {
            let mut record = live.record.clone();
            self.raise(ask, &mut record)?;
            self.persist(live, record, Vec::new())?;
        }
        self.head(ask, live)
    }

    pub(super) fn head(&self, ask: &Ask<'_>, live: &Live) -> Result<HostResponse, Refusal> {
        let head = self.store.head(&ask.id)?;
        Ok(HostResponse::Head { status: Box::new(self.status(ask, live)), head })
    }

    pub(super) fn head_append(
        &self,
        ask: &Ask<'_>,
        live: &mut Live,
        expected: &SlotState,
        tail: Vec<u8>,
        new: SignedSlot,
    ) -> Result<HostResponse, Refusal> {
        if let Some(receipt) = self.check_slot(ask, live, &new)? {
            return Ok(HostResponse::HeadWritten(receipt));
        }
        let present = live.record.slot.state;
        if *expected != present || new.state.sequence <= present.sequence {
            return Err(Refusal::HeadConflict(present));
        }
        let length = present.length as usize + tail.len();
        if tail.is_empty() || length > MAX_HEAD {
            return Err(bad(format!("a tail of {} bytes makes a head of {length}", tail.len())));
        }
        let mut hasher = self.head_hasher(live)?;
        hasher.update(&tail);
        self.write_head(ask, live, present.length, tail, new, hasher)
    }

    pub(super) fn head_put(
        &self,
        ask: &Ask<'_>,
        live: &mut Live,
        expected: &SlotState,
        head: Vec<u8>,
        new: SignedSlot,
    ) -> Result<HostResponse, Refusal> {
        if let Some(receipt) = self.check_slot(ask, live, &new)? {
            return Ok(HostResponse::HeadWritten(receipt));
        }
        let present = live.record.slot.state;
        if *expected != present || new.state.sequence <= present.sequence {
            return Err(Refusal::HeadConflict(present));
        }
        if head.len() > MAX_HEAD {
            return Err(bad(format!("a head of {} bytes is over {MAX_HEAD}", head.len())));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        self.write_head(ask, live, 0, head, new, hasher)
    }

    /// What both writes ask for. A receipt if the slot is in the new state already, because the answer
    /// to the same write was lost.
    fn check_slot(
        &self,
        ask: &Ask<'_>,
        live: &Live,
        new: &SignedSlot,
    ) -> Result<Option<HeadReceipt>, Refusal> {
        fence(ask.epoch(), &live.record.promised)?;
        ask.running(live)?;
        if new.state.epoch != ask.epoch() {
            return Err(bad("the slot's state is of another epoch than the request"));
        }
        if !new.verify(&self.genesis, &ask.id) {
            return Err(bad("the contract's key did not sign the slot's state"));
        }
        let repeated = live.record.slot.state == new.state && new.state.sequence > 0;
        if repeated {
            return Ok(Some(self.receipt(ask, live)));
        }
        self.check_stays(&ask.id, ask.facts.now)?;
        Ok(None)
    }

    /// The hash over the slot's bytes, continued from memory or begun from the store.
    fn head_hasher(&self, live: &Live) -> Result<blake3::Hasher, Refusal> {
        if let Some(hasher) = &live.head {
            return Ok(hasher.clone());
        }
        let bytes = self.store.head(&live.id)?;
        let length = live.record.slot.state.length;
        if bytes.len() != length as usize {
            let found = bytes.len();
            return Err(Refusal::Internal(format!("the head has {found} bytes, not {length}")));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes);
        Ok(hasher)
    }

    fn write_head(
        &self,
        ask: &Ask<'_>,
        live: &mut Live,
        offset: u32,
        bytes: Vec<u8>,
        new: SignedSlot,
        hasher: blake3::Hasher,
    ) -> Result<HostResponse, Refusal> {
        let length = offset as usize + bytes.len();
        let hash = hasher.finalize();
        if new.state.length as usize != length || new.state.hash.as_bytes() != hash.as_bytes() {
            return Err(bad(format!("the slot's state is not that of its {length} bytes")));
        }
        let mut record = live.record.clone();
        record.slot = new;
        self.raise(ask, &mut record)?;
        self.persist(live, record, vec![HostWrite::Head { contract: ask.id, offset, bytes }])?;
        live.head = Some(hasher);
        Ok(HostResponse::HeadWritten(self.receipt(ask, live)))
    }
}
