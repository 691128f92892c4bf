//! Blocks: how they are built, checked, and when one is wanted.

use super::error::{BlockError, TransactionError};
use super::execution::{Execution, transaction_records};
use super::reader::{StateChanges, StateError, StateReader};
use crate::chain::{Block, ChainParameters, Genesis, Header, RecoveryRecord, Transaction};
use crate::encoding;
use crate::hash::{Digest, TransactionId};
use crate::units::{ChainTime, Height};

/// A block that was built, and what became of the candidates.
#[derive(Debug)]
pub struct BuiltBlock {
    /// The block.
    pub block: Block,
    /// What it changes in the state.
    pub changes: StateChanges,
    /// Candidates that are invalid now, with reasons. Those that merely found no room are neither
    /// here nor in the block.
    pub rejected: Vec<(TransactionId, TransactionError)>,
}

/// Builds the block after `parent` (nothing before the first block) from the candidates, in their
/// order, leaving out those that fail or find no room.
///
/// # Errors
/// [`BlockError::Time`] when `time` is not later than the parent's, [`BlockError::State`] when the
/// state cannot be read.
pub fn build_block<R: StateReader + ?Sized>(
    reader: &R,
    genesis: &Genesis,
    parent: Option<&Header>,
    time: ChainTime,
    candidates: impl IntoIterator<Item = Transaction>,
) -> Result<BuiltBlock, BlockError> {
    let height = next_height(parent);
    check_time(genesis, parent, height, time)?;
    let failed = |source| BlockError::State { height, source };
    let mut execution = Execution::begin(reader, genesis, parent, time).map_err(failed)?;
    let mut room = Room::of(&genesis.parameters);
    let mut transactions = Vec::new();
    let mut rejected = Vec::new();
    for transaction in candidates {
        if room.count == 0 {
            break;
        }
        let bytes = encoding::encode(&transaction).len();
        if bytes <= Transaction::MAX_BYTES && bytes > room.bytes {
            continue;
        }
        match execution.apply(&transaction) {
            Ok(()) => {
                room.bytes = room.bytes.saturating_sub(bytes);
                room.count -= 1;
                transactions.push(transaction);
            }
            Err(TransactionError::State(source)) => return Err(failed(source)),
            Err(error) => rejected.push((transaction.id(), error)),
        }
    }
    let (header, changes) = execution.finish(&transactions).map_err(failed)?;
    Ok(BuiltBlock { block: Block { header, transactions }, changes, rejected })
}

/// Checks a block against its parent by executing it, and gives what it changes. The certificate, and
/// whether the time is too far ahead, are not looked at here.
///
/// # Errors
/// [`BlockError`] for the first rule that is broken.
pub fn validate_block<R: StateReader + ?Sized>(
    reader: &R,
    genesis: &Genesis,
    parent: Option<&Header>,
    block: &Block,
) -> Result<StateChanges, BlockError> {
    let given = &block.header;
    let height = next_height(parent);
    if given.version != Header::VERSION {
        return Err(BlockError::Version { height: given.height, version: given.version });
    }
    if given.height != height {
        let parent = parent.map_or(Height(0), |parent| parent.height);
        return Err(BlockError::Height { parent, given: given.height });
    }
    check_time(genesis, parent, height, given.time)?;
    check_room(&genesis.parameters, height, &block.transactions)?;
    let failed = |source| BlockError::State { height, source };
    let mut execution = Execution::begin(reader, genesis, parent, given.time).map_err(failed)?;
    check_links(&execution, given)?;
    for (index, transaction) in block.transactions.iter().enumerate() {
        execution.apply(transaction).map_err(|error| match error {
            TransactionError::State(source) => failed(source),
            error => {
                let id = transaction.id();
                BlockError::Transaction { height, index, id, source: Box::new(error) }
            }
        })?;
    }
    let (expected, changes) = execution.finish(&block.transactions).map_err(failed)?;
    compare(&expected, given)?;
    Ok(changes)
}

