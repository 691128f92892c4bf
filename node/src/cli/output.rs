//! Where results go: JSON for programs, or texts for people; and what people are asked.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::Value;

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

    /// What a command came to: its last line of JSON, and the only one of a short command; or a text
    /// for people.
    pub fn answer<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        if self.json {
            self.message("result", json_of(value));
        } else {
            print(&text());
        }
    }

    /// One line of JSON; nothing for people, who have bars and texts.
    pub fn message(self, kind: &str, value: Value) {
        if self.json {
            print(&format!("{}\n", envelope(kind, value)));
        }
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
}

/// A line of JSON: an object with its `message_type`, and the value's fields beside it. A list is below
/// `items`, what is neither below `value`; nothing adds nothing.
fn envelope(kind: &str, value: Value) -> Value {
    let mut line = serde_json::Map::new();
    line.insert("message_type".to_owned(), kind.into());
    match value {
        Value::Object(fields) => line.extend(fields),
        Value::Array(items) => {
            line.insert("items".to_owned(), items.into());
        }
        Value::Null => {}
        other => {
            line.insert("value".to_owned(), other);
        }
    }
    Value::Object(line)
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

/// Whether a person agrees. What is neither yes nor no is asked again; the end of the input is no.
pub fn agrees(question: &str) -> bool {
    agreed(question, &mut ask)
}

fn agreed(question: &str, ask: &mut dyn FnMut(&str) -> Option<String>) -> bool {
    let mut prompt = format!("{question} [yes/no]: ");
    while let Some(answer) = ask(&prompt) {
        match answer.to_lowercase().as_str() {
            "yes" => return true,
            "no" | "n" => return false,
            _ => prompt = "  yes or no is wanted, in full [yes/no]: ".to_owned(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_that_is_neither_yes_nor_no_is_asked_again() {
        let agreed = |answers: &[&str]| {
            let mut answers = answers.iter();
            let agreed = super::agreed("?", &mut |_| answers.next().map(|text| (*text).to_owned()));
            (agreed, answers.len())
        };
        assert_eq!(agreed(&["abc", "", "y", "Yes", "no"]), (true, 1));
        assert_eq!(agreed(&["abc", "no", "yes"]), (false, 1));
        assert_eq!(agreed(&["abc"]), (false, 0));
    }

    #[test]
    fn every_line_of_json_is_an_object_that_says_what_it_is() {
        let line = |value| envelope("result", value);
        assert_eq!(line(json!({ "a": 1 })), json!({ "message_type": "result", "a": 1 }));
        assert_eq!(line(json!([1, 2])), json!({ "message_type": "result", "items": [1, 2] }));
        assert_eq!(line(json!([])), json!({ "message_type": "result", "items": [] }));
        assert_eq!(line(json!("x")), json!({ "message_type": "result", "value": "x" }));
        assert_eq!(line(Value::Null), json!({ "message_type": "result" }));
    }
}
