//! Asking: which contracts live, what their hosts show and promise.

use std::collections::BTreeMap;

use futures::{FutureExt as _, StreamExt as _};
use samara_protocol::contract::{ContractId, Revision};
use samara_protocol::host::message::ContractStatus;
use samara_protocol::journal::head::{self, Head, HeadError};
use samara_protocol::recovery::FoundContract;
use samara_protocol::units::Epoch;

use super::claim::{Claim, Live, Said, Sequences, Shown, gather};
use super::error::RecoveryError;
use super::progress::{Progress, Step};
use super::types::RecoveryPhase;
use super::{Context, Recovery};
use crate::contract::{ContractError, ContractLink, HeadAnswer};
use crate::progress::{Meter, Phase, Unit};
use crate::world::random_bytes;

/// Hosts asked at one time; each may answer with 1 MiB.
const PARALLEL: usize = 16;
/// Times that a higher epoch is taken when another node claims at the same time.
const ATTEMPTS: u32 = 3;
/// Renewed contracts whose head is asked for when the live one's slot is empty.
const EARLIER: usize = 3;

impl Recovery {
    /// The found contracts that live on the chain. Where some have ended, the chain is scanned to its tip
    /// once more: what looks like an end may be a renewal that an earlier scan has not seen.
    pub(super) async fn live_now(
        &self,
        context: &Context<'_>,
        progress: &mut Progress,
    ) -> Result<Vec<Live>, RecoveryError> {
        loop {
            let known = progress.found.len();
            let live = self.live(&progress.found).await?;
            if live.len() == known {
                return Ok(live);
            }
            self.scan(context, progress).await?;
            if progress.found.len() == known {
                return Ok(live);
            }
        }
    }

    /// Whether the last period of every one of them is over.
    pub(super) async fn are_over(&self, live: &[Live]) -> Result<bool, RecoveryError> {
        let Some(tip) = self.world.chain.tip().await? else { return Ok(false) };
        Ok(live.iter().all(|live| tip.header.time >= live.contract.ends()))
    }

