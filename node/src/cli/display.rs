//! Tables, sizes, durations and counts for people.

use std::time::Duration;

use samara_protocol::units::Amount;

/// A table with aligned columns, its header in capitals.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// On which side a column's texts end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

impl Table {
    /// A table with these columns and no rows yet.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; one text per column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines; a line never ends in spaces.
    #[must_use]
    pub fn render(&self) -> String {
        let header: Vec<String> =
            self.columns.iter().map(|(name, _)| name.to_uppercase()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = std::iter::once(&header).chain(&self.rows);
                cells.filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (cell, ((_, align), width)) in row.iter().zip(self.columns.iter().zip(&widths)) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                line.push_str(&pad(cell, *width, *align));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text without anything that a terminal would obey: control characters and marks that turn the
/// direction of writing are shown by their numbers. Names of files are other people's words.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a terminal obeys a character instead of showing it.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// The text that [`plain`] has shown, for one that had no backslash: neither vaults nor the paths in them
/// have any. What `plain` does not write stays as it is.
#[must_use]
pub fn from_plain(shown: &str) -> String {
    let mut parts = shown.split("\\u{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let escaped = part.split_once('}').and_then(|(digits, rest)| {
            let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
            is_obeyed(c).then_some((c, rest))
        });
        match escaped {
            Some((c, rest)) => {
                text.push(c);
                text.push_str(rest);
            }
            None => {
                text.push_str("\\u{");
                text.push_str(part);
            }
        }
    }
    text
}

/// The beginning of a text that is too long for a table's last column.
#[must_use]
pub fn brief(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let start: String = text.chars().take(most.saturating_sub(3)).collect();
    format!("{}...", start.trim_end())
}

/// Columns that a text takes; wide letters are counted as one, which only shifts what follows them.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// A text filled with spaces to a width.
#[must_use]
pub fn pad(text: &str, wanted: usize, align: Align) -> String {
    let fill = " ".repeat(wanted.saturating_sub(width(text)));
    match align {
        Align::Left => format!("{text}{fill}"),
        Align::Right => format!("{fill}{text}"),
    }
}

/// Bytes in units of a thousand: `512 B`, `1.5 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be rounded to 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 99.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Bytes in a time, as bytes a second; nothing for a time or bytes too small to tell.
#[must_use]
pub fn rate(bytes: u64, time: Duration) -> Option<String> {
    (time >= Duration::from_millis(1) && bytes >= 100_000)
        .then(|| format!("{}/s", size((bytes as f64 / time.as_secs_f64()) as u64)))
}

/// A span of time: `120 ms`, `4.2 s`, `2 min 5 s`, `1 h 2 min`, `30 d`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let milliseconds = time.as_millis();
    let seconds = (time.as_secs_f64()).round() as u64;
    match milliseconds {
        0..950 => format!("{milliseconds} ms"),
        950..59_950 => format!("{:.1} s", time.as_secs_f64()),
        _ if seconds < 3600 => parts(seconds / 60, "min", seconds % 60, "s"),
        _ if seconds < 172_800 => parts(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => parts(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// Two units; the smaller one only where there is something of it.
fn parts(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {small_unit}"),
    }
}

/// A number and its noun: `1 file`, `1,234 files`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{} {}", thousands(number), plural(noun)),
    }
}

fn plural(noun: &str) -> String {
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{noun}s"),
    }
}

/// A number with its thousands apart.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A moment in UTC, from milliseconds since the Unix epoch: `2026-11-21 09:30`.
#[must_use]
pub fn moment(milliseconds: u64) -> String {
    let minutes = milliseconds / 60_000;
    let (year, month, day) = civil(minutes / 1440);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, `civil_from_days`).
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The first characters of a long hex text.
#[must_use]
pub fn short(hex: &str) -> String {
    hex.chars().take(12).collect()
}

/// The number of an epoch, which is what people tell epochs apart by; its writer stays out.
#[must_use]
pub fn epoch(text: &str) -> &str {
    text.split('.').next().unwrap_or_default()
}

/// Lines of a report: what each is about, in a column of its own, and items below.
#[derive(Debug, Default, Clone)]
pub struct Lines(String);

/// Width of the labels of [`Lines`].
const LABEL: usize = 13;

