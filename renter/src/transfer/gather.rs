//! One read: parts of shards from their own hosts, or rebuilt from any k others.
//!
//! Each wanted span is asked of the one host that holds it. A span whose host fails, lies or is slow
//! is also asked, as the same range, of as many other shards as are needed to rebuild it; parts that
//! have come already count. Whichever way is complete first wins.

use std::ops::Range;

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
use crate::contract::{ContractBook, ContractHandle};
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
    parts: Vec<(Range<u32>, Vec<u8>)>,
    /// Ranges under way.
    asked: Vec<Range<u32>>,
    /// Why it is not asked any more.
    dead: Option<String>,
    /// Whether it lets others wait.
    slow: bool,
}

impl Shard {
    fn part(&self, range: &Range<u32>) -> Option<&[u8]> {
        self.parts.iter().find(|(have, _)| covers(have, range)).map(|(have, bytes)| {
            &bytes[(range.start - have.start) as usize..(range.end - have.start) as usize]
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

type Part = (usize, Range<u32>, Result<Vec<u8>, String>);

/// One read under way.
pub(super) struct Gather<'a> {
    world: &'a World,
    slab: SlabId,
    geometry: Geometry,
    spans: &'a [ShardSpan],
    shards: Vec<Shard>,
    work: FuturesUnordered<BoxFuture<'static, Part>>,
    patience: Millis,
    started: u64,
}

impl<'a> Gather<'a> {
    /// Prepares to read `spans`, each within one column.
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
        Self {
            world: book.world(),
            slab: record.id,
            geometry,
            spans,
            shards: shards.collect(),
            work: FuturesUnordered::new(),
            patience: Millis(patience.0.saturating_add(u64::from(longest / BYTES_PER_MILLI))),
            started: book.world().clock.now(),
        }
    }

    /// The bytes of each span, in order.
    pub(super) async fn run(mut self) -> Result<Vec<Vec<u8>>, DownloadError> {
        for span in self.spans {
            self.ask(usize::from(span.shard), span.range.clone());
        }
        let mut timer = self.world.clock.sleep(self.patience);
        let mut hurried = false;
        loop {
            self.ask_helpers();
            if self.is_complete() {
                return self.assemble().await;
            }
            if !hurried && self.spans.len() > 1 && 2 * self.arrived() >= self.spans.len() {
                hurried = true;
                let passed = self.world.clock.now().saturating_sub(self.started);
                timer = self.world.clock.sleep(Millis(STRAGGLER.0.max(passed / 2)));
            }
            tokio::select! {
                biased;
                part = self.work.next() => match part {
                    Some(part) => self.take(part),
                    None => return Err(self.failed()),
                },
                () = &mut timer => {
                    self.mark_slow();
                    timer = self.world.clock.sleep(self.patience);
                }
            }
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
        if shard.is_asked(&range) || shard.part(&range).is_some() {
            return;
        }
        shard.asked.push(range.clone());
        let (root, size) = (shard.root, self.geometry.column());
        self.work.push(Box::pin(async move {
            let bytes = contract.read(root, size, range.clone()).await;
            (index, range, bytes.map_err(|error| error.to_string()))
        }));
    }

    /// Spans that came from their own shard.
    fn arrived(&self) -> usize {
        let came =
            |span: &&ShardSpan| self.shards[usize::from(span.shard)].part(&span.range).is_some();
        self.spans.iter().filter(came).count()
    }

    fn sources(&self, range: &Range<u32>) -> usize {
        self.shards.iter().filter(|shard| shard.part(range).is_some()).count()
    }

    fn is_served(&self, span: &ShardSpan) -> bool {
        self.shards[usize::from(span.shard)].part(&span.range).is_some()
            || self.sources(&span.range) >= usize::from(self.geometry.data())
    }

    fn is_complete(&self) -> bool {
        self.spans.iter().all(|span| self.is_served(span))
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
                    shard.part(range).is_some()
                        || (shard.is_alive() && !shard.slow && shard.is_asked(range))
                })
                .count();
            let mut others: Vec<(u32, usize)> = (0..self.shards.len())
                .map(|index| (index, &self.shards[index]))
                .filter(|(_, shard)| {
                    shard.is_alive() && shard.part(range).is_none() && !shard.is_asked(range)
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

    /// Takes the parts that came and rebuilds the others.
    async fn assemble(self) -> Result<Vec<Vec<u8>>, DownloadError> {
        let Self { world, slab, geometry, spans, mut shards, .. } = self;
        let mut pieces: Vec<Option<Vec<u8>>> = Vec::with_capacity(spans.len());
        let mut rebuilds = Vec::new();
        for (position, span) in spans.iter().enumerate() {
            let own = usize::from(span.shard);
            if shards[own].part(&span.range).is_some() {
                pieces.push(None);
                continue;
            }
            let mut sources: Vec<Option<Vec<u8>>> = vec![None; shards.len()];
            let holders =
                (0..shards.len()).filter(|index| shards[*index].part(&span.range).is_some());
            for index in holders.take(usize::from(geometry.data())).collect::<Vec<_>>() {
                sources[index] = shards[index].part(&span.range).map(<[u8]>::to_vec);
            }
            pieces.push(None);
            rebuilds.push((position, own, sources));
        }
        if !rebuilds.is_empty() {
            let rebuilt = compute(world.compute.as_ref(), move || {
                let rebuild =
                    |(position, own, mut sources): (usize, usize, Vec<Option<Vec<u8>>>)| {
                        reconstruct(&geometry, &mut sources, &[own])
                            .map_err(|error| error.to_string())
                            .and_then(|()| sources[own].take().ok_or("nothing was rebuilt".into()))
                            .map(|bytes| (position, bytes))
                    };
                rebuilds.into_iter().map(rebuild).collect::<Result<Vec<_>, String>>()
            })
            .await
            .map_err(|reason| DownloadError::Malformed { slab, reason })?;
            for (position, bytes) in rebuilt {
                pieces[position] = Some(bytes);
            }
        }
        let taken = spans.iter().zip(pieces).map(|(span, piece)| {
            piece.or_else(|| take_part(&mut shards[usize::from(span.shard)], &span.range))
        });
        taken.collect::<Option<Vec<_>>>().ok_or_else(|| DownloadError::Malformed {
            slab,
            reason: "a part was neither read nor rebuilt".into(),
        })
    }

    /// Fewer than k hosts have a span.
    fn failed(self) -> DownloadError {
        let needed = usize::from(self.geometry.data());
        let unserved = self.spans.iter().find(|span| !self.is_served(span));
        let answered = unserved.map_or(0, |span| self.sources(&span.range));
        let missing = self
            .shards
            .into_iter()
            .filter_map(|shard| shard.dead.map(|reason| (shard.host, reason)))
            .collect();
        DownloadError::TooFewHosts { slab: self.slab, answered, needed, missing }
    }
}

/// Moves a part out where it is exactly the range, copies it where it is more.
fn take_part(shard: &mut Shard, range: &Range<u32>) -> Option<Vec<u8>> {
    match shard.parts.iter().position(|(have, _)| have == range) {
        Some(index) => Some(shard.parts.swap_remove(index).1),
        None => shard.part(range).map(<[u8]>::to_vec),
    }
}
