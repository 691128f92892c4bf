//! Payment: prices for which the host stands, and what vouchers pay for.
//!
//! Payment is counted in memory, where parallel requests cannot race, and written along with the next
//! durable write or by [`Host::save_payments`]; a crash costs the host a moment's pay and nobody data.

use std::sync::Mutex;

use super::announcement::{Prices, SignedPrices};
use super::core::{Ask, Host, Live, bad, fence};
use super::message::Refusal;
use super::store::{HostStore, HostStoreError, HostWrite, IssuedPrices, Space};
use crate::contract::SignedVoucher;
use crate::signature::Signature;
use crate::sync::lock;
use crate::units::{Amount, ChainTime};

impl<S: HostStore> Host<S> {
    /// Takes `cost` from what the voucher and those before it pay for.
    pub(super) fn charge(
        &self,
        ask: &Ask<'_>,
        live: &mut Live,
        signed: &SignedVoucher,
        cost: Amount,
    ) -> Result<(), Refusal> {
        let contract = ask.on_chain(live)?;
        let voucher = &signed.voucher;
        if voucher.contract != ask.id {
            return Err(bad("the voucher is of another contract"));
        }
        fence(voucher.epoch, &live.record.promised)?;
        let known = live.voucher_total();
        let newer = voucher.total > known;
        let total = known.max(voucher.total);
        let needed = live.record.consumed.saturating_add(cost);
        if needed > total {
            return Err(Refusal::Payment { total, needed });
        }
        if newer {
            // What was redeemed has left the funds already.
            let limit = contract.redeemed.saturating_add(contract.funds);
            if total > limit {
                return Err(Refusal::Payment { total: limit, needed: total });
            }
            if !signed.verify(&self.genesis) {
                return Err(bad("the contract's key did not sign the voucher"));
            }
            live.record.voucher = Some(*signed);
        }
        live.record.consumed = needed;
        live.dirty = true;
        Ok(())
    }

    /// Gives back what a request cost that was then not served.
    pub(super) fn refund(live: &Mutex<Live>, cost: Amount) {
        let mut live = lock(live);
        live.record.consumed = live.record.consumed.saturating_sub(cost);
    }

    /// Writes payments that are only in memory; durable when it returns. To be called each second or so.
    ///
    /// # Errors
    /// [`HostStoreError`] of the store; what was not written stays in memory.
    pub fn save_payments(&self) -> Result<(), HostStoreError> {
        let all: Vec<_> = lock(&self.contracts).values().cloned().collect();
        for live in all {
            let mut live = lock(&live);
            if live.dirty && !live.swept {
                let record = Box::new(live.record.clone());
                self.store.apply(vec![HostWrite::Record(live.id, record)])?;
                (live.dirty, live.known) = (false, true);
            }
        }
        Ok(())
    }

    /// Changes prices and whether contracts are formed. Tables signed before still bind until they
    /// expire. Durable when it returns.
    ///
    /// # Errors
    /// [`HostStoreError`] of the store; the old prices stay.
    pub fn offer(
        &self,
        prices: Prices,
        accepting: bool,
        now: ChainTime,
    ) -> Result<(), HostStoreError> {
        let mut offer = lock(&self.offer);
        if offer.issued.last().is_none_or(|current| current.prices != prices) {
            let mut issued = offer.issued.clone();
            if let Some(current) = issued.last_mut() {
                current.until = Some(now.plus(self.rules.price_validity));
            }
            issued.retain(|table| table.until.is_none_or(|until| until > now));
            issued.push(IssuedPrices { prices, until: None });
            self.store.apply(vec![HostWrite::Prices(issued.clone())])?;
            offer.issued = issued;
        }
        offer.accepting = accepting;
        Ok(())
    }

    /// The current price table, signed.
    pub fn signed_prices(&self, now: ChainTime) -> SignedPrices {
        let Space { capacity, free } = self.store.space();
        let (prices, accepting) = {
            let offer = lock(&self.offer);
            let current = offer.issued.last().expect("invariant: opening a host issues prices");
            (current.prices, offer.accepting)
        };
        let table = SignedPrices {
            host: self.id,
            prices,
            free,
            capacity,
            accepting,
            valid_until: now.plus(self.rules.price_validity),
            signature: Signature::EMPTY,
        };
        table.sign(&self.genesis, &self.key)
    }

    /// All prices that bind the host now; never empty, the current ones last.
    pub(super) fn binding_prices(&self, now: ChainTime) -> Vec<Prices> {
        let offer = lock(&self.offer);
        let binding = |table: &&IssuedPrices| table.until.is_none_or(|until| until > now);
        offer.issued.iter().filter(binding).map(|table| table.prices).collect()
    }

    /// The least that any binding table asks.
    pub(super) fn cost(&self, now: ChainTime, price: impl Fn(&Prices) -> Amount) -> Amount {
        self.binding_prices(now).iter().map(price).min().unwrap_or(Amount::ZERO)
    }
}
