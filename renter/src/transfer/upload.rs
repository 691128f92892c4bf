//! One slab to its hosts.

use std::sync::Arc;

use samara_protocol::hash::SlabId;
use samara_protocol::journal::{HostIndex, SlabRecord};
use samara_protocol::slab::{
    DescriptorError, Geometry, GeometryError, SealedShard, SlabError, SlabSealer,
};
use samara_protocol::units::{Epoch, Millis};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::buffers::{Buffers, Columns, Plaintext, largest_column};
use super::choice::order;
use super::flight::Flight;
use super::options::{Redundancy, SlabClass, TransferOptions};
use super::pipeline::SlabPipeline;
use crate::contract::{Budget, ContractBook, ContractError};
use crate::garbage::{Leases, UploadLease};
use crate::world::{World, compute, random_bytes};

/// How long plaintext waits for room to grow before it is sent as a small slab.
const FILL_PATIENCE: Millis = Millis::seconds(10);

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
pub struct Settled {
    pub(super) state: watch::Receiver<(Settlement, bool)>,
    pub(super) stop: Arc<watch::Sender<bool>>,
}

impl Settled {
    /// How far it is now.
    #[must_use]
    pub fn now(&self) -> Settlement {
        self.state.borrow().0.clone()
    }

    /// Waits until every host has committed or failed.
    pub async fn wait(mut self) -> Settlement {
        // An error means that the task was stopped with the node: what is known is the answer.
        let _ = self.state.wait_for(|(_, done)| *done).await;
        self.now()
    }

    /// Ends what is still on its way, because nobody will name the slab.
    pub(super) fn abandon(&self) {
        self.stop.send_replace(true);
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
    /// Keeps its sectors until the journal names it.
    pub lease: UploadLease,
}

/// Stores slabs. A cheap clone; all clones share one byte budget.
#[derive(Clone)]
pub struct Uploader(Arc<Inner>);

struct Inner {
    book: ContractBook,
    options: TransferOptions,
    buffers: Arc<Buffers>,
    leases: Leases,
}

impl Uploader {
    /// An uploader over the live contracts of a book.
    #[must_use]
    pub fn new(book: ContractBook, options: TransferOptions, leases: Leases) -> Self {
        let buffers = Buffers::new(&options);
        Self(Arc::new(Inner { book, options, buffers, leases }))
    }

