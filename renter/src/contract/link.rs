//! A contract as a signed channel to its host: requests out, verified answers back.
//!
//! A [`ContractLink`] holds no money and no list of sectors, so recovery can use it for a contract that
//! was just found on the chain. Every answer is checked here: receipts, slots, revisions, head bytes.

use std::sync::{Arc, Mutex};

use samara_protocol::contract::{ContractId, Revision, SignedRevision};
use samara_protocol::hash::{BlockHash, ContractNonce, Digest, SlabTag};
use samara_protocol::host::EpochClaim;
use samara_protocol::host::message::{
    ContractCall, ContractRequest, ContractStatus, HeadReceipt, HostRequest, HostResponse,
    MAX_HEAD, MAX_TAGS, Refusal, SignedSlot, SlotState,
};
use samara_protocol::keys::KeyTree;
use samara_protocol::sector::SectorEntry;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::sync::lock;
use samara_protocol::units::Epoch;

use super::error::ContractError;
use super::reports::Reports;
use super::writer::Writer;
use crate::world::{HostCallError, Lane, World, random_bytes};

/// A host's verified word about a contract and its sealed head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadAnswer {
    /// Revision, slot and promised epoch.
    pub status: ContractStatus,
    /// The sealed head: its length and hash are those of the slot.
    pub head: Vec<u8>,
}

/// Signs requests about one contract and verifies the answers. A cheap clone.
#[derive(Clone)]
pub struct ContractLink(Arc<Inner>);

struct Inner {
    world: World,
    writer: Writer,
    reports: Reports,
    keys: Arc<KeyTree>,
    genesis: BlockHash,
    host: PublicKey,
    nonce: ContractNonce,
    key: SecretKey,
    id: ContractId,
    /// The claim that was signed last: requests of one epoch carry the same.
    claim: Mutex<EpochClaim>,
    /// What the chain formed: revision 0 is believed only if it is this.
    formed: Revision,
}

impl ContractLink {
    /// A link to `host` for the contract of these words with `nonce`, which the chain formed as `formed`.
    #[must_use]
    pub fn new(
        world: World,
        keys: Arc<KeyTree>,
        writer: Writer,
        reports: Reports,
        host: PublicKey,
        nonce: ContractNonce,
        formed: Revision,
    ) -> Self {
        let genesis = world.chain.genesis().hash();
        let key = keys.contract(&nonce);
        let (id, claim) = (key.public(), Mutex::new(EpochClaim::NONE));
        let inner =
            Inner { world, writer, reports, keys, genesis, host, nonce, key, id, claim, formed };
        Self(Arc::new(inner))
    }

    /// The revision that the chain formed, or a later one that it has seen.
    #[must_use]
    pub fn formed(&self) -> Revision {
        self.0.formed
    }

    /// Whether the host could have signed this: see [`SignedRevision::verify_after`].
    #[must_use]
    pub fn is_signed(&self, revision: &SignedRevision) -> bool {
        let Inner { genesis, host, id, formed, .. } = &*self.0;
        revision.revision.contract == *id && revision.verify_after(genesis, host, formed)
    }

