//! The claim: every found contract is looked up on the chain, and its host asked for its head. Only if
//! those that answer suffice to write are they asked for a promise: below that a promise would stop the
//! node that writes now, and nobody could write in its place.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::contract::ContractId;
use samara_protocol::host::message::ContractStatus;
use samara_protocol::journal::HostIndex;
use samara_protocol::journal::head::Head;
use samara_protocol::journal::quorum::Quorum;
use samara_protocol::ledger::state::Contract;
use samara_protocol::recovery::FoundContract;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Epoch;

use super::fork::{Voice, decide};
use super::separate::{HeadTrace, Lineage, Trace, separate};
use super::types::{HeadSetRow, RecoveryHost, RecoveryReport};
use crate::contract::ContractLink;

/// A found contract that lives.
pub(super) struct Live {
    pub(super) found: FoundContract,
    pub(super) contract: Contract,
    pub(super) link: ContractLink,
    /// Whether it was given up on the chain: its host's head is read, and counts for nothing.
    pub(super) given_up: bool,
}

/// A head that a host showed.
pub(super) struct Shown {
    pub(super) head: Head,
    /// Whether it counts toward a quorum.
    pub(super) counts: bool,
    /// Whether it parts from the history that goes on. It was read all the same.
    pub(super) parted: bool,
}

/// A host that answered.
pub(super) struct Answered {
    pub(super) live: Live,
    pub(super) status: ContractStatus,
    /// Its head, if it has one.
    pub(super) head: Option<Shown>,
}

impl Answered {
    fn trace(&self) -> Trace {
        let record = &self.live.found.record;
        let revision = self.status.revision.revision;
        let written = (self.status.slot.state.sequence, revision.number, revision.size);
        let used = self.head.as_ref().filter(|_| written != (0, 0, 0));
        let head = used.map(|shown| HeadTrace {
            origin: shown.head.base.origin,
            named: shown.head.base.revisions.iter().map(|(_, named)| named.contract).collect(),
        });
        let given_up = self.live.given_up;
        Trace { contract: record.contract, host: record.host, given_up, head }
    }
}

/// A host that did not answer, or not usably.
pub(super) struct Silent {
    pub(super) live: Live,
    pub(super) row: RecoveryHost,
}

/// Sequences of head slots.
pub(super) type Sequences = BTreeMap<ContractId, u64>;

/// What the hosts said.
pub(super) struct Claim {
    pub(super) epoch: Epoch,
    /// Whether hosts promised the epoch to this node; if not, nothing may be written.
    pub(super) promised: bool,
    pub(super) answered: Vec<Answered>,
    pub(super) silent: Vec<Silent>,
    pub(super) behind: Vec<RecoveryHost>,
    /// Every host with which these words ever had a contract.
    pub(super) hosts: BTreeSet<PublicKey>,
    /// Contracts of another lineage of these words, see [`separate`].
    pub(super) others: Vec<RecoveryHost>,
    /// Their hosts, which do not count as ended: that takes a contract's end on the chain.
    pub(super) aside: BTreeSet<PublicKey>,
    /// Hosts whose head holds changes of a copy of the node, which were never acknowledged.
    pub(super) parted: Vec<RecoveryHost>,
    /// Whether two histories were shown, each of which may have been acknowledged.
    pub(super) undecided: bool,
}

impl Claim {
    /// Writes into the report what the hosts said.
    pub(super) fn tell(&self, report: &mut RecoveryReport) {
        let heads = self.answered.iter().map(|answered| {
            let head = answered.head.as_ref().map_or_else(
                || "it has no head".to_owned(),
                |shown| format!("its head reaches position {}", shown.head.point.position),
            );
            host_row(&answered.live.found, head)
        });
        report.hosts_answered = heads.collect();
        report.hosts_silent = self.silent.iter().map(|silent| silent.row.clone()).collect();
        report.hosts_behind.clone_from(&self.behind);
        report.head_sets = self.head_sets();
        report.others.clone_from(&self.others);
        report.parted.clone_from(&self.parted);
    }

    /// Journal positions of the heads that were shown, one for each live contract; nothing for a host that
    /// showed none.
    pub(super) fn heads(&self) -> Vec<Option<u64>> {
        let shown = self
            .answered
            .iter()
            .map(|answered| answered.head.as_ref().map(|shown| shown.head.point.position));
        shown.chain(self.silent.iter().map(|_| None)).collect()
    }

