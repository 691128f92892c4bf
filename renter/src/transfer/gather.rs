//! One read: parts of shards from their own hosts, or rebuilt from any k others.
//!
//! Each wanted span is asked of the one host that holds it. A span whose host fails, lies or is slow
//! is rebuilt, cell by cell, from the same range of as many other shards as are needed; parts that
//! have come already count. Whichever way is complete first wins. Spans are handed out in order, each
//! as soon as it is there.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{Abortable, Aborted, BoxFuture};
use futures::stream::FuturesUnordered;
use samara_protocol::hash::SlabId;
use samara_protocol::journal::SlabRecord;
use samara_protocol::slab::{Geometry, ShardSpan, SlabDescriptor};
use samara_protocol::units::Millis;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::choice::penalty;
use super::error::DownloadError;
use super::options::{SlabClass, units};
use super::rescue::{self, Rescue};
use super::shard::Shard;
use crate::contract::{ContractBook, ContractError, Queued};
use crate::world::{World, compute};

/// Bytes that a host is given a further millisecond of patience for.
const BYTES_PER_MILLI: u32 = 16 << 10;
/// Least further wait for stragglers once half of a read has come.
const STRAGGLER: Millis = Millis(10);

/// What other reads share with this one.
#[derive(Clone)]
pub(super) struct Shared {
    /// What is read. Names do not wait for the line.
    pub(super) class: SlabClass,
    /// Room for cells that are rebuilt, in permits.
    pub(super) room: Arc<Semaphore>,
    /// The same in bytes, when nothing is rebuilt.
    pub(super) rebuild_budget: u64,
    /// Wait for a host before others are asked.
    pub(super) patience: Millis,
}

enum Outcome {
    /// A shard's own part.
    Part(usize, Range<u32>, Result<Bytes, String>),
    /// A part for a cell, unless the cell is gone.
    Help(usize, Range<u32>, Result<Result<Bytes, String>, Aborted>),
    /// The shards of a cell that were missing.
    Rebuilt(Range<u32>, Result<Vec<(usize, Bytes)>, String>),
}

/// One read under way. Dropped, it asks nobody any more.
pub(super) struct Gather<'a> {
    world: &'a World,
    slab: SlabId,
    geometry: Geometry,
    spans: &'a [ShardSpan],
    /// Spans handed out.
    given: usize,
    shards: Vec<Shard>,
    rescues: Vec<Rescue>,
    /// Comes when there is room for one more cell.
    entry: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    work: FuturesUnordered<BoxFuture<'static, Outcome>>,
    shared: Shared,
    cell: u32,
    started: u64,
    timer: BoxFuture<'static, ()>,
    hurried: bool,
    /// Requests that wait for the line. Meanwhile no host is late.
    queued: Queued,
    broken: Option<String>,
}

impl<'a> Gather<'a> {
    /// Asks for `spans`, each within one column.
    pub(super) fn new(
        book: &'a ContractBook,
        record: &SlabRecord,
        geometry: Geometry,
        descriptor: &SlabDescriptor,
        spans: &'a [ShardSpan],
        mut shared: Shared,
    ) -> Self {
        let shards = record.hosts.iter().zip(&descriptor.shards).map(|(index, shard)| {
            let health = book.reports().health(&shard.host);
            Shard::new(shard.root, book.host(*index), book.contract(*index), penalty(&health))
        });
        let longest = spans.iter().map(|s| s.range.end - s.range.start).max().unwrap_or_default();
        shared.patience.0 = shared.patience.0.saturating_add(u64::from(longest / BYTES_PER_MILLI));
        let clock = &book.world().clock;
        let mut gather = Self {
            world: book.world(),
            slab: record.id,
            geometry,
            spans,
            given: 0,
            shards: shards.collect(),
            rescues: Vec::new(),
            entry: None,
            work: FuturesUnordered::new(),
            cell: rescue::cell(&geometry, shared.rebuild_budget),
            started: clock.now(),
            timer: clock.sleep(shared.patience),
            shared,
            hurried: false,
            queued: Queued::default(),
            broken: None,
        };
        for span in spans {
            gather.ask_own(usize::from(span.shard), &span.range);
        }
        gather
    }

