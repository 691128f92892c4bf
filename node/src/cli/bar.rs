//! Bars on a terminal, from the events of a long operation.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use samara_renter::progress::{Phase, ProgressEvent, Unit};
use serde_json::Value;

use super::display;
use super::output::Output;

/// Shows one operation: JSON lines for programs, a bar for people, nothing where neither is there.
pub struct Progress {
    output: Output,
    passes_on: bool,
    bar: ProgressBar,
    /// How far it is, as it was shown last.
    state: String,
}

impl Progress {
    /// Shows an operation that begins now.
    #[must_use]
    pub fn new(output: Output) -> Self {
        let target = if output.is_watched() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(spinner());
        if output.is_watched() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self { output, passes_on: true, bar, state: String::new() }
    }

    /// The same, but programs are not told of the operation's events.
    #[must_use]
    pub fn quiet_for_programs(output: Output) -> Self {
        let mut progress = Self::new(output);
        progress.passes_on = false;
        progress
    }

    /// Says what is done, where no event does.
    pub fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// A line that stays, above the bar.
    pub fn line(&self, text: &str) {
        if self.output.is_watched() {
            self.bar.println(text);
        } else {
            self.output.news(text);
        }
    }

    /// Takes one event as the API sent it.
    pub fn take(&mut self, value: Value) {
        if self.output.is_json() {
            if self.passes_on {
                self.output.message("progress", value);
            }
            return;
        }
        // An event of a newer daemon is not worth failing for.
        let Ok(event) = serde_json::from_value(value) else { return };
        self.show(&event);
    }

    fn show(&mut self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Advanced { phase, item, done, total, unit, rate, seconds_left } => {
                let total = total.filter(|total| *total > 0);
                match total {
                    Some(total) => {
                        self.bar.set_style(measured());
                        self.bar.set_length(total);
                    }
                    None => self.bar.set_style(spinner()),
                }
                self.bar.set_position(*done);
                // What is sent is not stored before hosts and head set have said so.
                let is_sent = *phase == Phase::Storing && total == Some(*done);
                self.bar.set_prefix(verb(if is_sent { Phase::Acknowledging } else { *phase }));
                self.state = state(*done, total, *unit, *rate, *seconds_left);
                self.name(item.as_deref().unwrap_or_default());
            }
            ProgressEvent::Finished { item, .. } => self.name(item),
            ProgressEvent::Resumed { item, done, .. } => {
                let (item, done) = (display::plain(item), display::size(*done));
                self.bar.println(format!("{item}: goes on after {done} that are stored already"));
            }
            // The report at the end lists them.
            ProgressEvent::Skipped { .. } | ProgressEvent::Failed { .. } => {}
            ProgressEvent::ContractsFound { count } => {
                self.name(&format!("{} found", display::count(*count, "contract")));
            }
            // A story tells that itself.
            ProgressEvent::NamesAvailable { .. } if !self.passes_on => {}
            ProgressEvent::NamesAvailable { files, bytes } => {
                let (files, bytes) = (display::count(*files, "file"), display::size(*bytes));
                self.bar.println(format!("{files}, {bytes} can be listed from now on"));
            }
        }
    }

    /// Shows what is being worked on, behind how far it is.
    fn name(&self, item: &str) {
        let item = display::plain(&tail(item));
        let message = if self.state.is_empty() { item } else { format!("{}  {item}", self.state) };
        self.bar.set_message(message);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("  {spinner} {prefix} {wide_msg}")
        .expect("invariant: the template is constant")
}

fn measured() -> ProgressStyle {
    ProgressStyle::with_template("  {prefix:<12} {bar:24} {wide_msg}")
        .expect("invariant: the template is constant")
        .progress_chars("=> ")
}

/// What a phase does, for the front of a bar.
#[must_use]
pub const fn verb(phase: Phase) -> &'static str {
    match phase {
        Phase::Walking => "listing",
        Phase::Storing => "storing",
        Phase::Acknowledging => "confirming",
        Phase::Settling => "settling",
        Phase::Scanning => "scanning",
        Phase::Asking => "asking",
        Phase::Reading => "reading",
        Phase::Claiming => "claiming",
        Phase::Adopting => "reading names",
        Phase::TakingOver => "taking over",
        Phase::Restoring => "restoring",
        Phase::Archiving => "archiving",
        Phase::Replaying => "restoring events",
        Phase::VerifyingNames => "verifying names",
        Phase::VerifyingData => "verifying",
    }
}

/// `3 of 9 blocks  40/s  2 s left`.
fn state(
    done: u64,
    total: Option<u64>,
    unit: Unit,
    rate: Option<u64>,
    seconds_left: Option<u64>,
) -> String {
    let bytes = unit == Unit::Bytes;
    let number = |n: u64| if bytes { display::size(n) } else { display::thousands(n) };
    let noun = match unit {
        Unit::Bytes => "",
        Unit::Blocks => " blocks",
        Unit::Files => " files",
        Unit::Hosts => " hosts",
        Unit::Segments => " parts",
        Unit::Events => " events",
    };
    let mut text = match total {
        Some(total) => format!("{} of {}{noun}", number(done), number(total)),
        None => format!("{}{noun}", number(done)),
    };
    // Hosts answer or do not: so many a second means nothing.
    let paced = !matches!(unit, Unit::Hosts);
    if let Some(rate) = rate.filter(|_| paced) {
        text.push_str(&format!("  {}/s", number(rate)));
    }
    if let Some(seconds) = seconds_left.filter(|seconds| *seconds > 0 && paced) {
        text.push_str(&format!("  {} left", display::duration(Duration::from_secs(seconds))));
    }
    text
}

/// The end of a long path.
fn tail(item: &str) -> String {
    const LONGEST: usize = 40;
    let length = item.chars().count();
    if length <= LONGEST {
        return item.to_owned();
    }
    format!("…{}", item.chars().skip(length - LONGEST + 1).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_tells_how_far_how_fast_and_how_long() {
        let text = state(4_000_000, Some(8_000_000), Unit::Bytes, Some(2_000_000), Some(2));
        assert_eq!(text, "4.0 MB of 8.0 MB  2.0 MB/s  2.0 s left");
        assert_eq!(state(1200, None, Unit::Blocks, None, None), "1,200 blocks");
        assert_eq!(state(4, Some(6), Unit::Hosts, Some(1_000), Some(1)), "4 of 6 hosts");
    }

    #[test]
    fn long_paths_keep_their_end() {
        let path = format!("{}/file.txt", "folder".repeat(20));
        assert_eq!(tail(&path).chars().count(), 40);
        assert!(tail(&path).ends_with("/file.txt"));
        assert_eq!(tail("short"), "short");
    }

    #[test]
    fn an_unknown_event_is_passed_over() {
        let mut progress = Progress::new(Output::new(false));
        progress.take(serde_json::json!({ "event": "news_from_the_future" }));
    }
}
