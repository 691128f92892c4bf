//! Whose the words are, when this node holds no contract of them.
//!
//! New words own nothing, so a node that starts with them does not read the chain first. A data folder
//! that was copied before its first start makes two such nodes, each with contracts and a journal of
//! its own, which no recovery could bring together. So it is with words whose contracts have all ended:
//! a node may start anew with them, and the one that had used them may come back. The chain decides:
//! before its first contract is used, and so before anything can be acknowledged, a node looks at all
//! records of its words up to that contract's block. It passes over those that a recovery on this node
//! has found, and over ended ones of its own. If the first of the rest is its own, the words are its own.
//! If not, it stops as a fenced node does. The check needs no repetition while a contract lives: the
//! other node forms later, sees this one's record, and stops.

use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::ledger::state::Contract;
use samara_protocol::units::{Epoch, Height};
use serde::{Deserialize, Serialize};

use crate::contract::{ContractBook, Contractor, ContractorError};
use crate::journal::Journal;
use crate::recovery::Recovery;
use crate::world::{Store, StoreError, Write};

const KEY: &[u8] = b"renter/lineage";
/// Counter of the epoch in which new words begin.
pub(super) const FIRST: u64 = 1;

/// What is known of the words' first use. Nothing is stored for words that were recovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Lineage {
    /// This node may use what it forms while it holds a contract.
    #[default]
    Settled,
    /// They were new here, and the chain has not been asked yet.
    New,
    /// Another node was first.
    Second {
        /// Its first contract.
        first: ContractId,
        /// The contract's block.
        height: Height,
        /// Counter of this node's epoch when it learned that: above it, a recovery has settled it.
        counter: u64,
    },
}

impl Lineage {
    /// Reads it from the renter's store, and stops a node that was not the first. A crash may have come
    /// before the journal knew that, or before the end of a recovery was noted here.
    pub(super) async fn open(book: &ContractBook, journal: &Journal) -> Result<Self, StoreError> {
        let store = book.world().store.as_ref();
        let stored = store.read(KEY).await?;
        let lineage: Self =
            stored.and_then(|bytes| encoding::decode(&bytes).ok()).unwrap_or_default();
        let counter = match lineage {
            Self::Second { counter, .. } => counter,
            Self::Settled | Self::New => FIRST,
        };
        if lineage != Self::Settled && journal.status().epoch.counter > counter {
            Self::Settled.save(store).await?;
            return Ok(Self::Settled);
        }
        lineage.stop(book, journal).await;
        Ok(lineage)
    }

    /// Fences this node if another was first.
    async fn stop(&self, book: &ContractBook, journal: &Journal) {
        let Self::Second { counter, .. } = *self else { return };
        // The other node's epoch is not on the chain. Above every one of this counter, and below those
        // of later recoveries.
        book.writer().fence(Epoch { counter, writer: [u8::MAX; 16] });
        // The owner of the journal notes it before it answers the second message, with a refusal.
        journal.refresh().await;
        let _ = journal.confirm().await;
    }

    /// Writes it down.
    pub(super) async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        let write = match self {
            Self::Settled => Write::Delete(KEY.to_vec()),
            known => Write::Put(KEY.to_vec(), encoding::encode(known)),
        };
        store.commit(vec![write]).await
    }

    /// The error that stops this node, if another was first.
    pub(super) fn refusal(&self) -> Option<ContractorError> {
        match self {
            Self::Second { first, height, .. } => {
                Some(ContractorError::NotFirst { first: *first, height: *height })
            }
            Self::Settled | Self::New => None,
        }
    }
}

/// What the check needs.
pub(super) struct Check<'a> {
    pub(super) book: &'a ContractBook,
    pub(super) contractor: &'a Contractor,
    pub(super) journal: &'a Journal,
    pub(super) recovery: &'a Recovery,
}

impl Check<'_> {
    /// Whether this node holds a contract that lives on the chain, so that nobody can have started anew
    /// with its words.
    pub(super) async fn holds_any(&self) -> Result<bool, ContractorError> {
        for held in self.book.live() {
            if self.lives(&held.id()).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Decides by the chain, which holds `contract` already, and stops this node if another was first.
    pub(super) async fn decide(&self, contract: &Contract) -> Result<Lineage, ContractorError> {
        let store = self.book.world().store.as_ref();
        let unscanned = |error: String| ContractorError::Unscanned(error);
        let records = self.recovery.records(contract.formed).await;
        let records = records.map_err(|error| unscanned(error.to_string()))?;
        let recovered = self.recovery.found().await?;
        for found in records {
            let id = found.record.contract;
            let ours = self.contractor.has_drawn(&id).await?;
            if ours && (id == contract.terms.contract || self.lives(&id).await?) {
                Lineage::Settled.save(store).await?;
                return Ok(Lineage::Settled);
            }
            if !ours && !recovered.contains(&id) {
                let counter = self.journal.status().epoch.counter.max(FIRST);
                let lineage = Lineage::Second { first: id, height: found.height, counter };
                lineage.save(store).await?;
                lineage.stop(self.book, self.journal).await;
                return Ok(lineage);
            }
        }
        Err(unscanned("this node's own contract is not among its records".into()))
    }

    async fn lives(&self, contract: &ContractId) -> Result<bool, ContractorError> {
        Ok(self.book.world().chain.contract(contract).await?.is_some())
    }
}
