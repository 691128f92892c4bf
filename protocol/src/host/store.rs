//! What a host must be able to keep: the narrow store under the rules.
//!
//! Invariant I4 rests here: whatever [`HostStore::apply`] or [`HostStore::put_sector`] accepted is
//! there after `kill -9` and after power loss. The store knows nothing of the rules; it keeps rows and
//! sectors, and the [`Host`](super::Host) owns their meaning: it alone writes, and it counts which
//! sectors are still needed.

use serde::{Deserialize, Serialize};

use super::announcement::Prices;
use super::claim::EpochClaim;
use super::message::SignedSlot;
use crate::contract::{ContractId, SignedRevision, SignedVoucher};
use crate::hash::{Digest, SectorRoot, SlabTag, TransactionId};
use crate::sector::SectorEntry;
use crate::signature::PublicKey;
use crate::units::{Amount, ChainTime};

/// Why the store did not do what it was asked; what it was asked is undone or unfinished, never half
/// visible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostStoreError {
    /// No room for a sector, or for the rows that go with it.
    #[error("no room for {needed} bytes: {free} are free")]
    Full {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Disk or database failed.
    #[error("the host's store failed to {action}: {reason}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        reason: String,
    },
}

/// Room for sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes offered in all.
    pub capacity: u64,
    /// Bytes of them that are free.
    pub free: u64,
}

/// Everything that a host knows of one contract, but for its sectors, descriptors and head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractRecord {
    /// Latest revision; without signatures while it is the one that the chain formed.
    pub revision: SignedRevision,
    /// Digest of the commit that made the revision, so that a repeated one is answered again.
    pub commit: Digest,
    /// State of the head slot.
    pub slot: SignedSlot,
    /// Epochs below this one are refused; after a renewal, as claimed at the contract before.
    pub promised: EpochClaim,
    /// The highest voucher.
    pub voucher: Option<SignedVoucher>,
    /// How much of the voucher's total is used up.
    pub consumed: Amount,
    /// Sealed descriptors on file.
    pub descriptors: u64,
    /// When the last period ends, as the chain says.
    pub ends: ChainTime,
    /// When the contract was first seen to be gone from the chain.
    pub gone: Option<ChainTime>,
    /// The contract that took over its data.
    pub successor: Option<ContractId>,
    /// The contract whose data it took over.
    pub predecessor: Option<ContractId>,
}

/// A sector that was stored and is not committed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Temporary {
    /// The contract under which it was stored.
    pub contract: ContractId,
    /// The sector.
    pub entry: SectorEntry,
    /// When it was stored (last).
    pub since: ChainTime,
}

/// A formation or renewal that the host has signed and not yet seen on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// The contract to be.
    pub contract: ContractId,
    /// The transaction.
    pub transaction: TransactionId,
    /// The host's money in it.
    pub collateral: Amount,
    /// The contract that it renews.
    pub renews: Option<ContractId>,
    /// Who asked.
    pub peer: PublicKey,
    /// The account that pays.
    pub account: PublicKey,
    /// The highest of its nonces with which the contract was agreed on: once the account has used it,
    /// the agreement is on the chain or never will be.
    pub nonce: u64,
    /// Chain time until which it may reach the chain: so long its collateral is kept apart, and a
    /// contract that it renews is frozen.
    pub until: ChainTime,
}

impl Agreement {
    /// Whether it ends a contract and may still reach the chain.
    #[must_use]
    pub fn ends(&self, contract: &ContractId, now: ChainTime) -> bool {
        self.renews.as_ref() == Some(contract) && self.until > now
    }
}

