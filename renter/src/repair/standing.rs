//! What a host's shards are worth at this moment.

use std::collections::BTreeMap;

use samara_protocol::journal::HostIndex;

use super::options::RepairOptions;
use crate::contract::{ContractBook, verdict};

/// What a host's shards are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a live contract and answers, or has been silent for a short while only.
    Sound,
    /// It has been silent for long and may come back: its shards count again then.
    Silent(String),
    /// The contractor replaces it, or its contract was given up: its shards are put elsewhere. It gives them
    /// as long as it answers.
    Leaving(String),
    /// As before, and it does not answer.
    Replaced(String),
    /// Its contract has ended: it owes nothing any more.
    Gone(String),
}

impl Standing {
    pub(super) const fn is_sound(&self) -> bool {
        matches!(self, Self::Sound)
    }

    /// Whether it is to give what it has, to stay or not.
    pub(super) const fn answers(&self) -> bool {
        matches!(self, Self::Sound | Self::Leaving(_))
    }
}

/// The standing of all hosts in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standings(BTreeMap<HostIndex, Standing>);

impl Standings {
    /// What the table and the reports say now.
    pub(super) fn of(book: &ContractBook, options: &RepairOptions) -> Self {
        let now = book.world().clock.now();
        let (ended, awaited) = (book.ended(), book.awaited());
        let standing = |index: HostIndex, host| {
            let health = book.reports().health(&host);
            let replaced = |reason| match health.is_unreachable() {
                true => Standing::Replaced(reason),
                false => Standing::Leaving(reason),
            };
            if ended.contains(&index) {
                return match book.contract(index) {
                    Some(_) => replaced("its contract was given up".into()),
                    None => Standing::Gone("its contract has ended".into()),
                };
            }
            if let Some(reason) = verdict(&health, now) {
                return replaced(reason);
            }
            if awaited.iter().any(|(awaited, _)| *awaited == index) {
                return Standing::Silent("it has not answered since the recovery".into());
            }
            let silent = now.saturating_sub(health.last_answer.max(health.first_seen));
            if health.is_unreachable() && silent >= options.patience.0 {
                let silent = match silent / 1_000 {
                    seconds @ 0..120 => format!("{seconds} seconds"),
                    seconds => format!("{} minutes", seconds / 60),
                };
                return Standing::Silent(format!("silent for {silent}"));
            }
            Standing::Sound
        };
        let hosts = book.hosts().into_iter();
        Self(hosts.map(|row| (row.index, standing(row.index, row.host))).collect())
    }

    /// The standing of one host.
    pub(super) fn of_host(&self, index: HostIndex) -> Standing {
        let unknown = || Standing::Gone("the table of hosts does not have it".into());
        self.0.get(&index).cloned().unwrap_or_else(unknown)
    }

    /// Whether a host has a contract again whose contract had ended before.
    pub(super) fn has_new_contracts(&self, before: &Self) -> bool {
        let gone = |index: &HostIndex| matches!(before.0.get(index), Some(Standing::Gone(_)));
        self.0.iter().any(|(index, standing)| standing.is_sound() && gone(index))
    }

    /// Whether both make the same of every shard, whatever the reasons say.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.is_alike(other, std::mem::discriminant)
    }

    /// Whether the same hosts are to have shards, and to be without them. One that is replaced may answer by
    /// turns: that changes what is read, and not where shards go.
    pub(super) fn keeps_places_of(&self, other: &Self) -> bool {
        self.is_alike(other, |standing| match standing {
            Standing::Sound => 0,
            Standing::Silent(_) => 1,
            Standing::Leaving(_) | Standing::Replaced(_) => 2,
            Standing::Gone(_) => 3,
        })
    }

    /// Whether both have the same hosts, and the same of what is looked at in each one's standing.
    fn is_alike<K: PartialEq>(&self, other: &Self, of: impl Fn(&Standing) -> K) -> bool {
        let of = |(index, standing): (&HostIndex, &Standing)| (*index, of(standing));
        self.0.iter().map(&of).eq(other.0.iter().map(&of))
    }

    /// Hosts whose shards do not count, with the reason and whether they are gone for good.
    pub(super) fn unsound(&self) -> impl Iterator<Item = (HostIndex, &str, bool)> {
        self.0.iter().filter_map(|(index, standing)| match standing {
            Standing::Sound => None,
            Standing::Silent(reason) => Some((*index, reason.as_str(), false)),
            Standing::Leaving(reason) | Standing::Replaced(reason) | Standing::Gone(reason) => {
                Some((*index, reason.as_str(), true))
            }
        })
    }
}
