//! The newest head becomes this node's journal; contracts and money follow.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::journal::head::{Head, HeadBase, Segment};
use samara_protocol::journal::quorum::HeadSet;
use samara_protocol::journal::{Entry, HostIndex, JournalState};
use samara_protocol::recovery::FoundContract;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::{Amount, Epoch};

use super::claim::{self, Answered, Claim, earlier, host_row};
use super::error::RecoveryError;
use super::progress::{Progress, Step, load_silent, save_silent};
use super::types::{RecoveryHost, RecoveryPhase, RecoveryReport};
use super::{Context, Recovery};
use crate::checkpoint::Places;
use crate::journal::{Adopted, Candidate, Mode, choose, moved_by};
use crate::progress::{Meter, Phase, ProgressEvent, Unit};
use crate::transfer::{Downloader, SlabClass};
use crate::world::ChainError;

/// Accounts without a trace after which no later one was used: each takeover uses the next.
const UNUSED: u64 = 8;

/// A journal as a head leads to it.
#[derive(Default)]
struct Led {
    /// What the checkpoint stands for; nothing without one.
    state: JournalState,
    /// All entries after that.
    entries: Vec<Entry>,
}

impl Recovery {
    /// Takes contracts into the table, fetches the journal, and makes it this node's. Names can be listed
    /// from here on.
    pub(super) async fn adopt(
        &self,
        context: &Context<'_>,
        progress: &mut Progress,
        claim: &Claim,
        report: &mut RecoveryReport,
    ) -> Result<Mode, RecoveryError> {
        progress.enter(Step::Adopting);
        progress.save(self.world.store.as_ref()).await?;
        let newest = claim.newest();
        let epoch = match newest {
            _ if claim.promised => claim.epoch,
            newest => newest.map(|newest| newest.epoch).unwrap_or_default(),
        };
        if claim.promised {
            // Requests carry the new epoch from here on; hosts refuse the old one.
            self.book.writer().claim(epoch);
        }
        let quorum = match newest {
            Some(newest) => claim.is_quorum(newest),
            None => claim.is_blank(),
        };
        let hosts = newest.map(Head::hosts).unwrap_or_default();
        self.take_contracts(claim, &progress.found, &hosts, report).await?;
        let (led, base) = match newest {
            Some(newest) => (self.journal_of(context, newest).await?, Some(&newest.base)),
            None if quorum => (Led::default(), None),
            None => return Err(no_head(claim)),
        };
        if let Some(newest) = newest {
            report.parted.extend(find_parted(claim, newest, &led));
        }
        let may_write = quorum && newest.is_none_or(|newest| claim.can_write(newest));
        let mode = if may_write && claim.promised { Mode::Active } else { Mode::ReadOnly };
        self.journal.adopt(self.adopted(mode, epoch, base, led)).await?;
        self.count(report);
        let (files, bytes) = (report.files, report.bytes);
        context.progress.report(ProgressEvent::NamesAvailable { files, bytes });
        report.may_be_missing = may_be_missing(claim, newest, quorum);
        Ok(mode)
    }

    /// What the journal takes over from the newest head, or from none.
    fn adopted(&self, mode: Mode, epoch: Epoch, base: Option<&HeadBase>, led: Led) -> Adopted {
        let old_set = base.map(|base| base.head_set.clone()).unwrap_or_default();
        let head_set = if mode == Mode::Active { self.head_set(&old_set) } else { old_set };
        let old_account = base.map_or(0, |base| base.account);
        let account = match mode {
            Mode::Active if base.is_some_and(|base| base.epoch != epoch) => old_account + 1,
            _ => old_account,
        };
        Adopted {
            mode,
            epoch,
            account,
            origin: base.map(|base| base.origin),
            head_set,
            checkpoint: base.and_then(|base| base.checkpoint.clone()),
            segments: base.map(|base| base.segments.clone()).unwrap_or_default(),
            base_point: base.map(|base| base.point).unwrap_or_default(),
            state: led.state,
            entries: led.entries,
        }
    }

