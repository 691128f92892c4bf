//! One slab on its way: sectors first, then one descriptor, then commits.
//!
//! Until the descriptor is sealed a shard whose host fails goes to a spare. The descriptor then names
//! the final placement and is committed everywhere with the sectors. If too few commits succeed, failed
//! shards go to spares and a new descriptor replaces the first.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use samara_protocol::hash::{Digest, SlabId};
use samara_protocol::host::message::SealedDescriptor;
use samara_protocol::journal::{HostIndex, SlabRecord};
use samara_protocol::sector::SectorEntry;
use samara_protocol::slab::{Geometry, SealedShard, ShardDescriptor, SlabDescriptor};
use samara_protocol::units::Millis;
use tokio::sync::watch;

use super::buffers::{Columns, column};
use super::options::{Redundancy, SlabClass, TransferOptions};
use super::upload::{Settled, Settlement, StoredSlab, UploadError};
use crate::contract::{ContractBook, ContractError, ContractHandle, Queued};
use crate::garbage::UploadLease;
use crate::world::{HostCallError, World, random_bytes};

/// Waits for slow hosts after the acknowledgement, in units of the patience before it.
const LATE: u64 = 4;

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
pub(super) struct Flight {
    slab: SlabId,
    lease: UploadLease,
    class: SlabClass,
    geometry: Geometry,
    needed: usize,
    sealed: Vec<SealedShard>,
    /// Present while a sector may still have to be sent.
    columns: Option<Arc<Columns>>,
    book: ContractBook,
    placement: Vec<ContractHandle>,
    spares: VecDeque<ContractHandle>,
    progress: Vec<Progress>,
    stores: FuturesUnordered<BoxFuture<'static, Event>>,
    commits: FuturesUnordered<BoxFuture<'static, Event>>,
    failures: Vec<ContractError>,
    /// Stores that wait for the line. Meanwhile no host is late.
    queued: Queued,
    /// Digest and sealed bytes, once the placement is fixed.
    descriptor: Option<(Digest, Arc<Vec<u8>>)>,
}

impl Flight {
    pub(super) fn new(
        book: ContractBook,
        lease: UploadLease,
        (class, redundancy): (SlabClass, Redundancy),
        geometry: Geometry,
        (sealed, columns): (Vec<SealedShard>, Columns),
        hosts: Vec<ContractHandle>,
    ) -> Self {
        let total = usize::from(redundancy.total);
        let mut hosts = hosts.into_iter();
        let placement: Vec<ContractHandle> = hosts.by_ref().take(total).collect();
        let needed = usize::from(redundancy.data) + usize::from(redundancy.margin);
        Self {
            slab: lease.slab(),
            lease,
            class,
            geometry,
            needed: needed.min(total),
            sealed,
            columns: Some(Arc::new(columns)),
            book,
            progress: vec![Progress::Storing; placement.len()],
            placement,
            spares: hosts.collect(),
            stores: FuturesUnordered::new(),
            commits: FuturesUnordered::new(),
            failures: Vec::new(),
            queued: Queued::default(),
            descriptor: None,
        }
    }

    fn count(&self, states: &[Progress]) -> usize {
        self.progress.iter().filter(|progress| states.contains(progress)).count()
    }

    pub(super) fn store_all(&mut self) {
        for shard in 0..self.placement.len() {
            self.store(shard);
        }
    }

    fn store(&mut self, shard: usize) {
        let Some(columns) = &self.columns else { return };
        let (column, contract) = (column(columns, shard), self.placement[shard].clone());
        let root = self.sealed[shard].root;
        self.progress[shard] = Progress::Storing;
        let ticket = (self.class == SlabClass::Data).then(|| self.queued.ticket());
        self.stores.push(Box::pin(async move {
            let stored = match ticket {
                Some(ticket) => contract.store_in_turn(root, column, ticket).await,
                // The heads wait for it.
                None => contract.store_at_once(root, column).await,
            };
            Event::Stored(shard, stored)
        }));
    }