/// Whether a transaction could be in the block of `height` at `time` on top of this state, alone.
/// For several of one account use [`Execution::speculate`].
///
/// # Errors
/// [`TransactionError`] for the first rule that is broken.
pub fn check_transaction<R: StateReader + ?Sized>(
    reader: &R,
    genesis: &Genesis,
    height: Height,
    time: ChainTime,
    transaction: &Transaction,
) -> Result<(), TransactionError> {
    Execution::speculate(reader, genesis, height, time)?.apply(transaction)
}

/// The recovery records that a block leaves, in the order of its transactions.
#[must_use]
pub fn records(block: &Block) -> Vec<RecoveryRecord> {
    transaction_records(&block.transactions)
}

/// Time of the earliest deadline: from then on a block should be made even without transactions.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn next_due<R: StateReader + ?Sized>(reader: &R) -> Result<Option<ChainTime>, StateError> {
    let first = reader.deadlines(ChainTime(u64::MAX), 1)?;
    Ok(first.first().map(|deadline| deadline.at))
}

/// Whether a block at `now` would have deadlines to process: periods or windows that are over, or
/// challenges that still gather seeds. The heartbeat and pending transactions are the caller's.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn wants_block<R: StateReader + ?Sized>(
    reader: &R,
    now: ChainTime,
) -> Result<bool, StateError> {
    Ok(next_due(reader)?.is_some_and(|due| due <= now))
}

/// What a block still holds.
struct Room {
    count: u32,
    bytes: usize,
}

impl Room {
    fn of(parameters: &ChainParameters) -> Self {
        let bytes = usize::try_from(parameters.block_bytes).unwrap_or(usize::MAX);
        Self { count: parameters.block_transactions, bytes }
    }
}

fn next_height(parent: Option<&Header>) -> Height {
    parent.map_or(Height(1), |parent| parent.height.next())
}

fn check_time(
    genesis: &Genesis,
    parent: Option<&Header>,
    height: Height,
    given: ChainTime,
) -> Result<(), BlockError> {
    let parent = parent.map_or(genesis.time, |parent| parent.time);
    if given > parent { Ok(()) } else { Err(BlockError::Time { height, parent, given }) }
}

fn check_room(
    parameters: &ChainParameters,
    height: Height,
    transactions: &[Transaction],
) -> Result<(), BlockError> {
    let room = Room::of(parameters);
    let (count, limit) = (transactions.len(), parameters.block_transactions);
    if u32::try_from(count).map_or(true, |count| count > room.count) {
        return Err(BlockError::TooMany { height, count, limit });
    }
    let lengths = transactions.iter().map(|transaction| encoding::encode(transaction).len());
    let bytes = lengths.fold(0usize, usize::saturating_add);
    if bytes > room.bytes {
        return Err(BlockError::TooLarge { height, bytes, limit: parameters.block_bytes });
    }
    Ok(())
}

/// What can be compared before anything is executed.
fn check_links<R: ?Sized>(execution: &Execution<'_, R>, given: &Header) -> Result<(), BlockError> {
    let height = given.height;
    if given.genesis != execution.genesis_hash {
        return Err(BlockError::WrongChain { height, genesis: given.genesis });
    }
    if given.parent != execution.parent {
        let expected = execution.parent;
        return Err(BlockError::Parent { height, expected, given: given.parent });
    }
    Ok(())
}

/// Compares every commitment of a header with what the rules give.
fn compare(expected: &Header, given: &Header) -> Result<(), BlockError> {
    let height = expected.height;
    let fields: [(&'static str, Digest, Digest); 5] = [
        ("transactions root", expected.transactions_root, given.transactions_root),
        ("records root", expected.records_root, given.records_root),
        ("validator set", expected.validators, given.validators),
        ("next validator set", expected.next_validators, given.next_validators),
        ("state root", expected.state_root, given.state_root),
    ];
    match fields.into_iter().find(|(_, expected, given)| expected != given) {
        Some((field, expected, given)) => {
            Err(BlockError::Commitment { height, field, expected, given })
        }
        None => Ok(()),
    }
}
