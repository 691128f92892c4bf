//! Giving up hosts that will not come back.
//!
//! A silent host may come back with a head of its own, so a takeover waits for it as long as a quorum
//! depends on it. If the operator says that it is gone for good, that is written on the chain, where
//! every later recovery reads it: the contract's host then counts for no head any more, as if the contract
//! had ended ([`samara_protocol::journal::quorum`] has the proof). The contract itself runs on: if the
//! host does come back, its shards are used.
//!
//! The mark is that the contract's own key has sent a transaction. Its account sends for nothing
//! else; the first number may be used up by the formation itself.

use samara_protocol::contract::ContractId;
use samara_protocol::signature::SecretKey;
use samara_protocol::units::Amount;

use super::Recovery;
use super::claim::Claim;
use super::error::RecoveryError;
use super::types::RecoveryOptions;
use crate::account;

/// Transactions of a contract's own account from which on the contract is given up.
const GIVEN_UP: u64 = 2;

impl Recovery {
    /// Whether a contract was given up.
    pub(super) async fn is_given_up(&self, contract: &ContractId) -> Result<bool, RecoveryError> {
        Ok(self.world.chain.account(contract).await?.nonce >= GIVEN_UP)
    }

    /// Gives up silent hosts as the operator asked, if that is what a takeover lacks.
    pub(super) async fn give_up(
        &self,
        options: &RecoveryOptions,
        claim: &mut Claim,
    ) -> Result<(), RecoveryError> {
        let asked = |host| options.give_up_silent || options.give_up.contains(host);
        let chosen: Vec<bool> =
            claim.silent.iter().map(|silent| asked(&silent.live.found.record.host)).collect();
        let Some(account) = claim.newest().map(|newest| newest.base.account) else { return Ok(()) };
        if claim.is_complete() || !claim.would_be_complete(&chosen) {
            return Ok(());
        }
        for (silent, chosen) in claim.silent.iter_mut().zip(chosen) {
            if chosen && !silent.live.given_up {
                self.mark(account, &self.keys.contract(&silent.live.found.record.nonce)).await?;
                silent.live.given_up = true;
            }
        }
        Ok(())
    }

    /// Writes on the chain that a contract is given up. What an interrupted run has done is not done
    /// again.
    async fn mark(&self, account: u64, contract: &SecretKey) -> Result<(), RecoveryError> {
        let fee = self.world.chain.genesis().parameters.minimum_fee;
        let known = self.world.chain.account(&contract.public()).await?;
        let left = GIVEN_UP.saturating_sub(known.nonce);
        let needed = fee.saturating_mul(u128::from(left)).saturating_sub(known.balance);
        if needed > Amount::ZERO {
            let payer = self.payer(account, needed.saturating_add(fee)).await?;
            self.transfer(&payer, contract, needed).await?;
        }
        for _ in 0..left {
            self.transfer(contract, &self.keys.account(account), Amount::ZERO).await?;
        }
        Ok(())
    }

    /// An account that can pay so much: that of the newest head, or one before it whose money an
    /// interrupted recovery has left there.
    async fn payer(&self, newest: u64, needed: Amount) -> Result<SecretKey, RecoveryError> {
        for index in (0..=newest).rev() {
            let key = self.keys.account(index);
            if self.world.chain.account(&key.public()).await?.balance >= needed {
                return Ok(key);
            }
        }
        Err(RecoveryError::NoMoney { needed })
    }

    /// Sends money and waits until it is on the chain.
    pub(super) async fn transfer(
        &self,
        from: &SecretKey,
        to: &SecretKey,
        amount: Amount,
    ) -> Result<(), RecoveryError> {
        let chain = self.world.chain.as_ref();
        let nonce = chain.account(&from.public()).await?.nonce;
        account::transfer(chain, from, nonce, to.public(), amount).await?;
        Ok(())
    }
}