impl Lines {
    /// Adds a line.
    pub fn line(&mut self, label: &str, text: impl AsRef<str>) {
        let text = rounded(&plain(text.as_ref()));
        let line = format!("{}{text}", pad(label, LABEL, Align::Left));
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    /// Adds an item below the last line.
    pub fn item(&mut self, text: impl AsRef<str>) {
        self.line("", text);
    }

    /// The text.
    #[must_use]
    pub fn render(self) -> String {
        self.0
    }
}

/// A text whose amounts of coins have as many decimals as people want to read: six, or of less than a
/// coin the first four digits that mean something.
#[must_use]
pub fn rounded(text: &str) -> String {
    const UNIT: &str = " SAM";
    let mut rest = text;
    let mut shown = String::with_capacity(text.len());
    while let Some(at) = rest.find(UNIT) {
        let (before, after) = rest.split_at(at);
        let number = before.rfind(|c: char| !c.is_ascii_digit() && c != '.');
        let start =
            number.map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        shown.push_str(&before[..start]);
        shown.push_str(short_number(&before[start..]));
        shown.push_str(UNIT);
        rest = &after[UNIT.len()..];
    }
    shown + rest
}

fn short_number(number: &str) -> &str {
    let Some((whole, decimals)) = number.split_once('.') else { return number };
    let zeros = decimals.len() - decimals.trim_start_matches('0').len();
    let kept = if whole == "0" { zeros + 4 } else { 6 };
    match decimals.get(..kept).map(|kept| kept.trim_end_matches('0').len()) {
        None => number,
        Some(0) => whole,
        Some(kept) => &number[..whole.len() + 1 + kept],
    }
}

/// An amount with at most four decimals, for tables.
pub fn coins(amount: Amount) -> String {
    let text = amount.to_string();
    let Some((number, unit)) = text.split_once(' ') else { return text };
    match number.split_once('.') {
        Some(("0", decimals)) if decimals.starts_with("0000") => format!("<0.0001 {unit}"),
        Some((whole, decimals)) if decimals.len() > 4 => {
            format!("{whole}.{} {unit}", &decimals[..4])
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_no_orders_to_a_terminal() {
        assert_eq!(plain("été 日本.txt"), "été 日本.txt");
        let shown = plain("a\u{1b}[2J\n\u{202e}b");
        assert_eq!(shown, "a\\u{1b}[2J\\u{a}\\u{202e}b");
    }

    #[test]
    fn amounts_in_texts_are_short() {
        let cases = [
            ("needs 100.000005999999999996 SAM, has 3 SAM", "needs 100.000005 SAM, has 3 SAM"),
            ("12498749.87500314961685504 SAM", "12498749.875003 SAM"),
            ("é 100.000000000000000001 SAM", "é 100 SAM"),
            ("at most 0.000000000000123456 SAM each", "at most 0.0000000000001234 SAM each"),
            ("2.5 SAM SAM", "2.5 SAM SAM"),
            ("no amounts", "no amounts"),
        ];
        for (text, expected) in cases {
            assert_eq!(rounded(text), expected);
        }
    }

    #[test]
    fn sizes_have_two_or_three_digits_that_mean_something() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (14_249_000, "14.2 MB"),
            (99_960_000, "100 MB"),
            (999_960_000, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_use_the_unit_that_fits() {
        let cases = [
            (0, "0 ms"),
            (949, "949 ms"),
            (950, "0.9 s"),
            (4_210, "4.2 s"),
            (59_949, "59.9 s"),
            (59_960, "1 min"),
            (125_000, "2 min 5 s"),
            (3_720_000, "1 h 2 min"),
            (86_400_000, "24 h"),
            (2_592_000_000, "30 d"),
        ];
        for (milliseconds, text) in cases {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn rates_are_only_told_when_there_is_one() {
        assert_eq!(rate(10_000_000, Duration::from_millis(500)).as_deref(), Some("20.0 MB/s"));
        assert_eq!(rate(10, Duration::ZERO), None);
        assert_eq!(rate(99_999, Duration::from_secs(1)), None);
    }

    #[test]
    fn numbers_and_nouns_agree() {
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(1_234_567, "entry"), "1,234,567 entries");
        assert_eq!(count(2, "day"), "2 days");
    }

    #[test]
    fn moments_follow_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(moment(1_795_253_400_000), "2026-11-21 09:30");
    }

    #[test]
    fn tables_align_and_do_not_end_in_spaces() {
        let mut table = Table::new(&[("name", Align::Left), ("size", Align::Right)]);
        table.row(["a".into(), "1.0 kB".into()]);
        table.row(["größer".into(), "2 B".into()]);
        assert_eq!(table.render(), "NAME      SIZE\na       1.0 kB\ngrößer     2 B\n");
    }

    #[test]
    fn what_was_shown_plainly_is_read_back() {
        for text in
            ["a\nb\u{1b}[1m", "\u{202e}txt.exe\u{7f}", "plain", "", "u{a}", "größer\u{200f}"]
        {
            assert_eq!(from_plain(&plain(text)), text);
        }
        // Nothing else hides behind digits, least of all what parts a path.
        for text in ["a\\u{2f}b", "a\\u{2e}", "\\u{", "\\u{}", "\\u{x}", "\\u{110000}", "a\\b"] {
            assert_eq!(from_plain(text), text);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(brief("no answer", 9), "no answer");
        assert_eq!(brief("no answer yet", 12), "no answer...");
    }

    #[test]
    fn labels_stand_in_a_column() {
        let mut lines = Lines::default();
        lines.line("stored", "2 files");
        lines.item("a\n");
        assert_eq!(lines.render(), "stored       2 files\n             a\\u{a}\n");
    }

    #[test]
    fn amounts_in_tables_are_short() {
        let third = Amount(333_333_333_333_333_333);
        assert_eq!(coins(third), "0.3333 SAM");
        assert_eq!(coins(Amount(1)), "<0.0001 SAM");
        assert_eq!(coins(Amount::coins(7)), "7 SAM");
    }
}
