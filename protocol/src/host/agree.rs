//! Formations, renewals and early ends: what the host signs.
//!
//! The host signs last. Before anything is reserved or frozen, all others whom the ledger asks for have
//! signed: the paying account, the new contract's key, and the key of the contract that ends. The account
//! has the money on the chain and has not used the nonce. So only who could form the contract makes the
//! host keep collateral apart, and only its owner makes a contract stand still.
//!
//! A signature is given only when the agreement is durable, and the collateral of all agreements that
//! may still reach the chain, with that of the new one, is never more than the host has. What is signed
//! expires soon ([`TransactionBody::valid_until`]); until the chain's tip has that time the host counts
//! with it, and takes no revision of a contract that is to end. Afterwards it is dead, and both
//! sides go on as if it had never been. It is dead as well once the account has used its nonce for
//! something else.
//!
//! One formation of an account waits at a time, and one ending of a contract. Endings have no other
//! bound, so formations cannot keep a contract from being renewed. The same transaction may be asked
//! for again and gets the same answer.
//!
//! A contract under which nothing was ever stored may end before its term, so that money locked by
//! mistake comes back. One with data is only renewed: its sectors would go. While such an end is agreed
//! on, nothing new is stored under the contract.

use std::convert::Infallible;

use super::Prices;
use super::core::{ChainFacts, Host, Live, bad};
use super::message::Refusal;
use super::store::{Agreement, HostStore, HostWrite};
use crate::chain::{Action, Transaction, TransactionBody};
use crate::contract::{ContractId, ContractTerms, SignedRevision, SignedVoucher};
use crate::encoding;
use crate::ledger::state::Contract;
use crate::ledger::{check_signatures, required_signers};
use crate::signature::{PublicKey, Signature};
use crate::sync::lock;
use crate::units::{Amount, ChainTime, Millis};

/// How many transactions of the account may wait for a block before the one that is agreed on: as many
/// as chain nodes take.
const MOST_WAITING: u64 = 128;

/// What a renewal says about the contract that it ends.
struct Ending<'a> {
    last: &'a SignedRevision,
    voucher: Option<&'a SignedVoucher>,
    settlement: Amount,
}

/// What a renewal finds in the contract that it ends.
struct Freed {
    collateral: Amount,
    /// Funds that go into the successor.
    funds: Amount,
}

impl<S: HostStore> Host<S> {
    /// Checks that an agreement is asked for by all who must sign it besides the host, by the ledger's
    /// own rule. Needs nothing from the chain.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`].
    pub fn check_asked(&self, asked: &Transaction) -> Result<(), Refusal> {
        self.countersign(asked.clone()).map(|_| ())
    }

    /// The host's signature, if with it the transaction has all that the ledger asks for.
    fn countersign(&self, mut asked: Transaction) -> Result<Signature, Refusal> {
        let body = &asked.body;
        if body.genesis != self.genesis {
            return Err(bad("the transaction is for another chain"));
        }
        // The host's signature must stand for nothing but itself: not for the payer's, not for a contract's.
        let (account, [new, old]) = (&body.account, parties(&body.action)?);
        if [Some(account), new, old].contains(&Some(&self.id)) {
            return Err(bad("the host's key is used for the renter's side"));
        }
        let terms = match &body.action {
            Action::FormContract(terms) | Action::RenewContract { terms, .. } => Some(terms),
            _ => None,
        };
        if terms.is_some_and(|terms| terms.host != self.id) {
            return Err(Refusal::Terms("they name another host".into()));
        }
        let Ok(required) = required_signers(body, |_| Ok::<_, Infallible>(self.id));
        let (host, signature) = body.sign(&self.key);
        asked.signatures.push((host, signature));
        if encoding::encode(&asked).len() > Transaction::MAX_BYTES {
            return Err(bad("the transaction is too large"));
        }
        check_signatures(&asked, &required, None).map_err(|error| bad(error.to_string()))?;
        Ok(signature)
    }

