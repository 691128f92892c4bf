//! Spans of time as people write them: `90s`, `12h`, `30d`, `8w`, `1y`.

use super::exit::Exit;
use super::failure::Failure;

/// Units and their seconds.
const UNITS: [(&str, u64); 6] =
    [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800), ("y", 31_536_000)];

/// The seconds of a span.
///
/// # Errors
/// A usage failure for anything but a number above zero and a unit.
pub fn parse_span(text: &str) -> Result<u64, Failure> {
    let wrong = || {
        Failure::new(
            Exit::Usage,
            format!("'{text}' is no span of time: write 90s, 15m, 12h, 30d, 8w or 1y"),
        )
    };
    let (unit, seconds) = UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(wrong)?;
    let number = text.strip_suffix(unit).ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(*seconds).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// Days by the number of days that they come after a Thursday, as which the epoch began.
const DAYS: [&str; 7] = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
const DAY: u64 = 86_400;

/// The seconds after each multiple of `every` that a text names: `02:00`, of weeks `sun 02:00`, or a span.
///
/// # Errors
/// A usage failure, also for what does not lie within `every`.
pub fn parse_time(text: &str, every: u64) -> Result<u64, Failure> {
    let wrong = || {
        let span = show_span(every);
        let message = format!("'{text}' is no time within {span}: write 02:00, 'sun 02:00' or 5m");
        Failure::new(Exit::Usage, message)
    };
    let (day, time) = match text.split_once(' ') {
        Some((day, time)) => (Some(day), time.trim()),
        None => (None, text),
    };
    let days = match day {
        Some(day) if every.is_multiple_of(7 * DAY) => {
            let day = day.to_lowercase();
            DAYS.iter().position(|name| *name == day).ok_or_else(wrong)? as u64
        }
        Some(_) => return Err(wrong()),
        None => 0,
    };
    let seconds = match time.split_once(':') {
        Some((hours, minutes)) => {
            let hours: u64 = hours.parse().ok().filter(|hours| *hours < 24).ok_or_else(wrong)?;
            let minutes: u64 = minutes.parse().ok().filter(|m| *m < 60).ok_or_else(wrong)?;
            hours * 3_600 + minutes * 60
        }
        None => parse_span(time)?,
    };
    (days * DAY).checked_add(seconds).filter(|at| *at < every).ok_or_else(wrong)
}

/// A time within an interval as people write it.
#[must_use]
pub fn show_time(at: u64, every: u64) -> String {
    let clock = format!("{:02}:{:02}", at % DAY / 3_600, at % 3_600 / 60);
    match at {
        _ if !at.is_multiple_of(60) || every > 7 * DAY => show_span(at),
        _ if every == 7 * DAY => {
            let day = usize::try_from(at / DAY).ok().and_then(|day| DAYS.get(day));
            format!("{} {clock}", day.unwrap_or(&DAYS[0]))
        }
        _ if every == DAY => clock,
        _ => show_span(at),
    }
}

/// A span in the largest unit that has no rest; years are days to people.
#[must_use]
pub fn show_span(seconds: u64) -> String {
    let fits = |(unit, size): &&(&str, u64)| *unit != "y" && seconds.is_multiple_of(*size);
    let found = UNITS.iter().rev().find(fits).filter(|_| seconds > 0);
    found.map_or_else(|| format!("{seconds}s"), |(unit, size)| format!("{}{unit}", seconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_number_and_a_unit() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("1y", 31_536_000)]
        {
            assert_eq!(parse_span(text).unwrap(), seconds);
        }
        for text in ["", "5", "d", "0d", "-1d", "5 days", "99999999999999999999w", "3ss"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_lie_within_their_interval() {
        let (day, week) = (DAY, 7 * DAY);
        for (text, every, at) in [
            ("02:00", day, 7_200),
            ("23:59", day, 86_340),
            ("sun 02:00", week, 3 * day + 7_200),
            ("THU 00:00", week, 0),
            ("5m", 3_600, 300),
        ] {
            let seconds = parse_time(text, every).unwrap();
            assert_eq!(seconds, at);
            assert_eq!(show_time(at, every), text.to_lowercase());
        }
        for (text, every) in [
            ("24:00", day),
            ("02:60", day),
            ("sun 02:00", day),
            ("02:00", 3_600),
            ("2", day),
            ("", day),
        ] {
            assert!(parse_time(text, every).is_err(), "{text}");
        }
        let shown = [90, 3_600, 172_800, 604_800, 31_536_000, 0].map(show_span);
        assert_eq!(shown, ["90s", "1h", "2d", "1w", "365d", "0s"]);
    }
}
