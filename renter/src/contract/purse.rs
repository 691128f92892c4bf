//! The running total of one contract: vouchers that grow, and never above the funds.

use std::sync::{Mutex, MutexGuard};

use samara_protocol::contract::{SignedVoucher, Voucher};
use samara_protocol::sync::lock;
use samara_protocol::units::{Amount, Epoch};

use super::error::ContractError;
use super::link::ContractLink;

/// Signs vouchers for one contract. Parallel calls each reserve their cost first, so the host sees
/// totals that cover all of them in whatever order they arrive.
#[derive(Debug)]
pub(super) struct Purse {
    funds: Amount,
    state: Mutex<Account>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Highest total ever signed; never goes down.
    total: Amount,
    /// What the host may rightly count as used; a refused call is taken back.
    owed: Amount,
    /// Whether `total` is known to be the highest there is, so that a host's word adds little.
    exact: bool,
    /// What was added on a host's word alone since then.
    followed: Amount,
}

/// The part of the funds up to which a host's word is followed: one in this.
const FOLLOWED: u128 = 16;

impl Purse {
    /// A purse that may sign up to `funds`, after `total` was signed before; `exact` if nothing above
    /// it can have been signed.
    pub(super) fn new(funds: Amount, total: Amount, exact: bool) -> Self {
        Self {
            funds,
            state: Mutex::new(Account { total, owed: total, exact, followed: Amount::ZERO }),
        }
    }

    /// Highest total signed.
    pub(super) fn total(&self) -> Amount {
        self.lock().total
    }

    /// What vouchers may still cover.
    pub(super) fn left(&self) -> Amount {
        self.funds.saturating_sub(self.lock().owed)
    }

    /// Takes over what the host says once after a restart, when vouchers may have been signed that
    /// are not on disk; it is never more than the funds. Later a host is followed for a small part of
    /// the funds only, in all: a call of an earlier life may still have been charged, and without that
    /// every further call would be refused as paid too little.
    pub(super) fn learn(&self, total: Amount, consumed: Amount) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.exact, true) {
            state.total = state.total.max(total.min(self.funds));
            state.owed = state.owed.max(consumed.min(self.funds));
            return;
        }
        let more = consumed.saturating_sub(state.owed);
        let followed = state.followed.saturating_add(more);
        if followed <= Amount(self.funds.0 / FOLLOWED) {
            state.owed = state.owed.saturating_add(more);
            state.followed = followed;
        }
    }

    /// A voucher that covers `cost` more.
    pub(super) fn reserve(
        &self,
        link: &ContractLink,
        epoch: Epoch,
        cost: Amount,
    ) -> Result<SignedVoucher, ContractError> {
        let mut state = self.lock();
        let needed = state.owed.saturating_add(cost);
        if needed > self.funds {
            return Err(ContractError::OutOfMoney {
                host: link.host(),
                contract: link.id(),
                needed,
                funds: self.funds,
            });
        }
        state.owed = needed;
        state.total = state.total.max(needed);
        let voucher = Voucher { contract: link.id(), total: state.total, epoch };
        drop(state);
        Ok(SignedVoucher::sign(link.genesis(), voucher, link.key()))
    }

    /// Takes back the cost of a call that certainly was not carried out.
    pub(super) fn refund(&self, cost: Amount) {
        let mut state = self.lock();
        state.owed = state.owed.saturating_sub(cost);
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        // Both fields are set together in infallible code, so a poisoned lock holds a whole state.
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_believed_once_and_followed_a_little() {
        let purse = Purse::new(Amount(1_600), Amount(10), false);
        purse.learn(Amount(300), Amount(200));
        assert_eq!((purse.total(), purse.left()), (Amount(300), Amount(1_400)));
        // Calls of an earlier life were charged later.
        purse.learn(Amount(300), Amount(260));
        assert_eq!(purse.left(), Amount(1_340));
        // What it claims is more than 100 in all.
        purse.learn(Amount(300), Amount(301));
        assert_eq!(purse.left(), Amount(1_340));
        purse.learn(Amount(300), Amount(300));
        assert_eq!(purse.left(), Amount(1_300));
        // Less is no news.
        purse.learn(Amount::ZERO, Amount::ZERO);
        assert_eq!((purse.total(), purse.left()), (Amount(300), Amount(1_300)));
    }
}
