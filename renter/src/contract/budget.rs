//! The most that one operation may spend, and what it has spent.

use std::sync::{Arc, Mutex};

use samara_protocol::sync::lock;
use samara_protocol::units::Amount;

/// The purse of one operation beside those of the contracts: calls that are paid through handles that carry
/// it count, and are refused above its limit before anything is sent. A cheap clone.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    most: Amount,
    spent: Amount,
    /// Whether a call was refused.
    exceeded: bool,
}

impl Budget {
    /// Nothing spent yet, of at most this.
    #[must_use]
    pub fn new(most: Amount) -> Self {
        Self(Arc::new(Mutex::new(State { most, spent: Amount::ZERO, exceeded: false })))
    }

    /// Only counts.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(Amount(u128::MAX))
    }

    /// What was spent, calls under way included.
    #[must_use]
    pub fn spent(&self) -> Amount {
        lock(&self.0).spent
    }

    /// Whether something was not done because it would have cost too much.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        lock(&self.0).exceeded
    }

    /// Takes the cost of a call; `false` if there is not so much left.
    pub(super) fn take(&self, cost: Amount) -> bool {
        let mut state = lock(&self.0);
        let spent = state.spent.saturating_add(cost);
        if spent > state.most {
            state.exceeded = true;
            return false;
        }
        state.spent = spent;
        true
    }

    /// Gives back the cost of a call that certainly was not carried out.
    pub(super) fn give_back(&self, cost: Amount) {
        let mut state = lock(&self.0);
        state.spent = state.spent.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_above_the_limit() {
        let budget = Budget::new(Amount(10));
        assert!(budget.take(Amount(6)));
        assert!(!budget.take(Amount(5)));
        assert_eq!((budget.spent(), budget.is_exceeded()), (Amount(6), true));
        budget.give_back(Amount(2));
        assert!(budget.take(Amount(6)));
        assert_eq!(budget.spent(), Amount(10));
    }
}
