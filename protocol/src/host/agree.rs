//! Formations, renewals and early ends: what the host signs.
//!
//! A signature is given only when the agreement is durable, and the collateral of all agreements that
//! may still reach the chain, with that of the new one, is never more than the host has. What is signed
//! expires soon ([`TransactionBody::valid_until`]); until the chain's tip has that time the host counts
//! with it, and takes no revision of a contract that is to be renewed. Afterwards it is dead, and both
//! sides go on as if it had never been.
//!
//! A contract under which nothing was ever stored may end before its term, so that money locked by
//! mistake comes back. One with data is only renewed: its sectors would go.

use super::Prices;
use super::core::{ChainFacts, Host, bad};
use super::lock::lock;
use super::message::Refusal;
use super::store::{Agreement, HostStore, HostWrite};
use crate::chain::{Action, TransactionBody};
use crate::contract::{ContractId, ContractTerms, SignedRevision, SignedVoucher};
use crate::ledger::state::Contract;
use crate::signature::{PublicKey, Signature};
use crate::units::{Amount, ChainTime, Millis};

/// What a renewal says about the contract that it ends.
struct Ending<'a> {
    old: &'a ContractId,
    last: &'a SignedRevision,
    voucher: Option<&'a SignedVoucher>,
    settlement: Amount,
}

impl<S: HostStore> Host<S> {
    pub(super) fn agree(
        &self,
        facts: &ChainFacts,
        from: &PublicKey,
        body: &TransactionBody,
    ) -> Result<Signature, Refusal> {
        if body.genesis != self.genesis {
            return Err(bad("the transaction is for another chain"));
        }
        if body.account == self.id {
            // The host's signature would pay the fee and the renter's funds as well.
            return Err(bad("the renter's transaction is to be paid from the host's account"));
        }
        let latest = facts.now.plus(self.rules.agreement_lifetime);
        if body.is_dead(facts.now) || body.valid_until > latest {
            let (until, now) = (body.valid_until.0, facts.now.0);
            let reason = format!("an agreement until {until} is not from {now} to {}", latest.0);
            return Err(Refusal::Terms(reason));
        }
        let (terms, ending) = match &body.action {
            Action::FormContract(terms) => (terms, None),
            Action::RenewContract { old, last, voucher, settlement, terms } => {
                let settlement = *settlement;
                (terms, Some(Ending { old, last, voucher: voucher.as_ref(), settlement }))
            }
            Action::CloseContract { contract, voucher, .. } => {
                self.agree_to_close(facts, from, body, contract, voucher.as_ref())?;
                return Ok(self.key.sign(body.id().as_bytes()));
            }
            _ => return Err(bad("only formations, renewals and early ends are agreed on")),
        };
        self.check_terms(facts, terms)?;
        let mut needed = terms.collateral;
        if let Some(ending) = &ending {
            let freed = self.check_ending(facts, ending)?;
            needed = needed.saturating_sub(freed);
        }
        let agreement = Agreement {
            contract: terms.contract,
            transaction: body.id(),
            collateral: needed,
            renews: ending.map(|ending| *ending.old),
            peer: *from,
            until: body.valid_until,
        };
        self.keep_agreement(facts, agreement)?;
        Ok(self.key.sign(body.id().as_bytes()))
    }

    /// Agrees to end a contract without data, once it is paid for what was used, and freezes it
    /// meanwhile: it is kept as an agreement that renews the contract by nothing.
    fn agree_to_close(
        &self,
        facts: &ChainFacts,
        from: &PublicKey,
        body: &TransactionBody,
        id: &ContractId,
        voucher: Option<&SignedVoucher>,
    ) -> Result<(), Refusal> {
        let contract = facts.contract.as_ref().filter(|contract| self.is_ours(contract, id));
        let contract = contract.ok_or(Refusal::UnknownContract(*id))?;
        // The agreement by which it was formed is fulfilled.
        self.follow(facts, id)?;
        {
            let live = self.live(facts, Some(contract), id)?;
            let live = lock(&live);
            let record = &live.record;
            let size = record.revision.revision.size.max(contract.revision.size);
            if size > 0 || record.slot.state.sequence > 0 {
                return Err(Refusal::Terms("only a contract without data ends early".into()));
            }
            self.check_paid(contract, live.voucher_total(), voucher)?;
        }
        let agreement = Agreement {
            contract: *id,
            transaction: body.id(),
            collateral: Amount::ZERO,
            renews: Some(*id),
            peer: *from,
            until: body.valid_until,
        };
        self.keep_agreement(facts, agreement)
    }

    /// Checks that an ending pays what vouchers owe; returns the total that is paid.
    fn check_paid(
        &self,
        contract: &Contract,
        owed: Amount,
        voucher: Option<&SignedVoucher>,
    ) -> Result<Amount, Refusal> {
        let paid = match voucher {
            Some(signed)
                if signed.voucher.contract != contract.terms.contract
                    || !signed.verify(&self.genesis) =>
            {
                return Err(bad("the contract's key did not sign the last voucher"));
            }
            Some(signed) => signed.voucher.total.max(contract.redeemed),
            None => contract.redeemed,
        };
        if paid < owed { Err(Refusal::Payment { total: paid, needed: owed }) } else { Ok(paid) }
    }

