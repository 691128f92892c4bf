//! What one run is like, drawn from its seed: how many hosts, who runs them, which faults are about.

use samara_protocol::journal::quorum::{HeadSet, Quorum};
use samara_renter::contract::Redundancy;

use super::chance::Chance;
use super::disk::Sabotage;
use super::run::Options;

/// From so many operators on, a head set has one host of each.
pub(super) const OPERATORS: usize = 5;

/// One run's hosts and faults.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Operator of each host.
    pub(super) operators: Vec<usize>,
    pub(super) redundancy: Redundancy,
    pub(super) moods: Moods,
}

/// Kinds of faults that are about in a run. Each run has some: what one kind brings to light, another
/// may hide.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moods {
    /// Machines are cut off from some hosts.
    pub(super) partitions: bool,
    /// Requests arrive twice.
    pub(super) twice: bool,
    /// Requests overtake each other by seconds.
    pub(super) overtaking: bool,
    /// Disks of crashed hosts have a part of what was not synced.
    pub(super) torn: bool,
    /// Disks are full for a while.
    pub(super) full: bool,
    /// Hosts serve wrong bytes.
    pub(super) wrong_bytes: bool,
    /// Bytes rot on one host's disk.
    pub(super) rot: bool,
    /// The host that may lie signs for heads that it forgets.
    pub(super) false_receipts: bool,
}

impl Setting {
    /// What a seed makes. `usual` is the number of hosts that most runs have.
    pub(super) fn draw(seed: u64, usual: usize, options: &Options) -> Self {
        let mut shape = Chance::new(seed, "shape");
        let moods = Moods::draw(&mut shape);
        if options.losses {
            let operators = (0..super::losses::HOSTS).collect();
            let redundancy = super::losses::REDUNDANCY;
            // What three losses do is to be seen alone.
            return Self { operators, redundancy, moods: Moods { rot: false, ..moods } };
        }
        if options.sabotage == Sabotage::HiddenOperators {
            return Self::shared(&mut shape, moods);
        }
        let count = match shape.below(1_000) {
            0 => 100,
            1..5 => 30,
            5..25 => 12,
            25..85 if options.hosts.is_none() => return Self::shared(&mut shape, moods),
            _ => usual,
        };
        let small = options.sabotage != Sabotage::None;
        let count = options.hosts.unwrap_or(if small { usual } else { count });
        let redundancy = Redundancy::for_hosts(count);
        Self { operators: (0..count).collect(), redundancy, moods }
    }

    /// Six or seven operators with up to three hosts each, and slabs that bear it when as many
    /// operators go as the head set bears.
    fn shared(shape: &mut Chance, moods: Moods) -> Self {
        let count = shape.within(6, 7);
        let mut sizes: Vec<usize> = (0..count).map(|_| shape.index(3) + 1).collect();
        let each = sizes.iter().enumerate();
        let operators: Vec<usize> =
            each.flat_map(|(operator, size)| std::iter::repeat_n(operator, *size)).collect();
        let bears = sizes.len() - Quorum::of(sizes.len()).read;
        sizes.sort_unstable();
        let lost: usize = sizes.iter().rev().take(bears).sum();
        let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let total = byte(operators.len());
        let redundancy = Redundancy { data: 2, total, margin: byte(lost).min(total - 2) };
        Self { operators, redundancy, moods }
    }

    /// Hosts that may lie.
    pub(super) fn liars(&self) -> usize {
        Quorum::of(self.operator_count().min(HeadSet::MAX)).liars
    }

    /// Operators, of whom each runs one host or more.
    pub(super) fn operator_count(&self) -> usize {
        self.operators.last().map_or(0, |last| last + 1)
    }

    /// Whether some operator runs more than one host.
    pub(super) fn is_shared(&self) -> bool {
        self.operator_count() < self.operators.len()
    }
}

impl Moods {
    fn draw(shape: &mut Chance) -> Self {
        Self {
            partitions: shape.per_mille(350),
            twice: shape.per_mille(300),
            overtaking: shape.per_mille(300),
            torn: shape.per_mille(500),
            full: shape.per_mille(300),
            wrong_bytes: shape.per_mille(300),
            rot: shape.per_mille(150),
            false_receipts: shape.per_mille(500),
        }
    }
}
