//! One read: parts of shards from their own hosts, or rebuilt from any k others.
//!
//! Each wanted span is asked of the one host that holds it. A span whose host fails, lies or is slow
//! is also asked, as the same range, of as many other shards as are needed to rebuild it; parts that
//! have come already count. Whichever way is complete first wins. Spans are handed out in order, each
//! as soon as it is there.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use samara_protocol::hash::{SectorRoot, SlabId};
use samara_protocol::journal::SlabRecord;
use samara_protocol::signature::PublicKey;
use samara_protocol::slab::{Geometry, ShardSpan, SlabDescriptor, reconstruct};
use samara_protocol::units::Millis;

use super::choice::penalty;
use super::download::DownloadError;
use crate::contract::{ContractBook, ContractError, ContractHandle};
use crate::world::{World, compute};

/// Bytes that a host is given a further millisecond of patience for.
const BYTES_PER_MILLI: u32 = 16 << 10;
/// Least further wait for stragglers once half of a read has come.
const STRAGGLER: Millis = Millis(10);

/// What is known of one shard during one read.
struct Shard {
    root: SectorRoot,
    host: Option<PublicKey>,
    contract: Option<ContractHandle>,
    /// Higher is asked later.
    penalty: u32,
    /// Ranges that came, with their bytes.
    parts: Vec<(Range<u32>, Bytes)>,
    /// Ranges under way.
    asked: Vec<Range<u32>>,
    /// Why it is not asked any more.
    dead: Option<String>,
    /// Whether it lets others wait.
    slow: bool,
}

impl Shard {
    fn has(&self, range: &Range<u32>) -> bool {
        self.parts.iter().any(|(have, _)| covers(have, range))
    }

    fn part(&self, range: &Range<u32>) -> Option<Bytes> {
        self.parts.iter().find(|(have, _)| covers(have, range)).map(|(have, bytes)| {
            bytes.slice((range.start - have.start) as usize..(range.end - have.start) as usize)
        })
    }

    fn is_asked(&self, range: &Range<u32>) -> bool {
        self.asked.iter().any(|asked| covers(asked, range))
    }

    fn is_alive(&self) -> bool {
        self.dead.is_none()
    }
}

fn covers(outer: &Range<u32>, inner: &Range<u32>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

type Part = (usize, Range<u32>, Result<Bytes, String>);

/// One read under way. Dropped, it asks nobody any more.
pub(super) struct Gather<'a> {
    world: &'a World,
    slab: SlabId,
    geometry: Geometry,
    spans: &'a [ShardSpan],
    /// Spans handed out.
    given: usize,
    shards: Vec<Shard>,
    work: FuturesUnordered<BoxFuture<'static, Part>>,
    patience: Millis,
    started: u64,
    timer: BoxFuture<'static, ()>,
    hurried: bool,
}

impl<'a> Gather<'a> {
    /// Asks for `spans`, each within one column.
    pub(super) fn new(
        book: &'a ContractBook,
        record: &SlabRecord,
        geometry: Geometry,
        descriptor: &SlabDescriptor,
        spans: &'a [ShardSpan],
        patience: Millis,
    ) -> Self {
        let shards = record.hosts.iter().zip(&descriptor.shards).map(|(index, shard)| {
            let contract = book.contract(*index);
            let dead = contract.is_none().then(|| "no live contract".to_owned());
            Shard {
                root: shard.root,
                host: book.host(*index),
                penalty: penalty(&book.reports().health(&shard.host)),
                contract,
                parts: Vec::new(),
                asked: Vec::new(),
                dead,
                slow: false,
            }
        });
        let longest = spans.iter().map(|s| s.range.end - s.range.start).max().unwrap_or_default();
        let patience = Millis(patience.0.saturating_add(u64::from(longest / BYTES_PER_MILLI)));
        let clock = &book.world().clock;
        let mut gather = Self {
            world: book.world(),
            slab: record.id,
            geometry,
            spans,
            given: 0,
            shards: shards.collect(),
            work: FuturesUnordered::new(),
            patience,
            started: clock.now(),
            timer: clock.sleep(patience),
            hurried: false,
        };
        for span in spans {
            gather.ask(usize::from(span.shard), span.range.clone());
        }
        gather
    }

