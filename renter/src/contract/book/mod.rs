//! The table of hosts, and the live contract with each.
//!
//! Kept in memory and in the renter's store below `contract/`. All of it is a cache: the host table
//! is in the head, contracts are on the chain, revisions at the hosts.

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

pub use error::BookError;
use samara_protocol::contract::{ContractId, Revision, SignedRevision};
use samara_protocol::encoding;
use samara_protocol::hash::ContractNonce;
use samara_protocol::host::message::ContractStatus;
use samara_protocol::journal::HostIndex;
use samara_protocol::keys::tree::KeyTree;
use samara_protocol::ledger::state::Contract;
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use samara_protocol::units::Amount;

use super::budget::Budget;
use super::handle::{ContractHandle, Live};
use super::line::Line;
use super::link::ContractLink;
use super::prices::PriceLimits;
use super::purse::Purse;
use super::queue::CommitQueue;
use super::records::{
    BookSnapshot, HostRecord, HostRow, HostSnapshot, LIVE, LiveRecord, RolledBack,
};
use super::reports::{HostHealth, Reports};
use super::writer::Writer;
use crate::world::{Pages, World, Write};

const HOSTS: &[u8] = b"contract/host/";
/// The name changes with the shape of the rows: they are a cache.
const HEALTH: &[u8] = b"contract/seen/";

struct Row {
    record: HostRecord,
    live: Option<ContractHandle>,
}

/// A contract that was found on the chain and taken over.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// The contract.
    pub handle: ContractHandle,
    /// What the host has lost or hides, if it shows less than the head knew.
    pub rolled_back: Option<RolledBack>,
}

/// The table of hosts and contracts. A cheap clone.
#[derive(Clone)]
pub struct ContractBook {
    inner: Arc<Inner>,
    /// What transfers through this handle may spend.
    budget: Option<Budget>,
}

struct Inner {
    world: World,
    keys: Arc<KeyTree>,
    writer: Writer,
    reports: Reports,
    limits: Arc<Mutex<PriceLimits>>,
    line: Line,
    table: Mutex<BTreeMap<HostIndex, Row>>,
}

impl ContractBook {
    /// Opens the table from the renter's store.
    ///
    /// # Errors
    /// [`BookError::Store`] and [`BookError::Damaged`].
    pub async fn open(world: World, keys: Arc<KeyTree>, writer: Writer) -> Result<Self, BookError> {
        let mut health = BTreeMap::new();
        for (key, value) in Pages::below(world.store.as_ref(), HEALTH).collect().await? {
            let Ok(host) = <[u8; 32]>::try_from(&key[HEALTH.len()..]) else { continue };
            health.insert(PublicKey(host), encoding::decode::<HostHealth>(&value)?);
        }
        let reports = Reports::new(world.clock.clone(), health);
        let limits = Arc::new(Mutex::new(PriceLimits::NONE));
        let line = Line::new(world.clock.clone());
        let table = Mutex::default();
        let inner = Inner { world, keys, writer, reports, limits, line, table };
        let book = Self { inner: Arc::new(inner), budget: None };
        for (key, value) in Pages::below(book.inner.world.store.as_ref(), HOSTS).collect().await? {
            let Some(index) = index_of_key(&key) else { continue };
            let record = encoding::decode::<HostRecord>(&value)?;
            book.lock().insert(index, Row { record, live: None });
        }
        for (key, value) in Pages::below(book.inner.world.store.as_ref(), LIVE).collect().await? {
            let Some(index) = index_of_key(&key) else { continue };
            let record = encoding::decode::<LiveRecord>(&value)?;
            book.attach(index, record, CommitQueue::new(), false);
        }
        Ok(book)
    }

    /// The same table, whose contracts are paid out of this budget.
    #[must_use]
    pub fn within(&self, budget: Budget) -> Self {
        Self { inner: Arc::clone(&self.inner), budget: Some(budget) }
    }

    /// A row's contract as it is given out.
    fn given(&self, row: &Row) -> Option<ContractHandle> {
        Some(row.live.as_ref()?.within(self.budget.clone()))
    }

    /// The renter's world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    /// The keys of these words.
    #[must_use]
    pub fn keys(&self) -> &Arc<KeyTree> {
        &self.inner.keys
    }

    /// Who may write.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// What was seen of hosts.
    #[must_use]
    pub fn reports(&self) -> &Reports {
        &self.inner.reports
    }

    /// Sets the highest prices that transfers may cost from now on.
    pub fn limit_prices(&self, limits: PriceLimits) {
        *lock(&self.inner.limits) = limits;
    }