/// Prices for which the host has signed a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedPrices {
    /// The prices.
    pub prices: Prices,
    /// Chain time until which they bind; nothing while they are the current ones.
    pub until: Option<ChainTime>,
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostWrite {
    /// Sets a contract's record.
    Record(ContractId, Box<ContractRecord>),
    /// Replaces the end of a contract's list of sectors.
    Tail {
        /// The contract.
        contract: ContractId,
        /// Entries before this index stay.
        from: u64,
        /// What follows them.
        entries: Vec<SectorEntry>,
    },
    /// Notes a temporary sector, or renews its time.
    Temporary(Temporary),
    /// Forgets a temporary sector.
    TemporaryGone {
        /// The contract.
        contract: ContractId,
        /// The sector.
        root: SectorRoot,
    },
    /// Files a sealed descriptor; an empty one removes the tag.
    Descriptor {
        /// The contract.
        contract: ContractId,
        /// The tag.
        tag: SlabTag,
        /// The descriptor.
        sealed: Vec<u8>,
    },
    /// Writes bytes of the head slot. The slot ends where they end; those before `offset` stay.
    Head {
        /// The contract.
        contract: ContractId,
        /// Where the bytes go: 0 to replace everything, the slot's length to append.
        offset: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Moves sectors, temporary sectors and descriptors to a renewed contract that has none yet. Records
    /// and heads stay.
    Adopt {
        /// The old contract.
        old: ContractId,
        /// Its successor.
        new: ContractId,
    },
    /// Removes every row of a contract.
    Forget(ContractId),
    /// Notes an agreement; there is one for each contract to be.
    Agreement(Box<Agreement>),
    /// Forgets an agreement.
    AgreementGone(ContractId),
    /// Replaces the list of issued prices.
    Prices(Vec<IssuedPrices>),
    /// Notes that a sector's bytes are damaged.
    Damaged(SectorRoot),
    /// A damaged sector was replaced or removed.
    Mended(SectorRoot),
}

/// What a host keeps. All calls may come from many threads at once.
pub trait HostStore: Send + Sync {
    /// Room for sectors. Space of a sector that is being written counts as taken.
    fn space(&self) -> Space;

    /// All contracts with a record, in order.
    ///
    /// # Errors
    /// [`HostStoreError::Failed`], as all reading calls.
    fn contracts(&self) -> Result<Vec<ContractId>, HostStoreError>;
    /// A contract's record.
    fn record(&self, contract: &ContractId) -> Result<Option<ContractRecord>, HostStoreError>;
    /// A contract's sectors in order.
    fn sectors(&self, contract: &ContractId) -> Result<Vec<SectorEntry>, HostStoreError>;
    /// All temporary sectors.
    fn temporaries(&self) -> Result<Vec<Temporary>, HostStoreError>;
    /// A sealed descriptor; nothing if there is none.
    fn descriptor(
        &self,
        contract: &ContractId,
        tag: &SlabTag,
    ) -> Result<Option<Vec<u8>>, HostStoreError>;
    /// The bytes of a head slot; empty if it was never written.
    fn head(&self, contract: &ContractId) -> Result<Vec<u8>, HostStoreError>;
    /// All agreements.
    fn agreements(&self) -> Result<Vec<Agreement>, HostStoreError>;
    /// The issued prices, the current ones last.
    fn prices(&self) -> Result<Vec<IssuedPrices>, HostStoreError>;
    /// Sectors known to be damaged.
    fn damaged(&self) -> Result<Vec<SectorRoot>, HostStoreError>;
    /// Every sector whose bytes are there, needed or not.
    fn stored(&self) -> Result<Vec<SectorEntry>, HostStoreError>;

    /// Stores a sector's bytes and outboard, replacing what was there. The bytes are durable when it
    /// returns; the outboard may be lost in a crash, since it can be computed again. A failure leaves
    /// what was there before, or nothing.
    ///
    /// # Errors
    /// [`HostStoreError::Full`] when no volume has room, [`HostStoreError::Failed`] otherwise.
    fn put_sector(
        &self,
        entry: &SectorEntry,
        data: &[u8],
        outboard: &[u8],
    ) -> Result<(), HostStoreError>;
    /// Bytes of a sector: fewer than asked for where the file has lost some, nothing if the sector is
    /// not there. They may be damaged; the caller checks.
    fn read_sector(
        &self,
        root: &SectorRoot,
        offset: u32,
        length: u32,
    ) -> Result<Option<Vec<u8>>, HostStoreError>;
    /// A sector's outboard as it was stored; it may be damaged.
    fn outboard(&self, root: &SectorRoot) -> Result<Option<Vec<u8>>, HostStoreError>;
    /// Removes a sector. It may come back after a crash, when [`HostStore::stored`] names it again.
    fn remove_sector(&self, root: &SectorRoot) -> Result<(), HostStoreError>;

    /// Carries out a batch in order, all or nothing. Durable when it returns, and so is every earlier
    /// [`HostStore::note`].
    ///
    /// # Errors
    /// [`HostStoreError::Failed`]; then nothing of the batch is visible, now or later.
    fn apply(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError>;
    /// As [`HostStore::apply`], but a crash may undo it: for what may be lost, as a few reads' pay.
    ///
    /// # Errors
    /// As [`HostStore::apply`].
    fn note(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError>;
}

/// A shared store is a store.
impl<S: HostStore + ?Sized> HostStore for std::sync::Arc<S> {
    fn space(&self) -> Space {
        (**self).space()
    }
    fn contracts(&self) -> Result<Vec<ContractId>, HostStoreError> {
        (**self).contracts()
    }
    fn record(&self, contract: &ContractId) -> Result<Option<ContractRecord>, HostStoreError> {
        (**self).record(contract)
    }
    fn sectors(&self, contract: &ContractId) -> Result<Vec<SectorEntry>, HostStoreError> {
        (**self).sectors(contract)
    }
    fn temporaries(&self) -> Result<Vec<Temporary>, HostStoreError> {
        (**self).temporaries()
    }
    fn descriptor(
        &self,
        contract: &ContractId,
        tag: &SlabTag,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        (**self).descriptor(contract, tag)
    }
    fn head(&self, contract: &ContractId) -> Result<Vec<u8>, HostStoreError> {
        (**self).head(contract)
    }
    fn agreements(&self) -> Result<Vec<Agreement>, HostStoreError> {
        (**self).agreements()
    }
    fn prices(&self) -> Result<Vec<IssuedPrices>, HostStoreError> {
        (**self).prices()
    }
    fn damaged(&self) -> Result<Vec<SectorRoot>, HostStoreError> {
        (**self).damaged()
    }
    fn stored(&self) -> Result<Vec<SectorEntry>, HostStoreError> {
        (**self).stored()
    }
    fn put_sector(
        &self,
        entry: &SectorEntry,
        data: &[u8],
        outboard: &[u8],
    ) -> Result<(), HostStoreError> {
        (**self).put_sector(entry, data, outboard)
    }
    fn read_sector(
        &self,
        root: &SectorRoot,
        offset: u32,
        length: u32,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        (**self).read_sector(root, offset, length)
    }
    fn outboard(&self, root: &SectorRoot) -> Result<Option<Vec<u8>>, HostStoreError> {
        (**self).outboard(root)
    }
    fn remove_sector(&self, root: &SectorRoot) -> Result<(), HostStoreError> {
        (**self).remove_sector(root)
    }
    fn apply(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError> {
        (**self).apply(writes)
    }
    fn note(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError> {
        (**self).note(writes)
    }
}
