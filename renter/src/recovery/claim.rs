//! The claim: every found contract is looked up on the chain, and its host asked for its head. Only if
//! those that answer suffice to write are they asked for a promise: below that a promise would stop the
//! node that writes now, and nobody could write in its place.

use std::collections::BTreeMap;

use futures::{FutureExt as _, StreamExt as _};
use samara_protocol::contract::{ContractId, Revision};
use samara_protocol::host::message::{ContractStatus, Refusal};
use samara_protocol::journal::HostIndex;
use samara_protocol::journal::head::{self, Head, HeadError};
use samara_protocol::journal::quorum::{HeadSet, Quorum};
use samara_protocol::ledger::state::Contract;
use samara_protocol::recovery::FoundContract;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Epoch;

use super::error::RecoveryError;
use super::lineage::separate;
use super::progress::{Progress, Step};
use super::types::{RecoveryHost, RecoveryPhase};
use super::{Context, Recovery};
use crate::contract::{ContractError, ContractLink, HeadAnswer, believed};
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

/// A host that did not answer, or not usably.
pub(super) struct Silent {
    pub(super) live: Live,
    pub(super) row: RecoveryHost,
}

/// Sequences of head slots.
type Sequences = BTreeMap<ContractId, u64>;

/// What the hosts said.
pub(super) struct Claim {
    pub(super) epoch: Epoch,
    /// Whether hosts promised the epoch to this node; if not, nothing may be written.
    pub(super) promised: bool,
    pub(super) answered: Vec<Answered>,
    pub(super) silent: Vec<Silent>,
    pub(super) behind: Vec<RecoveryHost>,
    /// Contracts of another lineage of these words, see [`separate`].
    pub(super) others: Vec<RecoveryHost>,
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
    ///
    /// The newest head of a read quorum is the journal, whatever was promised above it: a recovery
    /// acknowledges nothing before write quorums of the old and the new set hold its head, so an epoch
    /// without a head among these hosts is one of a recovery that was interrupted.
    pub(super) fn is_quorum(&self, newest: &Head) -> bool {
        newest.base.head_set.is_read(&self.showed(newest))
    }

    /// Whether they can also take over: be a write quorum of the old set, without which a later recovery
    /// could hear a read quorum of it and miss the new head.
    pub(super) fn can_write(&self, newest: &Head) -> bool {
        self.is_quorum(newest) && self.old_set(newest).is_written(&self.showed(newest))
    }

    /// The newest head's set without the hosts that have no live contract any more: no recovery will ask
    /// them again, and they cannot be asked for a quorum.
    pub(super) fn old_set(&self, newest: &Head) -> HeadSet {
        let answered = self.answered.iter().map(|answered| &answered.live);
        let live = answered.chain(self.silent.iter().map(|silent| &silent.live));
        let live = numbers(newest, live);
        let keep = |hosts: &Vec<HostIndex>| -> Vec<HostIndex> {
            hosts.iter().filter(|host| live.contains(host)).copied().collect()
        };
        let set = &newest.base.head_set;
        let previous = set.previous.as_ref().map(keep);
        HeadSet { generation: set.generation, hosts: keep(&set.hosts), previous }
    }

    /// The hosts that showed a head, by the newest head's numbers.
    fn showed(&self, newest: &Head) -> Vec<HostIndex> {
        let showed = self.answered.iter().filter(|answered| answered.head.is_some());
        numbers(newest, showed.map(|answered| &answered.live))
    }

    /// All contracts again, to ask once more.
    fn into_live(self) -> Vec<Live> {
        let answered = self.answered.into_iter().map(|answered| answered.live);
        answered.chain(self.silent.into_iter().map(|silent| silent.live)).collect()
    }