    /// The newest head of the history that goes on: by epoch, position, and generation of its head set.
    pub(super) fn newest(&self) -> Option<&Head> {
        self.answered
            .iter()
            .filter_map(|answered| answered.head.as_ref())
            .filter(|shown| !shown.parted)
            .map(|shown| &shown.head)
            .max_by_key(|head| (head.epoch, head.point.position, head.base.head_set.generation))
    }

    /// Whether the hosts that showed a head are a read quorum of the newest head's set.
    ///
    /// The newest head of a read quorum is the journal, whatever was promised above it: a recovery
    /// acknowledges nothing before the old set may be left, so an epoch without a head among these hosts
    /// is one of a recovery that was interrupted.
    pub(super) fn is_quorum(&self, newest: &Head) -> bool {
        !self.undecided && newest.base.head_set.is_read(&self.showed(newest), &self.ended(newest))
    }

    /// Whether they can also take over: leave the old set, so that no later recovery can hear a read
    /// quorum of it and miss the new head.
    pub(super) fn can_write(&self, newest: &Head) -> bool {
        let (showed, ended) = (self.showed(newest), self.ended(newest));
        self.is_quorum(newest) && newest.base.head_set.is_left(&showed, &ended)
    }

    /// Hosts of the newest head whose contract has ended on the chain, or was given up there. A host of
    /// which no contract was found is not one of them: the chain may have come too late.
    pub(super) fn ended(&self, newest: &Head) -> Vec<HostIndex> {
        let live: BTreeSet<PublicKey> = self
            .all_live()
            .filter(|live| !live.given_up)
            .map(|live| live.found.record.host)
            .chain(self.aside.iter().copied())
            .collect();
        let ended = |host: &PublicKey| self.hosts.contains(host) && !live.contains(host);
        let table = newest.hosts();
        let numbers = (0..=u16::MAX).map(HostIndex).zip(&table);
        numbers.filter(|(_, host)| ended(host)).map(|(index, _)| index).collect()
    }

    /// Whether a takeover could come to its end if these silent hosts, by their order, were given up.
    pub(super) fn would_be_complete(&mut self, chosen: &[bool]) -> bool {
        let before: Vec<bool> = self.silent.iter().map(|silent| silent.live.given_up).collect();
        for (silent, chosen) in self.silent.iter_mut().zip(chosen) {
            silent.live.given_up |= *chosen;
        }
        let complete = self.is_complete();
        for (silent, before) in self.silent.iter_mut().zip(before) {
            silent.live.given_up = before;
        }
        complete
    }

