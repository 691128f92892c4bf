//! Where a notice goes, and when a delivery that failed is tried again.

use samara_protocol::units::{ChainTime, Millis};

use super::Refusal;
use super::kept::{Delivery, State, Target};
use super::notice::{Notice, one_line};
use super::settings::NotifySettings;

/// Pause after the first try.
pub(super) const FIRST: Millis = Millis::seconds(30);
/// Longest pause between two tries.
pub(super) const LONGEST: Millis = Millis::hours(6);
/// How long a delivery is tried.
const PATIENCE: Millis = Millis::hours(72);
/// How soon settings that could not be read are read again.
pub(super) const SETTINGS_AGAIN: Millis = Millis::seconds(30);
/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 500;

/// What came of one try.
pub(super) enum Outcome {
    Delivered,
    Failed(Refusal),
    /// The settings name no such mail or webhook any more.
    NoTarget,
    /// The settings cannot be read: it was not tried.
    NotNow,
}

/// How long to wait after so many tries: 30 s, 1 min, ... 6 h, and up to a quarter more, so that not all
/// come at once.
fn pause(attempts: u32, random: u32) -> Millis {
    let doubled = FIRST.0.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let pause = doubled.min(LONGEST.0 * 4 / 5);
    Millis((pause + pause / 4 * u64::from(random) / u64::from(u32::MAX)).min(LONGEST.0))
}

/// Where a notice goes by these settings.
pub(super) fn deliveries(
    settings: &NotifySettings,
    notice: &Notice,
    now: ChainTime,
) -> Vec<Delivery> {
    if settings.off.contains(&notice.kind) {
        return Vec::new();
    }
    let mail = settings.mail.iter().map(|_| Target::Mail);
    let hooks = settings.webhooks.iter().filter(|hook| {
        !hook.disabled && (hook.kinds.is_empty() || hook.kinds.contains(&notice.kind))
    });
    let targets = mail.chain(hooks.map(|hook| Target::Webhook(hook.id)));
    targets.map(|target| Delivery::due(target, now)).collect()
}

/// The legal transitions of a delivery. What is not waiting stays as it is.
///
/// ```text
/// Waiting -> Delivered | Dropped | GivenUp (after 72 h, or gone) | Waiting (later)
/// ```
pub(super) fn step(
    delivery: &mut Delivery,
    outcome: &Outcome,
    taken: ChainTime,
    now: ChainTime,
    random: u32,
) {
    if !matches!(delivery.state, State::Waiting(_)) {
        return;
    }
    let later = |pause: Millis| State::Waiting(ChainTime(now.0.saturating_add(pause.0)));
    match outcome {
        Outcome::Delivered => {
            delivery.attempts = delivery.attempts.saturating_add(1);
            delivery.state = State::Delivered(now);
            delivery.error = None;
        }
        Outcome::NoTarget => delivery.state = State::Dropped,
        Outcome::NotNow => delivery.state = later(SETTINGS_AGAIN),
        Outcome::Failed(refusal) => {
            delivery.attempts = delivery.attempts.saturating_add(1);
            delivery.error = Some(one_line(&refusal.reason, MAX_REASON));
            let is_late = now.0.saturating_sub(taken.0) >= PATIENCE.0;
            delivery.state = match is_late || refusal.gone {
                true => State::GivenUp(now),
                false => later(pause(delivery.attempts, random)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_six_hours() {
        let minutes = |attempts| pause(attempts, 0).0 / 60_000;
        assert_eq!(pause(1, 0), FIRST);
        assert_eq!([2, 3, 4, 8].map(minutes), [1, 2, 4, 64]);
        for attempts in [0, 1, 5, 9, 10, 11, 40, u32::MAX] {
            let (least, most) = (pause(attempts, 0), pause(attempts, u32::MAX));
            assert!(FIRST <= least && least < most && most <= LONGEST, "{attempts}");
        }
        assert_eq!(pause(40, u32::MAX), LONGEST);
    }

    #[test]
    fn a_delivery_is_tried_for_three_days() {
        let mut delivery = Delivery::due(Target::Mail, ChainTime(0));
        let refusal = Refusal { reason: "no\r\nBcc: x".to_owned(), gone: false };
        let failed = Outcome::Failed(refusal);
        let mut now = ChainTime(0);
        while let State::Waiting(due) = delivery.state {
            assert!(due >= now);
            now = due;
            step(&mut delivery, &failed, ChainTime(0), now, 7);
        }
        assert_eq!(delivery.state, State::GivenUp(now));
        assert!(now.0 >= PATIENCE.0 && now.0 <= PATIENCE.0 + LONGEST.0);
        assert!((15..40).contains(&delivery.attempts), "{}", delivery.attempts);
        assert_eq!(delivery.error.as_deref(), Some("no\\u{d}\\u{a}Bcc: x"));
        let given_up = delivery.clone();
        step(&mut delivery, &Outcome::Delivered, ChainTime(0), now, 7);
        assert_eq!(delivery, given_up);
    }
}
