//! The claim: every found contract is looked up on the chain, and its host asked for a promise and its
//! head.

use std::collections::BTreeMap;

use futures::{FutureExt as _, StreamExt as _};
use samara_protocol::contract::Revision;
use samara_protocol::host::message::ContractStatus;
use samara_protocol::journal::HostIndex;
use samara_protocol::journal::head::{self, Head, HeadError};
use samara_protocol::ledger::state::Contract;
use samara_protocol::recovery::FoundContract;
use samara_protocol::units::Epoch;

use super::error::RecoveryError;
use super::progress::{Progress, Step};
use super::types::{RecoveryHost, RecoveryPhase};
use super::{Context, Recovery};
use crate::contract::{ContractError, ContractLink, HeadAnswer};
use crate::progress::{Meter, Phase, Unit};
use crate::world::random_bytes;

/// Hosts asked at one time; each may answer with 1 MiB.
const PARALLEL: usize = 16;
/// Times that a higher epoch is taken when another node claims at the same time.
const ATTEMPTS: u32 = 3;
/// Ended contracts whose host is asked for a head that the live one lacks.
const EARLIER: usize = 3;

/// A found contract that lives.
pub(super) struct Live {
    pub(super) found: FoundContract,
    pub(super) contract: Contract,
    pub(super) link: ContractLink,
}

/// A host that answered.
pub(super) struct Answered {
    pub(super) live: Live,
    pub(super) status: ContractStatus,
    /// Its head, if it has one.
    pub(super) head: Option<Head>,
}

/// What the hosts said.
pub(super) struct Claim {
    pub(super) epoch: Epoch,
    pub(super) answered: Vec<Answered>,
    pub(super) silent: Vec<(FoundContract, RecoveryHost)>,
    pub(super) behind: Vec<RecoveryHost>,
}

impl Claim {
    /// The newest head: by epoch, position, and generation of its head set.
    pub(super) fn newest(&self) -> Option<&Head> {
        self.answered
            .iter()
            .filter_map(|answered| answered.head.as_ref())
            .max_by_key(|head| (head.epoch, head.point.position, head.base.head_set.generation))
    }

    /// Whether the hosts that showed a head are a read quorum of the newest head's set.
    pub(super) fn is_quorum(&self, newest: &Head) -> bool {
        let table = newest.hosts();
        let index = |answered: &Answered| {
            let host = answered.live.found.record.host;
            let at = table.iter().position(|known| *known == host)?;
            u16::try_from(at).ok().map(HostIndex)
        };
        let showed = self.answered.iter().filter(|answered| answered.head.is_some());
        let hosts: Vec<HostIndex> = showed.filter_map(index).collect();
        newest.base.head_set.is_read(&hosts)
    }

    /// Whether no head is all there ever was: every host answered, and none holds data.
    pub(super) fn is_blank(&self) -> bool {
        let blank = |answered: &Answered| {
            let formed = answered.live.contract.revision;
            answered.head.is_none()
                && formed.size == 0
                && answered.status.revision.revision.number == 0
        };
        self.silent.is_empty() && self.answered.iter().all(blank)
    }

    /// Hosts that show an older revision than a head proves that they signed.
    fn find_behind(&mut self) {
        let mut known = BTreeMap::new();
        for head in self.answered.iter().filter_map(|answered| answered.head.as_ref()) {
            for (_, revision) in &head.base.revisions {
                let newest = known.entry(revision.contract).or_insert(0);
                *newest = revision.number.max(*newest);
            }
        }
        for answered in &self.answered {
            let shown = answered.status.revision.revision;
            if let Some(newest) = known.get(&shown.contract).filter(|n| **n > shown.number) {
                let reason =
                    format!("it shows revision {} after it signed revision {newest}", shown.number);
                self.behind.push(host_row(&answered.live.found, reason));
            }
        }
    }
}

