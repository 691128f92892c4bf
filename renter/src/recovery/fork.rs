//! Tells heads of one epoch apart that do not follow one another.
//!
//! Two copies of a node's folder write under one epoch. Each host keeps to the copy that wrote first:
//! over a head of its own epoch that its journal does not lead to, no node writes. So behind the place
//! where two histories part, at most one of them was acknowledged, and its write quorum still shows
//! it: all members but those that are silent now, and at most f that lie. Members that show less than
//! either history hold neither, but for f of them, who may show what was before.

use std::collections::BTreeSet;

use samara_protocol::journal::HostIndex;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::Head;
use samara_protocol::journal::quorum::Quorum;
use samara_protocol::signature::PublicKey;

/// A head of the highest epoch, and the host that showed it.
#[derive(Clone, Copy)]
pub(super) struct Voice<'a> {
    pub(super) host: PublicKey,
    pub(super) head: &'a Head,
    /// Whether it counts toward a quorum.
    pub(super) counts: bool,
}

/// More than one history was shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fork {
    /// The place of the newest head of the history to go on with.
    pub(super) newest: usize,
    /// The places of heads that lie on another history, and the position where it parts.
    pub(super) left: Vec<(usize, u64)>,
    /// Whether another one may have been acknowledged just as well.
    pub(super) undecided: bool,
}

/// A head with the journal's points that it tells of, so that they are hashed once.
struct Line<'a> {
    voice: Voice<'a>,
    /// From the base's point on, one for each entry more.
    points: Vec<JournalPoint>,
}

impl<'a> Line<'a> {
    fn of(voice: &Voice<'a>) -> Self {
        let mut points = vec![voice.head.base.point];
        let mut at = voice.head.base.point;
        for entry in &voice.head.entries {
            at = at.after(entry);
            points.push(at);
        }
        Self { voice: *voice, points }
    }

    fn begin(&self) -> u64 {
        self.voice.head.base.point.position
    }

    fn end(&self) -> u64 {
        self.voice.head.point.position
    }

    /// The point at a position, as far as the head itself tells.
    fn point_at(&self, position: u64) -> Option<JournalPoint> {
        let Some(after) = position.checked_sub(self.begin()) else {
            let base = &self.voice.head.base;
            let checkpoint = base.checkpoint.iter().map(|checkpoint| checkpoint.point);
            let mut known = checkpoint.chain(base.segments.iter().map(|segment| segment.from));
            return known.find(|point| point.position == position);
        };
        self.points.get(usize::try_from(after).ok()?).copied()
    }

    /// Whether one of two heads follows the other. Where one begins behind the other's end, what lies
    /// between was acknowledged before it went into slabs; so the longer one is the journal, whatever
    /// the other holds, and only its entries can tell whether it parted.
    fn agrees(&self, other: &Self) -> bool {
        let end = self.end().min(other.end());
        match (self.point_at(end), other.point_at(end)) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        }
    }

    /// The last position that two heads have in common, as far as they tell.
    fn common(&self, other: &Self) -> Option<u64> {
        let begin = self.begin().max(other.begin());
        let end = self.end().min(other.end());
        let common = |at: &u64| self.point_at(*at) == other.point_at(*at);
        (begin..=end).rev().find(common)
    }

    /// The last position that two heads have in common.
    fn parting(&self, other: &Self) -> u64 {
        self.common(other).unwrap_or_else(|| self.begin().max(other.begin()))
    }
}

/// Finds the one history that may have been acknowledged. Nothing if all heads are of one. The hosts in
/// `older` have shown a head of an epoch below.
pub(super) fn decide(voices: &[Voice<'_>], older: &BTreeSet<PublicKey>) -> Option<Fork> {
    let lines: Vec<Line<'_>> = voices.iter().map(Line::of).collect();
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|at| {
        let head = lines[*at].voice.head;
        (std::cmp::Reverse((head.point.position, head.base.head_set.generation)), *at)
    });
    // Each history by its longest head.
    let mut tips: Vec<usize> = Vec::new();
    for at in order {
        if !tips.iter().any(|tip| lines[*tip].agrees(&lines[at])) {
            tips.push(at);
        }
    }
    if tips.len() < 2 {
        return None;
    }
    let may = |liars: bool| -> Vec<usize> {
        let tip = |tip: &usize| may_be_written(&lines, &tips, older, *tip, liars);
        tips.iter().copied().filter(tip).collect()
    };
    // Lies are reckoned with only where nothing else explains what was shown. If nothing does, nothing
    // was acknowledged behind the fork, and the longest is as good as any.
    let mut likely = may(false);
    if likely.is_empty() {
        likely = may(true);
    }
    let newest = likely.first().copied().unwrap_or(tips[0]);
    let line = &lines[newest];
    let left = lines.iter().enumerate().filter(|(_, other)| !line.agrees(other));
    let left = left.map(|(at, other)| (at, line.parting(other))).collect();
    Some(Fork { newest, left, undecided: likely.len() > 1 })
}

