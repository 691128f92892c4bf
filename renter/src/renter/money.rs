//! Money from one account to another.

use samara_protocol::hash::TransactionId;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{Amount, Height};

use super::error::RenterError;
use crate::account;
use crate::world::ChainView;

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
    let known = chain.account(&from.public()).await?;
    let fee = chain.genesis().parameters.minimum_fee;
    let needed = amount.saturating_add(fee);
    if known.balance < needed {
        return Err(RenterError::Money { balance: known.balance, needed });
    }
    Ok(account::transfer(chain, from, known.nonce, to, amount).await?)
}
