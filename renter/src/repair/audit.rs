//! Audits: random ranges of shards, read with their proofs, as far as a budget goes.
//!
//! A visit reads one random group of every shard of a slab. The journal's segments come first in each
//! round, then all other slabs, of checkpoints and of files, in the order of their random ids. A shard
//! that a host does not give, or gives with other bytes, is suspected; so is one of which a reader or an
//! uploader says so. A suspected shard is read whole a while later, and counts as lost only then.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use futures::future::join_all;
use samara_protocol::hash::{SectorRoot, SlabId};
use samara_protocol::host::message::Refusal;
use samara_protocol::journal::{HostIndex, SlabRecord};
use samara_protocol::sector::SectorSize;
use samara_protocol::units::Millis;

use super::damage::Damage;
use super::health::{is_used, record_of};
use super::options::RepairOptions;
use super::report::{AuditRow, AuditTotals};
use super::standing::Standings;
use crate::bucket::Bucket;
use crate::contract::{ContractBook, ContractError, ContractHandle};
use crate::journal::Journal;
use crate::slabs::Slabs;
use crate::transfer::{DownloadError, SlabClass};
use crate::world::random_bytes;

/// Time that a suspected shard is given, because commits may still be on their way.
const GRACE: u64 = 30_000;
/// Least time between two rounds over all slabs.
const ROUND: u64 = 3_600_000;
/// Most shards that wait for a closer look.
const SUSPECTS: usize = 4_096;
/// Failures kept for people to read.
const FAILURES: usize = 32;
/// The budget's hour, and how much of it may be used at once.
const HOUR: Millis = Millis::hours(1);
const BURST: u64 = 12;

/// Where a round is.
#[derive(Clone, Copy)]
enum Cursor {
    /// All slabs of this round were visited; it began then.
    Done(u64),
    /// Slabs of the journal from this number on.
    Segments(usize, u64),
    /// Slabs of the table above this id.
    Slabs(Bound<SlabId>, u64),
}

/// Audits slabs.
pub(super) struct Auditor {
    book: ContractBook,
    journal: Journal,
    slabs: Slabs,
    bytes: Bucket,
    requests: Bucket,
    cursor: Cursor,
    /// The hosts at the last run.
    standings: Standings,
    /// Shards to be looked at closer, with when they were first suspected.
    suspects: BTreeMap<(SlabId, HostIndex), u64>,
    totals: AuditTotals,
    failures: VecDeque<AuditRow>,
}

impl Auditor {
    pub(super) fn new(
        book: ContractBook,
        journal: Journal,
        slabs: Slabs,
        options: &RepairOptions,
    ) -> Self {
        let now = book.world().clock.now();
        let RepairOptions { audit_bytes, audit_requests, .. } = *options;
        Self {
            book,
            journal,
            slabs,
            bytes: Bucket::new(audit_bytes, HOUR, audit_bytes / BURST, now),
            requests: Bucket::new(audit_requests, HOUR, audit_requests / BURST, now),
            cursor: Cursor::Segments(0, now),
            standings: Standings::default(),
            suspects: BTreeMap::new(),
            totals: AuditTotals::default(),
            failures: VecDeque::new(),
        }
    }

    pub(super) fn totals(&self) -> AuditTotals {
        let last_failures = self.failures.iter().cloned().collect();
        AuditTotals { last_failures, ..self.totals.clone() }
    }

    fn now(&self) -> u64 {
        self.book.world().clock.now()
    }

    /// Whether the budget allows another read now.
    fn may_read(&mut self) -> bool {
        let now = self.now();
        let ready = |bucket: &mut Bucket| bucket.wait(now).is_some_and(|wait| wait.0 == 0);
        ready(&mut self.bytes) && ready(&mut self.requests)
    }

    fn pay(&mut self, requests: u64, bytes: u64) {
        self.requests.take(requests);
        self.bytes.take(bytes);
        self.totals.bytes = self.totals.bytes.saturating_add(bytes);
    }