    pub(super) fn agree(
        &self,
        facts: &ChainFacts,
        from: &PublicKey,
        asked: Transaction,
    ) -> Result<Signature, Refusal> {
        let body = asked.body.clone();
        let signature = self.countersign(asked)?;
        let latest = facts.now.plus(self.rules.agreement_lifetime);
        if body.is_dead(facts.now) || body.valid_until > latest {
            let (until, now) = (body.valid_until.0, facts.now.0);
            let reason = format!("an agreement until {until} is not from {now} to {}", latest.0);
            return Err(Refusal::Terms(reason));
        }
        let [new, old] = parties(&body.action)?;
        let contract = *new.or(old).ok_or_else(|| bad("no contract is named"))?;
        let agreement = Agreement {
            contract,
            transaction: body.id(),
            collateral: Amount::ZERO,
            renews: old.copied(),
            peer: *from,
            account: body.account,
            nonce: body.nonce,
            until: body.valid_until,
        };
        let repeated = |before: &Agreement| before.transaction == agreement.transaction;
        if lock(&self.agreements).get(&contract).is_some_and(repeated) {
            return Ok(signature);
        }
        match &body.action {
            Action::FormContract(terms) => {
                self.check_terms(facts, terms)?;
                check_payer(facts, &body, terms.funds)?;
                let collateral = terms.collateral;
                self.keep_agreement(facts, Agreement { collateral, ..agreement })?;
            }
            Action::RenewContract { old, last, voucher, settlement, terms } => {
                let ending = Ending { last, voucher: voucher.as_ref(), settlement: *settlement };
                self.agree_to_renew(facts, &body, old, &ending, terms, agreement)?;
            }
            Action::CloseContract { contract, voucher, .. } => {
                check_payer(facts, &body, Amount::ZERO)?;
                self.agree_to_close(facts, contract, voucher.as_ref(), agreement)?;
            }
            _ => return Err(not_agreed_on()),
        }
        Ok(signature)
    }

    fn agree_to_renew(
        &self,
        facts: &ChainFacts,
        body: &TransactionBody,
        old: &ContractId,
        ending: &Ending<'_>,
        terms: &ContractTerms,
        agreement: Agreement,
    ) -> Result<(), Refusal> {
        self.check_terms(facts, terms)?;
        let contract = facts.contract.as_ref().filter(|contract| self.is_ours(contract, old));
        let contract = contract.ok_or(Refusal::UnknownContract(*old))?;
        let live = self.live(facts, Some(contract), old)?;
        // Held until the contract is frozen: no revision comes in between.
        let live = lock(&live);
        let freed = self.check_ending(facts, contract, &live, ending)?;
        check_payer(facts, body, terms.funds.saturating_sub(freed.funds))?;
        let collateral = terms.collateral.saturating_sub(freed.collateral);
        self.keep_agreement(facts, Agreement { collateral, ..agreement })
    }

    /// Agrees to end a contract without data, once it is paid for what was used, and freezes it
    /// meanwhile: it is kept as an agreement that renews the contract by nothing.
    fn agree_to_close(
        &self,
        facts: &ChainFacts,
        id: &ContractId,
        voucher: Option<&SignedVoucher>,
        agreement: Agreement,
    ) -> Result<(), Refusal> {
        let contract = facts.contract.as_ref().filter(|contract| self.is_ours(contract, id));
        let contract = contract.ok_or(Refusal::UnknownContract(*id))?;
        // The agreement by which it was formed is fulfilled.
        self.follow(facts, id)?;
        let live = self.live(facts, Some(contract), id)?;
        let live = lock(&live);
        let record = &live.record;
        let size = record.revision.revision.size.max(contract.revision.size);
        if size > 0 || record.slot.state.sequence > 0 {
            return Err(Refusal::Terms("only a contract without data ends early".into()));
        }
        self.check_paid(contract, live.voucher_total(), voucher)?;
        self.keep_agreement(facts, agreement)
    }

    /// Whether an agreement that ends the contract may still reach the chain.
    pub(super) fn is_ending(&self, id: &ContractId, now: ChainTime) -> bool {
        lock(&self.agreements).values().any(|agreement| agreement.ends(id, now))
    }

