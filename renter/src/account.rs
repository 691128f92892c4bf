//! Transactions of an account of the owner's. Owned by whoever sends: transactions of one account are
//! numbered, so each caller sees to it that nothing else of the account is sent meanwhile.

use samara_protocol::chain::{Action, Transaction, TransactionBody};
use samara_protocol::hash::TransactionId;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::{Amount, ChainTime, Height};

use crate::world::{ChainError, ChainView};

/// What is to be signed: the chain's least fee, and nothing that the caller has not said.
pub(crate) fn body(
    chain: &dyn ChainView,
    account: PublicKey,
    nonce: u64,
    valid_until: ChainTime,
    action: Action,
) -> TransactionBody {
    let genesis = chain.genesis();
    let fee = genesis.parameters.minimum_fee;
    TransactionBody { genesis: genesis.hash(), account, nonce, fee, valid_until, action }
}

/// Hands a transfer to the chain. `nonce` is the account's next number.
///
/// # Errors
/// [`ChainError`].
pub(crate) async fn submit(
    chain: &dyn ChainView,
    from: &SecretKey,
    nonce: u64,
    to: PublicKey,
    amount: Amount,
) -> Result<TransactionId, ChainError> {
    let action = Action::Transfer { to, amount };
    let body = body(chain, from.public(), nonce, TransactionBody::ALWAYS, action);
    chain.submit(Transaction::signed(body, &[from])).await
}

/// Sends money, and returns when a block holds the transfer. `nonce` is the account's next number.
///
/// # Errors
/// [`ChainError`].
pub(crate) async fn transfer(
    chain: &dyn ChainView,
    from: &SecretKey,
    nonce: u64,
    to: PublicKey,
    amount: Amount,
) -> Result<(TransactionId, Height), ChainError> {
    let id = submit(chain, from, nonce, to, amount).await?;
    let height = chain.included(&id).await?;
    Ok((id, height))
}