    /// The head set under the new epoch: old members first, and those of them that are silent only where
    /// nobody takes their place and the others suffice. The sets before stay its predecessors until each
    /// may be left: a promise leaves no head behind, so a later recovery that hears only an old set must
    /// meet the new head there.
    fn head_set(&self, old: &HeadSet) -> HeadSet {
        let ended = self.book.ended();
        let contracts = self.book.live();
        let live = contracts.iter().filter(|contract| !ended.contains(&contract.index()));
        let mut candidates: Vec<Candidate> = live
            .map(|contract| Candidate {
                index: contract.index(),
                operator: contract.operator().to_owned(),
                failing: false,
            })
            .collect();
        let answered: Vec<HostIndex> = candidates.iter().map(|candidate| candidate.index).collect();
        let alone = choose(&old.hosts, &candidates);
        let silent = self.book.awaited().into_iter().filter(|(index, _)| old.contains(*index));
        candidates.extend(silent.map(|(index, operator)| Candidate {
            index,
            operator,
            failing: true,
        }));
        let whole = old.followed_by(choose(&old.hosts, &candidates));
        let held = HeadSet { previous: Vec::new(), ..whole.clone() };
        if held.is_written(&answered, &ended) { whole } else { old.followed_by(alone) }
    }

    /// Puts the hosts of the head and the contracts that answered into the table.
    pub(super) async fn take_contracts(
        &self,
        claim: &Claim,
        found: &[FoundContract],
        hosts: &[PublicKey],
        report: &mut RecoveryReport,
    ) -> Result<(), RecoveryError> {
        self.number_hosts(claim, hosts).await?;
        // Where a host has several, the one formed last is used.
        let mut answered: Vec<&Answered> = claim.answered.iter().collect();
        answered.sort_by_key(|answered| answered.live.contract.formed);
        for answered in answered {
            let adoption = {
                let earlier = ids(&earlier(found, &answered.live.found));
                self.book.adopt(&answered.live.contract, &answered.status, &earlier).await?
            };
            if answered.live.given_up {
                let contract = answered.live.found.record.contract;
                self.book.set_given_up(adoption.handle.index(), contract).await?;
            }
            if let Some(back) = adoption.rolled_back {
                let reason = format!(
                    "it shows revision {} after it signed revision {}",
                    back.shown.number, back.known.number
                );
                report.hosts_behind.push(host_row(&answered.live.found, reason));
            }
        }
        self.note_silent(claim).await
    }

    /// Numbers the hosts of the head, then those of contracts formed after it was written.
    async fn number_hosts(&self, claim: &Claim, hosts: &[PublicKey]) -> Result<(), RecoveryError> {
        let operators = self.operators().await?;
        let operator = |host: &PublicKey| operators.get(host).cloned().unwrap_or_default();
        for (index, host) in (0u16..).zip(hosts) {
            self.book.add_host(HostIndex(index), *host, operator(host)).await?;
        }
        let mut new: Vec<PublicKey> =
            claim.answered.iter().map(|answered| answered.live.found.record.host).collect();
        new.sort_unstable();
        new.dedup();
        for host in new {
            if self.book.index_of(&host).is_none() {
                let index = self.book.next_index()?;
                self.book.add_host(index, host, operator(&host)).await?;
            }
        }
        Ok(())
    }

    /// Notes which hosts' contracts wait to be taken over, and which were given up.
    async fn note_silent(&self, claim: &Claim) -> Result<(), RecoveryError> {
        for row in self.book.hosts() {
            let silent = claim.silent.iter().map(|silent| &silent.live);
            let mut silent = silent.filter(|live| live.found.record.host == row.host);
            // A host without a record in the chain has not ended: the chain may have come too late.
            let awaited =
                silent.clone().any(|live| !live.given_up) || !claim.hosts.contains(&row.host);
            self.book.set_awaited(row.index, awaited).await?;
            if let Some(live) = silent.find(|live| live.given_up) {
                self.book.set_given_up(row.index, live.found.record.contract).await?;
            }
        }
        Ok(())
    }

