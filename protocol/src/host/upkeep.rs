//! What a host does without being asked: follow its contracts on the chain, take over renewed ones,
//! and drop what nobody needs any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::core::{ChainFacts, Host, Live};
use super::message::Refusal;
use super::store::{Agreement, ContractRecord, HostStore, HostStoreError, HostWrite};
use crate::contract::ContractId;
use crate::ledger::state::Contract;
use crate::sync::lock;
use crate::units::ChainTime;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Stored sectors that no commit came for.
    pub temporaries: usize,
    /// Contracts gone from the chain.
    pub contracts: usize,
    /// Agreements that did not reach the chain.
    pub agreements: usize,
}

impl<S: HostStore> Host<S> {
    /// All contracts that the host should look for on the chain: those it knows and those it agreed to.
    pub fn followed(&self) -> Vec<ContractId> {
        let mut ids: Vec<_> = lock(&self.contracts).keys().copied().collect();
        ids.extend(lock(&self.agreements).keys());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Learns what the chain says about a contract ([`ChainFacts::contract`], or that it is gone).
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`Refusal::Internal`] when the store fails; it is to be told again.
    pub fn follow(&self, facts: &ChainFacts, id: &ContractId) -> Result<(), Refusal> {
        let contract = facts.contract.as_ref().filter(|contract| self.is_ours(contract, id));
        let known = lock(&self.contracts).get(id).cloned();
        let live = match (contract, known) {
            (None, None) => return Ok(()),
            (_, Some(live)) => live,
            (Some(contract), None) => self.live(facts, Some(contract), id)?,
        };
        let mut live = lock(&live);
        let mut record = live.record.clone();
        match contract {
            Some(contract) => (record.ends, record.gone) = (contract.ends(), None),
            None => record.gone = record.gone.or(Some(facts.now)),
        }
        let forms = |agreement: &Agreement| agreement.renews != Some(*id);
        let agreed = contract.is_some() && lock(&self.agreements).get(id).is_some_and(forms);
        if record != live.record || !live.known || agreed {
            let gone = agreed.then_some(HostWrite::AgreementGone(*id));
            self.persist(&mut live, record, gone.into_iter().collect())?;
            if agreed {
                lock(&self.agreements).remove(id);
            }
        }
        Ok(())
    }

    /// If the contract renews one that the host holds, moves sectors, temporary sectors and descriptors
    /// over to it in one durable step. The old contract keeps its head until it is swept.
    ///
    /// Called under the lock of the map, so that nobody sees the new contract half made.
    pub(super) fn adopt(
        &self,
        facts: &ChainFacts,
        contracts: &BTreeMap<ContractId, Arc<Mutex<Live>>>,
        contract: &Contract,
    ) -> Result<Option<Live>, Refusal> {
        let id = contract.terms.contract;
        let renews = lock(&self.agreements).get(&id).and_then(|agreement| agreement.renews);
        let Some(old_live) = renews.as_ref().and_then(|old| contracts.get(old)) else {
            return Ok(None);
        };
        let mut old = lock(old_live);
        let held = (old.tree.root(), old.tree.bytes());
        if held != (contract.revision.data_root, contract.revision.size) || old.swept {
            return Ok(None);
        }
        let mut record = ContractRecord::formed(contract);
        // The claim stays as it was signed, for the old contract: it names that one.
        record.promised = old.record.promised;
        record.predecessor = Some(old.id);
        record.descriptors = old.record.descriptors;
        let mut ended = old.record.clone();
        ended.successor = Some(id);
        ended.descriptors = 0;
        ended.gone = ended.gone.or(Some(facts.now));
        self.store.apply(vec![
            HostWrite::Adopt { old: old.id, new: id },
            HostWrite::Record(id, Box::new(record.clone())),
            HostWrite::Record(old.id, Box::new(ended.clone())),
            HostWrite::AgreementGone(id),
        ])?;
        lock(&self.agreements).remove(&id);
        let mut new = Live::new(id, record, Vec::new());
        old.record = ended;
        (old.dirty, old.known) = (false, true);
        new.list = std::mem::take(&mut old.list);
        new.tree = std::mem::take(&mut old.tree);
        new.committed = std::mem::take(&mut old.committed);
        new.temporary = std::mem::take(&mut old.temporary);
        for temporary in new.temporary.values_mut() {
            temporary.contract = id;
        }
        Ok(Some(new))
    }