    /// The bytes of the next span, in order; nothing after the last. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        let Some(span) = self.spans.get(self.given) else { return Ok(None) };
        loop {
            self.ask_helpers();
            if self.is_served(span) {
                break;
            }
            self.hurry();
            if !self.step().await {
                return Err(self.failed());
            }
        }
        let own = usize::from(span.shard);
        let bytes = match self.shards[own].part(&span.range) {
            Some(bytes) => bytes,
            None => self.rebuild(own, &span.range).await?,
        };
        self.given += 1;
        Ok(Some(bytes))
    }

    /// Takes in what comes while the caller is busy with something else. Never ends.
    pub(super) async fn carry_on(&mut self) {
        loop {
            self.ask_helpers();
            if !self.step().await {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for one part, or until those that have not come are late. `false` if nobody is asked.
    async fn step(&mut self) -> bool {
        tokio::select! {
            biased;
            part = self.work.next() => match part {
                Some(part) => self.take(part),
                None => return false,
            },
            () = &mut self.timer => {
                self.mark_slow();
                self.timer = self.world.clock.sleep(self.patience);
            }
        }
        true
    }

    /// Once half of the spans are there, the rest should not take much longer than they did.
    fn hurry(&mut self) {
        if !self.hurried && self.spans.len() > 1 && 2 * self.arrived() >= self.spans.len() {
            self.hurried = true;
            let passed = self.world.clock.now().saturating_sub(self.started);
            self.timer = self.world.clock.sleep(Millis(STRAGGLER.0.max(passed / 2)));
        }
    }

    fn take(&mut self, (index, range, outcome): Part) {
        let shard = &mut self.shards[index];
        shard.asked.retain(|asked| *asked != range);
        match outcome {
            Ok(bytes) => shard.parts.push((range, bytes)),
            Err(reason) => shard.dead = Some(reason),
        }
    }

    fn ask(&mut self, index: usize, range: Range<u32>) {
        let shard = &mut self.shards[index];
        let Some(contract) = shard.contract.clone().filter(|_| shard.dead.is_none()) else {
            return;
        };
        if shard.is_asked(&range) || shard.has(&range) {
            return;
        }
        shard.asked.push(range.clone());
        let (root, size, slab) = (shard.root, self.geometry.column(), self.slab);
        self.work.push(Box::pin(async move {
            let bytes = contract.read(root, size, range.clone()).await;
            if bytes.as_ref().is_err_and(ContractError::is_loss) {
                contract.link().reports().suspect(slab, &contract.host());
            }
            (index, range, bytes.map_err(|error| error.to_string()))
        }));
    }

    /// Spans that came from their own shard.
    fn arrived(&self) -> usize {
        let came = |span: &&ShardSpan| self.shards[usize::from(span.shard)].has(&span.range);
        self.spans.iter().filter(came).count()
    }

    fn sources(&self, range: &Range<u32>) -> usize {
        self.shards.iter().filter(|shard| shard.has(range)).count()
    }

    fn is_served(&self, span: &ShardSpan) -> bool {
        self.shards[usize::from(span.shard)].has(&span.range)
            || self.sources(&span.range) >= usize::from(self.geometry.data())
    }

    /// Everybody who has not answered by now lets others wait.
    fn mark_slow(&mut self) {
        for shard in &mut self.shards {
            shard.slow |= !shard.asked.is_empty();
        }
    }

    /// For each span whose own host fails or is slow, makes sure that enough others are asked.
    fn ask_helpers(&mut self) {
        let needed = usize::from(self.geometry.data());
        for span in self.spans {
            let own = &self.shards[usize::from(span.shard)];
            if self.is_served(span) || (own.is_alive() && !own.slow) {
                continue;
            }
            let range = &span.range;
            let promising = self
                .shards
                .iter()
                .filter(|shard| {
                    shard.has(range) || (shard.is_alive() && !shard.slow && shard.is_asked(range))
                })
                .count();
            let mut others: Vec<(u32, usize)> = (0..self.shards.len())
                .map(|index| (index, &self.shards[index]))
                .filter(|(_, shard)| {
                    shard.is_alive() && !shard.has(range) && !shard.is_asked(range)
                })
                .map(|(index, shard)| (shard.penalty + u32::from(shard.slow), index))
                .collect();
            others.sort_unstable();
            let missing = needed.saturating_sub(promising);
            for (_, index) in others.into_iter().take(missing) {
                self.ask(index, range.clone());
            }
        }
    }

    /// A span from the same range of any k others.
    async fn rebuild(&mut self, own: usize, range: &Range<u32>) -> Result<Bytes, DownloadError> {
        let geometry = self.geometry;
        let mut sources: Vec<Option<Bytes>> = vec![None; self.shards.len()];
        let holders = (0..self.shards.len()).filter(|index| self.shards[*index].has(range));
        for index in holders.take(usize::from(geometry.data())) {
            sources[index] = self.shards[index].part(range);
        }
        let rebuilt = compute(self.world.compute.as_ref(), move || {
            // The code works in place.
            let mut sources: Vec<Option<Vec<u8>>> =
                sources.into_iter().map(|source| source.map(Vec::from)).collect();
            reconstruct(&geometry, &mut sources, &[own]).map_err(|error| error.to_string())?;
            sources[own].take().map(Bytes::from).ok_or_else(|| "nothing was rebuilt".to_owned())
        });
        let slab = self.slab;
        rebuilt.await.map_err(|reason| DownloadError::Malformed { slab, reason })
    }

    /// Fewer than k hosts have a span.
    fn failed(&self) -> DownloadError {
        let needed = usize::from(self.geometry.data());
        let unserved = self.spans.iter().find(|span| !self.is_served(span));
        let answered = unserved.map_or(0, |span| self.sources(&span.range));
        let missing = self
            .shards
            .iter()
            .filter_map(|shard| shard.dead.clone().map(|reason| (shard.host, reason)))
            .collect();
        DownloadError::TooFewHosts { slab: self.slab, answered, needed, missing }
    }
}