pub(super) fn host_row(found: &FoundContract, reason: impl Into<String>) -> RecoveryHost {
    RecoveryHost {
        host: found.record.host.to_string(),
        contract: found.record.contract.to_string(),
        reason: reason.into(),
    }
}

/// Contracts of these words with the same host that were formed before, latest first.
pub(super) fn earlier(found: &[FoundContract], of: &FoundContract) -> Vec<FoundContract> {
    let same = |other: &&FoundContract| {
        other.record.host == of.record.host
            && other.record.contract != of.record.contract
            && other.height <= of.height
    };
    found.iter().rev().filter(same).copied().collect()
}

/// What one host said.
enum Said {
    Head(Box<(ContractStatus, Option<Head>)>),
    Fenced(Epoch),
    Nothing(String),
}

impl Recovery {
    /// The found contracts that live on the chain.
    pub(super) async fn live(&self, found: &[FoundContract]) -> Result<Vec<Live>, RecoveryError> {
        let mut live = Vec::new();
        for found in found {
            let Some(contract) = self.world.chain.contract(&found.record.contract).await? else {
                continue;
            };
            let link = self.book.link(&contract)?;
            live.push(Live { found: *found, contract, link });
        }
        Ok(live)
    }

    /// Asks every host for its head, with a promise to a new epoch unless only reading is wanted.
    pub(super) async fn claim(
        &self,
        context: &Context<'_>,
        progress: &mut Progress,
        live: Vec<Live>,
    ) -> Result<Claim, RecoveryError> {
        progress.enter(Step::Claiming);
        progress.save(self.world.store.as_ref()).await?;
        let asked = live.len();
        let (mut highest, before) = self.ask_latest(&live).await;
        let mut attempt = 0;
        let (epoch, said) = loop {
            let epoch = if context.options.read_only {
                highest
            } else {
                self.choose_epoch(progress, highest).await?
            };
            let said = self.ask_heads(context, &progress.found, &live, epoch).await;
            let fenced = said.iter().filter_map(|said| match said {
                Said::Fenced(by) => Some(*by),
                _ => None,
            });
            match fenced.max() {
                Some(by) if !context.options.read_only => {
                    attempt += 1;
                    if attempt == ATTEMPTS {
                        return Err(RecoveryError::Outrun { by });
                    }
                    highest = highest.max(by);
                }
                _ => break (epoch, said),
            }
        };
        let mut claim =
            Claim { epoch, answered: Vec::new(), silent: Vec::new(), behind: Vec::new() };
        for ((live, said), before) in live.into_iter().zip(said).zip(before) {
            match said {
                Said::Head(answer) => {
                    let (status, head) = *answer;
                    let sequence = status.slot.state.sequence;
                    if before.is_some_and(|before| before > sequence) {
                        let reason = "it shows an older head than a moment before";
                        claim.behind.push(host_row(&live.found, reason));
                    }
                    claim.answered.push(Answered { live, status, head });
                }
                Said::Nothing(reason) => {
                    let row = host_row(&live.found, reason);
                    claim.silent.push((live.found, row));
                }
                Said::Fenced(by) => {
                    let row = host_row(&live.found, format!("it promised epoch {by}"));
                    claim.silent.push((live.found, row));
                }
            }
        }
        claim.find_behind();
        if claim.answered.is_empty() {
            let failures = claim.silent.into_iter().map(|(_, row)| row.reason).collect();
            return Err(RecoveryError::NoHostAnswers { asked, failures });
        }
        Ok(claim)
    }

    /// The claim of an earlier run if nobody has claimed since, else the next counter.
    async fn choose_epoch(
        &self,
        progress: &mut Progress,
        highest: Epoch,
    ) -> Result<Epoch, RecoveryError> {
        if let Some(claimed) = progress.claimed.filter(|claimed| *claimed >= highest) {
            return Ok(claimed);
        }
        let counter = highest.counter.saturating_add(1);
        let epoch = Epoch { counter, writer: random_bytes(self.world.random.as_ref()) };
        progress.claimed = Some(epoch);
        progress.save(self.world.store.as_ref()).await?;
        Ok(epoch)
    }