    /// Whether a takeover can come to its end.
    fn is_complete(&self) -> bool {
        self.newest().map_or_else(|| self.is_blank(), |newest| self.can_write(newest))
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

/// Hosts by a head's numbers.
fn numbers<'a>(head: &Head, live: impl Iterator<Item = &'a Live>) -> Vec<HostIndex> {
    let table = head.hosts();
    let index = |live: &Live| {
        let at = table.iter().position(|known| *known == live.found.record.host)?;
        u16::try_from(at).ok().map(HostIndex)
    };
    live.filter_map(index).collect()
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

/// Notes a host's highest word: it may have several contracts.
fn hear(words: &mut BTreeMap<PublicKey, Epoch>, host: PublicKey, promised: Epoch) {
    let word = words.entry(host).or_insert(promised);
    *word = promised.max(*word);
}

/// The epoch above `epoch` that more of the answering hosts than may lie have promised, if there is
/// one. A host that is alone with it counts as silent.
fn promised_above(epoch: Epoch, live: &[Live], said: &[Said]) -> Option<Epoch> {
    let mut words = BTreeMap::new();
    for (live, said) in live.iter().zip(said) {
        match said {
            Said::Head(_) => hear(&mut words, live.found.record.host, epoch),
            Said::Fenced(by) => hear(&mut words, live.found.record.host, *by),
            Said::Nothing(_) => {}
        }
    }
    let liars = Quorum::of(words.len()).liars;
    believed(words.into_values(), liars).filter(|by| *by > epoch)
}

/// Sorts what hosts said. `before` are the sequences of their slots a moment ago.
fn gather(epoch: Epoch, live: Vec<Live>, said: Vec<Said>, before: &Sequences) -> Claim {
    let (answered, silent, behind) = (Vec::new(), Vec::new(), Vec::new());
    let others = Vec::new();
    let mut claim = Claim { epoch, promised: false, answered, silent, behind, others };
    for (live, said) in live.into_iter().zip(said) {
        let reason = match said {
            Said::Head(answer) => {
                let (status, head) = *answer;
                let sequence = status.slot.state.sequence;
                let before = before.get(&live.found.record.contract);
                if before.is_some_and(|before| *before > sequence) {
                    let reason = "it shows an older head than a moment before";
                    claim.behind.push(host_row(&live.found, reason));
                }
                claim.answered.push(Answered { live, status, head });
                continue;
            }
            Said::Nothing(reason) => reason,
            Said::Fenced(by) => format!("it promised epoch {by}"),
        };
        let row = host_row(&live.found, reason);
        claim.silent.push(Silent { live, row });
    }
    separate(&mut claim);
    claim.find_behind();
    claim
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

    /// Asks every host for its head; then, if they suffice to take over and more than reading is wanted,
    /// for a promise to a new epoch and the head of that moment.
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
        let said = self.ask_heads(context, &progress.found, &live, None).await;
        let mut claim = gather(highest, live, said, &before);
        if claim.answered.is_empty() {
            let failures = claim.silent.into_iter().map(|silent| silent.row.reason).collect();
            return Err(RecoveryError::NoHostAnswers { asked, failures });
        }
        if context.options.read_only || !claim.is_complete() {
            return Ok(claim);
        }
        for _ in 0..ATTEMPTS {
            let epoch = self.choose_epoch(progress, highest).await?;
            let others = std::mem::take(&mut claim.others);
            let live = claim.into_live();
            let said = self.ask_heads(context, &progress.found, &live, Some(epoch)).await;
            let by = promised_above(epoch, &live, &said);
            claim = gather(epoch, live, said, &before);
            claim.others.splice(0..0, others);
            match by {
                Some(by) => highest = highest.max(by),
                None => {
                    claim.promised = true;
                    return Ok(claim);
                }
            }
        }
        Err(RecoveryError::Outrun { by: highest })
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
        let counter = highest.counter.checked_add(1);
        let counter = counter.ok_or(RecoveryError::NoEpochLeft { highest })?;
        let epoch = Epoch { counter, writer: random_bytes(self.world.random.as_ref()) };
        progress.claimed = Some(epoch);
        progress.save(self.world.store.as_ref()).await?;
        Ok(epoch)
    }

    /// The epoch to claim above, and each slot's sequence. Slots and revisions are signed with keys of
    /// these words; a promise is a host's word only, so more hosts than may lie must reach it.
    async fn ask_latest(&self, live: &[Live]) -> (Epoch, Sequences) {
        // Boxed, or the compiler cannot tell that the whole may move between threads.
        let calls: Vec<_> = live.iter().map(|live| live.link.latest().boxed()).collect();
        let answers: Vec<_> =
            futures::stream::iter(calls).buffered(PARALLEL).collect::<Vec<_>>().await;
        let mut highest = Epoch::default();
        let mut words = BTreeMap::new();
        let mut sequences = Sequences::new();
        for (live, status) in live.iter().zip(answers) {
            let Ok(status) = status else { continue };
            hear(&mut words, live.found.record.host, status.promised);
            highest = highest.max(status.slot.state.epoch).max(status.revision.revision.epoch);
            sequences.insert(live.found.record.contract, status.slot.state.sequence);
        }
        let promised = believed(words.values().copied(), Quorum::of(words.len()).liars);
        (highest.max(promised.unwrap_or_default()), sequences)
    }

    async fn ask_heads(
        &self,
        context: &Context<'_>,
        found: &[FoundContract],
        live: &[Live],
        promise: Option<Epoch>,
    ) -> Vec<Said> {
        let now = self.world.clock.now();
        let total = Some(live.len() as u64);
        let mut meter = Meter::new(context.progress, Phase::Claiming, Unit::Hosts, total, now);
        let calls: Vec<_> =
            live.iter().map(|live| self.ask_head(found, live, promise).boxed()).collect();
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

    async fn ask_head(&self, found: &[FoundContract], live: &Live, promise: Option<Epoch>) -> Said {
        let answer = match promise {
            Some(epoch) => live.link.promise(epoch).await,
            None => live.link.head().await,
        };
        let HeadAnswer { status, head: bytes } = match answer {
            Ok(answer) => answer,
            Err(
                ContractError::Fenced { promised, .. }
                | ContractError::Refused { refusal: Refusal::Fenced { promised, .. }, .. },
            ) => return Said::Fenced(promised),
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
