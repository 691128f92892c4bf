//! Places in vaults, as people write them, and as the API's addresses want them.

use super::display;
use super::exit::Exit;
use super::failure::Failure;

/// `VAULT` or `VAULT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the vault.
    pub vault: String,
    /// Path in it; empty for the vault itself.
    pub path: String,
}

impl Place {
    /// Takes a text apart at its first slash. What listings show as `\u{a}` may be written so.
    ///
    /// # Errors
    /// A usage failure for a text without a vault.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (vault, path) = text.split_once('/').unwrap_or((text, ""));
        if vault.is_empty() {
            return Err(Failure::new(
                Exit::Usage,
                format!("'{text}' names no vault: write VAULT or VAULT/PATH"),
            ));
        }
        if matches!(vault, "." | "..") {
            let message = format!("'{text}' names no vault: none is called '{vault}'");
            return Err(Failure::new(Exit::Usage, message).with_hint("see `samara vault list`"));
        }
        Ok(Self { vault: display::from_plain(vault), path: display::from_plain(path) })
    }

    /// As [`Place::parse`], for a command that needs something inside of a vault.
    ///
    /// # Errors
    /// A usage failure.
    pub fn parse_inside(text: &str) -> Result<Self, Failure> {
        let place = Self::parse(text)?;
        if place.path.is_empty() {
            return Err(Failure::new(
                Exit::Usage,
                format!("'{text}' is a vault: name something in it, as in {}/file", place.vault),
            ));
        }
        Ok(place)
    }
}

/// A name of a vault or backup as one segment of an address.
///
/// # Errors
/// A usage failure for a text that none can have, and that would make the address another one.
pub fn segment(name: &str) -> Result<String, Failure> {
    if matches!(name, "" | "." | "..") {
        return Err(Failure::new(Exit::Usage, format!("nothing can be called '{name}'")));
    }
    Ok(escape(name))
}

/// A text as one segment or value of an address (RFC 3986: all but the unreserved are escaped).
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_vault_and_a_path() {
        let place = Place::parse("home/a/b.txt").unwrap();
        assert_eq!((place.vault.as_str(), place.path.as_str()), ("home", "a/b.txt"));
        assert_eq!(Place::parse("home").unwrap().path, "");
        assert_eq!(Place::parse(r"home/a\u{a}b").unwrap().path, "a\nb");
        for none in ["/a", "..", ".", "../a"] {
            assert_eq!(Place::parse(none).unwrap_err().exit, Exit::Usage, "{none}");
        }
        let failure = Place::parse_inside("home/").unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.ends_with("as in home/file"));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_segment() {
        assert_eq!(segment("a/..").unwrap(), "a%2F..");
        for name in ["", ".", ".."] {
            assert_eq!(segment(name).unwrap_err().exit, Exit::Usage, "{name}");
        }
    }

    #[test]
    fn everything_special_is_escaped() {
        assert_eq!(escape("2026/Nov 21? ü%"), "2026%2FNov%2021%3F%20%C3%BC%25");
        assert_eq!(escape("plain-name_1.~"), "plain-name_1.~");
    }
}
