//! A simulated host's disk, and ways to be a bad host: the simulator must find each of them.

use std::sync::Arc;

use samara_protocol::contract::ContractId;
use samara_protocol::hash::{SectorRoot, SlabTag};
use samara_protocol::host::EpochClaim;
use samara_protocol::host::memory::MemoryStore;
use samara_protocol::host::store::{
    Agreement, ContractRecord, HostStore, HostStoreError, HostWrite, IssuedPrices, Space, Temporary,
};
use samara_protocol::sector::SectorEntry;

/// Something that is broken on purpose, to show that the simulator notices: a rule by all hosts, or what
/// a renter rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// They acknowledge before they have synced.
    Unsynced,
    /// They forget which epoch they have promised, when they start.
    ForgetPromises,
    /// They show the heads of an earlier moment, more of them than may lie.
    OldHeads,
    /// They take requests of an epoch below the one that they have promised.
    LowerEpochs,
    /// A machine draws the same random bytes again each time it starts.
    StaleRandomness,
    /// Hosts of one operator say that each has its own.
    HiddenOperators,
}

/// A disk, true or sabotaged.
#[derive(Clone, Debug)]
pub(super) struct SimDisk {
    pub(super) store: Arc<MemoryStore>,
    pub(super) sabotage: Sabotage,
}

impl HostStore for SimDisk {
    fn space(&self) -> Space {
        self.store.space()
    }

    fn contracts(&self) -> Result<Vec<ContractId>, HostStoreError> {
        self.store.contracts()
    }

    fn record(&self, contract: &ContractId) -> Result<Option<ContractRecord>, HostStoreError> {
        let mut record = self.store.record(contract)?;
        let forgets = matches!(self.sabotage, Sabotage::ForgetPromises | Sabotage::LowerEpochs);
        if let Some(record) = record.as_mut().filter(|_| forgets) {
            record.promised = EpochClaim::NONE;
        }
        Ok(record)
    }

    fn sectors(&self, contract: &ContractId) -> Result<Vec<SectorEntry>, HostStoreError> {
        self.store.sectors(contract)
    }

    fn temporaries(&self) -> Result<Vec<Temporary>, HostStoreError> {
        self.store.temporaries()
    }

    fn descriptor(
        &self,
        contract: &ContractId,
        tag: &SlabTag,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        self.store.descriptor(contract, tag)
    }

    fn head(&self, contract: &ContractId) -> Result<Vec<u8>, HostStoreError> {
        self.store.head(contract)
    }

    fn agreements(&self) -> Result<Vec<Agreement>, HostStoreError> {
        self.store.agreements()
    }

    fn prices(&self) -> Result<Vec<IssuedPrices>, HostStoreError> {
        self.store.prices()
    }

    fn damaged(&self) -> Result<Vec<SectorRoot>, HostStoreError> {
        self.store.damaged()
    }

    fn stored(&self) -> Result<Vec<SectorEntry>, HostStoreError> {
        self.store.stored()
    }

    fn put_sector(
        &self,
        entry: &SectorEntry,
        data: &[u8],
        outboard: &[u8],
    ) -> Result<(), HostStoreError> {
        self.store.put_sector(entry, data, outboard)
    }

    fn read_sector(
        &self,
        root: &SectorRoot,
        offset: u32,
        length: u32,
    ) -> Result<Option<Vec<u8>>, HostStoreError> {
        self.store.read_sector(root, offset, length)
    }

    fn outboard(&self, root: &SectorRoot) -> Result<Option<Vec<u8>>, HostStoreError> {
        self.store.outboard(root)
    }

    fn remove_sector(&self, root: &SectorRoot) -> Result<(), HostStoreError> {
        self.store.remove_sector(root)
    }

    fn apply(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError> {
        match self.sabotage {
            Sabotage::Unsynced => self.store.note(writes),
            _ => self.store.apply(writes),
        }
    }

    fn note(&self, writes: Vec<HostWrite>) -> Result<(), HostStoreError> {
        self.store.note(writes)
    }
}