    /// Looks closer at what is suspected, then visits one slab, as far as the budget allows; whether there
    /// may be more to do at once.
    pub(super) async fn run(&mut self, standings: &Standings, damage: &Damage) -> bool {
        if standings.has_new_contracts(&self.standings) {
            // A new contract has nothing of what the one before held: that is not to wait for an hour.
            self.cursor = Cursor::Segments(0, self.now());
        }
        self.standings = standings.clone();
        self.take_reports();
        self.confirm(standings, damage).await;
        if !self.may_read() || self.book.writer().fenced().is_some() {
            return false;
        }
        let Some(record) = self.next() else { return false };
        self.visit(&record, standings, damage).await;
        true
    }

    /// What readers and uploaders met.
    fn take_reports(&mut self) {
        for (slab, host) in self.book.reports().take_suspects() {
            if let Some(host) = self.book.index_of(&host) {
                self.suspect(slab, host);
            }
        }
    }

    fn suspect(&mut self, slab: SlabId, host: HostIndex) {
        let now = self.now();
        if self.suspects.len() < SUSPECTS {
            self.suspects.entry((slab, host)).or_insert(now);
        }
    }

    /// The next slab of the round; nothing when it is done.
    fn next(&mut self) -> Option<SlabRecord> {
        loop {
            match self.cursor {
                Cursor::Done(since) if self.now().saturating_sub(since) < ROUND => return None,
                Cursor::Done(_) => self.cursor = Cursor::Segments(0, self.now()),
                Cursor::Segments(number, since) => {
                    if let Some(record) = self.journal.segment_slabs().get(number) {
                        self.cursor = Cursor::Segments(number + 1, since);
                        return Some(record.clone());
                    }
                    self.cursor = Cursor::Slabs(Bound::Unbounded, since);
                }
                Cursor::Slabs(after, since) => {
                    let next = self.journal.read(|state| {
                        let mut slabs = state.slabs.range((after, Bound::Unbounded));
                        let used = slabs.find(|(_, slab)| is_used(state, slab));
                        used.map(|(_, slab)| slab.record.clone())
                    });
                    match next {
                        Some(record) => {
                            self.cursor = Cursor::Slabs(Bound::Excluded(record.id), since);
                            return Some(record);
                        }
                        None => {
                            self.totals.rounds += 1;
                            self.cursor = Cursor::Done(since);
                        }
                    }
                }
            }
        }
    }

    /// Reads one random group of each shard.
    async fn visit(&mut self, record: &SlabRecord, standings: &Standings, damage: &Damage) {
        self.totals.slabs += 1;
        self.totals.last = Some(self.now());
        // Also the question for the descriptor counts, so that a round over lost slabs ends some time.
        self.requests.take(1);
        let descriptor = match self.slabs.downloader(SlabClass::Data).slab_descriptor(record).await
        {
            Ok(descriptor) => descriptor,
            Err(DownloadError::NoDescriptor { .. }) => {
                return self.mark_forgotten(record, standings, damage).await;
            }
            Err(_) => return,
        };
        let column = descriptor.geometry.column();
        let group = column.group();
        let mut reads = Vec::new();
        for (index, shard) in record.hosts.iter().zip(&descriptor.shards) {
            let Some(contract) = self.book.contract(*index) else { continue };
            if !standings.of_host(*index).answers() {
                continue;
            }
            let lot = u32::from_le_bytes(random_bytes(self.book.world().random.as_ref()));
            let from = lot % column.groups().max(1) * group;
            let (root, range) = (shard.root, from..from + group);
            reads.push(async move {
                let read = match contract.check_epoch().await {
                    Ok(()) => contract.read(root, column, range).await,
                    Err(error) => Err(error),
                };
                (contract, read)
            });
        }
        self.pay(reads.len() as u64, reads.len() as u64 * u64::from(group));
        for (contract, read) in join_all(reads).await {
            match read {
                Ok(_) => {
                    self.totals.proven += 1;
                    if damage.now().reason(&record.id, contract.index()).is_some() {
                        // It may be there again, as when a disk was away: a closer look tells.
                        self.suspect(record.id, contract.index());
                    }
                }
                Err(error) if error.is_loss() => {
                    self.note(record.id, &contract, error.to_string());
                    if damage.now().reason(&record.id, contract.index()).is_none() {
                        self.suspect(record.id, contract.index());
                    }
                }
                Err(_) => self.totals.unanswered += 1,
            }
        }
    }