    /// The same uploader, paid out of this budget.
    #[must_use]
    pub fn within(&self, budget: Budget) -> Self {
        let Inner { book, options, buffers, leases } = self.0.as_ref();
        Self(Arc::new(Inner {
            book: book.within(budget),
            options: *options,
            buffers: Arc::clone(buffers),
            leases: leases.clone(),
        }))
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &TransferOptions {
        &self.0.options
    }

    /// Bytes of the budget that are free now.
    #[must_use]
    pub fn budget_left(&self) -> u64 {
        self.0.buffers.left()
    }

    /// Plaintext bytes of the largest slab of a class with the contracts of this moment.
    ///
    /// # Errors
    /// [`UploadError::TooFewContracts`].
    pub fn capacity(&self, class: SlabClass) -> Result<u32, UploadError> {
        let options = self.options();
        let redundancy = self.redundancy(class, self.0.book.live().len())?;
        let column = largest_column(options, redundancy);
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
        self.upload(plaintext.into(), class).await
    }

    /// As [`Uploader::upload_slab`], with plaintext that is in the budget.
    pub(super) async fn upload(
        &self,
        plaintext: Plaintext,
        class: SlabClass,
    ) -> Result<StoredSlab, UploadError> {
        let options = self.options();
        let world = self.0.book.world();
        // Drawn for this attempt alone: its key seals nothing else, whatever becomes of it.
        let slab = SlabId(random_bytes(world.random.as_ref()));
        let lease = self.0.leases.upload(slab);
        let hosts = order(self.0.book.live(), self.0.book.reports(), &slab);
        let redundancy = self.redundancy(class, hosts.len())?;
        let geometry = geometry(options, redundancy, plaintext.bytes.len() as u64)?;
        let length = u32::try_from(plaintext.bytes.len()).unwrap_or(u32::MAX);
        let room = self.0.buffers.room(&geometry).await.map_err(|_| UploadError::Stopped)?;
        let sealed = self.seal(slab, geometry, plaintext, room).await?;
        let book = self.0.book.clone();
        let mut flight = Flight::new(book, lease, (class, redundancy), geometry, sealed, hosts);
        flight.store_all();
        loop {
            flight.settle_stores(world, options).await?;
            flight.describe()?;
            if flight.settle_commits().await? {
                break;
            }
        }
        Ok(flight.acknowledge(length, options))
    }

    /// Bytes that so much plaintext takes at all hosts together.
    ///
    /// # Errors
    /// [`UploadError::TooFewContracts`], [`UploadError::Geometry`].
    pub fn stored_bytes(&self, class: SlabClass, length: u64) -> Result<u64, UploadError> {
        let options = self.options();
        let redundancy = self.redundancy(class, self.0.book.live().len())?;
        let capacity = u64::from(self.capacity(class)?).max(1);
        let bytes = |length: u64| -> Result<u64, GeometryError> {
            let geometry = geometry(options, redundancy, length)?;
            Ok(u64::from(geometry.column().bytes()).saturating_mul(u64::from(geometry.total())))
        };
        let (whole, rest) = (length / capacity, length % capacity);
        let mut stored = 0u64;
        if whole > 0 {
            stored = bytes(capacity)?.saturating_mul(whole);
        }
        if rest > 0 {
            stored = stored.saturating_add(bytes(rest)?);
        }
        Ok(stored)
    }

    /// A stream of bytes into slabs of this class.
    #[must_use]
    pub fn pipeline(&self, class: SlabClass) -> SlabPipeline {
        SlabPipeline::new(self.clone(), class)
    }

    pub(super) fn world(&self) -> &World {
        self.0.book.world()
    }

    /// Lets plaintext grow by a granule; `false` if there is no room for a long time.
    pub(super) async fn grow(&self, plaintext: &mut Plaintext) -> Result<bool, UploadError> {
        tokio::select! {
            biased;
            more = self.0.buffers.plaintext() => {
                plaintext.extend(more.map_err(|_| UploadError::Stopped)?);
                Ok(true)
            }
            () = self.world().clock.sleep(FILL_PATIENCE) => Ok(false),
        }
    }

    /// k, n and margin with so many hosts.
    fn redundancy(&self, class: SlabClass, live: usize) -> Result<Redundancy, UploadError> {
        let options = self.options();
        let wanted = options.redundancy.for_class(class);
        let total = wanted.total.min(u8::try_from(live).unwrap_or(u8::MAX));
        // Data slabs set the bar for metadata too: without them there is nothing to name.
        if total <= options.redundancy.data {
            let data = options.redundancy.data;
            return Err(UploadError::TooFewContracts { live, data, needed: usize::from(data) + 1 });
        }
        Ok(Redundancy { total, ..wanted })
    }

    /// Seals, codes and hashes off the runtime's threads. The plaintext ends here.
    async fn seal(
        &self,
        slab: SlabId,
        geometry: Geometry,
        plaintext: Plaintext,
        room: OwnedSemaphorePermit,
    ) -> Result<(Vec<SealedShard>, Columns), UploadError> {
        let key = self.0.book.keys().slab(&slab);
        let buffers = self.0.buffers.clone();
        compute(self.0.book.world().compute.as_ref(), move || {
            let mut columns = buffers.columns(&geometry, room);
            let sealer = SlabSealer::new(geometry);
            let plain = &plaintext.bytes;
            let sealed = sealer.seal_into(key.as_bytes(), slab, plain, &mut columns.buffer)?;
            Ok((sealed, columns))
        })
        .await
    }
}

/// The smallest shape that takes so many bytes.
fn geometry(
    options: &TransferOptions,
    redundancy: Redundancy,
    length: u64,
) -> Result<Geometry, GeometryError> {
    let mut column = options.minimum_column;
    let largest = largest_column(options, redundancy);
    loop {
        let frame = options.frame.min(column.bytes());
        let geometry = Geometry::new(redundancy.data, redundancy.total, column, frame)?;
        match column.doubled().filter(|larger| *larger <= largest) {
            Some(larger) if geometry.capacity() < length => column = larger,
            // The sealer refuses what even the largest does not take.
            _ => return Ok(geometry),
        }
    }
}