/// Whether a write quorum may hold a history behind the places where others part from it.
fn may_be_written(
    lines: &[Line<'_>],
    tips: &[usize],
    older: &BTreeSet<PublicKey>,
    tip: usize,
    liars: bool,
) -> bool {
    let history = &lines[tip];
    let alone = |line: &Line<'_>| {
        let mut others = tips.iter().filter(|other| **other != tip);
        history.agrees(line) && !others.any(|other| lines[*other].agrees(line))
    };
    let heard = |shows: &dyn Fn(&Line<'_>) -> bool| -> BTreeSet<PublicKey> {
        let lines = lines.iter().filter(|line| line.voice.counts && shows(line));
        lines.map(|line| line.voice.host).collect()
    };
    let (holding, others) = (heard(&alone), heard(&|line| !history.agrees(line)));
    let table = history.voice.head.hosts();
    let host_of = |index: &HostIndex| table.get(usize::from(index.0));
    let against = |index: &&HostIndex| {
        host_of(index).is_some_and(|host| others.contains(host) && !holding.contains(host))
    };
    // Those who end before this history parts from any other one.
    let others_tips = tips.iter().filter(|other| **other != tip);
    let alike = others_tips.map(|other| history.common(&lines[*other]).unwrap_or_default()).min();
    let short = heard(&|line| alike.is_some_and(|at| line.end() <= at));
    let behind = |index: &&HostIndex| {
        host_of(index).is_some_and(|host| {
            let speaks = holding.contains(host) || others.contains(host);
            !speaks && (short.contains(host) || older.contains(host))
        })
    };
    let may_be_held = |set: &Vec<HostIndex>| {
        let quorum = Quorum::of(set.len());
        let behind = set.iter().filter(behind).count();
        let lies = if liars { quorum.liars } else { quorum.liars.min(behind) };
        set.len() - set.iter().filter(against).count() - behind + lies >= quorum.write
    };
    let set = &history.voice.head.base.head_set;
    if set.previous.is_empty() {
        return may_be_held(&set.hosts);
    }
    // While a set changes, each that is left held alone what was acknowledged before, and new members may
    // never have heard of it.
    set.previous.iter().any(may_be_held)
}

#[cfg(test)]
mod tests {
    use samara_protocol::contract::ContractId;
    use samara_protocol::journal::head::HeadBase;
    use samara_protocol::journal::quorum::HeadSet;
    use samara_protocol::journal::{Change, Entry};
    use samara_protocol::units::Epoch;

    use super::*;

    fn host(number: u16) -> PublicKey {
        PublicKey([number as u8 + 1; 32])
    }

    /// A head on a set of `members`: entries named by the letters of a history.
    fn head(members: u16, history: &str) -> Head {
        let setting = |name: char| Change::Setting { name: name.into(), value: Vec::new() };
        let entry = |name| Entry { time: 0, salt: [0; 16], change: setting(name) };
        let entries: Vec<Entry> = history.chars().map(entry).collect();
        let set = HeadSet { hosts: (0..members).map(HostIndex).collect(), ..HeadSet::default() };
        let base = HeadBase {
            epoch: Epoch::default(),
            origin: ContractId::default(),
            account: 0,
            head_set: set,
            hosts: (0..members).map(host).collect(),
            revisions: Vec::new(),
            checkpoint: None,
            segments: Vec::new(),
            point: JournalPoint::default(),
        };
        let point = entries.iter().fold(base.point, |point, entry| point.after(entry));
        Head { base, entries, point, epoch: Epoch::default(), sequence: 0 }
    }

    /// As [`head`], on this set of some of twelve hosts.
    fn on(set: &HeadSet, history: &str) -> Head {
        let mut head = head(12, history);
        head.base.head_set = set.clone();
        head
    }

    /// The history that goes on, the heads that part from it, and whether that is undecided.
    type Decided = (String, Vec<(usize, u64)>, bool);

    /// Decides among the heads of hosts 0, 1, ...; hosts without a history are silent.
    fn decided(members: u16, histories: &[&str]) -> Option<Decided> {
        decided_beside(members, histories, &[])
    }

    /// As [`decided`]; those hosts show heads of an epoch before.
    fn decided_beside(members: u16, histories: &[&str], older: &[u16]) -> Option<Decided> {
        let heads: Vec<Head> = histories.iter().map(|history| head(members, history)).collect();
        let voices = heads.iter().zip(0..).filter(|(head, _)| !head.entries.is_empty());
        let voices: Vec<Voice<'_>> =
            voices.map(|(head, number)| Voice { host: host(number), head, counts: true }).collect();
        let fork = decide(&voices, &older.iter().copied().map(host).collect())?;
        let newest = histories.iter().filter(|h| !h.is_empty()).nth(fork.newest).unwrap();
        Some(((*newest).to_owned(), fork.left, fork.undecided))
    }

