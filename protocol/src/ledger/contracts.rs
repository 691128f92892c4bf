//! Transactions about contracts.
//!
//! Two papers travel with them and carry their own signatures: the latest revision (what is stored)
//! and the latest voucher (what transfers cost). Where a transaction only attaches one, it counts if it
//! is newer than the chain's and is passed over otherwise, so that nobody can make a proof or a renewal
//! fail by publishing the same paper first. An update exists to publish, so there it must be newer.
//!
//! **Which revision a period is proven with.** The highest that the chain knew when the period's opening
//! block was made, updates in that very block included; while a period is being proven, no update
//! moves the revision. The challenge is mixed from the hashes of the opening block and its followers,
//! so whoever chose that revision knew no part of it. Were a newer one taken afterwards, a host could
//! look at the challenge first and then publish, among all revisions that it holds signed, one whose
//! challenged chunks it still has. Hosts therefore publish before a period ends what they want to be
//! paid for (see [`crate::host::prove`]); what comes later counts for the next period. A chain that
//! stood still over the end of a period waits one window before it opens the period's proof, so
//! that a host could publish (see [`super::deadlines`]).
//!
//! **A contract's id is used once.** Revisions and vouchers name the contract's key and nothing of its
//! formation, so under an id that came back, papers of its first life would count in the second. A
//! formation or renewal therefore uses up the first nonce of the contract key's own account, for good:
//! a key that was a contract, or has sent anything, forms none. Nobody else can touch that nonce,
//! and the account outlives the contract.
//!
//! What a voucher or a proof is worth is capped by the funds that are left: a contract never owes
//! more than it holds.
//!
//! Room is left for two things that are not here. *Dispute windows*: an update is final today because
//! both sides signed the revision and a higher one still replaces it until the period is proven; a
//! one-sided close would put its revision and an end time into [`ContractPhase`] and let higher ones
//! in until then. *Prepaid continuation* is what long terms do already: periods follow one another
//! without the renter as long as funds last.

use super::error::TransactionError;
use super::execution::Execution;
use super::reader::{StateError, StateReader};
use super::state::{Contract, ContractPhase, StateKey};
use crate::contract::{ContractId, ContractTerms, Revision, SignedRevision, SignedVoucher};
use crate::sector::{StorageProof, verify_storage_proof};
use crate::signature::PublicKey;
use crate::units::Amount;