    /// Refuses new data under a contract that both sides agreed to close: it would go with it.
    pub(super) fn check_stays(&self, id: &ContractId, now: ChainTime) -> Result<(), Refusal> {
        // What closes a contract renews it by nothing, under its own name.
        let closes = |agreement: &Agreement| agreement.ends(id, now);
        if lock(&self.agreements).get(id).is_some_and(closes) {
            return Err(Refusal::Busy("the contract is being closed".into()));
        }
        Ok(())
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

    /// Checks how a renewal ends the old contract; returns what it sets free.
    fn check_ending(
        &self,
        facts: &ChainFacts,
        contract: &Contract,
        live: &Live,
        ending: &Ending<'_>,
    ) -> Result<Freed, Refusal> {
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
        let funds = left.saturating_sub(ending.settlement);
        Ok(Freed { collateral: contract.collateral, funds })
    }

    /// Makes an agreement durable, if bounds and balance allow it.
    fn keep_agreement(&self, facts: &ChainFacts, agreement: Agreement) -> Result<(), Refusal> {
        let mut agreements = lock(&self.agreements);
        let before = agreements.get(&agreement.contract);
        if before.is_some_and(|before| {
            (before.renews, before.account) != (agreement.renews, agreement.account)
        }) {
            return Err(Refusal::Terms("the contract's id was agreed on otherwise".into()));
        }
        let used = |other: &Agreement| {
            other.account == agreement.account && other.nonce < facts.payer.nonce
        };
        let others: Vec<&Agreement> = agreements
            .values()
            .filter(|other| other.contract != agreement.contract && other.until > facts.now)
            .filter(|other| !used(other))
            .collect();
        self.check_bounds(&agreement, &others)?;
        // Either signed body may still reach the chain, but not both: they form one contract.
        let earlier = before.map_or(Amount::ZERO, |before| before.collateral);
        let until = before.map_or(agreement.until, |before| before.until.max(agreement.until));
        let nonce = before.map_or(agreement.nonce, |before| before.nonce.max(agreement.nonce));
        let collateral = agreement.collateral.max(earlier);
        let needed =
            others.iter().fold(collateral, |sum, other| sum.saturating_add(other.collateral));
        // What needs nothing is never kept waiting by others' collateral.
        if collateral > Amount::ZERO && needed > facts.balance {
            let reason = format!("the collateral needs {needed} of {}", facts.balance);
            return Err(Refusal::Terms(reason));
        }
        let agreement = Agreement { collateral, until, nonce, ..agreement };
        self.store.apply(vec![HostWrite::Agreement(Box::new(agreement.clone()))])?;
        agreements.insert(agreement.contract, agreement);
        Ok(())
    }

    /// One ending of a contract and one formation of an account wait at a time, and formations are
    /// bounded besides.
    fn check_bounds(&self, agreement: &Agreement, others: &[&Agreement]) -> Result<(), Refusal> {
        if agreement.renews.is_some() {
            if others.iter().any(|other| other.renews == agreement.renews) {
                return Err(Refusal::Busy("another end of the contract waits".into()));
            }
            return Ok(());
        }
        let formations = || others.iter().filter(|other| other.renews.is_none());
        if formations().any(|other| other.account == agreement.account) {
            return Err(Refusal::Busy("another formation of the account waits".into()));
        }
        if formations().count() >= self.rules.formations {
            return Err(Refusal::Busy("too many formations wait for the chain".into()));
        }
        let of_peer = formations().filter(|other| other.peer == agreement.peer).count();
        if of_peer >= self.rules.formations_per_peer {
            return Err(Refusal::Busy("too many of this peer's formations wait".into()));
        }
        Ok(())
    }
}

/// The contract that an action forms, and the one that it ends.
fn parties(action: &Action) -> Result<[Option<&ContractId>; 2], Refusal> {
    match action {
        Action::FormContract(terms) => Ok([Some(&terms.contract), None]),
        Action::RenewContract { old, terms, .. } => Ok([Some(&terms.contract), Some(old)]),
        Action::CloseContract { contract, .. } => Ok([None, Some(contract)]),
        _ => Err(not_agreed_on()),
    }
}

fn not_agreed_on() -> Refusal {
    bad("only formations, renewals and early ends are agreed on")
}

/// Checks that the paying account can send the transaction: it has `funds` and the fee, and has not used
/// the nonce. Transactions that wait for a block are not looked at.
fn check_payer(facts: &ChainFacts, body: &TransactionBody, funds: Amount) -> Result<(), Refusal> {
    let account = facts.payer;
    let (least, most) = (account.nonce, account.nonce.saturating_add(MOST_WAITING));
    if body.nonce < least || body.nonce >= most {
        let reason = format!("the account's nonce is {least}, the transaction's {}", body.nonce);
        return Err(Refusal::Terms(reason));
    }
    let needed = funds.saturating_add(body.fee);
    if account.balance < needed {
        let reason = format!("the account has {} of the {needed} it is to pay", account.balance);
        return Err(Refusal::Terms(reason));
    }
    Ok(())
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