    /// The contract.
    #[must_use]
    pub fn id(&self) -> ContractId {
        self.0.id
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> PublicKey {
        self.0.host
    }

    pub(super) fn key(&self) -> &SecretKey {
        &self.0.key
    }

    pub(super) fn genesis(&self) -> &BlockHash {
        &self.0.genesis
    }

    pub(super) fn world(&self) -> &World {
        &self.0.world
    }

    pub(crate) fn reports(&self) -> &Reports {
        &self.0.reports
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.0.writer
    }

    /// A false answer of this host, reported.
    pub(super) fn false_answer(&self, reason: impl Into<String>) -> ContractError {
        let reason = reason.into();
        self.0.reports.false_answer(&self.0.host, &reason);
        HostCallError::False { host: self.0.host, reason }.into()
    }

    /// Fails if another node has taken over.
    pub(super) fn check_fence(&self) -> Result<(), ContractError> {
        match self.0.writer.fenced() {
            Some(promised) => Err(ContractError::Fenced { host: self.0.host, promised }),
            None => Ok(()),
        }
    }

    /// Sends a call with the writer's epoch.
    pub(super) async fn call(
        &self,
        lane: Lane,
        call: ContractCall,
    ) -> Result<HostResponse, ContractError> {
        self.call_as(self.0.writer.epoch(), lane, call).await.map(|(answer, _)| answer)
    }

    /// Sends a mutating call, unless another node has taken over.
    pub(super) async fn mutate(
        &self,
        lane: Lane,
        call: ContractCall,
    ) -> Result<HostResponse, ContractError> {
        self.check_fence()?;
        self.call(lane, call).await
    }

    /// Sends a call under an epoch; gives the answer and the challenge that was sent.
    async fn call_as(
        &self,
        epoch: Epoch,
        lane: Lane,
        call: ContractCall,
    ) -> Result<(HostResponse, [u8; 16]), ContractError> {
        let Inner { world, host, key, genesis, reports, .. } = &*self.0;
        let challenge = random_bytes(world.random.as_ref());
        let claim = self.claim(epoch);
        let request = ContractRequest::sign(genesis, host, key, claim, challenge, call);
        let started = world.clock.now();
        let answer = world.hosts.call(host, lane, HostRequest::Contract(Box::new(request))).await;
        match answer {
            Ok(HostResponse::Refused(refusal)) => Err(self.refused(epoch, refusal)),
            Ok(answer) => {
                reports.answered(host, lane, world.clock.now().saturating_sub(started));
                Ok((answer, challenge))
            }
            Err(error) => {
                reports.failed(host, &error);
                Err(error.into())
            }
        }
    }

    /// This node's claim of an epoch at this contract.
    fn claim(&self, epoch: Epoch) -> EpochClaim {
        let Inner { genesis, nonce, key, claim, .. } = &*self.0;
        let mut known = lock(claim);
        if known.epoch != epoch {
            *known = EpochClaim::sign(genesis, *nonce, epoch, key);
        }
        *known
    }

    /// Whether a node of these words signed a claim, at this contract or another.
    fn is_claimed(&self, claim: &EpochClaim) -> bool {
        let Inner { keys, genesis, nonce, id, .. } = &*self.0;
        if claim.nonce == *nonce {
            return claim.verify(genesis, id);
        }
        claim.verify(genesis, &keys.contract(&claim.nonce).public())
    }

    /// One claim that verifies is proof that another node has taken over. A refusal without one stops
    /// nobody: the host has failed, and is reported.
    fn refused(&self, given: Epoch, refusal: Refusal) -> ContractError {
        let host = self.0.host;
        if let Refusal::Fenced { promised, .. } = &refusal {
            if !self.is_claimed(promised) {
                let epoch = promised.epoch;
                return self.false_answer(format!(
                    "it says that it promised epoch {epoch}, which no node of these words has claimed"
                ));
            }
            self.0.writer.fence(promised.epoch);
            if promised.epoch > given {
                return ContractError::Fenced { host, promised: promised.epoch };
            }
        }
        self.0.reports.refused(&host, &refusal);
        ContractError::Refused { host, refusal }
    }

    /// The latest revision, head slot and promised epoch, verified. Free.
    ///
    /// # Errors
    /// [`ContractError`] of the call; `False` if a signature is not true.
    pub async fn latest(&self) -> Result<ContractStatus, ContractError> {
        let epoch = self.0.writer.epoch();
        match self.call_as(epoch, Lane::Control, ContractCall::Latest).await? {
            (HostResponse::Latest(status), challenge) => {
                self.verify_status(&status, &challenge)?;
                Ok(*status)
            }
            _ => Err(self.unexpected("latest")),
        }
    }

    /// The latest revision and the sealed head, verified. Free.
    ///
    /// # Errors
    /// As [`ContractLink::latest`].
    pub async fn head(&self) -> Result<HeadAnswer, ContractError> {
        self.ask_head(self.0.writer.epoch(), ContractCall::Head).await
    }

    /// Asks the host to refuse epochs below `epoch` from now on; returns its head of that moment.
    ///
    /// # Errors
    /// As [`ContractLink::latest`]; `Fenced` if a higher epoch was promised before.
    pub async fn promise(&self, epoch: Epoch) -> Result<HeadAnswer, ContractError> {
        let answer = self.ask_head(epoch, ContractCall::Promise).await?;
        if answer.status.promised.epoch < epoch {
            return Err(self.false_answer("it answered a promise with a lower epoch"));
        }
        Ok(answer)
    }

    /// Appends to the head if the slot is `expected`; the host's receipt for `new`, verified.
    ///
    /// # Errors
    /// As [`ContractLink::latest`]; `Refused(HeadConflict)` if the slot is another.
    pub async fn head_append(
        &self,
        expected: SlotState,
        tail: Vec<u8>,
        new: SlotState,
    ) -> Result<HeadReceipt, ContractError> {
        let signed = SignedSlot::sign(&self.0.genesis, new, &self.0.key);
        self.write_head(new, ContractCall::HeadAppend { expected, tail, new: signed }).await
    }

    /// Replaces the head if the slot is in the `expected` state; the host's receipt for `new`, verified.
    ///
    /// # Errors
    /// As [`ContractLink::head_append`].
    pub async fn head_put(
        &self,
        expected: SlotState,
        head: Vec<u8>,
        new: SlotState,
    ) -> Result<HeadReceipt, ContractError> {
        let signed = SignedSlot::sign(&self.0.genesis, new, &self.0.key);
        self.write_head(new, ContractCall::HeadPut { expected, head, new: signed }).await
    }

    /// Sealed descriptors by tag, in the order asked, nothing where the host has none. Free.
    ///
    /// # Errors
    /// As [`ContractLink::latest`].
    pub async fn descriptors(
        &self,
        tags: &[SlabTag],
    ) -> Result<Vec<Option<Vec<u8>>>, ContractError> {
        let mut found = Vec::with_capacity(tags.len());
        for part in tags.chunks(MAX_TAGS) {
            let call = ContractCall::Descriptors { tags: part.to_vec() };
            match self.call(Lane::Control, call).await? {
                HostResponse::Descriptors(answer) if answer.len() == part.len() => {
                    found.extend(answer.into_iter().map(|sealed| {
                        let sealed = sealed.into_vec();
                        (!sealed.is_empty()).then_some(sealed)
                    }));
                }
                _ => return Err(self.unexpected("descriptors")),
            }
        }
        Ok(found)
    }

    /// The contract's list of sectors, checked against the data root of a revision. Free.
    ///
    /// # Errors
    /// As [`ContractLink::latest`]; `False` if the list does not have that data root.
    pub async fn sectors(
        &self,
        revision: &SignedRevision,
    ) -> Result<Vec<SectorEntry>, ContractError> {
        let revision = &revision.revision;
        let mut entries: Vec<SectorEntry> = Vec::new();
        let mut size = 0u64;
        while size < revision.size {
            let call = ContractCall::Sectors { from: entries.len() as u64 };
            let HostResponse::Sectors(part) = self.call(Lane::Control, call).await? else {
                return Err(self.unexpected("sectors"));
            };
            if part.is_empty() {
                break;
            }
            size = part.iter().fold(size, |sum, e| sum.saturating_add(u64::from(e.size.bytes())));
            entries.extend(part);
        }
        let (root, size) = samara_protocol::sector::data_root(&entries);
        if (root, size) != (revision.data_root, revision.size) {
            return Err(self.false_answer(format!(
                "its list of sectors does not have the data root of revision {}",
                revision.number
            )));
        }
        Ok(entries)
    }

    async fn ask_head(
        &self,
        epoch: Epoch,
        call: ContractCall,
    ) -> Result<HeadAnswer, ContractError> {
        match self.call_as(epoch, Lane::Control, call).await? {
            (HostResponse::Head { status, head }, challenge) => {
                self.verify_status(&status, &challenge)?;
                let slot = &status.slot.state;
                // The empty slot has no hash; a head of no bytes has that of no bytes.
                let hash = match slot.sequence {
                    0 => Digest::ZERO,
                    _ => Digest(samara_protocol::sector::root(&head).0),
                };
                if head.len() > MAX_HEAD
                    || head.len() as u64 != u64::from(slot.length)
                    || hash != slot.hash
                {
                    return Err(self.false_answer("its head is not what its slot says"));
                }
                Ok(HeadAnswer { status: *status, head })
            }
            _ => Err(self.unexpected("head")),
        }
    }

    async fn write_head(
        &self,
        new: SlotState,
        call: ContractCall,
    ) -> Result<HeadReceipt, ContractError> {
        self.check_fence()?;
        match self.call_as(self.0.writer.epoch(), Lane::Control, call).await? {
            (HostResponse::HeadWritten(receipt), challenge) => {
                self.verify_receipt(&receipt, &challenge)?;
                if receipt.state != new {
                    return Err(self.false_answer("its receipt is for another head"));
                }
                Ok(receipt)
            }
            _ => Err(self.unexpected("head write")),
        }
    }

    fn verify_status(
        &self,
        status: &ContractStatus,
        challenge: &[u8; 16],
    ) -> Result<(), ContractError> {
        let Inner { genesis, id, .. } = &*self.0;
        if !self.is_signed(&status.revision) {
            return Err(self.false_answer("its latest revision is not signed by both sides"));
        }
        if !status.slot.verify(genesis, id) {
            return Err(self.false_answer("its head slot is not signed by the contract's key"));
        }
        if !self.is_claimed(&status.promised) {
            return Err(
                self.false_answer("no node of these words has claimed the epoch it promised")
            );
        }
        self.verify_receipt(&status.receipt, challenge)?;
        if status.receipt.state != status.slot.state {
            return Err(self.false_answer("its receipt is for another head than its slot"));
        }
        Ok(())
    }

    fn verify_receipt(
        &self,
        receipt: &HeadReceipt,
        challenge: &[u8; 16],
    ) -> Result<(), ContractError> {
        let Inner { genesis, host, id, .. } = &*self.0;
        if receipt.challenge == *challenge && receipt.verify(genesis, id, host) {
            Ok(())
        } else {
            Err(self.false_answer("its receipt is not signed over the challenge"))
        }
    }

    /// The host answered with another kind of message.
    pub(super) fn unexpected(&self, asked: &str) -> ContractError {
        self.false_answer(format!("it answered a question for {asked} with something else"))
    }
}