    fn commit(&mut self, shard: usize) {
        let Some((_, sealed)) = &self.descriptor else { return };
        let contract = self.placement[shard].clone();
        self.lease.place(contract.index(), self.sealed[shard].root);
        let entry = SectorEntry { root: self.sealed[shard].root, size: self.geometry.column() };
        let tag = contract.slab_tag(self.book.keys(), &self.slab);
        let sealed = sealed.clone();
        self.progress[shard] = Progress::Committing;
        let book = self.book.clone();
        self.commits.push(Box::pin(async move {
            let descriptor = SealedDescriptor { tag, sealed: sealed.to_vec() };
            let descriptors = vec![descriptor];
            let mut done = contract.commit(vec![entry], Vec::new(), descriptors.clone()).await;
            // A renewal in between took the stored sector and the label over.
            let successor = book.contract(contract.index()).filter(|c| c.id() != contract.id());
            if let (Err(ContractError::Refused { .. }), Some(successor)) = (&done, successor) {
                done = successor.commit(vec![entry], Vec::new(), descriptors).await;
            }
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
        self.book.reports().suspect(self.slab, error.host());
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
    pub(super) async fn settle_stores(
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
                Some(event) = next(&mut self.stores, &mut self.commits) => self.take(event)?,
                () = late => {
                    patience = None;
                    if !self.queued.any() {
                        break;
                    }
                }
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
    pub(super) fn describe(&mut self) -> Result<(), UploadError> {
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
    pub(super) async fn settle_commits(&mut self) -> Result<bool, UploadError> {
        while self.count(&[Progress::Committed]) < self.needed {
            if let Err(error) = self.check_reach(&[Progress::Failed]) {
                // Commits under the old descriptor end first; none may overtake the new one.
                while self.count(&[Progress::Committing]) > 0 {
                    let next = next(&mut self.stores, &mut self.commits).await;
                    let Some(event) = next else { break };
                    self.take(event)?;
                }
                self.descriptor = None;
                let failed = (0..self.progress.len())
                    .filter(|shard| self.progress[*shard] == Progress::Failed)
                    .collect::<Vec<_>>();
                let replaced = failed.into_iter().filter(|shard| self.replace(*shard)).count();
                return if replaced > 0 { Ok(false) } else { Err(error) };
            }
            match next(&mut self.stores, &mut self.commits).await {
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
    pub(super) fn acknowledge(mut self, length: u32, options: &TransferOptions) -> StoredSlab {
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
        let done = self.stores.is_empty() && self.commits.is_empty();
        let lease = self.lease.clone();
        let (sender, state) = watch::channel((self.settlement(), done));
        let (stop, stopped) = watch::channel(false);
        if !done {
            let world = self.book.world();
            let patience = Millis(options.store_patience.0.saturating_mul(LATE));
            let spawner = world.spawner.clone();
            let settling = Box::pin(self.settle(patience, sender, stopped));
            spawner.spawn("slab settlement", settling).detach();
        }
        StoredSlab { record, length, settled: Settled { state, stop: Arc::new(stop) }, lease }
    }

    /// Finishes what is still under way after the acknowledgement. Hosts that are late even now are
    /// given up, so that they do not hold the budget of the next slabs.
    async fn settle(
        mut self,
        patience: Millis,
        sender: watch::Sender<(Settlement, bool)>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut stop = async move {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                // Nobody can stop it any more.
                std::future::pending::<()>().await;
            }
        }
        .boxed();
        let clock = self.book.world().clock.clone();
        let mut late = Some(clock.sleep(patience));
        loop {
            let timer = async {
                match &mut late {
                    Some(timer) => timer.await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                () = &mut stop => break,
                event = next(&mut self.stores, &mut self.commits) => event,
                () = timer => {
                    late = self.queued.any().then(|| clock.sleep(patience));
                    if late.is_none() {
                        self.give_up();
                    }
                    continue;
                }
            };
            let Some(event) = event else { break };
            if self.take(event).is_err() {
                // Fenced: the other node repairs what is missing.
                break;
            }
            self.release();
            sender.send_replace((self.settlement(), false));
        }
        // Before the word goes out that all is done.
        let settlement = self.settlement();
        drop(self);
        sender.send_replace((settlement, true));
    }

    /// Stops sending to hosts that are late.
    fn give_up(&mut self) {
        self.stores.clear();
        for shard in 0..self.progress.len() {
            if self.progress[shard] == Progress::Storing {
                let error = HostCallError::TimedOut { host: self.placement[shard].host() };
                self.book.reports().failed(&self.placement[shard].host(), &error);
                self.fail(shard, error.into());
            }
        }
        self.columns = None;
    }
}

/// The next event of either kind; nothing when none is under way.
async fn next(
    stores: &mut FuturesUnordered<BoxFuture<'static, Event>>,
    commits: &mut FuturesUnordered<BoxFuture<'static, Event>>,
) -> Option<Event> {
    tokio::select! {
        biased;
        Some(event) = stores.next() => Some(event),
        Some(event) = commits.next() => Some(event),
        else => None,
    }
}

/// Binary logarithm of a power of two.
fn log2(length: u32) -> u8 {
    u8::try_from(length.trailing_zeros()).unwrap_or_default()
}
