//! The event tree: the history of every vault, by number.
//!
//! ```text
//! key   = vault (16) || number of the event, ordered
//! value = 0 || entry                       the entry itself
//!       = 1 || digest (32) || extents      where its encoded bytes lie
//!       = 2 || digest (32)                 the digest of an entry that was erased
//! ```
//!
//! A vault's events are chained by the digests of their entries, so the chain can be checked without a
//! payload that was erased. An entry that is here has its digest by itself.

use serde::{Deserialize, Serialize};

use super::apply::Edits;
use super::pieces::{self, Assembly};
use crate::encoding::{self, DecodeError};
use crate::hash::Digest;
use crate::journal::{Entry, Extent, VaultId};

/// What is kept of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventRecord {
    /// The entry.
    Here(Entry),
    /// The entry lies in slabs.
    Stored {
        /// Its digest.
        digest: Digest,
        /// Where its encoded bytes are, in order.
        extents: Vec<Extent>,
    },
    /// The entry was erased.
    Erased(Digest),
}

impl EventRecord {
    /// The digest of the entry, by which the vault's events are chained.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Here(entry) => entry.digest(),
            Self::Stored { digest, .. } | Self::Erased(digest) => *digest,
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The vault.
    pub vault: VaultId,
    /// Its number in the vault.
    pub number: u64,
    /// What is kept of it.
    pub record: EventRecord,
}

/// Why items are no events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventItemError {
    /// A key of another form.
    #[error("the event tree has a key that is none: {0}")]
    Key(String),
    /// Pieces of a value that do not follow each other.
    #[error("the event tree misses a part of event {number} of vault {vault}")]
    Piece {
        /// The vault.
        vault: VaultId,
        /// The event.
        number: u64,
    },
    /// A value that does not decode.
    #[error("event {number} of vault {vault}: {source}")]
    Value {
        /// The vault.
        vault: VaultId,
        /// The event.
        number: u64,
        /// What is wrong.
        source: DecodeError,
    },
}

/// The key of an event. All keys of a vault's events start with its id.
#[must_use]
pub fn event_key(vault: &VaultId, number: u64) -> Vec<u8> {
    let mut key = vault.0.to_vec();
    pieces::put_ordered(&mut key, number);
    key
}

impl Event {
    /// Puts this event in the place of what the tree has under its number.
    pub fn edit(&self, edits: &mut Edits) {
        pieces::put(edits, event_key(&self.vault, self.number), &self.record);
    }

    fn decode((vault, number): (VaultId, u64), bytes: &[u8]) -> Result<Self, EventItemError> {
        let record = encoding::decode(bytes);
        let record = record.map_err(|source| EventItemError::Value { vault, number, source })?;
        Ok(Self { vault, number, record })
    }
}

/// Makes events of items that come in order.
#[derive(Debug)]
pub struct EventReader {
    values: Assembly<(VaultId, u64)>,
}

impl Default for EventReader {
    fn default() -> Self {
        Self { values: Assembly::new() }
    }
}

impl EventReader {
    /// Takes the next item; gives the event before it, if that is complete.
    ///
    /// # Errors
    /// [`EventItemError`] for items that are no events.
    pub fn take(&mut self, key: &[u8], value: Vec<u8>) -> Result<Option<Event>, EventItemError> {
        let parsed = parse(key).ok_or_else(|| EventItemError::Key(hex::encode(key)))?;
        let (vault, number, piece) = parsed;
        let done = self.values.take((vault, number), piece, value);
        let done = done.map_err(|_| EventItemError::Piece { vault, number })?;
        done.map(|(key, bytes)| Event::decode(key, &bytes)).transpose()
    }

    /// The last event.
    ///
    /// # Errors
    /// As [`EventReader::take`].
    pub fn finish(mut self) -> Result<Option<Event>, EventItemError> {
        self.values.finish().map(|(key, bytes)| Event::decode(key, &bytes)).transpose()
    }
}

fn parse(key: &[u8]) -> Option<(VaultId, u64, u16)> {
    let (vault, rest) = key.split_first_chunk::<{ VaultId::LEN }>()?;
    let (number, rest) = pieces::ordered(rest)?;
    Some((VaultId(*vault), number, pieces::piece_number(rest)?))
}