    /// The bytes of the next span, in order; nothing after the last. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        let Some(span) = self.spans.get(self.given) else { return Ok(None) };
        let bytes = loop {
            if let Some(bytes) = self.shards[usize::from(span.shard)].part(&span.range) {
                break bytes;
            }
            if let Some(reason) = self.broken.clone() {
                return Err(DownloadError::Malformed { slab: self.slab, reason });
            }
            self.call_for_help();
            self.hurry();
            if !self.step().await {
                return Err(self.failed());
            }
        };
        self.given += 1;
        Ok(Some(bytes))
    }

    /// Takes in what comes while the caller is busy with something else. Never ends.
    pub(super) async fn carry_on(&mut self) {
        loop {
            self.call_for_help();
            if !self.step().await {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for one outcome, or until those that have not answered are late. `false` if nothing is
    /// under way.
    async fn step(&mut self) -> bool {
        if self.work.is_empty() && self.entry.is_none() {
            return false;
        }
        let entry = async {
            match &mut self.entry {
                Some(entry) => entry.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(outcome) = self.work.next() => self.take(outcome),
            room = entry => {
                self.entry = None;
                if let Some(room) = room {
                    self.start_rescue(room);
                }
            }
            () = &mut self.timer => {
                if !self.queued.any() {
                    self.mark_slow();
                }
                self.timer = self.world.clock.sleep(self.shared.patience);
            }
        }
        true
    }

    fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Part(index, range, outcome) => {
                let shard = &mut self.shards[index];
                shard.asked_no_more(&range);
                match outcome {
                    Ok(bytes) => shard.put(range, bytes),
                    Err(reason) => shard.dead = Some(reason),
                }
            }
            Outcome::Help(_, _, Err(Aborted)) => {}
            Outcome::Help(index, range, Ok(outcome)) => {
                if let Some(rescue) = self.rescues.iter_mut().find(|r| r.range == range) {
                    rescue.take(index, outcome.as_ref().ok().cloned());
                }
                if let Err(reason) = outcome {
                    self.shards[index].dead = Some(reason);
                }
            }
            Outcome::Rebuilt(range, outcome) => {
                self.rescues.retain(|rescue| rescue.range != range);
                match outcome {
                    Ok(made) => {
                        for (index, bytes) in made {
                            self.shards[index].put(range.clone(), bytes);
                        }
                    }
                    Err(reason) => self.broken = Some(reason),
                }
            }
        }
    }

    /// Once half of the spans are there, the rest should not take much longer than they did.
    fn hurry(&mut self) {
        if !self.hurried && self.spans.len() > 1 && 2 * self.arrived() >= self.spans.len() {
            self.hurried = true;
            let passed = self.world.clock.now().saturating_sub(self.started);
            self.timer = self.world.clock.sleep(Millis(STRAGGLER.0.max(passed / 2)));
        }
    }

    /// Spans that are there.
    fn arrived(&self) -> usize {
        let came = |span: &&ShardSpan| self.shards[usize::from(span.shard)].has(&span.range);
        self.spans.iter().filter(came).count()
    }

    /// Everybody who has not answered by now lets others wait.
    fn mark_slow(&mut self) {
        for shard in &mut self.shards {
            shard.slow |= shard.owes();
        }
        for index in self.rescues.iter().flat_map(Rescue::waits_for) {
            self.shards[index].slow = true;
        }
    }

    fn ask_own(&mut self, index: usize, range: &Range<u32>) {
        let shard = &self.shards[index];
        if range.is_empty() || shard.is_asked(range) {
            return;
        }
        if let Some(request) = self.request(index, range.clone()) {
            self.shards[index].ask(range.clone());
            let range = range.clone();
            self.work.push(Box::pin(async move { Outcome::Part(index, range, request.await) }));
        }
    }

    /// A request to a shard's host; `None` if it is not asked any more.
    fn request(
        &self,
        index: usize,
        range: Range<u32>,
    ) -> Option<BoxFuture<'static, Result<Bytes, String>>> {
        let shard = &self.shards[index];
        let contract = shard.contract.clone().filter(|_| shard.is_alive())?;
        let (root, size, slab) = (shard.root, self.geometry.column(), self.slab);
        let ticket = (self.shared.class == SlabClass::Data).then(|| self.queued.ticket());
        Some(Box::pin(async move {
            let read = match ticket {
                Some(ticket) => contract.read_in_turn(root, size, range, ticket).await,
                None => contract.read_at_once(root, size, range).await,
            };
            if read.as_ref().is_err_and(ContractError::is_loss) {
                contract.link().reports().suspect(slab, &contract.host());
            }
            read.map_err(|error| error.to_string())
        }))
    }

    /// Brings the cells forward that are being rebuilt, and asks for room for the next one.
    fn call_for_help(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let mut rescues = std::mem::take(&mut self.rescues);
        rescues.retain(|rescue| {
            let enough = || self.can_rebuild(&rescue.range, Some(rescue));
            rescue.rebuilding || (!self.lacking(&rescue.range).is_empty() && enough())
        });
        for rescue in &mut rescues {
            self.ask_helpers(rescue);
            self.rebuild_if_complete(rescue);
        }
        self.rescues = rescues;
        match self.next_cell() {
            None => self.entry = None,
            Some(range) if self.entry.is_none() => {
                let all = units(self.shared.rebuild_budget);
                let permits = units(rescue::room(&self.geometry, &range)).min(all);
                let room = self.shared.room.clone();
                self.entry =
                    Some(Box::pin(async move { room.acquire_many_owned(permits).await.ok() }));
            }
            Some(_) => {}
        }
    }

    /// The next cell that its own host does not give and that nobody rebuilds yet.
    fn next_cell(&self) -> Option<Range<u32>> {
        self.spans.iter().find_map(|span| {
            let own = &self.shards[usize::from(span.shard)];
            if own.is_alive() && !own.slow {
                return None;
            }
            rescue::cells(&span.range, self.cell).find(|piece| {
                let taken = self.rescues.iter().any(|r| r.range.contains(&piece.start));
                !taken && !own.has(piece) && self.can_rebuild(piece, None)
            })
        })
    }

    fn start_rescue(&mut self, room: OwnedSemaphorePermit) {
        // Meanwhile it may have come, or another be more urgent.
        let Some(piece) = self.next_cell() else { return };
        // Others that lack a part of this cell are served in one go.
        let cell = piece.start / self.cell;
        let parts = self.spans.iter().filter_map(|span| {
            let own = &self.shards[usize::from(span.shard)];
            let of_cell =
                rescue::cells(&span.range, self.cell).find(|p| p.start / self.cell == cell)?;
            ((!own.is_alive() || own.slow) && !own.has(&of_cell)).then_some(of_cell)
        });
        let range = parts.fold(piece, |all, part| all.start.min(part.start)..all.end.max(part.end));
        self.rescues.push(Rescue::new(range, room));
    }

    /// Shards of which something wanted in a range is not there.
    fn lacking(&self, range: &Range<u32>) -> Vec<usize> {
        let lacks = |span: &&ShardSpan| {
            let wanted = span.range.start.max(range.start)..span.range.end.min(range.end);
            !wanted.is_empty() && !self.shards[usize::from(span.shard)].has(&wanted)
        };
        let mut lacking: Vec<usize> =
            self.spans.iter().filter(lacks).map(|span| usize::from(span.shard)).collect();
        lacking.sort_unstable();
        lacking.dedup();
        lacking
    }

    /// Whether a shard's bytes of a range are there, for itself or for a cell.
    fn is_given(&self, index: usize, range: &Range<u32>, rescue: Option<&Rescue>) -> bool {
        self.shards[index].has(range) || rescue.is_some_and(|rescue| rescue.part(index).is_some())
    }

    /// Whether enough shards have given a range, also for a cell, or still may.
    fn can_rebuild(&self, range: &Range<u32>, rescue: Option<&Rescue>) -> bool {
        let may =
            |index: &usize| self.shards[*index].is_alive() || self.is_given(*index, range, rescue);
        (0..self.shards.len()).filter(may).count() >= usize::from(self.geometry.data())
    }

    /// Makes sure that enough shards are asked for a cell.
    fn ask_helpers(&mut self, rescue: &mut Rescue) {
        if rescue.rebuilding {
            return;
        }
        let range = rescue.range.clone();
        let asked = |index: usize, shard: &Shard| rescue.is_asked(index) || shard.is_asked(&range);
        let given = |index: usize| self.is_given(index, &range, Some(rescue));
        let promising = |(index, shard): &(usize, &Shard)| {
            given(*index) || (shard.is_alive() && !shard.slow && asked(*index, shard))
        };
        let missing = usize::from(self.geometry.data())
            .saturating_sub(self.shards.iter().enumerate().filter(promising).count());
        let mut others: Vec<(u32, usize)> = self
            .shards
            .iter()
            .enumerate()
            .filter(|(index, shard)| shard.is_alive() && !given(*index) && !asked(*index, shard))
            .map(|(index, shard)| (shard.penalty + u32::from(shard.slow), index))
            .collect();
        others.sort_unstable();
        for (_, index) in others.into_iter().take(missing) {
            let Some(request) = self.request(index, range.clone()) else { continue };
            let (request, handle) = futures::future::abortable(request);
            rescue.ask(index, handle);
            self.work.push(help(index, range.clone(), request));
        }
    }

    /// Rebuilds a cell once k parts are there.
    fn rebuild_if_complete(&mut self, rescue: &mut Rescue) {
        if rescue.rebuilding {
            return;
        }
        let needed = usize::from(self.geometry.data());
        let given = |index: &usize| self.is_given(*index, &rescue.range, Some(rescue));
        let holders: Vec<usize> = (0..self.shards.len()).filter(given).take(needed).collect();
        if holders.len() < needed {
            return;
        }
        let mut sources: Vec<Option<Bytes>> = vec![None; self.shards.len()];
        for index in holders {
            let helped = rescue.part(index).cloned();
            sources[index] = helped.or_else(|| self.shards[index].part(&rescue.range));
        }
        // A shard that a helper gave in full is not rebuilt but taken.
        let wanted = self.lacking(&rescue.range);
        rescue.rebuilding = true;
        let (world, geometry, range) = (self.world.clone(), self.geometry, rescue.range.clone());
        self.work.push(Box::pin(async move {
            let job = move || rescue::rebuild(&geometry, sources, &wanted);
            Outcome::Rebuilt(range, compute(world.compute.as_ref(), job).await)
        }));
    }

    /// Fewer than k hosts have a span.
    fn failed(&self) -> DownloadError {
        let needed = usize::from(self.geometry.data());
        let own = |span: &ShardSpan| &self.shards[usize::from(span.shard)];
        let unserved = self.spans.iter().find(|span| !own(span).has(&span.range));
        let answered = unserved.map_or(0, |span| {
            let gave = |shard: &&Shard| shard.is_alive() || shard.has(&span.range);
            self.shards.iter().filter(gave).count()
        });
        let missing = self
            .shards
            .iter()
            .filter_map(|shard| shard.dead.clone().map(|reason| (shard.host, reason)))
            .collect();
        DownloadError::TooFewHosts { slab: self.slab, answered, needed, missing }
    }
}

fn help(
    index: usize,
    range: Range<u32>,
    request: Abortable<BoxFuture<'static, Result<Bytes, String>>>,
) -> BoxFuture<'static, Outcome> {
    Box::pin(async move { Outcome::Help(index, range, request.await) })
}
