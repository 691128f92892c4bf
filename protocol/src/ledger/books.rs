//! Money: the only code that changes balances and totals.
//!
//! Every movement here leaves issued = balances + locked + burned as it was (invariant I3). Money in a
//! contract is its `funds` and `collateral`; both are passed as a *pot*, a mutable amount.

use super::error::TransactionError;
use super::overlay::Overlay;
use super::reader::{StateError, StateReader};
use super::state::{Account, StateKey, Totals};
use crate::signature::PublicKey;
use crate::units::Amount;

pub(super) struct Books<'a, R: ?Sized> {
    pub overlay: Overlay<'a, R>,
    totals: Totals,
    /// The totals before the transaction that runs.
    kept: Totals,
}

impl<'a, R: StateReader + ?Sized> Books<'a, R> {
    pub fn open(base: &'a R) -> Result<Self, StateError> {
        let overlay = Overlay::new(base);
        let totals: Totals = overlay.expect(&StateKey::Totals)?;
        Ok(Self { overlay, totals, kept: totals })
    }

    pub fn keep(&mut self) {
        self.overlay.keep();
        self.kept = self.totals;
    }

    pub fn discard(&mut self) {
        self.overlay.discard();
        self.totals = self.kept;
    }

    /// Checks the sums and gives the overlay back with the totals written.
    pub fn close(mut self) -> Result<Overlay<'a, R>, StateError> {
        let Totals { issued, balances, locked, burned } = self.totals;
        let sum = balances.checked_add(locked).and_then(|sum| sum.checked_add(burned));
        if sum != Some(issued) {
            return Err(StateError::Money("balances, locked and burned are not what was issued"));
        }
        self.overlay.write(StateKey::Totals, &self.totals);
        Ok(self.overlay)
    }

    pub fn account(&self, key: &PublicKey) -> Result<Account, StateError> {
        Ok(self.overlay.read(&StateKey::Account(*key))?.unwrap_or_default())
    }

    /// Uses the account's next nonce and burns the fee.
    pub fn charge(
        &mut self,
        key: &PublicKey,
        nonce: u64,
        fee: Amount,
    ) -> Result<(), TransactionError> {
        let mut account = self.account(key)?;
        if account.nonce != nonce {
            let expected = account.nonce;
            return Err(TransactionError::Nonce { account: *key, expected, given: nonce });
        }
        account.nonce =
            account.nonce.checked_add(1).ok_or(TransactionError::NonceExhausted(*key))?;
        self.overlay.write(StateKey::Account(*key), &account);
        self.debit(key, fee)?;
        add(&mut self.totals.burned, fee, "burned")?;
        Ok(())
    }

    /// Uses the first nonce of an account that has never used one, and tells whether it could. Money
    /// that somebody sent there changes nothing.
    pub fn use_first_nonce(&mut self, key: &PublicKey) -> Result<bool, StateError> {
        let account = self.account(key)?;
        if account.nonce == 0 {
            self.overlay.write(StateKey::Account(*key), &Account { nonce: 1, ..account });
        }
        Ok(account.nonce == 0)
    }

    pub fn transfer(
        &mut self,
        from: &PublicKey,
        to: &PublicKey,
        amount: Amount,
    ) -> Result<(), TransactionError> {
        self.debit(from, amount)?;
        self.credit(to, amount)?;
        Ok(())
    }

    /// Moves money from an account into a contract's pot.
    pub fn lock(
        &mut self,
        from: &PublicKey,
        pot: &mut Amount,
        amount: Amount,
    ) -> Result<(), TransactionError> {
        self.debit(from, amount)?;
        add(&mut self.totals.locked, amount, "locked")?;
        add(pot, amount, "a contract")?;
        Ok(())
    }

    /// Pays out of a contract's pot; the caller has made sure that it holds that much.
    pub fn release(
        &mut self,
        pot: &mut Amount,
        to: &PublicKey,
        amount: Amount,
    ) -> Result<(), StateError> {
        subtract(pot, amount, "a contract")?;
        subtract(&mut self.totals.locked, amount, "locked")?;
        self.credit(to, amount)
    }

    /// Burns money of a contract's pot; the caller has made sure that it holds that much.
    pub fn burn(&mut self, pot: &mut Amount, amount: Amount) -> Result<(), StateError> {
        subtract(pot, amount, "a contract")?;
        subtract(&mut self.totals.locked, amount, "locked")?;
        add(&mut self.totals.burned, amount, "burned")
    }

    fn debit(&mut self, key: &PublicKey, amount: Amount) -> Result<(), TransactionError> {
        let mut account = self.account(key)?;
        let balance = account.balance;
        account.balance = balance.checked_sub(amount).ok_or(TransactionError::Balance {
            account: *key,
            balance,
            needed: amount,
        })?;
        subtract(&mut self.totals.balances, amount, "balances")?;
        self.overlay.write(StateKey::Account(*key), &account);
        Ok(())
    }

    fn credit(&mut self, key: &PublicKey, amount: Amount) -> Result<(), StateError> {
        if amount == Amount::ZERO {
            // Nobody's account comes into being by receiving nothing.
            return Ok(());
        }
        let mut account = self.account(key)?;
        add(&mut account.balance, amount, "an account")?;
        add(&mut self.totals.balances, amount, "balances")?;
        self.overlay.write(StateKey::Account(*key), &account);
        Ok(())
    }
}

fn add(sum: &mut Amount, amount: Amount, what: &'static str) -> Result<(), StateError> {
    *sum = sum.checked_add(amount).ok_or(StateError::Money(what))?;
    Ok(())
}

fn subtract(sum: &mut Amount, amount: Amount, what: &'static str) -> Result<(), StateError> {
    *sum = sum.checked_sub(amount).ok_or(StateError::Money(what))?;
    Ok(())
}
