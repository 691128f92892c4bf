//! One slab to its hosts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::host::message::SealedDescriptor;
use samara_protocol::journal::{HostIndex, SlabRecord};
use samara_protocol::sector::SectorEntry;
use samara_protocol::slab::{
    DescriptorError, Geometry, GeometryError, SealedShard, ShardDescriptor, SlabBuffer,
    SlabDescriptor, SlabError, SlabSealer,
};
use samara_protocol::units::Epoch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::choice::order;
use super::options::{Redundancy, SlabClass, TransferOptions};
use super::pipeline::SlabPipeline;
use crate::contract::{ContractBook, ContractError, ContractHandle};
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
pub struct Settled(watch::Receiver<(Settlement, bool)>);

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
        let mut flight =
            Flight::new(self, slab, redundancy, geometry, sealed, columns, hosts, permit);
        flight.store_all();
        loop {
            flight.settle_stores(world, &options).await?;
            flight.describe()?;
            if flight.settle_commits().await? {
                break;
            }
        }
        Ok(flight.acknowledge(length))
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
struct Columns {
    buffer: SlabBuffer,
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

/// Where one shard is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Storing,
    Stored,
    Committing,
    Committed,
    Failed,
}

/// What a request of a flight came to.
enum Event {
    Stored(usize, Result<(), ContractError>),
    Committed(usize, Result<(), ContractError>),
}

/// One slab on its way to its hosts.
struct Flight {
    slab: SlabId,
    geometry: Geometry,
    needed: usize,
    sealed: Vec<SealedShard>,
    /// Present while a sector may still have to be sent.
    columns: Option<(Arc<Columns>, OwnedSemaphorePermit)>,
    book: ContractBook,
    placement: Vec<ContractHandle>,
    spares: VecDeque<ContractHandle>,
    progress: Vec<Progress>,
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    failures: Vec<ContractError>,
    /// Digest and sealed bytes, once the placement is fixed.
    descriptor: Option<(Digest, Arc<Vec<u8>>)>,
}

impl Flight {
    #[expect(clippy::too_many_arguments, reason = "one caller, which has just made all of them")]
    fn new(
        uploader: &Uploader,
        slab: SlabId,
        redundancy: Redundancy,
        geometry: Geometry,
        sealed: Vec<SealedShard>,
        columns: Columns,
        hosts: Vec<ContractHandle>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let total = usize::from(redundancy.total);
        let mut hosts = hosts.into_iter();
        let placement: Vec<ContractHandle> = hosts.by_ref().take(total).collect();
        let needed = usize::from(redundancy.data) + usize::from(redundancy.margin);
        Self {
            slab,
            geometry,
            needed: needed.min(total),
            sealed,
            columns: Some((Arc::new(columns), permit)),
            book: uploader.0.book.clone(),
            progress: vec![Progress::Storing; placement.len()],
            placement,
            spares: hosts.collect(),
            work: FuturesUnordered::new(),
            failures: Vec::new(),
            descriptor: None,
        }
    }

    fn count(&self, states: &[Progress]) -> usize {
        self.progress.iter().filter(|progress| states.contains(progress)).count()
    }

    fn store_all(&mut self) {
        for shard in 0..self.placement.len() {
            self.store(shard);
        }
    }

    fn store(&mut self, shard: usize) {
        let Some((columns, _)) = &self.columns else { return };
        let (columns, contract) = (columns.clone(), self.placement[shard].clone());
        let root = self.sealed[shard].root;
        self.progress[shard] = Progress::Storing;
        self.work.push(Box::pin(async move {
            let column = columns.buffer.column(shard).unwrap_or_default();
            Event::Stored(shard, contract.store(root, column).await)
        }));
    }

    fn commit(&mut self, shard: usize) {
        let Some((_, sealed)) = &self.descriptor else { return };
        let contract = self.placement[shard].clone();
        let entry = SectorEntry { root: self.sealed[shard].root, size: self.geometry.column() };
        let tag = contract.slab_tag(self.book.keys(), &self.slab);
        let sealed = sealed.clone();
        self.progress[shard] = Progress::Committing;
        self.work.push(Box::pin(async move {
            let descriptor = SealedDescriptor { tag, sealed: sealed.to_vec() };
            let done = contract.commit(vec![entry], Vec::new(), vec![descriptor]).await;
            Event::Committed(shard, done.map(|_| ()))
        }));
    }

    /// Takes in one event. A shard whose host failed goes to a spare as long as the placement is open.
    fn take(&mut self, event: Event) -> Result<(), UploadError> {
        match event {
            Event::Stored(shard, Ok(())) => {
                self.progress[shard] = Progress::Stored;
                self.commit(shard);
            }
            Event::Committed(shard, Ok(())) => self.progress[shard] = Progress::Committed,
            Event::Stored(_, Err(ContractError::Fenced { promised, .. }))
            | Event::Committed(_, Err(ContractError::Fenced { promised, .. })) => {
                return Err(UploadError::Fenced { promised });
            }
            Event::Stored(shard, Err(error)) => {
                self.fail(shard, error);
                if self.descriptor.is_none() {
                    self.replace(shard);
                }
            }
            Event::Committed(shard, Err(error)) => self.fail(shard, error),
        }
        Ok(())
    }

    fn fail(&mut self, shard: usize, error: ContractError) {
        tracing::info!(slab = %self.slab.short(), shard, %error, "shard failed");
        self.progress[shard] = Progress::Failed;
        self.failures.push(error);
    }

