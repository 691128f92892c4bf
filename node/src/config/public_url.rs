//! The address under which others reach the node's API, through a proxy of the operator's.

use serde::{Deserialize, Serialize};

use crate::fetch::Target;

/// Longest such address in bytes: with a link behind it, it has to fit on a line of a mail.
const LONGEST: usize = 512;

/// An http or https address without query and fragment; what is below it is appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicUrl(String);

/// A text that is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("public_url: {0}; write it as in https://backups.example.org")]
pub struct PublicUrlError(String);

impl PublicUrl {
    /// The address, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<PublicUrl> for String {
    fn from(url: PublicUrl) -> Self {
        url.0
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = PublicUrlError;

    fn try_from(text: String) -> Result<Self, PublicUrlError> {
        if text.len() > LONGEST {
            return Err(PublicUrlError(format!("it has more than {LONGEST} bytes")));
        }
        let refused = |reason: &str| PublicUrlError(reason.to_owned());
        let target = Target::parse(&text)
            .map_err(|_| refused("this is no http or https address without user and password"))?;
        if target.url().query().is_some() || text.contains('#') {
            return Err(refused("it has more than a server and a path"));
        }
        Ok(Self(target.url().as_str().trim_end_matches('/').to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_server_and_a_path() {
        for (text, kept) in [
            ("https://Backups.example.org", "https://backups.example.org"),
            ("http://192.0.2.1:8080/", "http://192.0.2.1:8080"),
            ("https://example.org/samara/", "https://example.org/samara"),
        ] {
            assert_eq!(PublicUrl::try_from(text.to_owned()).unwrap().as_str(), kept);
        }
        let long = format!("https://example.org/{}", "a".repeat(LONGEST));
        for wrong in [
            long.as_str(),
            "",
            "backups.example.org",
            "ftp://example.org",
            "https://me:secret@example.org",
            "https://example.org/?a=b",
            "https://example.org/#a",
            "file:///etc/passwd",
        ] {
            let error = PublicUrl::try_from(wrong.to_owned()).unwrap_err().to_string();
            assert!(error.contains("public_url") && !error.contains("secret"), "{error}");
        }
    }
}
