//! The tree of held extents: bytes that no vault names any more, and that backups show.
//!
//! ```text
//! key   = until, ordered || since, ordered        positions of entries of the journal
//! value = vault (16) || extents
//! ```
//!
//! A version's bytes have one place from the entry at `since` on, and the entry at `until` gave it up. No
//! two places have the same `since`. What is given up later follows what was given up before, so that a
//! checkpoint changes the end of the tree, and other parts of it only when a backup goes.

use super::apply::Edits;
use super::pieces::{self, Assembly};
use crate::encoding::{self, DecodeError};
use crate::journal::{HeldExtents, HeldSpan};

/// Why items are no held extents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeldItemError {
    /// A key of another form.
    #[error("the tree of held extents has a key that is none: {0}")]
    Key(String),
    /// Pieces of a value that do not follow each other.
    #[error("the tree of held extents misses a part of those held from {} to {}", .0.since, .0.until)]
    Piece(HeldSpan),
    /// A value that does not decode.
    #[error("extents held from {} to {}: {source}", .span.since, .span.until)]
    Value {
        /// Their span.
        span: HeldSpan,
        /// What is wrong.
        source: DecodeError,
    },
}

/// The key of what was held in a span.
#[must_use]
pub fn held_key(span: &HeldSpan) -> Vec<u8> {
    let mut key = Vec::new();
    pieces::put_ordered(&mut key, span.until);
    pieces::put_ordered(&mut key, span.since);
    key
}

/// Puts what is held in a span in the place of what the tree has of it; nothing removes it.
pub fn edit_held(edits: &mut Edits, span: &HeldSpan, held: Option<&HeldExtents>) {
    match held {
        Some(held) => pieces::put(edits, held_key(span), held),
        None => edits.remove_below(held_key(span)),
    }
}

/// Makes held extents of items that come in order.
#[derive(Debug)]
pub struct HeldReader {
    values: Assembly<HeldSpan>,
}

impl Default for HeldReader {
    fn default() -> Self {
        Self { values: Assembly::new() }
    }
}

impl HeldReader {
    /// Takes the next item; gives what the items before it were, if that is complete.
    ///
    /// # Errors
    /// [`HeldItemError`] for items that are no held extents.
    pub fn take(
        &mut self,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<Option<(HeldSpan, HeldExtents)>, HeldItemError> {
        let (span, piece) = parse(key).ok_or_else(|| HeldItemError::Key(hex::encode(key)))?;
        let done = self.values.take(span, piece, value);
        let done = done.map_err(|_| HeldItemError::Piece(span))?;
        done.map(decode).transpose()
    }

    /// The last ones.
    ///
    /// # Errors
    /// As [`HeldReader::take`].
    pub fn finish(&mut self) -> Result<Option<(HeldSpan, HeldExtents)>, HeldItemError> {
        self.values.finish().map(decode).transpose()
    }
}

fn decode((span, bytes): (HeldSpan, Vec<u8>)) -> Result<(HeldSpan, HeldExtents), HeldItemError> {
    let held = encoding::decode(&bytes).map_err(|source| HeldItemError::Value { span, source })?;
    Ok((span, held))
}

fn parse(key: &[u8]) -> Option<(HeldSpan, u16)> {
    let (until, rest) = pieces::ordered(key)?;
    let (since, rest) = pieces::ordered(rest)?;
    Some((HeldSpan { until, since }, pieces::piece_number(rest)?))
}
