//! Paths inside a vault.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A relative path of one or more components, separated by `/`.
///
/// No component is empty, `.` or `..`, or has a NUL byte or a backslash; a component has at most 255
/// bytes, the whole at most 4,096. So a stored path can be joined to a folder without leaving it. Copies
/// share one text: two states of a journal with millions of paths hold each once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoredPath(Arc<str>);

/// Why a text is no stored path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{path}' cannot be a path in a vault: {reason}")]
pub struct PathError {
    /// The text, cut to 64 characters.
    pub path: String,
    /// The broken rule.
    pub reason: &'static str,
}

impl StoredPath {
    /// Most bytes of a path.
    pub const MAX: usize = 4_096;
    /// Most bytes of a component.
    pub const MAX_COMPONENT: usize = 255;

    /// Checks a text.
    ///
    /// # Errors
    /// [`PathError`] with the rule that is broken.
    pub fn new(path: impl Into<String>) -> Result<Self, PathError> {
        let path = path.into();
        let refuse = |reason| PathError { path: path.chars().take(64).collect(), reason };
        if path.len() > Self::MAX {
            return Err(refuse("it has more than 4,096 bytes"));
        }
        for component in path.split('/') {
            if component.is_empty() {
                return Err(refuse("a component is empty"));
            }
            if component == "." || component == ".." {
                return Err(refuse("a component is '.' or '..'"));
            }
            if component.len() > Self::MAX_COMPONENT {
                return Err(refuse("a component has more than 255 bytes"));
            }
            if component.contains(['\0', '\\']) {
                return Err(refuse("a component has a NUL byte or a backslash"));
            }
        }
        Ok(Self(path.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this path is `folder` or below it; every path is below the empty folder.
    #[must_use]
    pub fn is_below(&self, folder: &str) -> bool {
        folder.is_empty()
            || self
                .0
                .strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl TryFrom<String> for StoredPath {
    type Error = PathError;

    fn try_from(path: String) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl From<StoredPath> for String {
    fn from(path: StoredPath) -> Self {
        path.0.to_string()
    }
}

impl fmt::Display for StoredPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoredPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_a_folder_are_refused() {
        for path in ["", "/etc", "a//b", "a/../b", ".", "..", "a/", "a\\b", "a\0"] {
            assert!(StoredPath::new(path).is_err(), "{path:?}");
        }
        assert!(StoredPath::new("x".repeat(256)).is_err());
        assert!(StoredPath::new("été/日本/ a.txt").is_ok());
    }

    #[test]
    fn below_means_whole_components() {
        let path = StoredPath::new("a/b/c").unwrap();
        assert!(path.is_below("") && path.is_below("a") && path.is_below("a/b/c"));
        assert!(!path.is_below("a/bb") && !path.is_below("a/") && !path.is_below("b"));
    }
}