    /// Those of the contracts that live on the chain.
    pub(super) async fn live(&self, found: &[FoundContract]) -> Result<Vec<Live>, RecoveryError> {
        let mut live = Vec::new();
        for found in found {
            let id = &found.record.contract;
            let Some(contract) = self.world.chain.contract(id).await? else { continue };
            let given_up = self.is_given_up(id).await?;
            let link = self.book.link(&contract)?;
            live.push(Live { found: *found, contract, link, given_up });
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
        // Hosts that hang are waited for, and that is told from the start.
        let (hosts_answered, hosts_asked) = (0, asked as u64);
        self.set_phase(RecoveryPhase::Claiming { hosts_answered, hosts_asked });
        let now = self.world.clock.now();
        Meter::new(context.progress, Phase::Claiming, Unit::Hosts, Some(hosts_asked), now)
            .report(None, now);
        let (shown, before) = self.ask_latest(&live).await;
        // An epoch of this node that no host knows any more may be above those of a node that started
        // anew.
        let mut highest = shown.max(self.book.writer().epoch());
        let said = self.ask_heads(context, &progress.found, &live, None).await;
        let mut claim = gather(highest, &progress.found, live, said, &before);
        if claim.answered.is_empty() {
            let failures = claim.silent.into_iter().map(|silent| silent.row.reason).collect();
            return Err(RecoveryError::NoHostAnswers { asked, failures });
        }
        if context.options.read_only {
            return Ok(claim);
        }
        self.give_up(&context.options, &mut claim).await?;
        if !claim.is_complete() {
            return Ok(claim);
        }
        for _ in 0..ATTEMPTS {
            let epoch = self.choose_epoch(progress, highest).await?;
            let others = std::mem::take(&mut claim.others);
            let aside = std::mem::take(&mut claim.aside);
            let live = claim.into_live();
            let said = self.ask_heads(context, &progress.found, &live, Some(epoch)).await;
            let above = said.iter().filter_map(Said::fenced).max();
            claim = gather(epoch, &progress.found, live, said, &before);
            claim.others.splice(0..0, others);
            claim.aside.extend(aside);
            match above {
                Some(by) => highest = highest.max(by),
                None => {
                    claim.promised = true;
                    return Ok(claim);
                }
            }
        }
        Err(RecoveryError::Outrun { by: highest })
    }

    /// The claim of an earlier run if nobody has claimed since, else the next counter. A claim under
    /// which a journal was adopted is used up: that journal may have changes of its own at hosts, and
    /// what is adopted next would share its epoch.
    async fn choose_epoch(
        &self,
        progress: &mut Progress,
        highest: Epoch,
    ) -> Result<Epoch, RecoveryError> {
        let used = self.journal.status().epoch;
        let unused = |claimed: &Epoch| *claimed >= highest && *claimed != used;
        if let Some(claimed) = progress.claimed.filter(unused) {
            return Ok(claimed);
        }
        let counter = highest.counter.checked_add(1);
        let counter = counter.ok_or(RecoveryError::NoEpochLeft { highest })?;
        let epoch = Epoch { counter, writer: random_bytes(self.world.random.as_ref()) };
        progress.claimed = Some(epoch);
        progress.save(self.world.store.as_ref()).await?;
        Ok(epoch)
    }

    /// The epoch to claim above, and each slot's sequence. Claims, slots and revisions are all signed
    /// with keys of these words, and verified: no host can name an epoch that no node has used.
    async fn ask_latest(&self, live: &[Live]) -> (Epoch, Sequences) {
        // Boxed, or the compiler cannot tell that the whole may move between threads.
        let calls: Vec<_> = live.iter().map(|live| live.link.latest().boxed()).collect();
        let answers: Vec<_> =
            futures::stream::iter(calls).buffered(PARALLEL).collect::<Vec<_>>().await;
        let mut highest = Epoch::default();
        let mut sequences = Sequences::new();
        for (live, status) in live.iter().zip(answers) {
            let Ok(status) = status else { continue };
            let (slot, revision) = (status.slot.state, status.revision.revision);
            highest = highest.max(status.promised.epoch).max(slot.epoch).max(revision.epoch);
            sequences.insert(live.found.record.contract, slot.sequence);
        }
        (highest, sequences)
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
        let HeadAnswer { status, head } = match answer {
            Ok(answer) => answer,
            Err(ContractError::Fenced { promised, .. }) => return Said::Fenced(promised),
            Err(error) => return Said::Nothing(error.to_string()),
        };
        match self.open_head(&live.contract.terms.contract, &status, &head) {
            Ok(head) => {
                let shown = Shown { head, counts: !live.given_up, parted: false };
                Said::Head(Box::new((status, Some(shown))))
            }
            Err(HeadError::Empty) => match self.earlier_head(found, &status).await {
                Ok(shown) => {
                    let counts =
                        |shown: Shown| Shown { counts: shown.counts && !live.given_up, ..shown };
                    Said::Head(Box::new((status, shown.map(counts))))
                }
                Err(error) => Said::Nothing(error.to_string()),
            },
            Err(error) => Said::Nothing(format!("its head is of no use: {error}")),
        }
    }

    fn open_head(
        &self,
        contract: &ContractId,
        status: &ContractStatus,
        bytes: &[u8],
    ) -> Result<Head, HeadError> {
        let genesis = self.world.chain.genesis().hash();
        head::open(self.keys.head(contract).as_bytes(), &genesis, contract, &status.slot, bytes)
    }

    /// The head of the contract that this one renewed, a moment before the machine was lost: a host
    /// keeps it until the ended contract is swept. A contract that was formed anew has none: what its
    /// host promised before is over.
    async fn earlier_head(
        &self,
        found: &[FoundContract],
        status: &ContractStatus,
    ) -> Result<Option<Shown>, RecoveryError> {
        let by_id: BTreeMap<ContractId, &FoundContract> =
            found.iter().map(|found| (found.record.contract, found)).collect();
        let mut renews = status.renews;
        let mut counts = true;
        for _ in 0..EARLIER {
            let Some(found) = renews.and_then(|id| by_id.get(&id)) else { break };
            let id = found.record.contract;
            counts &= !self.is_given_up(&id).await?;
            let link = ContractLink::new(
                self.world.clone(),
                self.keys.clone(),
                self.book.writer().clone(),
                self.book.reports().clone(),
                found.record.host,
                found.record.nonce,
                Revision::initial(id),
            );
            let Ok(answer) = link.head().await else { break };
            match self.open_head(&id, &answer.status, &answer.head) {
                Ok(head) => return Ok(Some(Shown { head, counts, parted: false })),
                Err(HeadError::Empty) => renews = answer.status.renews,
                Err(_) => break,
            }
        }
        Ok(None)
    }
}