    /// The highest epoch that any host has seen, and each slot's sequence.
    async fn ask_latest(&self, live: &[Live]) -> (Epoch, Vec<Option<u64>>) {
        // Boxed, or the compiler cannot tell that the whole may move between threads.
        let calls: Vec<_> = live.iter().map(|live| live.link.latest().boxed()).collect();
        let answers: Vec<_> =
            futures::stream::iter(calls).buffered(PARALLEL).collect::<Vec<_>>().await;
        let mut highest = Epoch::default();
        let mut sequences = Vec::with_capacity(answers.len());
        for status in answers {
            let status = status.ok();
            if let Some(status) = &status {
                highest = highest
                    .max(status.promised)
                    .max(status.slot.state.epoch)
                    .max(status.revision.revision.epoch);
            }
            sequences.push(status.map(|status| status.slot.state.sequence));
        }
        (highest, sequences)
    }

    async fn ask_heads(
        &self,
        context: &Context<'_>,
        found: &[FoundContract],
        live: &[Live],
        epoch: Epoch,
    ) -> Vec<Said> {
        let now = self.world.clock.now();
        let total = Some(live.len() as u64);
        let mut meter = Meter::new(context.progress, Phase::Claiming, Unit::Hosts, total, now);
        let read_only = context.options.read_only;
        let calls: Vec<_> =
            live.iter().map(|live| self.ask_head(found, live, epoch, read_only).boxed()).collect();
        let mut answers = futures::stream::iter(calls).buffered(PARALLEL);
        let mut said = Vec::with_capacity(live.len());
        while let Some(answer) = answers.next().await {
            said.push(answer);
            meter.done = said.iter().filter(|said| matches!(said, Said::Head(_))).count() as u64;
            meter.report(None, self.world.clock.now());
            let (hosts_answered, hosts_asked) = (meter.done, live.len() as u64);
            self.set_phase(RecoveryPhase::Claiming { hosts_answered, hosts_asked });
        }
        said
    }

    async fn ask_head(
        &self,
        found: &[FoundContract],
        live: &Live,
        epoch: Epoch,
        read_only: bool,
    ) -> Said {
        let answer =
            if read_only { live.link.head().await } else { live.link.promise(epoch).await };
        let HeadAnswer { status, head: bytes } = match answer {
            Ok(answer) => answer,
            Err(ContractError::Fenced { promised, .. }) => return Said::Fenced(promised),
            Err(error) => return Said::Nothing(error.to_string()),
        };
        let id = &live.contract.terms.contract;
        let key = self.keys.head(id);
        let genesis = self.world.chain.genesis().hash();
        match head::open(key.as_bytes(), &genesis, id, &status.slot, &bytes) {
            Ok(head) => Said::Head(Box::new((status, Some(head)))),
            Err(HeadError::Empty) => {
                let earlier = self.earlier_head(&earlier(found, &live.found)).await;
                Said::Head(Box::new((status, earlier)))
            }
            Err(error) => Said::Nothing(format!("its head is of no use: {error}")),
        }
    }

    /// The head of a contract that was renewed a moment before the machine was lost: a host keeps it
    /// until the ended contract is swept.
    async fn earlier_head(&self, earlier: &[FoundContract]) -> Option<Head> {
        let genesis = self.world.chain.genesis().hash();
        for found in earlier.iter().take(EARLIER) {
            let id = found.record.contract;
            let link = ContractLink::new(
                self.world.clone(),
                self.book.writer().clone(),
                self.book.reports().clone(),
                found.record.host,
                self.keys.contract(&found.record.nonce),
                Revision::initial(id),
            );
            if let Ok(answer) = link.head().await
                && let Ok(head) = head::open(
                    self.keys.head(&id).as_bytes(),
                    &genesis,
                    &id,
                    &answer.status.slot,
                    &answer.head,
                )
            {
                return Some(head);
            }
        }
        None
    }
}