    /// Drops stored sectors that waited too long for a commit, contracts that left the chain long
    /// enough ago, and agreements that ran out; saves payments. Durable when it returns.
    ///
    /// # Errors
    /// [`HostStoreError`] of the store; what was not swept is swept next time.
    pub fn sweep(&self, now: ChainTime) -> Result<SweepReport, HostStoreError> {
        self.save_payments()?;
        let mut report = SweepReport::default();
        let all: Vec<_> = lock(&self.contracts).values().cloned().collect();
        for live in all {
            report.temporaries += self.sweep_temporaries(&live, now)?;
            report.contracts += self.sweep_contract(&live, now)?;
        }
        report.agreements = self.sweep_agreements(now)?;
        Ok(report)
    }

    fn sweep_temporaries(
        &self,
        live: &Mutex<Live>,
        now: ChainTime,
    ) -> Result<usize, HostStoreError> {
        let mut live = lock(live);
        let grace = self.rules.temporary_grace;
        let over: Vec<_> = live
            .temporary
            .values()
            .filter(|temporary| temporary.since.plus(grace) <= now)
            .map(|temporary| temporary.entry.root)
            .collect();
        if over.is_empty() {
            return Ok(0);
        }
        let contract = live.id;
        let gone = over.iter().map(|root| HostWrite::TemporaryGone { contract, root: *root });
        self.store.apply(gone.collect())?;
        for root in &over {
            live.temporary.remove(root);
            self.sectors.release(&self.store, *root);
        }
        Ok(over.len())
    }

    fn sweep_contract(&self, live: &Mutex<Live>, now: ChainTime) -> Result<usize, HostStoreError> {
        let grace = self.rules.contract_grace;
        let over = |live: &Live| {
            !live.swept && live.record.gone.is_some_and(|gone| gone.plus(grace) <= now)
        };
        if !over(&lock(live)) {
            return Ok(0);
        }
        let mut contracts = lock(&self.contracts);
        let mut live = lock(live);
        if !over(&live) {
            return Ok(0);
        }
        self.store.apply(vec![HostWrite::Forget(live.id)])?;
        live.swept = true;
        contracts.remove(&live.id);
        drop(contracts);
        let list = std::mem::take(&mut live.list);
        let temporary = std::mem::take(&mut live.temporary);
        live.committed.clear();
        let roots = list.iter().map(|entry| entry.root).chain(temporary.into_keys());
        for root in roots {
            self.sectors.release(&self.store, root);
        }
        Ok(1)
    }

    /// A renewal's agreement stays while the old contract is held, because it tells where the data goes.
    fn sweep_agreements(&self, now: ChainTime) -> Result<usize, HostStoreError> {
        let held: Vec<ContractId> = lock(&self.contracts).keys().copied().collect();
        let mut agreements = lock(&self.agreements);
        let over = |agreement: &&Agreement| {
            let renewed = agreement.renews.filter(|old| *old != agreement.contract);
            let awaited = renewed.is_some_and(|old| held.binary_search(&old).is_ok());
            agreement.until <= now && !awaited
        };
        let over: Vec<_> =
            agreements.values().filter(over).map(|agreement| agreement.contract).collect();
        if !over.is_empty() {
            self.store.apply(over.iter().copied().map(HostWrite::AgreementGone).collect())?;
            agreements.retain(|id, _| !over.contains(id));
        }
        Ok(over.len())
    }
}
