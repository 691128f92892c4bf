//! How the demo tells its story: aligned lines for people, JSON lines for programs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::bar::Progress;
use crate::cli::display::{self, Align};
use crate::cli::output::Output;

/// Width of the name of a step.
const NAME: usize = 12;
/// Width of what a step says.
const TEXT: usize = 56;
/// Width of how long it took.
const TIME: usize = 10;

/// Tells one story.
pub struct Teller {
    output: Output,
    started: Instant,
}

/// A step that is under way.
pub struct Step {
    name: &'static str,
    started: Instant,
    /// Shows how far it is.
    pub progress: Progress,
}

/// What a step came to.
#[derive(Debug, Default)]
pub struct Told {
    /// For people.
    pub text: String,
    /// Bytes that were moved, where throughput means something.
    pub bytes: Option<u64>,
    /// For programs.
    pub fields: Value,
}

impl Told {
    /// A text and what programs are told of it.
    #[must_use]
    pub fn new(text: String, fields: Value) -> Self {
        Self { text, bytes: None, fields }
    }

    /// The same, with bytes that were moved meanwhile.
    #[must_use]
    pub const fn moving(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }
}

impl Teller {
    /// A story that begins now.
    #[must_use]
    pub fn new(output: Output) -> Self {
        Self { output, started: Instant::now() }
    }

    /// Where it is told.
    #[must_use]
    pub const fn output(&self) -> Output {
        self.output
    }

    /// How long it has been.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A line of its own.
    pub fn say(&self, text: &str) {
        self.output.say(text);
    }

    /// Begins a step.
    #[must_use]
    pub fn begin(&self, name: &'static str, text: &str) -> Step {
        // The operations' own events would drown the story for programs.
        let progress = Progress::quiet_for_programs(self.output);
        progress.say(text);
        Step { name, started: Instant::now(), progress }
    }

    /// Tells what a step came to.
    pub fn end(&self, step: Step, told: Told) {
        let took = step.started.elapsed();
        step.progress.finish();
        let mut value = json!({ "step": step.name, "seconds": seconds(took) });
        if let (Value::Object(all), Value::Object(fields)) = (&mut value, told.fields) {
            all.extend(fields);
        }
        self.output.message("progress", value);
        self.output.say(&line(step.name, &told.text, Some(took), told.bytes));
    }

    /// A line without a time.
    pub fn note(&self, name: &'static str, text: &str, fields: Value) {
        let mut value = json!({ "step": name });
        if let (Value::Object(all), Value::Object(fields)) = (&mut value, fields) {
            all.extend(fields);
        }
        self.output.message("progress", value);
        self.output.say(&line(name, text, None, None));
    }
}

/// Seconds with three decimals.
#[must_use]
pub fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

fn line(name: &str, text: &str, took: Option<Duration>, bytes: Option<u64>) -> String {
    let mut line = format!(
        "  {} {}",
        display::pad(name, NAME, Align::Left),
        display::pad(text, TEXT, Align::Left)
    );
    if let Some(took) = took {
        line.push_str(&display::pad(&display::duration(took), TIME, Align::Right));
        if let Some(rate) = bytes.and_then(|bytes| display::rate(bytes, took)) {
            line.push_str(&display::pad(&rate, TIME + 3, Align::Right));
        }
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_in_columns() {
        let time = Some(Duration::from_millis(1500));
        let first = line("store", "312 files", time, Some(3_000_000));
        let second = line("back up", "on 8 of 8 hosts", time, None);
        assert_eq!(first.find("1.5 s"), second.find("1.5 s"));
        assert!(first.ends_with("1.5 s     2.0 MB/s"), "{first}");
        assert_eq!(line("words", "twelve", None, None), "  words        twelve");
    }
}
