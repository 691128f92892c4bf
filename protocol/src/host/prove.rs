//! Storage proofs, and what else of a contract a host must bring before the chain in time.
//!
//! The chain pays and proves a period with the revision that it knows when the period ends (the reason is
//! in [`crate::ledger::contracts`]). So shortly before the end the host publishes its latest one, if
//! the chain knows none with data, if it could not prove the chain's any more, or if what the newer
//! bytes earn is worth a transaction. Vouchers travel with the proofs. A voucher of a contract that the chain believes empty is redeemed before the
//! last period ends, because such a contract ends without a proof.

use super::core::Host;
use super::message::Refusal;
use super::store::HostStore;
use crate::chain::Action;
use crate::contract::{ContractId, ContractTerms, SignedRevision, SignedVoucher};
use crate::hash::{Digest, SectorRoot};
use crate::ledger::state::{Contract, ContractPhase};
use crate::sector::{
    SectorEntry, SectorTree, StorageProof, StorageSample, locate_samples, prove_chunk,
};
use crate::signature::Signature;
use crate::sync::lock;
use crate::units::{ChainTime, Millis};

/// Why a storage proof cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// The host has no record of the contract.
    #[error("the host has no contract {0}")]
    UnknownContract(ContractId),
    /// The sectors on file do not begin with those of the frozen revision: the host lost its store,
    /// or could not publish what it had in time.
    #[error("the sectors of contract {0} are not those of the revision to be proven")]
    Incomplete(ContractId),
    /// A challenged sector is damaged or cannot be read.
    #[error("sector {root} cannot be proven")]
    Sector {
        /// The sector.
        root: SectorRoot,
        /// Why.
        source: Refusal,
    },
}

impl<S: HostStore> Host<S> {
    /// What the host must publish about a contract now, if anything: the proof of a period that is over
    /// and whose challenge is fixed, or an update shortly before the period's end
    /// ([`HostRules::publish_lead`](super::core::HostRules::publish_lead)).
    ///
    /// # Errors
    /// As [`Host::prove`].
    pub fn due(&self, contract: &Contract, now: ChainTime) -> Result<Option<Action>, ProveError> {
        let id = contract.terms.contract;
        if let Some(seed) = contract.challenge() {
            let proof = self.prove(contract, &seed)?;
            let (_, voucher) = self.news(contract).unwrap_or_default();
            let period = contract.period;
            return Ok(Some(Action::ProveStorage { contract: id, period, voucher, proof }));
        }
        if contract.phase != ContractPhase::Running || !self.is_closing(contract, now) {
            return Ok(None);
        }
        let Some((revision, voucher)) = self.news(contract) else { return Ok(None) };
        let revision = revision.filter(|signed| self.is_worth_publishing(contract, signed));
        let last = contract.period.saturating_add(1) >= contract.terms.periods;
        let unproven = contract.revision.size == 0 && revision.is_none();
        let needed = revision.is_some() || (last && unproven && voucher.is_some());
        Ok(needed.then_some(Action::UpdateContract { contract: id, revision, voucher }))
    }

    /// Whether a period's end is near or its proof is due, as far as the chain was seen.
    pub(super) fn is_closing(&self, contract: &Contract, now: ChainTime) -> bool {
        let lead = self.lead(&contract.terms);
        contract.phase != ContractPhase::Running || now.plus(lead) >= contract.period_end()
    }

    /// How long before the end of a contract's periods the host publishes.
    #[must_use]
    pub fn lead(&self, terms: &ContractTerms) -> Millis {
        self.rules.publish_lead.min(Millis(terms.period.0 / 2))
    }

    fn is_worth_publishing(&self, contract: &Contract, signed: &SignedRevision) -> bool {
        let (terms, known, latest) = (&contract.terms, contract.revision, signed.revision);
        if known.size == 0 {
            return latest.size > 0;
        }
        let more = latest.size.saturating_sub(known.size);
        terms.storage_pay(more, terms.period) > terms.proof_fee || self.frozen(contract).is_err()
    }

    /// The sectors of the chain's revision, which are the first of the host's list.
    fn frozen(&self, contract: &Contract) -> Result<Vec<SectorEntry>, ProveError> {
        let id = contract.terms.contract;
        let live = lock(&self.contracts).get(&id).cloned();
        let live = live.ok_or(ProveError::UnknownContract(id))?;
        let live = lock(&live);
        let frozen = &contract.revision;
        let mut bytes = 0u64;
        let within = |entry: &&SectorEntry| {
            bytes = bytes.saturating_add(u64::from(entry.size.bytes()));
            bytes <= frozen.size
        };
        let entries: Vec<SectorEntry> = live.list.iter().take_while(within).copied().collect();
        let tree: SectorTree = entries.iter().collect();
        if (tree.root(), tree.bytes()) != (frozen.data_root, frozen.size) {
            return Err(ProveError::Incomplete(id));
        }
        Ok(entries)
    }

    /// The proof for a challenge over the data of the chain's revision.
    ///
    /// # Errors
    /// [`ProveError`]: an unknown contract, data that is not there, or a sector that is damaged.
    pub fn prove(&self, contract: &Contract, seed: &Digest) -> Result<StorageProof, ProveError> {
        let locations = locate_samples(seed, &self.frozen(contract)?);
        let mut samples = Vec::with_capacity(locations.len());
        for location in locations {
            let entry = location.position.entry;
            let chunk = self
                .group(&entry, location.group.clone())
                .and_then(|(outboard, group)| {
                    prove_chunk(&outboard, &group, location.chunk)
                        .map_err(|error| Refusal::Internal(error.to_string()))
                })
                .map_err(|source| ProveError::Sector { root: entry.root, source })?;
            samples.push(StorageSample { position: location.position, chunk });
        }
        Ok(StorageProof { samples })
    }

    /// Revision and voucher that are newer than the chain's; nothing for an unknown contract.
    pub fn news(
        &self,
        contract: &Contract,
    ) -> Option<(Option<SignedRevision>, Option<SignedVoucher>)> {
        let live = lock(&self.contracts).get(&contract.terms.contract).cloned()?;
        let live = lock(&live);
        let latest = live.record.revision;
        let signed = latest.host != Signature::EMPTY;
        let newer = signed && latest.revision.number > contract.revision.number;
        let voucher = live.record.voucher.filter(|signed| signed.voucher.total > contract.redeemed);
        Some((newer.then_some(latest), voucher))
    }
}
