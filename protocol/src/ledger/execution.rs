//! One block as it runs: deadlines, then transactions, then the commitments.
//!
//! The only code that executes blocks. [`Execution::begin`] processes the deadlines,
//! [`Execution::apply`] runs one transaction and leaves nothing behind when it fails,
//! [`Execution::finish`] gives the header's commitments and the changes.

use super::books::Books;
use super::error::TransactionError;
use super::overlay::Overlay;
use super::reader::{StateChanges, StateError, StateReader};
use super::signers::{check_signatures, required_signers};
use super::state::{Contract, StateKey};
use crate::chain::block::transactions_root;
use crate::chain::record::records_root;
use crate::chain::{Action, Genesis, Header, RecoveryRecord, Transaction, Validator, ValidatorSet};
use crate::contract::ContractId;
use crate::contract::announcement::HostAnnouncement;
use crate::encoding;
use crate::hash::{BlockHash, Digest};
use crate::signature::PublicKey;
use crate::units::{ChainTime, Height};

/// A block that is being executed.
pub struct Execution<'a, R: ?Sized> {
    pub(super) books: Books<'a, R>,
    pub(super) genesis: &'a Genesis,
    pub(super) genesis_hash: BlockHash,
    pub(super) height: Height,
    pub(super) time: ChainTime,
    pub(super) parent: BlockHash,
    /// Time of the block before.
    pub(super) parent_time: ChainTime,
    validators: Digest,
}

impl<'a, R: StateReader + ?Sized> Execution<'a, R> {
    /// Starts the block after `parent` at `time` and processes the deadlines that are due. The caller
    /// has checked that `time` is later than the parent's.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be read.
    pub fn begin(
        reader: &'a R,
        genesis: &'a Genesis,
        parent: Option<&Header>,
        time: ChainTime,
    ) -> Result<Self, StateError> {
        let genesis_hash = genesis.hash();
        let (height, hash, before) = match parent {
            None => (Height(1), genesis_hash, genesis.time),
            Some(parent) => (parent.height.next(), parent.hash(), parent.time),
        };
        let mut execution = Self::open(reader, genesis, genesis_hash, height, time, hash)?;
        execution.parent_time = before;
        execution.process_deadlines()?;
        execution.books.keep();
        Ok(execution)
    }

    /// Starts without deadlines, to try transactions on the state as it is: for mempools, which know
    /// the next height and a likely time but are in no block yet. Several transactions of one account
    /// can be tried one after another.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be read.
    pub fn speculate(
        reader: &'a R,
        genesis: &'a Genesis,
        height: Height,
        time: ChainTime,
    ) -> Result<Self, StateError> {
        let hash = genesis.hash();
        Self::open(reader, genesis, hash, height, time, BlockHash::default())
    }

    fn open(
        reader: &'a R,
        genesis: &'a Genesis,
        genesis_hash: BlockHash,
        height: Height,
        time: ChainTime,
        parent: BlockHash,
    ) -> Result<Self, StateError> {
        let books = Books::open(reader)?;
        let validators: ValidatorSet = books.overlay.expect(&StateKey::Validators)?;
        let validators = validators.hash();
        let parent_time = time;
        Ok(Self { books, genesis, genesis_hash, height, time, parent, parent_time, validators })
    }