    /// What sectors may take of the line to all hosts.
    pub(crate) fn line(&self) -> &Line {
        &self.inner.line
    }

    /// All hosts, ordered by number.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostRow> {
        let table = self.lock();
        let rows = table.iter().map(|(index, row)| HostRow {
            index: *index,
            host: row.record.host,
            operator: row.record.operator.clone(),
            contract: row.live.as_ref().map(ContractHandle::id),
        });
        rows.collect()
    }

    /// The number of a host.
    #[must_use]
    pub fn index_of(&self, host: &PublicKey) -> Option<HostIndex> {
        self.lock().iter().find(|(_, row)| row.record.host == *host).map(|(index, _)| *index)
    }

    /// The host with a number.
    #[must_use]
    pub fn host(&self, index: HostIndex) -> Option<PublicKey> {
        self.lock().get(&index).map(|row| row.record.host)
    }

    /// The lowest number above all that are given out.
    ///
    /// # Errors
    /// [`BookError::Full`].
    pub fn next_index(&self) -> Result<HostIndex, BookError> {
        match self.lock().last_key_value() {
            None => Ok(HostIndex(0)),
            Some((last, _)) => last.0.checked_add(1).map(HostIndex).ok_or(BookError::Full),
        }
    }

    /// Gives a host its number; again with the same number is harmless and renews the operator.
    ///
    /// # Errors
    /// [`BookError::IndexTaken`], [`BookError::Store`].
    pub async fn add_host(
        &self,
        index: HostIndex,
        host: PublicKey,
        operator: String,
    ) -> Result<(), BookError> {
        let record = {
            let table = self.lock();
            match table.get(&index) {
                Some(row) if row.record.host != host => {
                    return Err(BookError::IndexTaken { index, taken: row.record.host, host });
                }
                Some(row) => HostRecord { operator, ..row.record.clone() },
                None => HostRecord::new(host, operator),
            }
        };
        self.put_host(index, record).await
    }

    /// Notes whether a contract with a host lives that is not taken over, because the host is silent.
    ///
    /// # Errors
    /// [`BookError::Store`].
    pub async fn set_awaited(&self, index: HostIndex, awaited: bool) -> Result<(), BookError> {
        self.change_host(index, |record| record.awaited = awaited).await
    }

    /// Notes that a contract with a host was given up on the chain.
    ///
    /// # Errors
    /// [`BookError::Store`].
    pub async fn set_given_up(
        &self,
        index: HostIndex,
        contract: ContractId,
    ) -> Result<(), BookError> {
        self.change_host(index, |record| record.given_up = Some(contract)).await
    }

    async fn change_host(
        &self,
        index: HostIndex,
        change: impl FnOnce(&mut HostRecord),
    ) -> Result<(), BookError> {
        let changed = {
            let table = self.lock();
            let Some(row) = table.get(&index) else { return Ok(()) };
            let mut record = row.record.clone();
            change(&mut record);
            (record != row.record).then_some(record)
        };
        match changed {
            Some(record) => self.put_host(index, record).await,
            None => Ok(()),
        }
    }

    /// Hosts whose contract has ended on the chain, or was given up there: see
    /// [`samara_protocol::journal::quorum`].
    #[must_use]
    pub fn ended(&self) -> Vec<HostIndex> {
        let table = self.lock();
        let ended = |row: &Row| match &row.live {
            Some(live) => row.record.given_up == Some(live.id()),
            None => !row.record.awaited || row.record.given_up.is_some(),
        };
        table.iter().filter(|(_, row)| ended(row)).map(|(index, _)| *index).collect()
    }

    /// Silent hosts whose contract lives, with who runs them.
    #[must_use]
    pub fn awaited(&self) -> Vec<(HostIndex, String)> {
        let table = self.lock();
        let awaited =
            |row: &Row| row.live.is_none() && row.record.awaited && row.record.given_up.is_none();
        let rows = table.iter().filter(|(_, row)| awaited(row));
        rows.map(|(index, row)| (*index, row.record.operator.clone())).collect()
    }

    /// The live contract with a host.
    #[must_use]
    pub fn contract(&self, index: HostIndex) -> Option<ContractHandle> {
        self.lock().get(&index).and_then(|row| self.given(row))
    }

    /// All live contracts, ordered by host number.
    #[must_use]
    pub fn live(&self) -> Vec<ContractHandle> {
        self.lock().values().filter_map(|row| self.given(row)).collect()
    }

    /// A signed channel for a contract that is on the chain and may not be in the table yet.
    ///
    /// # Errors
    /// [`BookError::Foreign`].
    pub fn link(&self, contract: &Contract) -> Result<ContractLink, BookError> {
        let terms = &contract.terms;
        if self.inner.keys.contract(&terms.nonce).public() != terms.contract {
            return Err(BookError::Foreign { contract: terms.contract });
        }
        Ok(self.link_to(&terms.nonce, terms.host, contract.revision))
    }

    fn link_to(&self, nonce: &ContractNonce, host: PublicKey, formed: Revision) -> ContractLink {
        let inner = &*self.inner;
        let keys = inner.keys.clone();
        let (writer, reports) = (inner.writer.clone(), inner.reports.clone());
        ContractLink::new(inner.world.clone(), keys, writer, reports, host, *nonce, formed)
    }

    /// Puts a contract in use that was just formed, as the chain shows it.
    ///
    /// # Errors
    /// [`BookError::UnknownHost`], [`BookError::Foreign`], [`BookError::Store`].
    pub async fn formed(&self, contract: &Contract) -> Result<ContractHandle, BookError> {
        let revision = SignedRevision::formed(contract.revision);
        let labels = vec![contract.terms.contract];
        let record = LiveRecord::new(contract, revision, Amount::ZERO, labels);
        let fresh = contract.revision.number == 0 && contract.revision.size == 0;
        let commits = if fresh { CommitQueue::fresh() } else { CommitQueue::new() };
        self.install(record, commits, fresh).await
    }

    /// Puts the successor of a contract in use, as the chain shows it. The host filed descriptors
    /// under the old contract's labels, so they stay.
    ///
    /// # Errors
    /// As [`ContractBook::formed`].
    pub async fn renewed(
        &self,
        contract: &Contract,
        old: &ContractHandle,
    ) -> Result<ContractHandle, BookError> {
        let revision = SignedRevision::formed(contract.revision);
        let record = LiveRecord::new(contract, revision, Amount::ZERO, old.0.labels.clone());
        self.install(record, CommitQueue::new(), true).await
    }

    /// Takes over a contract that was found on the chain (`contract`), as its host shows it
    /// (`status`, verified again here). The host must have its number; what the head knew of the
    /// contract is compared. `earlier` are contracts of these words with the same host that have
    /// ended, latest first: it may be their successor and keep descriptors under their labels.
    ///
    /// # Errors
    /// [`BookError::UnknownHost`], [`BookError::Foreign`], [`BookError::Unsigned`],
    /// [`BookError::Store`].
    pub async fn adopt(
        &self,
        contract: &Contract,
        status: &ContractStatus,
        earlier: &[ContractId],
    ) -> Result<Adoption, BookError> {
        let terms = &contract.terms;
        let shown = status.revision;
        if !self.link(contract)?.is_signed(&shown) {
            return Err(BookError::Unsigned { contract: terms.contract });
        }
        let index =
            self.index_of(&terms.host).ok_or(BookError::UnknownHost { host: terms.host })?;
        let (known, labels) = self.known_of(index, terms.contract, earlier);
        let rolled_back = known
            .map(|known| known.revision)
            .filter(|known| known.number > shown.revision.number)
            .map(|known| RolledBack { host: terms.host, known, shown: shown.revision });
        if let Some(back) = &rolled_back {
            let reason = format!(
                "it shows revision {} after it signed revision {}",
                back.shown.number, back.known.number
            );
            self.inner.reports.false_answer(&terms.host, &reason);
        }
        let record = LiveRecord::new(contract, shown, status.voucher_total, labels);
        let handle = self.install(record, CommitQueue::new(), false).await?;
        Ok(Adoption { handle, rolled_back })
    }

    /// The newest revision of a contract that head or store knew, and its labels. None is left out,
    /// however long the line of contracts: slabs may be filed under the first of them.
    fn known_of(
        &self,
        index: HostIndex,
        contract: ContractId,
        earlier: &[ContractId],
    ) -> (Option<SignedRevision>, Vec<ContractId>) {
        let table = self.lock();
        let row = table.get(&index);
        let restored = row.and_then(|row| row.record.known.clone());
        let own = row.and_then(|row| row.live.as_ref()).map(ContractHandle::snapshot);
        let mut known = None::<SignedRevision>;
        let mut labels = Vec::new();
        for snapshot in restored.into_iter().chain(own) {
            labels.extend(snapshot.labels);
            let newer = known.is_none_or(|k| k.revision.number < snapshot.revision.revision.number);
            if snapshot.revision.revision.contract == contract && newer {
                known = Some(snapshot.revision);
            }
        }
        labels.push(contract);
        labels.extend(earlier);
        let mut seen = BTreeSet::new();
        labels.retain(|label| seen.insert(*label));
        (known, labels)
    }

    /// Forgets a contract that has ended; the host keeps its number.
    ///
    /// # Errors
    /// [`BookError::Store`].
    pub async fn retire(&self, index: HostIndex) -> Result<(), BookError> {
        self.inner.world.store.commit(vec![Write::Delete(LiveRecord::key(index))]).await?;
        if let Some(row) = self.lock().get_mut(&index) {
            row.live = None;
        }
        self.set_awaited(index, false).await
    }

    /// The whole table, for the head.
    #[must_use]
    pub fn snapshot(&self) -> BookSnapshot {
        let table = self.lock();
        let hosts = table.iter().map(|(index, row)| HostSnapshot {
            index: *index,
            host: row.record.host,
            operator: row.record.operator.clone(),
            contract: row
                .live
                .as_ref()
                .map_or_else(|| row.record.known.clone(), |live| Some(live.snapshot())),
        });
        BookSnapshot { hosts: hosts.collect() }
    }

    /// Fills the table from a head. Contracts in use stay; those that only the head knows wait for
    /// [`ContractBook::adopt`].
    ///
    /// # Errors
    /// [`BookError::IndexTaken`], [`BookError::Store`].
    pub async fn restore(&self, snapshot: &BookSnapshot) -> Result<(), BookError> {
        for host in &snapshot.hosts {
            self.add_host(host.index, host.host, host.operator.clone()).await?;
            let known = host.contract.clone();
            self.change_host(host.index, |record| record.known = known).await?;
        }
        Ok(())
    }

    /// Writes down what was seen of hosts.
    ///
    /// # Errors
    /// [`BookError::Store`].
    pub async fn save_health(&self) -> Result<(), BookError> {
        let writes = self.inner.reports.all().into_iter().map(|(host, health)| {
            Write::Put([HEALTH, host.as_bytes()].concat(), encoding::encode(&health))
        });
        Ok(self.inner.world.store.commit(writes.collect()).await?)
    }

    async fn put_host(&self, index: HostIndex, record: HostRecord) -> Result<(), BookError> {
        let key = [HOSTS, &index.0.to_be_bytes()].concat();
        self.inner.world.store.commit(vec![Write::Put(key, encoding::encode(&record))]).await?;
        let mut table = self.lock();
        match table.get_mut(&index) {
            Some(row) => row.record = record,
            None => {
                table.insert(index, Row { record, live: None });
            }
        }
        Ok(())
    }

    async fn install(
        &self,
        record: LiveRecord,
        commits: CommitQueue,
        synced: bool,
    ) -> Result<ContractHandle, BookError> {
        let terms = &record.terms;
        if self.inner.keys.contract(&record.nonce).public() != terms.contract {
            return Err(BookError::Foreign { contract: terms.contract });
        }
        let index =
            self.index_of(&terms.host).ok_or(BookError::UnknownHost { host: terms.host })?;
        let write = Write::Put(LiveRecord::key(index), record.encode());
        self.inner.world.store.commit(vec![write]).await?;
        self.attach(index, record, commits, synced)
            .ok_or(BookError::UnknownHost { host: self.host(index).unwrap_or_default() })
    }

    fn attach(
        &self,
        index: HostIndex,
        record: LiveRecord,
        commits: CommitQueue,
        synced: bool,
    ) -> Option<ContractHandle> {
        let link = self.link_to(&record.nonce, record.terms.host, record.formed);
        let mut table = self.lock();
        let row = table.get_mut(&index)?;
        let live = Arc::new(Live {
            index,
            operator: row.record.operator.clone(),
            nonce: record.nonce,
            purse: Purse::new(record.terms.funds, record.voucher_total, synced),
            terms: record.terms,
            ends: record.ends,
            labels: record.labels,
            link,
            limits: self.inner.limits.clone(),
            line: self.inner.line.clone(),
            revision: Mutex::new(record.revision),
            commits,
            prices: tokio::sync::Mutex::new(None),
            promised: Mutex::default(),
            synced: tokio::sync::Mutex::new(synced),
        });
        let handle = ContractHandle(live, None);
        row.live = Some(handle.clone());
        row.record.known = None;
        Some(handle)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostIndex, Row>> {
        // Rows are put in whole; a panicking holder leaves none half made.
        lock(&self.inner.table)
    }
}

fn index_of_key(key: &[u8]) -> Option<HostIndex> {
    let tail = key.last_chunk::<2>()?;
    Some(HostIndex(u16::from_be_bytes(*tail)))
}
