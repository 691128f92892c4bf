//! How good a host is: price, uptime, latency, age.

use samara_protocol::host::Prices;
use samara_protocol::units::{Amount, Millis};

use super::reports::HostHealth;

/// Best possible score.
pub const BEST: u32 = 1_000;

/// Failures in a row after which a host counts as gone.
const GONE: u32 = 20;
/// How long it must have been silent as well, milliseconds on this machine.
const SILENCE: u64 = 3_600_000;
/// False answers after which a host is replaced.
const LIES: u64 = 3;

/// Sectors lost after which a host is replaced.
const LOSSES: u64 = 3;

/// What a byte costs: stored for a term, sent there once and read once. For comparing hosts.
#[must_use]
pub fn byte_price(prices: &Prices, term: Millis) -> Amount {
    let hours = u128::from(term.0 / Millis::hours(1).0).max(1);
    let stored = prices.storage.saturating_mul(hours);
    stored.saturating_add(prices.upload).saturating_add(prices.download)
}

/// Score of a host, 0 to [`BEST`]: 400 for its price against the cheapest, 400 for answering, 100 for
/// answering soon (half at 100 ms), 100 for being known for 30 days.
#[must_use]
pub fn score(price: Amount, cheapest: Amount, health: &HostHealth, now: u64) -> u32 {
    let share = |part: u128, whole: u128, of: u128| -> u32 {
        let value = part.saturating_mul(of).checked_div(whole).unwrap_or(of);
        u32::try_from(value.min(of)).unwrap_or_default()
    };
    let price = share(cheapest.0, price.0, 400);
    let failed = u128::from(health.failed) + u128::from(health.refused);
    let answered = u128::from(health.answered) + 4;
    let uptime = share(answered, answered + 4 * failed, 400);
    let latency = share(100, 100 + u128::from(health.latency), 100);
    let known = if health.first_seen == 0 { 0 } else { now.saturating_sub(health.first_seen) };
    let age = share(u128::from(known), 30 * 86_400_000, 100);
    let broken = health.false_answers.saturating_add(health.lost_sectors);
    let lies = u32::try_from(broken.min(4)).unwrap_or(4) * 250;
    (price + uptime + latency + age).saturating_sub(lies)
}

/// Whether a host has done what hosts are replaced for, though it answers.
#[must_use]
pub fn has_failed_its_duty(health: &HostHealth) -> bool {
    breach(health).is_some()
}

/// Why a host with a contract should be replaced, if it should.
#[must_use]
pub fn verdict(health: &HostHealth, now: u64) -> Option<String> {
    breach(health).or_else(|| silence(health, now))
}

/// What a host has done that hosts are replaced for, though they answer.
fn breach(health: &HostHealth) -> Option<String> {
    if health.false_answers >= LIES {
        return Some(format!("it gave {} false answers", health.false_answers));
    }
    if health.lost_sectors >= LOSSES {
        return Some(format!("it lost {} sectors", health.lost_sectors));
    }
    None
}

/// How long a host has been silent, if that is too long.
fn silence(health: &HostHealth, now: u64) -> Option<String> {
    let silent = now.saturating_sub(health.last_answer.max(health.first_seen));
    if health.failing >= GONE && silent >= SILENCE {
        let minutes = silent / 60_000;
        return Some(format!("{} calls in a row failed over {minutes} minutes", health.failing));
    }
    None
}
