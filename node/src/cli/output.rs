//! Where results go: JSON for programs, or texts for people; and what people are asked.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use super::failure::Failure;

/// How this run shows what it found.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// As `--json` says.
    #[must_use]
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    #[must_use]
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches, so that bars and questions make sense.
    #[must_use]
    pub fn is_watched(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// The answer of a short command: one JSON value, or a text for people.
    pub fn answer<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        if self.json {
            self.line(&json_of(value));
        } else {
            print(&text());
        }
    }

    /// The last line of a long command.
    pub fn result<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        if self.json {
            self.message("result", json_of(value));
        } else {
            print(&text());
        }
    }

    /// One line of a long command's JSON; nothing for people, who have bars and texts.
    pub fn message(self, kind: &str, value: Value) {
        if !self.json {
            return;
        }
        let mut line = json!({ "message_type": kind });
        match (&mut line, value) {
            (Value::Object(line), Value::Object(fields)) => line.extend(fields),
            (Value::Object(line), other) => {
                line.insert("value".to_owned(), other);
            }
            _ => {}
        }
        self.line(&line);
    }

    /// Bytes as they are, whoever reads them.
    pub fn raw(self, bytes: &[u8]) {
        write(bytes);
    }

    /// News for people while results go elsewhere; programs get them as messages.
    pub fn news(self, text: &str) {
        if !self.json {
            let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
        }
    }

    /// A sentence for people.
    pub fn say(self, text: &str) {
        if !self.json {
            print(&format!("{text}\n"));
        }
    }

    /// What went wrong: a JSON line, or a message on standard error.
    pub fn failure(self, failure: &Failure) {
        if self.json {
            self.message("error", failure.to_json());
        } else {
            // Nothing better can be done when standard error is closed.
            let _ = io::stderr().write_all(failure.to_text().as_bytes());
        }
    }

    fn line(self, value: &Value) {
        print(&format!("{value}\n"));
    }
}

fn json_of<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("invariant: answers are structs, lists and texts")
}

/// Writes to standard output; a reader that has gone away wants no more.
fn print(text: &str) {
    write(text.as_bytes());
}

fn write(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes);
    let _ = out.flush();
}

/// Asks a person on a thread of its own, so that Ctrl-C is heard meanwhile. An end of the thread is an
/// end of the input.
pub async fn typed<T: Default + Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(ask).await.unwrap_or_default()
}

/// A line that a person typed; nothing at the end of the input.
pub fn ask(prompt: &str) -> Option<String> {
    io::stderr().write_all(prompt.as_bytes()).ok()?;
    io::stderr().flush().ok()?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).ok()? == 0 {
        return None;
    }
    Some(line.trim().to_owned())
}