    /// Runs one transaction. When it fails, the execution is as it was before.
    ///
    /// # Errors
    /// [`TransactionError`] for the first rule that is broken.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), TransactionError> {
        let result = self.run(transaction);
        match result {
            Ok(()) => self.books.keep(),
            Err(_) => self.books.discard(),
        }
        result
    }

    /// Ends the block: its header, and what it changes.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be read or money does not add up.
    pub fn finish(
        self,
        transactions: &[Transaction],
    ) -> Result<(Header, StateChanges), StateError> {
        let overlay: Overlay<'_, R> = self.books.close()?;
        let next: ValidatorSet = overlay.expect(&StateKey::Validators)?;
        let changes = overlay.into_changes(self.height)?;
        let header = Header {
            version: Header::VERSION,
            genesis: self.genesis_hash,
            height: self.height,
            time: self.time,
            parent: self.parent,
            transactions_root: transactions_root(transactions),
            state_root: changes.root,
            records_root: records_root(&transaction_records(transactions)),
            validators: self.validators,
            next_validators: next.hash(),
        };
        Ok((header, changes))
    }

    fn run(&mut self, transaction: &Transaction) -> Result<(), TransactionError> {
        let body = &transaction.body;
        if body.genesis != self.genesis_hash {
            return Err(TransactionError::WrongChain(body.genesis));
        }
        if self.time > body.valid_until {
            let (until, now) = (body.valid_until, self.time);
            return Err(TransactionError::Expired { until, now });
        }
        let minimum = self.genesis.parameters.minimum_fee;
        if body.fee < minimum {
            return Err(TransactionError::FeeTooLow { fee: body.fee, minimum });
        }
        let bytes = encoding::encode(transaction).len();
        if bytes > Transaction::MAX_BYTES {
            return Err(TransactionError::TooLarge(bytes));
        }
        // Money and nonce first: they are cheaper to look at than signatures.
        self.books.charge(&body.account, body.nonce, body.fee)?;
        self.check_signatures(transaction)?;
        self.act(body.account, &body.action)
    }

    fn act(&mut self, account: PublicKey, action: &Action) -> Result<(), TransactionError> {
        match action {
            Action::Transfer { to, amount } => self.books.transfer(&account, to, *amount),
            Action::AnnounceHost(announcement) => self.announce(account, announcement),
            Action::FormContract(terms) => self.form(account, terms),
            Action::UpdateContract { contract, revision, voucher } => {
                self.update(contract, revision.as_ref(), voucher.as_ref())
            }
            Action::RenewContract { old, last, voucher, settlement, terms } => {
                self.renew(account, old, last, voucher.as_ref(), *settlement, terms)
            }
            Action::ProveStorage { contract, period, voucher, proof } => {
                self.prove_storage(account, contract, *period, voucher.as_ref(), proof)
            }
            Action::CloseContract { contract, voucher, settlement } => {
                self.close_contract(contract, voucher.as_ref(), *settlement)
            }
            Action::ChangeValidators { current, validators } => {
                self.change_validators(current, validators)
            }
        }
    }

    fn check_signatures(&self, transaction: &Transaction) -> Result<(), TransactionError> {
        let body = &transaction.body;
        let host_of = |id: &ContractId| self.contract(id).map(|contract| contract.terms.host);
        let required = required_signers(body, host_of)?;
        let validators = match &body.action {
            Action::ChangeValidators { .. } => {
                Some(self.books.overlay.expect::<ValidatorSet>(&StateKey::Validators)?)
            }
            _ => None,
        };
        check_signatures(transaction, &required, validators.as_ref())
    }

    fn announce(
        &mut self,
        host: PublicKey,
        announcement: &HostAnnouncement,
    ) -> Result<(), TransactionError> {
        announcement.check().map_err(|source| TransactionError::Announcement { host, source })?;
        self.books.overlay.write(StateKey::Host(host), announcement);
        Ok(())
    }

    fn change_validators(
        &mut self,
        current: &Digest,
        validators: &[Validator],
    ) -> Result<(), TransactionError> {
        let present: ValidatorSet = self.books.overlay.expect(&StateKey::Validators)?;
        let present = present.hash();
        if *current != present {
            return Err(TransactionError::StaleValidators { present, given: *current });
        }
        let next = ValidatorSet::new(validators.to_vec()).map_err(TransactionError::Validators)?;
        self.books.overlay.write(StateKey::Validators, &next);
        Ok(())
    }

    pub(super) fn contract(&self, id: &ContractId) -> Result<Contract, TransactionError> {
        self.books
            .overlay
            .read(&StateKey::Contract(*id))?
            .ok_or(TransactionError::UnknownContract(*id))
    }
}

/// Recovery records of a list of transactions, in their order.
pub(super) fn transaction_records(transactions: &[Transaction]) -> Vec<RecoveryRecord> {
    transactions
        .iter()
        .filter_map(|transaction| match &transaction.body.action {
            Action::FormContract(terms) | Action::RenewContract { terms, .. } => {
                Some(terms.record())
            }
            _ => None,
        })
        .collect()
}
