//! One slab to its hosts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samara_protocol::hash::SlabId;
use samara_protocol::journal::{HostIndex, SlabRecord};
use samara_protocol::slab::{
    DescriptorError, Geometry, GeometryError, SealedShard, SlabBuffer, SlabError, SlabSealer,
};
use samara_protocol::units::Epoch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::choice::order;
use super::flight::Flight;
use super::options::{Redundancy, SlabClass, TransferOptions};
use super::pipeline::SlabPipeline;
use crate::contract::{ContractBook, ContractError};
use crate::world::{World, compute, random_bytes};

/// Bytes of one permit of the budget.
const UNIT: u64 = 4 << 10;
/// Buffers of each kind kept for the next slabs: two in flight and one being filled.
const POOLED: usize = 3;

/// Why a slab was not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UploadError {
    /// Too few live contracts.
    #[error(
        "{live} live contracts are too few for {data} data shards: at least {needed} are needed; \
        raise the allowance, or lower its redundancy"
    )]
    TooFewContracts {
        /// Live contracts.
        live: usize,
        /// Data shards, k.
        data: u8,
        /// k + 1.
        needed: usize,
    },
    /// Too few hosts took their shards.
    #[error("slab {slab} reached {reached} hosts, {needed} are needed; failed: {}", list_failures(.failures))]
    TooFewHosts {
        /// The slab; its id is not used again.
        slab: SlabId,
        /// Hosts that took theirs.
        reached: usize,
        /// Hosts needed before it can be acknowledged.
        needed: usize,
        /// Each failure; names its host.
        failures: Vec<ContractError>,
    },
    /// Another node writes for these words now.
    #[error("another node has taken over with epoch {promised}; nothing more is stored from here")]
    Fenced {
        /// The other node's epoch.
        promised: Epoch,
    },
    /// More bytes than the largest slab takes.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The slab could not be sealed.
    #[error(transparent)]
    Slab(#[from] SlabError),
    /// The slab could not be described.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The source of the bytes failed.
    #[error(transparent)]
    File(#[from] crate::world::FileError),
    /// The node is shutting down.
    #[error("the upload was abandoned: the node is stopping")]
    Stopped,
}

fn list_failures(failures: &[ContractError]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// How far a slab's commits are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Hosts that have committed, ordered.
    pub committed: Vec<HostIndex>,
    /// Hosts of the placement that failed, ordered: work for repair.
    pub failed: Vec<HostIndex>,
}

/// Follows a slab's commits after its acknowledgement.
#[derive(Clone, Debug)]
pub struct Settled(pub(super) watch::Receiver<(Settlement, bool)>);

impl Settled {
    /// How far it is now.
    #[must_use]
    pub fn now(&self) -> Settlement {
        self.0.borrow().0.clone()
    }

    /// Waits until every host has committed or failed.
    pub async fn wait(mut self) -> Settlement {
        // An error means that the task was stopped with the node: what is known is the answer.
        let _ = self.0.wait_for(|(_, done)| *done).await;
        self.now()
    }
}

/// A slab that enough hosts have committed.
#[derive(Clone, Debug)]
pub struct StoredSlab {
    /// What the journal keeps of it.
    pub record: SlabRecord,
    /// Plaintext bytes.
    pub length: u32,
    /// Hosts that have committed, and the rest on its way.
    pub settled: Settled,
}

/// Stores slabs. A cheap clone; all clones share one byte budget and one pool of buffers.
#[derive(Clone)]
pub struct Uploader(Arc<Inner>);

struct Inner {
    book: ContractBook,
    options: Mutex<TransferOptions>,
    budget: Budget,
    pool: Arc<Pool>,
}

/// The byte budget, in units of [`UNIT`].
struct Budget {
    permits: Arc<Semaphore>,
    units: u32,
}

/// Buffers for the next slabs.
#[derive(Default)]
struct Pool {
    columns: Mutex<Vec<SlabBuffer>>,
    plain: Mutex<Vec<Vec<u8>>>,
}

impl Uploader {
    /// An uploader over the live contracts of a book.
    #[must_use]
    pub fn new(book: ContractBook, options: TransferOptions) -> Self {
        let units = u32::try_from(options.upload_budget / UNIT).unwrap_or(u32::MAX / 4).max(1);
        let permits = Arc::new(Semaphore::new(units as usize));
        let budget = Budget { permits, units };
        let pool = Arc::default();
        Self(Arc::new(Inner { book, options: Mutex::new(options), budget, pool }))
    }

    /// The settings of this moment.
    #[must_use]
    pub fn options(&self) -> TransferOptions {
        *lock(&self.0.options)
    }

    /// Other settings for the slabs to come; the byte budget stays as it was.
    pub fn configure(&self, options: TransferOptions) {
        *lock(&self.0.options) = options;
    }

    /// Bytes of the budget that are free now.
    #[must_use]
    pub fn budget_left(&self) -> u64 {
        self.0.budget.permits.available_permits() as u64 * UNIT
    }

    /// Plaintext bytes of the largest slab of a class with the contracts of this moment.
    ///
    /// # Errors
    /// [`UploadError::TooFewContracts`].
    pub fn capacity(&self, class: SlabClass) -> Result<u32, UploadError> {
        let options = self.options();
        let redundancy = self.redundancy(&options, class, self.0.book.live().len())?;
        let column = options.maximum_column;
        let frame = options.frame.min(column.bytes());
        let geometry = Geometry::new(redundancy.data, redundancy.total, column, frame)?;
        Ok(u32::try_from(geometry.capacity()).unwrap_or(u32::MAX))
    }

    /// Seals, encodes and stores one slab; returns when enough hosts have committed it. The rest goes
    /// on in the background.
    ///
    /// # Errors
    /// [`UploadError`]; what was stored of a failed slab is dropped by its hosts in time.
    pub async fn upload_slab(
        &self,
        plaintext: Vec<u8>,
        class: SlabClass,
    ) -> Result<StoredSlab, UploadError> {
        let options = self.options();
        let world = self.0.book.world();
        // Drawn for this attempt alone: its key seals nothing else, whatever becomes of it.
        let slab = SlabId(random_bytes(world.random.as_ref()));
        let hosts = order(self.0.book.live(), self.0.book.reports(), &slab);
        let redundancy = self.redundancy(&options, class, hosts.len())?;
        let geometry = geometry(&options, redundancy, plaintext.len() as u64)?;
        let length = u32::try_from(plaintext.len()).unwrap_or(u32::MAX);
        let permit = self.reserve(&geometry).await?;
        let (sealed, columns) = self.seal(slab, geometry, plaintext).await?;
        let book = self.0.book.clone();
        let mut flight =
            Flight::new(book, slab, redundancy, geometry, sealed, columns, hosts, permit);
        flight.store_all();
        loop {
            flight.settle_stores(world, &options).await?;
            flight.describe()?;
            if flight.settle_commits().await? {
                break;
            }
        }
        Ok(flight.acknowledge(length, &options))
    }

    /// A stream of bytes into slabs of this class.
    #[must_use]
    pub fn pipeline(&self, class: SlabClass) -> SlabPipeline {
        SlabPipeline::new(self.clone(), class)
    }

    pub(super) fn world(&self) -> &World {
        self.0.book.world()
    }

    /// An empty plaintext buffer, used before if possible.
    pub(super) fn plain_buffer(&self) -> Vec<u8> {
        lock(&self.0.pool.plain).pop().unwrap_or_default()
    }

    /// k, n and margin with so many hosts.
    fn redundancy(
        &self,
        options: &TransferOptions,
        class: SlabClass,
        live: usize,
    ) -> Result<Redundancy, UploadError> {
        let wanted = options.redundancy.for_class(class);
        let total = wanted.total.min(u8::try_from(live).unwrap_or(u8::MAX));
        // Data slabs set the bar for metadata too: without them there is nothing to name.
        if total <= options.redundancy.data {
            let data = options.redundancy.data;
            return Err(UploadError::TooFewContracts { live, data, needed: usize::from(data) + 1 });
        }
        Ok(Redundancy { total, ..wanted })
    }

    async fn reserve(&self, geometry: &Geometry) -> Result<OwnedSemaphorePermit, UploadError> {
        let bytes = u64::from(geometry.total()) * u64::from(geometry.column().bytes());
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let units = units.min(self.0.budget.units);
        let permits = self.0.budget.permits.clone();
        permits.acquire_many_owned(units).await.map_err(|_| UploadError::Stopped)
    }

    /// Seals, codes and hashes off the runtime's threads.
    async fn seal(
        &self,
        slab: SlabId,
        geometry: Geometry,
        mut plaintext: Vec<u8>,
    ) -> Result<(Vec<SealedShard>, Columns), UploadError> {
        let key = self.0.book.keys().slab(&slab);
        let pool = self.0.pool.clone();
        compute(self.0.book.world().compute.as_ref(), move || {
            let buffer = lock(&pool.columns).pop().unwrap_or_default();
            let mut columns = Columns { buffer, pool: pool.clone() };
            let sealer = SlabSealer::new(geometry);
            let sealed = sealer.seal_into(key.as_bytes(), slab, &plaintext, &mut columns.buffer)?;
            plaintext.clear();
            pool.give_plain(plaintext);
            Ok((sealed, columns))
        })
        .await
    }
}

impl Pool {
    fn give_plain(&self, buffer: Vec<u8>) {
        let mut plain = lock(&self.plain);
        if plain.len() < POOLED && buffer.capacity() > 0 {
            plain.push(buffer);
        }
    }
}

/// The n columns of a slab, given back to the pool with the last clone.
pub(super) struct Columns {
    pub(super) buffer: SlabBuffer,
    pool: Arc<Pool>,
}

impl Drop for Columns {
    fn drop(&mut self) {
        let mut pooled = lock(&self.pool.columns);
        if pooled.len() < POOLED {
            pooled.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// The smallest shape that takes so many bytes.
fn geometry(
    options: &TransferOptions,
    redundancy: Redundancy,
    length: u64,
) -> Result<Geometry, GeometryError> {
    let mut column = options.minimum_column;
    loop {
        let frame = options.frame.min(column.bytes());
        let geometry = Geometry::new(redundancy.data, redundancy.total, column, frame)?;
        match column.doubled().filter(|larger| *larger <= options.maximum_column) {
            Some(larger) if geometry.capacity() < length => column = larger,
            // The sealer refuses what even the largest does not take.
            _ => return Ok(geometry),
        }
    }
}

fn lock<T>(leaf: &Mutex<T>) -> MutexGuard<'_, T> {
    // Pools and settings are replaced whole; a poisoned lock holds one of them.
    leaf.lock().unwrap_or_else(PoisonError::into_inner)
}
