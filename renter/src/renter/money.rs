//! Money: what the contractor may spend, the account that pays, and transfers from it.

use samara_protocol::hash::TransactionId;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{Amount, Height};

use super::Renter;
use super::error::RenterError;
use super::upkeep;
use crate::account;
use crate::contract::{Allowance, ContractorError, least_funds};
use crate::rows::{AllowanceReport, WalletRow};
use crate::world::{ChainError, ChainView};

/// Sends money, and returns when a block holds the transfer. The caller sees to it that nothing else of
/// this account is sent meanwhile: transactions of one account are numbered.
///
/// # Errors
/// [`RenterError::Money`] when the account has less than amount and fee, [`RenterError::Chain`].
pub async fn transfer(
    chain: &dyn ChainView,
    from: &SecretKey,
    to: PublicKey,
    amount: Amount,
) -> Result<(TransactionId, Height), RenterError> {
    let nonce = payable(chain, &from.public(), amount).await?;
    Ok(account::transfer(chain, from, nonce, to, amount).await?)
}

/// The account's next number as the chain counts, if it has the amount and a fee.
async fn payable(
    chain: &dyn ChainView,
    account: &PublicKey,
    amount: Amount,
) -> Result<u64, RenterError> {
    let known = chain.account(account).await?;
    let fee = chain.genesis().parameters.minimum_fee;
    let needed = amount.saturating_add(fee);
    if known.balance < needed {
        return Err(RenterError::Money { balance: known.balance, needed });
    }
    Ok(known.nonce)
}

impl Renter {
    /// Sets what the contractor may do, and lets it act at once. It goes on by itself.
    ///
    /// # Errors
    /// [`RenterError::Journal`] if this node may not write, [`RenterError::Contractor`].
    pub async fn set_allowance(
        &self,
        allowance: Allowance,
    ) -> Result<AllowanceReport, RenterError> {
        self.inner.journal.check_writable()?;
        let upkeep = &self.inner.upkeep;
        let mut report = upkeep.set_allowance(allowance).await?;
        upkeep.keep_setting().await;
        report.notes = upkeep.notes(&allowance, report.balance).await;
        Ok(report)
    }

    /// Sets the allowance that the journal knows, if none is set: for a node that is the one that had it.
    /// Whether there is one now.
    ///
    /// # Errors
    /// As [`Renter::set_allowance`].
    pub async fn resume_allowance(&self) -> Result<bool, RenterError> {
        if self.allowance().is_some() {
            return Ok(true);
        }
        let Some(allowance) = self.inner.upkeep.setting() else { return Ok(false) };
        self.set_allowance(allowance).await.map(|_| true)
    }

    /// What would be done under an allowance, and what it would cost; nothing is set.
    ///
    /// # Errors
    /// [`RenterError::Contractor`] for an allowance that cannot be set, or a chain that does not answer.
    pub async fn preview_allowance(
        &self,
        allowance: Allowance,
    ) -> Result<AllowanceReport, RenterError> {
        allowance
            .check(&self.inner.world.chain.genesis().parameters)
            .map_err(ContractorError::from)?;
        let plan = self.inner.upkeep.contractor.plan_for(allowance).await?;
        let planned = plan.steps.iter().map(ToString::to_string).collect();
        let notes = self.inner.upkeep.notes(&allowance, plan.balance).await;
        Ok(AllowanceReport { planned, notes, ..upkeep::seen(&plan) })
    }

    /// The allowance that is set.
    #[must_use]
    pub fn allowance(&self) -> Option<Allowance> {
        self.inner.upkeep.contractor.allowance()
    }

    /// The allowance that the journal remembers, to be offered after a recovery.
    #[must_use]
    pub fn remembered_allowance(&self) -> Option<Allowance> {
        self.inner.upkeep.setting()
    }

    /// What suits the network of this moment, for an owner who gives so much money.
    ///
    /// # Errors
    /// [`RenterError::Chain`].
    pub async fn suggest_allowance(&self, funds: Amount) -> Result<Allowance, RenterError> {
        let accepting = self.accepting_hosts().await?;
        Ok(Allowance::for_network(accepting, funds, &self.inner.world.chain.genesis().parameters))
    }

    /// Announced hosts that form contracts.
    ///
    /// # Errors
    /// [`RenterError::Chain`].
    pub async fn accepting_hosts(&self) -> Result<usize, RenterError> {
        let announced = self.inner.world.chain.announced_hosts().await?;
        Ok(announced.iter().filter(|(_, host)| host.accepting).count())
    }

    /// Least money with which contracts under an allowance take files, by the prices of this moment.
    ///
    /// # Errors
    /// [`RenterError::Chain`].
    pub async fn least_funds(&self, allowance: &Allowance) -> Result<Amount, RenterError> {
        Ok(least_funds(allowance, &self.inner.world.chain.announced_hosts().await?))
    }

    /// The account that pays.
    ///
    /// # Errors
    /// [`RenterError::Chain`].
    pub async fn wallet(&self) -> Result<WalletRow, RenterError> {
        let index = self.inner.upkeep.contractor.account();
        let key = self.inner.keys.account(index).public();
        let account = self.inner.world.chain.account(&key).await?;
        Ok(WalletRow {
            account: key.to_string(),
            index,
            balance: account.balance,
            nonce: account.nonce,
        })
    }

    /// Sends money; returns when a block holds the transfer.
    ///
    /// # Errors
    /// [`RenterError::Money`], [`RenterError::Chain`].
    pub async fn transfer(
        &self,
        to: PublicKey,
        amount: Amount,
    ) -> Result<(TransactionId, Height), RenterError> {
        let (chain, contractor) = (self.inner.world.chain.as_ref(), &self.inner.upkeep.contractor);
        let mut again = true;
        let (id, _waiting) = loop {
            // The contractor's transactions use the same account's numbers. The turn is not held while a
            // block is waited for: upkeep goes on where the chain is slow.
            let turn = contractor.turn().await;
            let key = self.inner.keys.account(contractor.account());
            let known = payable(chain, &key.public(), amount).await?;
            let nonce = contractor.next_nonce(known);
            match account::submit(chain, &key, nonce, to, amount).await {
                Ok(id) => break (id, contractor.waits(nonce, id)),
                // A chain that wants what comes before it in a block first is given that, once.
                Err(ChainError::Refused(_)) if again && nonce > known => {
                    again = false;
                    drop(turn);
                    contractor.wait_out().await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok((id, chain.included(&id).await?))
    }
}
