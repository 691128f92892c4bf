//! The manifest, entry by entry: it may be longer than memory should be.

use serde::de::DeserializeOwned;

use super::super::error::{ArchiveError, shown};
use super::super::format::{ManifestCounts, ManifestEntry};

/// Most bytes of its counts, or of one of its entries.
const LONGEST: usize = 2_048;

/// Reads a manifest of which the bytes come in pieces.
pub(super) struct ManifestReader {
    name: String,
    pending: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Counts,
    First,
    Next,
    End,
}

/// What comes of a manifest.
pub(super) enum Part {
    Counts(ManifestCounts),
    Entry(ManifestEntry),
}

/// What stands between the counts and the entries.
const ENTRIES: &[u8] = b",\"entries\":[";

impl ManifestReader {
    pub(super) const fn new(name: String) -> Self {
        Self { name, pending: Vec::new(), stage: Stage::Counts }
    }

    /// Takes bytes, and gives what is complete.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Part) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        self.pending.extend_from_slice(bytes);
        let mut from = 0;
        while let Some((part, used)) = self.next(from)? {
            from += used;
            if let Some(part) = part {
                take(part)?;
            }
        }
        self.pending.drain(..from);
        if self.pending.len() > LONGEST {
            return Err(self.bad("a part of it is too long"));
        }
        Ok(())
    }

    /// All bytes were given.
    pub(super) fn finish(&self) -> Result<(), ArchiveError> {
        let whole = self.stage == Stage::End && self.pending.is_empty();
        if whole { Ok(()) } else { Err(self.bad("it does not end as it should")) }
    }

    /// What is complete behind `from`, and how many bytes that is.
    fn next(&mut self, from: usize) -> Result<Option<(Option<Part>, usize)>, ArchiveError> {
        let rest = self.pending.get(from..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        match self.stage {
            Stage::Counts => {
                let Some(end) = find(rest, ENTRIES) else { return Ok(None) };
                let counts = [&rest[..end], b"}"].concat();
                let counts = self.read(&counts)?;
                self.stage = Stage::First;
                Ok(Some((Some(Part::Counts(counts)), end + ENTRIES.len())))
            }
            Stage::First | Stage::Next if rest[0] == b']' => {
                if rest.len() < 2 {
                    return Ok(None);
                }
                if rest[1] != b'}' {
                    return Err(self.bad("it does not end as it should"));
                }
                self.stage = Stage::End;
                Ok(Some((None, 2)))
            }
            Stage::First | Stage::Next => {
                let comma = usize::from(self.stage == Stage::Next);
                if comma == 1 && rest[0] != b',' {
                    return Err(self.bad("its entries are not parted"));
                }
                // No name has such a sign.
                let Some(end) = find(rest, b"}") else { return Ok(None) };
                let entry = self.read(rest.get(comma..=end).unwrap_or_default())?;
                self.stage = Stage::Next;
                Ok(Some((Some(Part::Entry(entry)), end + 1)))
            }
            Stage::End => Err(self.bad("something follows its end")),
        }
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ArchiveError> {
        if bytes.len() > LONGEST {
            return Err(self.bad("a part of it is too long"));
        }
        serde_json::from_slice(bytes).map_err(|error| self.bad(&error.to_string()))
    }

    fn bad(&self, reason: &str) -> ArchiveError {
        let reason = shown(reason.as_bytes());
        ArchiveError::Document { name: self.name.clone(), reason }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
