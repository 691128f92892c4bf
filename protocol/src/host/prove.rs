//! Storage proofs, and what else of a contract a host must bring before the chain in time.
//!
//! The chain pays a period only for a revision it knows, and asks for no proof while it knows none; so
//! the first revision with data is published before its period ends. Later ones travel with the proofs,
//! and so do vouchers. A voucher of a contract that the chain believes empty is redeemed before the
//! last period ends, because such a contract ends without a proof.

use super::core::{Host, lock};
use super::message::Refusal;
use super::store::HostStore;
use crate::chain::Action;
use crate::contract::{ContractId, SignedRevision, SignedVoucher};
use crate::hash::{Digest, SectorRoot};
use crate::ledger::state::{Contract, ContractPhase};
use crate::sector::{StorageProof, StorageSample, locate_samples, prove_chunk};
use crate::signature::Signature;
use crate::units::{ChainTime, Millis};

/// Why a storage proof cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// The host has no record of the contract.
    #[error("the host has no contract {0}")]
    UnknownContract(ContractId),
    /// The sectors on file are not those of the latest revision: the host lost its store.
    #[error("the sectors of contract {0} are not those of its latest revision")]
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
    /// and whose challenge is fixed, or an update within `lead` of the period's end.
    ///
    /// # Errors
    /// As [`Host::prove`].
    pub fn due(
        &self,
        contract: &Contract,
        now: ChainTime,
        lead: Millis,
    ) -> Result<Option<Action>, ProveError> {
        let id = contract.terms.contract;
        if let Some(seed) = contract.challenge() {
            let proof = self.prove(&id, &seed)?;
            let (revision, voucher) = self.news(contract).unwrap_or_default();
            let period = contract.period;
            let action = Action::ProveStorage { contract: id, period, revision, voucher, proof };
            return Ok(Some(action));
        }
        let near = now.plus(lead) >= contract.period_end();
        if contract.phase != ContractPhase::Running || contract.revision.size > 0 || !near {
            return Ok(None);
        }
        let Some((revision, voucher)) = self.news(contract) else { return Ok(None) };
        let revision = revision.filter(|signed| signed.revision.size > 0);
        let last = contract.period.saturating_add(1) >= contract.terms.periods;
        let needed = revision.is_some() || (last && voucher.is_some());
        Ok(needed.then_some(Action::UpdateContract { contract: id, revision, voucher }))
    }

    /// The proof for a challenge over the contract's present data.
    ///
    /// # Errors
    /// [`ProveError`]: an unknown contract, or a sector that is damaged.
    pub fn prove(&self, contract: &ContractId, seed: &Digest) -> Result<StorageProof, ProveError> {
        let live = lock(&self.contracts).get(contract).cloned();
        let live = live.ok_or(ProveError::UnknownContract(*contract))?;
        let locations = {
            let live = lock(&live);
            let revision = &live.record.revision.revision;
            if (live.tree.root(), live.tree.bytes()) != (revision.data_root, revision.size) {
                return Err(ProveError::Incomplete(*contract));
            }
            locate_samples(seed, &live.list)
        };
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
