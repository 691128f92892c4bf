//! Which scheduled backups are kept, and why: a pure rule over what there is.
//!
//! As in restic: of each of the last so many hours, days, weeks, months and years in which there is a backup,
//! the newest is kept; so are the last so many, and all within a span of the newest. What no rule keeps is
//! forgotten. Time is the chain's, in UTC; weeks begin on Monday. Pinned backups, and those that a person
//! made, are not the rule's business.

use std::collections::BTreeSet;

use samara_protocol::units::{ChainTime, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// The epoch began on a Thursday.
const MONDAY: u64 = 3 * DAY;

/// How many to keep; a rule without any number keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The last so many.
    pub last: u32,
    /// One for each of the last so many hours that have any.
    pub hourly: u32,
    /// The same of days.
    pub daily: u32,
    /// The same of weeks.
    pub weekly: u32,
    /// The same of months.
    pub monthly: u32,
    /// The same of years.
    pub yearly: u32,
    /// All that are not older than so many seconds, counted from the newest.
    pub within: u64,
}

/// A backup as the rule sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<I> {
    /// Which.
    pub id: I,
    /// When it was made.
    pub time: ChainTime,
}

/// What becomes of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict<I> {
    /// Which.
    pub id: I,
    /// Whether it stays.
    pub keep: bool,
    /// Why, in plain words.
    pub reasons: Vec<String>,
}

impl Retention {
    /// Whether it keeps everything.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }

    /// What becomes of each backup; newest first.
    #[must_use]
    pub fn judge<I>(&self, mut backups: Vec<Candidate<I>>) -> Vec<Verdict<I>> {
        backups.sort_by_key(|backup| std::cmp::Reverse(backup.time));
        let newest = backups.first().map(|backup| backup.time).unwrap_or_default();
        let mut rules = self.rules();
        let mut verdicts = Vec::new();
        for (index, Candidate { id, time }) in backups.into_iter().enumerate() {
            let mut reasons = Vec::new();
            if self.keeps_all() {
                reasons.push("no rule is set: all are kept".to_owned());
            }
            if index < self.last as usize {
                reasons.push(format!("one of the last {}", self.last));
            }
            if self.within > 0 && newest.since(time) <= Millis(self.within.saturating_mul(1_000)) {
                reasons.push("within the span of the newest".to_owned());
            }
            reasons.extend(rules.iter_mut().filter_map(|rule| rule.take(time)));
            let keep = !reasons.is_empty();
            if !keep {
                reasons.push("no rule keeps it".to_owned());
            }
            verdicts.push(Verdict { id, keep, reasons });
        }
        verdicts
    }

    fn rules(&self) -> [Rule; 5] {
        [
            Rule::new("hour", self.hourly, |time| i64_of(time / HOUR)),
            Rule::new("day", self.daily, |time| i64_of(time / DAY)),
            Rule::new("week", self.weekly, |time| i64_of(time.saturating_add(MONDAY) / WEEK)),
            Rule::new("month", self.monthly, |time| {
                let (year, month) = year_and_month(time);
                year * 12 + i64::from(month)
            }),
            Rule::new("year", self.yearly, |time| year_and_month(time).0),
        ]
    }
}

/// Keeps the newest of each period, of so many periods.
struct Rule {
    name: &'static str,
    most: usize,
    period: fn(u64) -> i64,
    seen: BTreeSet<i64>,
}

impl Rule {
    const fn new(name: &'static str, most: u32, period: fn(u64) -> i64) -> Self {
        Self { name, most: most as usize, period, seen: BTreeSet::new() }
    }

    /// Why the next older backup is kept, if it is.
    fn take(&mut self, time: ChainTime) -> Option<String> {
        let new = self.seen.len() < self.most && self.seen.insert((self.period)(time.0));
        new.then(|| format!("newest of its {}", self.name))
    }
}

fn i64_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Year and month of a moment in UTC.
fn year_and_month(time: u64) -> (i64, u8) {
    let (year, month, _) = civil(time);
    (year, month)
}

/// Year, month and day of a moment in UTC, by the civil calendar (H. Hinnant, "chrono-compatible low-level
/// date algorithms", `civil_from_days`).
pub(super) fn civil(time: u64) -> (i64, u8, u8) {
    let days = i64_of(time / DAY) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, u8::try_from(month).unwrap_or(12), u8::try_from(day).unwrap_or(31))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64, hours: u64) -> ChainTime {
        // 2026-01-01, a Thursday.
        ChainTime(20_454 * DAY + days * DAY + hours * HOUR)
    }

    fn kept(retention: Retention, times: &[ChainTime]) -> Vec<usize> {
        let backups =
            times.iter().enumerate().map(|(id, time)| Candidate { id, time: *time }).collect();
        let mut kept: Vec<usize> = retention
            .judge(backups)
            .into_iter()
            .filter(|verdict| verdict.keep)
            .map(|verdict| verdict.id)
            .collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn months_and_years_are_those_of_the_calendar() {
        for (time, expected) in [
            (0, (1970, 1)),
            (951_782_400_000, (2000, 2)),
            (951_868_800_000, (2000, 3)),
            (1_709_164_800_000, (2024, 2)),
            (1_767_225_599_999, (2025, 12)),
            (1_767_225_600_000, (2026, 1)),
        ] {
            assert_eq!(year_and_month(time), expected, "{time}");
        }
    }

    #[test]
    fn nothing_set_keeps_everything() {
        let times = [at(0, 0), at(1, 0), at(400, 0)];
        assert_eq!(kept(Retention::default(), &times), [0, 1, 2]);
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        // Two a day for forty days.
        let times: Vec<ChainTime> = (0..40).flat_map(|day| [at(day, 3), at(day, 15)]).collect();
        let last = Retention { last: 3, ..Retention::default() };
        assert_eq!(kept(last, &times), [77, 78, 79]);
        let daily = Retention { daily: 3, ..Retention::default() };
        assert_eq!(kept(daily, &times), [75, 77, 79]);
        // The fortieth day is Monday, 9 February: the weeks before end on Sundays.
        let weekly = Retention { weekly: 2, ..Retention::default() };
        assert_eq!(kept(weekly, &times), [77, 79]);
        let monthly = Retention { monthly: 5, ..Retention::default() };
        assert_eq!(kept(monthly, &times), [61, 79]);
        let yearly = Retention { yearly: 1, ..Retention::default() };
        assert_eq!(kept(yearly, &times), [79]);
        let within = Retention { within: 2 * 86_400, ..Retention::default() };
        assert_eq!(kept(within, &times), [75, 76, 77, 78, 79]);
    }

    #[test]
    fn every_verdict_has_a_reason() {
        let rule = Retention { last: 1, daily: 1, ..Retention::default() };
        let backups = [at(0, 1), at(1, 1)].map(|time| Candidate { id: time.0, time });
        let verdicts = rule.judge(backups.into());
        assert_eq!(verdicts[0].reasons, ["one of the last 1", "newest of its day"]);
        assert_eq!(
            (verdicts[1].keep, verdicts[1].reasons.as_slice()),
            (false, &["no rule keeps it".to_owned()][..])
        );
    }
}
