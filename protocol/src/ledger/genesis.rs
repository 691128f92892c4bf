//! The state before the first block.

use super::overlay::Overlay;
use super::reader::{Deadline, StateChanges, StateError, StateReader};
use super::state::{Account, StateKey, Totals};
use crate::chain::{Genesis, GenesisError};
use crate::units::{Amount, ChainTime, Height};

/// A store before anything is in it.
struct Nothing;

impl StateReader for Nothing {
    fn value(&self, _: &StateKey) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }

    fn deadlines(&self, _: ChainTime, _: usize) -> Result<Vec<Deadline>, StateError> {
        Ok(Vec::new())
    }

    fn node(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }
}

/// The state at height 0, with its root, to be applied to an empty store.
///
/// # Errors
/// [`GenesisError`] when the document breaks a rule.
pub fn genesis_state(genesis: &Genesis) -> Result<StateChanges, GenesisError> {
    genesis.check()?;
    let issued = genesis.issued()?;
    let mut overlay = Overlay::new(&Nothing);
    for (key, balance) in &genesis.allocations {
        overlay.write(StateKey::Account(*key), &Account { balance: *balance, nonce: 0 });
    }
    let totals = Totals { issued, balances: issued, locked: Amount::ZERO, burned: Amount::ZERO };
    overlay.write(StateKey::Totals, &totals);
    overlay.write(StateKey::Validators, &genesis.validators);
    Ok(overlay.into_changes(Height(0)).expect("invariant: an empty state can be read"))
}