impl<R: StateReader + ?Sized> Execution<'_, R> {
    /// Locks the renter's funds and the host's collateral.
    pub(super) fn form(
        &mut self,
        account: PublicKey,
        terms: &ContractTerms,
    ) -> Result<(), TransactionError> {
        let mut contract = self.fresh(terms, Revision::initial(terms.contract))?;
        self.books.lock(&account, &mut contract.funds, terms.funds)?;
        self.books.lock(&terms.host, &mut contract.collateral, terms.collateral)?;
        self.put(&contract);
        Ok(())
    }

    /// Publishes a newer revision or redeems a higher voucher.
    pub(super) fn update(
        &mut self,
        id: &ContractId,
        revision: Option<&SignedRevision>,
        voucher: Option<&SignedVoucher>,
    ) -> Result<(), TransactionError> {
        let mut contract = self.contract(id)?;
        if revision.is_none() && voucher.is_none() {
            return Err(TransactionError::EmptyUpdate(*id));
        }
        if revision.is_some() && contract.is_frozen(self.height) {
            let period = contract.period;
            return Err(TransactionError::RevisionFrozen { contract: *id, period });
        }
        if let Some(signed) = revision
            && !self.adopt(&mut contract, signed)?
        {
            let (latest, given) = (contract.revision.number, signed.revision.number);
            return Err(TransactionError::RevisionNotNewer { contract: *id, latest, given });
        }
        if let Some(signed) = voucher
            && !self.redeem(&mut contract, signed)?
        {
            let (redeemed, given) = (contract.redeemed, signed.voucher.total);
            return Err(TransactionError::VoucherNotHigher { contract: *id, redeemed, given });
        }
        self.put(&contract);
        Ok(())
    }

    /// Accepts the proof of the period that is over, and pays for it.
    ///
    /// What is proven is the revision that was frozen when the period's opening block was made.
    pub(super) fn prove_storage(
        &mut self,
        account: PublicKey,
        id: &ContractId,
        period: u32,
        voucher: Option<&SignedVoucher>,
        proof: &StorageProof,
    ) -> Result<(), TransactionError> {
        let mut contract = self.contract(id)?;
        if account != contract.terms.host {
            return Err(TransactionError::NotTheHost { contract: *id, account });
        }
        if period != contract.period || contract.phase == ContractPhase::Running {
            return Err(TransactionError::WrongPeriod { contract: *id, given: period });
        }
        let challenge = contract
            .challenge()
            .ok_or(TransactionError::ChallengePending { contract: *id, period })?;
        let Revision { size, data_root, .. } = contract.revision;
        if size > 0 {
            verify_storage_proof(&challenge, &data_root, size, proof)
                .map_err(|source| TransactionError::FalseProof { contract: *id, period, source })?;
        }
        let pay = contract.terms.storage_pay(size, contract.terms.period);
        self.pay_host(&mut contract, pay)?;
        let fee = contract.terms.proof_fee;
        self.pay_host(&mut contract, fee)?;
        if let Some(signed) = voucher {
            self.redeem(&mut contract, signed)?;
        }
        contract.proofs_kept = contract.proofs_kept.saturating_add(1);
        self.next_period(contract, 1)?;
        Ok(())
    }

    /// Ends a contract by agreement of both sides.
    pub(super) fn close_contract(
        &mut self,
        id: &ContractId,
        voucher: Option<&SignedVoucher>,
        settlement: Amount,
    ) -> Result<(), TransactionError> {
        let mut contract = self.contract(id)?;
        self.settle(&mut contract, voucher, settlement)?;
        self.end(contract)?;
        Ok(())
    }

    /// Ends a contract and forms its successor with the same data in one step. Money that the old one
    /// leaves goes into the new one first.
    pub(super) fn renew(
        &mut self,
        account: PublicKey,
        old: &ContractId,
        last: &SignedRevision,
        voucher: Option<&SignedVoucher>,
        settlement: Amount,
        terms: &ContractTerms,
    ) -> Result<(), TransactionError> {
        let mut before = self.contract(old)?;
        if before.terms.host != terms.host {
            return Err(TransactionError::OtherHost { old: *old });
        }
        if last.revision != before.revision && !self.adopt(&mut before, last)? {
            let (latest, given) = (before.revision.number, last.revision.number);
            return Err(TransactionError::RevisionNotNewer { contract: *old, latest, given });
        }
        self.settle(&mut before, voucher, settlement)?;
        let carried = Revision::carried(terms.contract, &before.revision);
        let mut after = self.fresh(terms, carried)?;
        roll(&mut before.funds, &mut after.funds, terms.funds);
        roll(&mut before.collateral, &mut after.collateral, terms.collateral);
        // What the old contract leaves is paid back before anything more is taken.
        self.end(before)?;
        let more = terms.funds.saturating_sub(after.funds);
        self.books.lock(&account, &mut after.funds, more)?;
        let more = terms.collateral.saturating_sub(after.collateral);
        self.books.lock(&terms.host, &mut after.collateral, more)?;
        self.put(&after);
        Ok(())
    }

    /// A contract that starts now, without its money.
    fn fresh(
        &mut self,
        terms: &ContractTerms,
        revision: Revision,
    ) -> Result<Contract, TransactionError> {
        let id = terms.contract;
        if self.books.overlay.read::<Contract>(&StateKey::Contract(id))?.is_some() {
            return Err(TransactionError::ContractExists(id));
        }
        if !self.books.use_first_nonce(&id)? {
            return Err(TransactionError::ContractIdUsed(id));
        }
        terms
            .check(&self.genesis.parameters.least_terms(), self.time)
            .map_err(|source| TransactionError::Terms { contract: id, source })?;
        Ok(Contract {
            terms: terms.clone(),
            started: self.time,
            formed: self.height,
            revision,
            redeemed: Amount::ZERO,
            funds: Amount::ZERO,
            collateral: Amount::ZERO,
            period: 0,
            phase: ContractPhase::Running,
            due: self.time.plus(terms.period),
            proofs_kept: 0,
            proofs_missed: 0,
        })
    }

    /// Takes a revision over if it is newer than the chain's, and tells whether it was.
    fn adopt(
        &self,
        contract: &mut Contract,
        signed: &SignedRevision,
    ) -> Result<bool, TransactionError> {
        let id = contract.terms.contract;
        if signed.revision.contract != id {
            return Err(TransactionError::FalseRevision(id));
        }
        if signed.revision.number <= contract.revision.number {
            return Ok(false);
        }
        // Above the chain's number, so never revision 0: both signatures are checked.
        if !signed.verify(&self.genesis_hash, &contract.terms.host) {
            return Err(TransactionError::FalseRevision(id));
        }
        contract.revision = signed.revision;
        Ok(true)
    }

    /// Pays the host what a voucher adds to what was redeemed, as far as the funds go, and tells
    /// whether it added anything.
    fn redeem(
        &mut self,
        contract: &mut Contract,
        signed: &SignedVoucher,
    ) -> Result<bool, TransactionError> {
        let id = contract.terms.contract;
        if signed.voucher.contract != id {
            return Err(TransactionError::FalseVoucher(id));
        }
        let owed = signed.voucher.total.saturating_sub(contract.redeemed);
        if owed == Amount::ZERO {
            return Ok(false);
        }
        if !signed.verify(&self.genesis_hash) {
            return Err(TransactionError::FalseVoucher(id));
        }
        let paid = self.pay_host(contract, owed)?;
        // Only what was paid is redeemed; the sum stays below the voucher's total.
        contract.redeemed = contract.redeemed.saturating_add(paid);
        Ok(true)
    }

    /// Pays the last voucher and what both sides agreed on for the storage so far.
    fn settle(
        &mut self,
        contract: &mut Contract,
        voucher: Option<&SignedVoucher>,
        settlement: Amount,
    ) -> Result<(), TransactionError> {
        if let Some(signed) = voucher {
            self.redeem(contract, signed)?;
        }
        let funds = contract.funds;
        if settlement > funds {
            let contract = contract.terms.contract;
            return Err(TransactionError::Settlement { contract, funds, settlement });
        }
        self.pay_host(contract, settlement)?;
        Ok(())
    }

    /// Pays the host from the funds, as far as they go; gives what was paid.
    fn pay_host(&mut self, contract: &mut Contract, owed: Amount) -> Result<Amount, StateError> {
        let paid = owed.min(contract.funds);
        self.books.release(&mut contract.funds, &contract.terms.host, paid)?;
        Ok(paid)
    }

    /// Moves on by settled periods: to the next one, or to the end.
    pub(super) fn next_period(
        &mut self,
        mut contract: Contract,
        settled: u32,
    ) -> Result<(), StateError> {
        contract.period = contract.period.saturating_add(settled);
        contract.phase = ContractPhase::Running;
        if contract.period >= contract.terms.periods {
            return self.end(contract);
        }
        contract.due = contract.period_end();
        self.put(&contract);
        Ok(())
    }

    /// Pays out what is left and removes the contract.
    fn end(&mut self, mut contract: Contract) -> Result<(), StateError> {
        let ContractTerms { contract: id, refund, host, .. } = contract.terms;
        let (funds, collateral) = (contract.funds, contract.collateral);
        self.books.release(&mut contract.funds, &refund, funds)?;
        self.books.release(&mut contract.collateral, &host, collateral)?;
        self.books.overlay.remove(StateKey::Contract(id));
        Ok(())
    }

    pub(super) fn put(&mut self, contract: &Contract) {
        self.books.overlay.write(StateKey::Contract(contract.terms.contract), contract);
    }
}

/// Moves at most `wanted` from one contract's pot to another's.
fn roll(from: &mut Amount, to: &mut Amount, wanted: Amount) {
    let moved = wanted.min(*from);
    *from = from.saturating_sub(moved);
    *to = to.saturating_add(moved);
}