    #[test]
    fn heads_that_follow_one_another_are_no_fork() {
        assert_eq!(decided(5, &["abc", "abc", "ab", "a", ""]), None);
        assert_eq!(decided(1, &["a"]), None);
        assert_eq!(decided(5, &["", "", ""]), None);
    }

    #[test]
    fn a_longer_history_of_one_host_does_not_win_over_a_write_quorum() {
        let left = vec![(4, 1)];
        let expected = Some(("ab".to_owned(), left, false));
        assert_eq!(decided(5, &["ab", "ab", "ab", "ab", "axyzxyz"]), expected);
    }

    #[test]
    fn one_that_is_behind_speaks_for_no_side() {
        // Four of five have acknowledged; one of them lies and shows what was before.
        let left = vec![(4, 1)];
        let expected = Some(("ab".to_owned(), left, false));
        assert_eq!(decided(5, &["ab", "ab", "ab", "a", "axyz"]), expected);
    }

    #[test]
    fn silent_members_may_have_held_either() {
        let (newest, _, undecided) = decided(3, &["ab", "axy", ""]).unwrap();
        assert_eq!((newest.as_str(), undecided), ("axy", true));
        // With an answer more it is clear.
        let (newest, left, undecided) = decided(3, &["ab", "axy", "ab"]).unwrap();
        assert_eq!((newest.as_str(), left, undecided), ("ab", vec![(1, 1)], false));
    }

    #[test]
    fn members_that_show_less_hold_neither_but_for_those_who_may_lie() {
        // Nobody lies among three: the third has neither, so neither was acknowledged.
        let expected = Some(("axy".to_owned(), vec![(0, 1)], false));
        assert_eq!(decided(3, &["ab", "axy", "a"]), expected);
        assert_eq!(decided_beside(3, &["ab", "axy", ""], &[2]), expected);
        // Six of nine have acknowledged "ab"; three of them are silent, and one lies.
        let histories = ["ab", "ab", "", "", "", "a", "axy", "axy", "axy"];
        assert!(decided(9, &histories).unwrap().2, "undecided");
        let histories = ["ab", "ab", "", "", "", "", "axy", "axy", "axy"];
        assert!(decided_beside(9, &histories, &[5]).unwrap().2, "undecided");
        // Without silence, one who lies does not make a quorum of either four.
        let histories = ["ab", "ab", "ab", "ab", "a", "axy", "axy", "axy", "axy"];
        let (newest, _, undecided) = decided(9, &histories).unwrap();
        assert_eq!((newest.as_str(), undecided), ("axy", false));
        // Two that have neither are more than may lie.
        let histories = ["ab", "ab", "ab", "ab", "", "a", "a", "axy", "axy"];
        let (newest, _, undecided) = decided(9, &histories).unwrap();
        assert_eq!((newest.as_str(), undecided), ("ab", false));
    }

    #[test]
    fn members_of_a_set_that_was_only_begun_do_not_speak_against_what_was_acknowledged_before() {
        // Six of nine have acknowledged "ab": 0, 1, 2, 5, and two of the silent ones. 3 lies, 4 has a copy's
        // changes. A change of the set has reached the first alone.
        let set = HeadSet { hosts: (0..9).map(HostIndex).collect(), ..HeadSet::default() };
        let next = set.followed_by([0, 1, 2, 3, 4, 5, 9, 10, 11].map(HostIndex).to_vec());
        let begun = on(&next, "ab");
        let (same, less, copy) = (on(&set, "ab"), on(&set, "a"), on(&set, "axyz"));
        let shown = [(0, &begun), (1, &same), (2, &same), (3, &less), (4, &copy), (5, &same)];
        let new = [9, 10, 11].map(|number| (number, &less));
        let voices: Vec<Voice<'_>> = shown
            .into_iter()
            .chain(new)
            .map(|(number, head)| Voice { host: host(number), head, counts: true })
            .collect();
        let fork = decide(&voices, &BTreeSet::new()).unwrap();
        assert_eq!(fork, Fork { newest: 0, left: vec![(4, 1)], undecided: false });
    }

    #[test]
    fn where_no_side_can_have_a_quorum_the_longest_goes_on() {
        let (newest, left, undecided) = decided(2, &["ab", "axy"]).unwrap();
        assert_eq!((newest.as_str(), left, undecided), ("axy", vec![(0, 1)], false));
    }

    #[test]
    fn what_went_into_slabs_was_acknowledged() {
        let mut spilled = head(5, "abcdef");
        spilled.base.point = spilled.point;
        spilled.entries.clear();
        // Host 4 parted before; nothing in the heads tells where.
        let short = head(5, "axy");
        let voices = [
            Voice { host: host(0), head: &spilled, counts: true },
            Voice { host: host(4), head: &short, counts: true },
        ];
        assert_eq!(decide(&voices, &BTreeSet::new()), None, "the longer one is adopted");
    }
}