    /// No host has shown a slab's descriptor, which is committed with its sectors. Hosts that say so owe
    /// nothing of it, as when their contracts have ended and others were formed.
    async fn mark_forgotten(
        &mut self,
        record: &SlabRecord,
        standings: &Standings,
        damage: &Damage,
    ) {
        let asked = record.hosts.iter().filter(|index| standings.of_host(**index).answers());
        for contract in asked.filter_map(|index| self.book.contract(*index)).collect::<Vec<_>>() {
            let tags = contract.slab_tags(self.book.keys(), &record.id);
            self.requests.take(1);
            let Ok(answers) = contract.descriptors(&tags).await else { continue };
            if answers.iter().all(Option::is_none) {
                let reason = "its contract has nothing of the slab".to_owned();
                self.note(record.id, &contract, reason.clone());
                damage.mark(record.id, contract.index(), reason).await;
            }
        }
    }

    fn note(&mut self, slab: SlabId, contract: &ContractHandle, what: String) {
        self.totals.failed += 1;
        if self.failures.len() == FAILURES {
            self.failures.pop_front();
        }
        let (at, slab, host) = (self.now(), slab.to_string(), contract.host().to_string());
        self.failures.push_back(AuditRow { at, slab, host, what });
    }

    /// Reads suspected shards whole, once they had time.
    async fn confirm(&mut self, standings: &Standings, damage: &Damage) {
        let now = self.now();
        let due = self.suspects.iter().filter(|(_, since)| now.saturating_sub(**since) >= GRACE);
        let due: Vec<(SlabId, HostIndex)> = due.map(|(place, _)| *place).collect();
        for (slab, host) in due {
            if !self.may_read() {
                return;
            }
            self.suspects.remove(&(slab, host));
            let Some((_, record)) = record_of(&self.journal, &slab) else { continue };
            let shard = record.hosts.iter().position(|index| *index == host);
            let contract = self.book.contract(host).filter(|_| standings.of_host(host).answers());
            let (Some(shard), Some(contract)) = (shard, contract) else { continue };
            let downloader = self.slabs.downloader(SlabClass::Data);
            // That there is none, a visit finds out.
            let Ok(descriptor) = downloader.slab_descriptor(&record).await else { continue };
            let Some(root) = descriptor.shards.get(shard).map(|shard| shard.root) else { continue };
            let column = descriptor.geometry.column();
            if let Err(ContractError::Fenced { .. }) = contract.check_epoch().await {
                return;
            }
            self.requests.take(1);
            let place = self.bytes.line_up(column.bytes().into());
            let look = look(&contract, root, column).await;
            if matches!(look, Look::Lost { .. }) {
                // It was refused, or is no true sector.
                self.bytes.give_back(place, column.bytes().into());
            } else {
                self.totals.bytes = self.totals.bytes.saturating_add(column.bytes().into());
            }
            match look {
                Look::Unknown => self.suspect(slab, host),
                // A reader has met again what is known and counted.
                Look::Lost { .. } if damage.now().reason(&slab, host).is_some() => {}
                Look::Lost { reason, signed } => {
                    if signed {
                        contract.link().reports().lost_sector(&contract.host(), &reason);
                    }
                    self.note(slab, &contract, reason.clone());
                    damage.mark(slab, host, reason).await;
                }
                Look::There => drop(damage.forget(&[(slab, host)]).await),
            }
        }
    }
}

/// A whole sector looked at.
enum Look {
    /// It was read.
    There,
    /// Its host says that it does not have it, or shows it.
    Lost {
        reason: String,
        /// Whether the host had signed for it; a commit may never have reached it.
        signed: bool,
    },
    /// There was no answer.
    Unknown,
}

async fn look(contract: &ContractHandle, root: SectorRoot, size: SectorSize) -> Look {
    let Err(error) = contract.read(root, size, 0..size.bytes()).await else { return Look::There };
    if !error.is_loss() {
        return Look::Unknown;
    }
    let forgotten =
        matches!(&error, ContractError::Refused { refusal: Refusal::UnknownContract(_), .. });
    let signed = if forgotten {
        contract.revision().revision.number > 0
    } else {
        contract.owes(&root).await.unwrap_or_default()
    };
    let reason =
        if signed { error.to_string() } else { format!("it was never stored there: {error}") };
    Look::Lost { reason, signed }
}