    /// The newest head's sets, for the report.
    pub(super) fn head_sets(&self) -> Vec<HeadSetRow> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let (showed, ended, table) = (self.showed(newest), self.ended(newest), newest.hosts());
        let name = |index: &HostIndex| table.get(usize::from(index.0)).map(ToString::to_string);
        let counts = |index: &&HostIndex| showed.contains(index) && !ended.contains(index);
        let row = |set: &Vec<HostIndex>| HeadSetRow {
            hosts: set.iter().filter_map(name).collect(),
            heard: set.iter().filter(counts).count(),
            ended: set.iter().filter(|index| ended.contains(index)).count(),
            needed: Quorum::of(set.len()).read,
        };
        newest.base.head_set.all_sets().map(row).collect()
    }

    /// Whether so many hosts have ended that no read quorum can come together any more.
    pub(super) fn is_lost(&self, newest: &Head) -> bool {
        newest.base.head_set.is_lost(&self.ended(newest))
    }

    /// All contracts that live on the chain.
    fn all_live(&self) -> impl Iterator<Item = &Live> {
        let answered = self.answered.iter().map(|answered| &answered.live);
        answered.chain(self.silent.iter().map(|silent| &silent.live))
    }

    /// The hosts that showed a head that counts, by the newest head's numbers.
    fn showed(&self, newest: &Head) -> Vec<HostIndex> {
        let counts =
            |answered: &&Answered| answered.head.as_ref().is_some_and(|shown| shown.counts);
        numbers(newest, self.answered.iter().filter(counts).map(|answered| &answered.live))
    }

    /// All contracts again, to ask once more.
    pub(super) fn into_live(self) -> Vec<Live> {
        let answered = self.answered.into_iter().map(|answered| answered.live);
        answered.chain(self.silent.into_iter().map(|silent| silent.live)).collect()
    }

    /// Whether a takeover can come to its end.
    pub(super) fn is_complete(&self) -> bool {
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

    /// Leaves the contracts of the words' owner, and puts those of others aside. `answered` is in the
    /// chain's order.
    fn set_others_aside(&mut self, found: &[FoundContract]) {
        let traces: Vec<Trace> = self.answered.iter().map(Answered::trace).collect();
        let place = |id: &ContractId| found.iter().position(|at| at.record.contract == *id);
        let lineages = separate(&traces, place);
        for (answered, lineage) in std::mem::take(&mut self.answered).into_iter().zip(lineages) {
            let reason = match (lineage, &answered.head) {
                (Lineage::Owner, _) => {
                    self.answered.push(answered);
                    continue;
                }
                (Lineage::Other, Some(shown)) => {
                    let position = shown.head.point.position;
                    format!(
                        "another node's journal of {position} entries, begun with the same words"
                    )
                }
                // Another lineage's head may name a contract that has none itself.
                (Lineage::Other | Lineage::Doubled, _) => {
                    "it has no head, and its host has another contract of these words".to_owned()
                }
            };
            self.others.push(host_row(&answered.live.found, reason));
            if !answered.live.given_up {
                self.aside.insert(answered.live.found.record.host);
            }
        }
    }

    /// Leaves aside the heads of the highest epoch that part from the history that goes on.
    fn find_forks(&mut self) {
        let heads = |claim: &Self| -> Vec<usize> {
            let heads = claim.answered.iter().enumerate();
            heads.filter(|(_, answered)| answered.head.is_some()).map(|(at, _)| at).collect()
        };
        let shown = |at: usize| self.answered[at].head.as_ref();
        let epochs = heads(self).into_iter().filter_map(|at| Some(shown(at)?.head.epoch));
        let Some(epoch) = epochs.max() else { return };
        let (places, older): (Vec<usize>, Vec<usize>) = heads(self)
            .into_iter()
            .partition(|at| shown(*at).is_some_and(|shown| shown.head.epoch == epoch));
        let counts = |at: &usize| shown(*at).is_some_and(|shown| shown.counts);
        let older = older.into_iter().filter(counts);
        let older = older.map(|at| self.answered[at].live.found.record.host).collect();
        let voice = |at: &usize| {
            let (host, shown) = (self.answered[*at].live.found.record.host, shown(*at)?);
            Some(Voice { host, head: &shown.head, counts: shown.counts })
        };
        let voices: Vec<Voice<'_>> = places.iter().filter_map(voice).collect();
        let Some(fork) = decide(&voices, &older) else { return };
        self.undecided = fork.undecided;
        for (voice, position) in fork.left {
            let answered = &mut self.answered[places[voice]];
            let Some(shown) = &mut answered.head else { continue };
            shown.parted = true;
            let changes = shown.head.point.position.saturating_sub(position);
            let row = host_row(&answered.live.found, parted(changes, position));
            self.parted.push(row);
        }
    }

    /// Hosts that show an older revision than a head proves that they signed.
    fn find_behind(&mut self) {
        let mut known = BTreeMap::new();
        for head in self.answered.iter().filter_map(|a| Some(&a.head.as_ref()?.head)) {
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

/// What a host shows whose head parts from the journal.
pub(super) fn parted(changes: u64, position: u64) -> String {
    format!(
        "it holds {changes} changes behind position {position} of a copy of the node that ran beside it, \
         or of its folder put back"
    )
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
pub(super) enum Said {
    Head(Box<(ContractStatus, Option<Shown>)>),
    /// It promised this epoch, and showed the claim.
    Fenced(Epoch),
    Nothing(String),
}

impl Said {
    /// The epoch that another node has claimed.
    pub(super) const fn fenced(&self) -> Option<Epoch> {
        match self {
            Self::Fenced(by) => Some(*by),
            Self::Head(_) | Self::Nothing(_) => None,
        }
    }
}

/// Sorts what hosts said. `before` are the sequences of their slots a moment ago.
pub(super) fn gather(
    epoch: Epoch,
    found: &[FoundContract],
    live: Vec<Live>,
    said: Vec<Said>,
    before: &Sequences,
) -> Claim {
    let (answered, silent, behind) = (Vec::new(), Vec::new(), Vec::new());
    let hosts = found.iter().map(|found| found.record.host).collect();
    let (others, aside) = (Vec::new(), BTreeSet::new());
    let mut claim = Claim {
        epoch,
        promised: false,
        answered,
        silent,
        behind,
        hosts,
        others,
        aside,
        parted: Vec::new(),
        undecided: false,
    };
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
        let given_up = if live.given_up { "; it was given up" } else { "" };
        let row = host_row(&live.found, reason + given_up);
        claim.silent.push(Silent { live, row });
    }
    claim.set_others_aside(found);
    claim.find_forks();
    claim.find_behind();
    claim
}