    fn check_terms(&self, facts: &ChainFacts, terms: &ContractTerms) -> Result<(), Refusal> {
        if terms.host != self.id {
            return Err(Refusal::Terms("they name another host".into()));
        }
        if !lock(&self.offer).accepting {
            return Err(Refusal::Terms("no contracts are formed at present".into()));
        }
        if terms.periods == 0 || terms.periods > ContractTerms::MAX_PERIODS || terms.period.0 == 0 {
            return Err(Refusal::Terms("the contract has no term".into()));
        }
        if terms.window < self.rules.minimum_window || terms.window > terms.period {
            return Err(Refusal::Terms(format!("the proof window has {} ms", terms.window.0)));
        }
        if lock(&self.contracts).contains_key(&terms.contract) {
            return Err(Refusal::Terms(format!("contract {} exists", terms.contract)));
        }
        let (needed, free) =
            (u64::from(self.rules.minimum_sector.bytes()), self.store.space().free);
        if free < needed {
            return Err(Refusal::Full { free, needed });
        }
        let mut refused = String::new();
        for prices in self.binding_prices(facts.now) {
            match check_prices(terms, &prices) {
                Ok(()) => return Ok(()),
                Err(error) => refused = error.to_string(),
            }
        }
        Err(Refusal::Terms(refused))
    }

    /// Checks how a renewal ends the old contract; returns the collateral that it sets free.
    fn check_ending(&self, facts: &ChainFacts, ending: &Ending<'_>) -> Result<Amount, Refusal> {
        let old = ending.old;
        let contract = facts.contract.as_ref().filter(|contract| self.is_ours(contract, old));
        let contract = contract.ok_or(Refusal::UnknownContract(*old))?;
        let live = self.live(facts, Some(contract), old)?;
        let live = lock(&live);
        let latest = &live.record.revision;
        if ending.last != latest {
            let (given, latest) = (ending.last.revision.number, latest.revision.number);
            return Err(Refusal::RevisionConflict { given, latest });
        }
        let paid = self.check_paid(contract, live.voucher_total(), ending.voucher)?;
        let begun = ChainTime(contract.period_end().0.saturating_sub(contract.terms.period.0));
        let span = facts.now.since(begun);
        let earned = contract.terms.storage_pay(latest.revision.size, span);
        // The chain cannot pay out more than is left.
        let left = contract.funds.saturating_sub(paid.saturating_sub(contract.redeemed));
        if ending.settlement < earned.min(left) {
            let given = ending.settlement;
            return Err(Refusal::Terms(format!("the settlement of {given} is below {earned}")));
        }
        Ok(contract.collateral)
    }

    /// Makes an agreement durable, if bounds and balance allow it.
    fn keep_agreement(&self, facts: &ChainFacts, agreement: Agreement) -> Result<(), Refusal> {
        let mut agreements = lock(&self.agreements);
        let before = agreements.get(&agreement.contract);
        if before.is_some_and(|before| before.renews != agreement.renews) {
            return Err(Refusal::Terms("the contract's id was agreed on otherwise".into()));
        }
        let others = || {
            agreements
                .values()
                .filter(|other| other.contract != agreement.contract && other.until > facts.now)
        };
        if others().count() >= self.rules.agreements {
            return Err(Refusal::Busy("too many agreements wait for the chain".into()));
        }
        if others().filter(|other| other.peer == agreement.peer).count()
            >= self.rules.agreements_per_peer
        {
            return Err(Refusal::Busy("too many of this peer's agreements wait".into()));
        }
        // Either signed body may still reach the chain, but not both: they form one contract.
        let earlier = before.map_or(Amount::ZERO, |before| before.collateral);
        let until = before.map_or(agreement.until, |before| before.until.max(agreement.until));
        let collateral = agreement.collateral.max(earlier);
        let agreement = Agreement { collateral, until, ..agreement };
        let needed =
            others().fold(agreement.collateral, |sum, other| sum.saturating_add(other.collateral));
        if needed > facts.balance {
            let reason = format!("the collateral needs {needed} of {}", facts.balance);
            return Err(Refusal::Terms(reason));
        }
        self.store.apply(vec![HostWrite::Agreement(Box::new(agreement.clone()))])?;
        agreements.insert(agreement.contract, agreement);
        Ok(())
    }
}

/// Which of the host's prices or limits terms do not meet.
#[derive(Debug, thiserror::Error)]
enum PriceError {
    #[error("a storage price of {given} is below {asked}")]
    Storage { given: Amount, asked: Amount },
    #[error("a proof fee of {given} is below {asked}")]
    ProofFee { given: Amount, asked: Amount },
    #[error("a collateral of {given} for a byte is above {offered}")]
    CollateralRate { given: Amount, offered: Amount },
    #[error("a collateral of {given} is above {offered}")]
    Collateral { given: Amount, offered: Amount },
    #[error("a duration of {given} ms is above {offered} ms", given = .given.0, offered = .offered.0)]
    Duration { given: Millis, offered: Millis },
}

fn check_prices(terms: &ContractTerms, prices: &Prices) -> Result<(), PriceError> {
    let (given, asked) = (terms.storage_price, prices.storage);
    if given < asked {
        return Err(PriceError::Storage { given, asked });
    }
    let (given, asked) = (terms.proof_fee, prices.proof_fee);
    if given < asked {
        return Err(PriceError::ProofFee { given, asked });
    }
    let (given, offered) = (terms.collateral_rate, prices.collateral_rate);
    if given > offered {
        return Err(PriceError::CollateralRate { given, offered });
    }
    let (given, offered) = (terms.collateral, prices.maximum_collateral);
    if given > offered {
        return Err(PriceError::Collateral { given, offered });
    }
    let (given, offered) = (terms.duration(), prices.maximum_duration);
    if given > offered {
        return Err(PriceError::Duration { given, offered });
    }
    Ok(())
}
