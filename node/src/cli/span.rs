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
    let number: u64 = text.trim_end_matches(unit).trim().parse().map_err(|_| wrong())?;
    number.checked_mul(*seconds).filter(|seconds| *seconds > 0).ok_or_else(wrong)
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
}