    /// Sends a failed shard to a spare host; whether there is one.
    fn replace(&mut self, shard: usize) -> bool {
        let Some(spare) = self.spares.pop_front() else { return false };
        self.placement[shard] = spare;
        self.store(shard);
        true
    }

    /// Waits until the placement can be fixed: all shards stored or given up, or enough of them
    /// stored and the rest slow.
    async fn settle_stores(
        &mut self,
        world: &World,
        options: &TransferOptions,
    ) -> Result<(), UploadError> {
        let mut patience: Option<BoxFuture<'static, ()>> = None;
        while self.count(&[Progress::Storing]) > 0 {
            let stored = self.count(&[Progress::Stored, Progress::Committing, Progress::Committed]);
            if stored >= self.needed && patience.is_none() {
                patience = Some(world.clock.sleep(options.store_patience));
            }
            let late = async {
                match &mut patience {
                    Some(timer) => timer.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = self.work.next() => self.take(event)?,
                () = late => break,
            }
        }
        self.check_reach(&[Progress::Failed])
    }

    /// Whether enough shards are not in one of the `lost` states.
    fn check_reach(&self, lost: &[Progress]) -> Result<(), UploadError> {
        let reached = self.progress.len() - self.count(lost);
        if reached >= self.needed {
            return Ok(());
        }
        let (slab, needed, failures) = (self.slab, self.needed, self.failures.clone());
        Err(UploadError::TooFewHosts { slab, reached, needed, failures })
    }

    /// Fixes the placement in a sealed descriptor and starts the commits of what is stored.
    fn describe(&mut self) -> Result<(), UploadError> {
        let shards = self.sealed.iter().zip(&self.placement);
        let shards = shards
            .map(|(sealed, contract)| ShardDescriptor { root: sealed.root, host: contract.host() });
        let descriptor = SlabDescriptor::new(self.slab, self.geometry, shards.collect())?;
        let key = self.book.keys().slab(&self.slab);
        let nonce = random_bytes(self.book.world().random.as_ref());
        let sealed = descriptor.seal(key.as_bytes(), nonce);
        self.descriptor = Some((descriptor.hash(), Arc::new(sealed)));
        for shard in 0..self.progress.len() {
            // Those that committed an earlier descriptor get this one as well.
            if matches!(self.progress[shard], Progress::Stored | Progress::Committed) {
                self.commit(shard);
            }
        }
        Ok(())
    }

    /// Waits for enough commits. `false` if a failed shard went to a spare host, so that the placement
    /// has to be described again.
    async fn settle_commits(&mut self) -> Result<bool, UploadError> {
        while self.count(&[Progress::Committed]) < self.needed {
            if let Err(error) = self.check_reach(&[Progress::Failed]) {
                // Commits under the old descriptor end first; none may overtake the new one.
                while self.count(&[Progress::Committing]) > 0 {
                    let Some(event) = self.work.next().await else { break };
                    self.take(event)?;
                }
                self.descriptor = None;
                let failed = (0..self.progress.len())
                    .filter(|shard| self.progress[*shard] == Progress::Failed)
                    .collect::<Vec<_>>();
                let replaced = failed.into_iter().filter(|shard| self.replace(*shard)).count();
                return if replaced > 0 { Ok(false) } else { Err(error) };
            }
            match self.work.next().await {
                Some(event) => self.take(event)?,
                None => return Err(UploadError::Stopped),
            }
            self.release();
        }
        Ok(true)
    }

    /// Gives buffers and budget back once no sector has to be sent any more.
    fn release(&mut self) {
        if self.count(&[Progress::Committed]) >= self.needed
            && self.count(&[Progress::Storing]) == 0
        {
            self.columns = None;
        }
    }

    fn settlement(&self) -> Settlement {
        let with = |wanted: Progress| {
            let hosts = self.placement.iter().zip(&self.progress);
            let mut hosts: Vec<HostIndex> = hosts
                .filter(|(_, progress)| **progress == wanted)
                .map(|(contract, _)| contract.index())
                .collect();
            hosts.sort_unstable();
            hosts
        };
        Settlement { committed: with(Progress::Committed), failed: with(Progress::Failed) }
    }

    /// The slab is safe: lets the rest run on without its caller.
    fn acknowledge(mut self, length: u32) -> StoredSlab {
        self.release();
        let descriptor = self.descriptor.as_ref().map_or(Digest::ZERO, |(digest, _)| *digest);
        let record = SlabRecord {
            id: self.slab,
            data: self.geometry.data(),
            column: self.geometry.column().log2(),
            frame: log2(self.geometry.frame()),
            hosts: self.placement.iter().map(ContractHandle::index).collect(),
            descriptor,
        };
        let done = self.work.is_empty();
        let (sender, receiver) = watch::channel((self.settlement(), done));
        if !done {
            let spawner = self.book.world().spawner.clone();
            spawner.spawn("slab settlement", Box::pin(self.settle(sender))).detach();
        }
        StoredSlab { record, length, settled: Settled(receiver) }
    }

    /// Finishes what is still under way after the acknowledgement.
    async fn settle(mut self, sender: watch::Sender<(Settlement, bool)>) {
        while let Some(event) = self.work.next().await {
            if self.take(event).is_err() {
                // Fenced: the other node repairs what is missing.
                break;
            }
            self.release();
            sender.send_replace((self.settlement(), false));
        }
        sender.send_replace((self.settlement(), true));
    }
}

/// Binary logarithm of a power of two.
fn log2(length: u32) -> u8 {
    u8::try_from(length.trailing_zeros()).unwrap_or_default()
}