    async fn operators(&self) -> Result<BTreeMap<PublicKey, String>, RecoveryError> {
        let hosts = self.world.chain.announced_hosts().await?;
        Ok(hosts.into_iter().map(|(key, announced)| (key, announced.operator)).collect())
    }

    /// What a head leads to: its checkpoint, then the entries of its segments and its own.
    async fn journal_of(&self, context: &Context<'_>, newest: &Head) -> Result<Led, RecoveryError> {
        let HeadBase { segments, checkpoint, .. } = &newest.base;
        let total = segments.len() as u64 + u64::from(checkpoint.is_some());
        let now = self.world.clock.now();
        let mut meter =
            Meter::new(context.progress, Phase::Adopting, Unit::Segments, Some(total), now);
        let entries = self.entries_of(newest, &mut meter).await?;
        let mut state = JournalState::default();
        if let Some(name) = checkpoint {
            // Repair may have moved its slabs since.
            let known = moved_since(&entries);
            state = self.journal.checkpoints().state(name, &known).await?;
            meter.done += 1;
            meter.report(None, self.world.clock.now());
        }
        Ok(Led { state, entries })
    }

    /// The entries that a head leads to behind its checkpoint: those of its segments and its own.
    pub(super) async fn entries_of(
        &self,
        newest: &Head,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Entry>, RecoveryError> {
        let HeadBase { segments, checkpoint, .. } = &newest.base;
        let begin = checkpoint.as_ref().map(|name| name.point).unwrap_or_default();
        let downloader = self.slabs.downloader(SlabClass::Metadata);
        let mut entries = Vec::new();
        // The first segment may begin before the checkpoint.
        let mut point = segments.first().map_or(begin, |first| first.from);
        if point.position > begin.position {
            return Err(RecoveryError::Broken("its parts begin behind its checkpoint".into()));
        }
        for (number, segment) in segments.iter().enumerate() {
            self.set_phase(RecoveryPhase::Adopting {
                segments_done: meter.done,
                segments_total: meter.total.unwrap_or_default(),
            });
            if segment.from != point {
                return Err(RecoveryError::Broken(format!("part {number} does not follow")));
            }
            for entry in fetch(&downloader, number, segment).await? {
                if point.position == begin.position && point != begin {
                    return Err(RecoveryError::Broken("its checkpoint does not follow".into()));
                }
                point = point.after(&entry);
                if point.position > begin.position {
                    entries.push(entry);
                }
            }
            meter.done += 1;
            meter.report(None, self.world.clock.now());
        }
        if point != newest.base.point {
            return Err(RecoveryError::Broken("its parts do not lead to the head".into()));
        }
        entries.extend(newest.entries.iter().cloned());
        Ok(entries)
    }

    /// Counts what is there now.
    pub(super) fn count(&self, report: &mut RecoveryReport) {
        self.journal.read(|state| {
            report.position = state.point.position;
            report.vaults = state.listed_vaults().count() as u64;
            report.backups = state.backups.len() as u64;
            let totals = state.listed_vaults().map(|(_, vault)| crate::vault::totals(vault));
            (report.files, report.bytes) = totals
                .fold((0, 0u64), |(files, bytes), (f, b)| (files + f, bytes.saturating_add(b)));
        });
    }

    /// Writes the head to a quorum under the new epoch, and moves the money.
    pub(super) async fn take_over(
        &self,
        progress: &mut Progress,
        claim: &Claim,
        report: &mut RecoveryReport,
    ) -> Result<(), RecoveryError> {
        progress.enter(Step::TakingOver);
        progress.save(self.world.store.as_ref()).await?;
        self.set_phase(RecoveryPhase::TakingOver { hosts_written: 0 });
        let silent: Vec<_> = claim.silent.iter().map(|silent| silent.live.found).collect();
        save_silent(self.world.store.as_ref(), &silent).await?;
        self.journal.confirm().await?;
        let hosts_written = self.journal.status().settled as u64;
        self.set_phase(RecoveryPhase::TakingOver { hosts_written });
        report.money_moved = self.collect_money().await;
        Ok(())
    }

    /// Moves what the accounts of older epochs hold to this epoch's. The old node may still spend;
    /// what it leaves is moved. What fails is tried again by upkeep, and after a restart.
    pub(crate) async fn collect_money(&self) -> Amount {
        let account = self.journal.status().account;
        let mut moved = Amount::ZERO;
        let first = self.shared.collected.load(Ordering::Relaxed);
        let mut collected = first;
        for old in first..account {
            match self.move_money(old, account).await {
                Ok(amount) => {
                    moved = moved.saturating_add(amount);
                    // Only what lies below without a gap is done with.
                    if collected == old {
                        collected = old.saturating_add(1);
                    }
                }
                Err(error) => tracing::warn!(%error, account = old, "money was not moved"),
            }
        }
        self.shared.collected.store(collected, Ordering::Relaxed);
        moved
    }

    /// Moves what an older epoch's account holds to this epoch's.
    async fn move_money(&self, from: u64, to: u64) -> Result<Amount, RecoveryError> {
        let chain = &self.world.chain;
        let key = self.keys.account(from);
        let account = chain.account(&key.public()).await?;
        let fee = chain.genesis().parameters.minimum_fee;
        let amount = account.balance.saturating_sub(fee);
        if amount == Amount::ZERO {
            return Ok(amount);
        }
        self.transfer(&key, &self.keys.account(to), amount).await?;
        Ok(amount)
    }

    /// The last account of these words that was ever used, where a recovery has found that they had
    /// contracts and all have ended: it holds what they paid back. Otherwise the first.
    pub(crate) async fn last_account(&self) -> Result<u64, ChainError> {
        let ended = Progress::load(self.world.store.as_ref()).await;
        let mut last = 0;
        if ended.is_ok_and(|progress| !progress.found.is_empty()) {
            let mut index = 0;
            while index <= last + UNUSED {
                let account = self.world.chain.account(&self.keys.account(index).public()).await?;
                if account.nonce > 0 || account.balance > Amount::ZERO {
                    last = index;
                }
                index += 1;
            }
        }
        Ok(last)
    }

    /// Takes over contracts whose hosts did not answer before and do now. Returns how many.
    pub(crate) async fn adopt_silent(&self) -> Result<usize, RecoveryError> {
        let store = self.world.store.as_ref();
        let silent = load_silent(store).await?;
        if silent.is_empty() || self.journal.check_writable().is_err() {
            return Ok(0);
        }
        let operators = self.operators().await?;
        let found = Progress::load(store).await?.found;
        let mut left = Vec::new();
        let mut adopted = 0;
        let live = self.live(&silent).await?;
        for found in &silent {
            // Ended on the chain: nobody waits for it any more.
            let lives = live.iter().any(|live| live.found.record.host == found.record.host);
            if let Some(index) = self.book.index_of(&found.record.host).filter(|_| !lives) {
                self.book.set_awaited(index, false).await?;
            }
        }
        for live in live {
            let host = live.found.record.host;
            let taken = self.book.index_of(&host).and_then(|index| self.book.contract(index));
            if taken.is_some_and(|taken| taken.terms().nonce != live.found.record.nonce) {
                continue;
            }
            match live.link.promise(self.book.writer().epoch()).await {
                Ok(answer) => {
                    if self.book.index_of(&host).is_none() {
                        let operator = operators.get(&host).cloned().unwrap_or_default();
                        self.book.add_host(self.book.next_index()?, host, operator).await?;
                    }
                    // One that died before it noted what it had adopted has it in use: revisions of a
                    // contract go through one queue, whoever holds it.
                    let used =
                        self.book.index_of(&host).and_then(|index| self.book.contract(index));
                    if used.is_none() {
                        let earlier = ids(&earlier(&found, &live.found));
                        self.book.adopt(&live.contract, &answer.status, &earlier).await?;
                    }
                    adopted += 1;
                }
                Err(_) => left.push(live.found),
            }
        }
        save_silent(store, &left).await?;
        Ok(adopted)
    }
}

/// Where slabs lie that entries have moved.
pub(super) fn moved_since(entries: &[Entry]) -> Places {
    let mut known = Places::new();
    entries.iter().for_each(|entry| moved_by(&entry.change, &mut known));
    known
}

fn ids(found: &[FoundContract]) -> Vec<ContractId> {
    found.iter().map(|found| found.record.contract).collect()
}

pub(super) fn no_head(claim: &Claim) -> RecoveryError {
    let reasons = claim.silent.iter().map(|silent| silent.row.reason.clone());
    let empty = claim
        .answered
        .iter()
        .map(|answered| format!("host {} shows none", answered.live.found.record.host.short()));
    RecoveryError::NoHead(reasons.chain(empty).collect())
}

/// Reads one part of the journal.
async fn fetch(
    downloader: &Downloader,
    number: usize,
    segment: &Segment,
) -> Result<Vec<Entry>, RecoveryError> {
    let failed = |reason: String| RecoveryError::Segment { number, reason };
    let mut bytes = Vec::new();
    let mut left = segment.length;
    for record in &segment.slabs {
        let length = left.min(record.plaintext());
        let end = u32::try_from(length).map_err(|error| failed(error.to_string()))?;
        if end == 0 {
            break;
        }
        let part = downloader.read(record, 0..end).await;
        bytes.extend(part.map_err(|error| failed(error.to_string()))?);
        left -= length;
    }
    let entries: Vec<Entry> =
        encoding::decode(&bytes).map_err(|error| RecoveryError::Broken(error.to_string()))?;
    if entries.len() as u64 != segment.entries {
        return Err(RecoveryError::Broken(format!("part {number} has another number of entries")));
    }
    Ok(entries)
}

/// Hosts whose head ends before the newest one begins, and does not lie on its journal: its entries in
/// slabs tell.
fn find_parted(claim: &Claim, newest: &Head, led: &Led) -> Vec<RecoveryHost> {
    let mut point = led.state.point;
    let begin = newest.base.point.position;
    let shorter = claim.answered.iter().filter_map(|answered| {
        let shown = answered.head.as_ref().filter(|shown| !shown.parted)?;
        let head = &shown.head;
        let at = head.point.position;
        // What led to the checkpoint is not looked at again.
        let shorter = head.epoch == newest.epoch && (point.position..begin).contains(&at);
        shorter.then_some((&answered.live.found, head))
    });
    let mut shorter: Vec<_> = shorter.collect();
    shorter.sort_by_key(|(_, head)| head.point.position);
    let mut rest = led.entries.iter();
    let mut parted = Vec::new();
    for (found, head) in shorter {
        while point.position < head.point.position {
            let Some(entry) = rest.next() else { break };
            point = point.after(entry);
        }
        if point != head.point {
            let changes = head.entries.len() as u64;
            parted.push(host_row(found, claim::parted(changes, head.base.point.position)));
        }
    }
    parted
}

/// What cannot be ruled out, in plain words.
pub(super) fn may_be_missing(claim: &Claim, newest: Option<&Head>, quorum: bool) -> Option<String> {
    let newest = newest?;
    if quorum {
        return None;
    }
    if claim.undecided {
        return Some(format!(
            "Two copies of the node wrote with these words, and the hosts that answered do not tell which \
             of the two was acknowledged. This is the longer one, up to journal position {}.",
            newest.point.position
        ));
    }
    let set = &newest.base.head_set;
    let table = newest.hosts();
    let name = |index: &HostIndex| table.get(usize::from(index.0)).copied();
    let members: Vec<PublicKey> = set.hosts.iter().filter_map(name).collect();
    let heard = |host: &PublicKey| {
        let mut answered = claim.answered.iter().filter(|answered| answered.head.is_some());
        answered.any(|answered| answered.live.found.record.host == *host)
    };
    let silent: Vec<String> = members.iter().filter(|h| !heard(h)).map(PublicKey::short).collect();
    let needed = samara_protocol::journal::quorum::Quorum::of(members.len()).read;
    Some(format!(
        "{} of the {} hosts that keep the newest head showed it, {needed} are needed to be certain. \
         Changes after journal position {} may be missing. Hosts that did not: {}",
        members.len() - silent.len(),
        members.len(),
        newest.point.position,
        silent.join(", ")
    ))
}
