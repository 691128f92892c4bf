//! Values of any length, cut into pieces that fit a node.
//!
//! The first piece is under the key itself, piece n (from 1) under the key and two more bytes, n in big
//! endian; so they follow each other in order. What is a key and what a piece is for the typed layer
//! to tell: its keys end by themselves.

use super::apply::Edits;
use crate::encoding;
use serde::Serialize;

/// Most bytes of a value that is one piece.
pub(super) const PIECE: usize = 8 << 10;

/// The items of a value.
pub(super) fn pieces<T: Serialize>(key: &[u8], value: &T) -> Vec<super::Item> {
    let bytes = encoding::encode(value);
    if bytes.len() <= PIECE {
        return vec![(key.to_vec(), bytes)];
    }
    let piece = |(number, bytes): (u16, &[u8])| {
        let mut key = key.to_vec();
        if number > 0 {
            key.extend_from_slice(&number.to_be_bytes());
        }
        (key, bytes.to_vec())
    };
    (0..).zip(bytes.chunks(PIECE)).map(piece).collect()
}

/// Puts a value in the place of the one that the key has, however many pieces either has.
pub(super) fn put<T: Serialize>(edits: &mut Edits, key: Vec<u8>, value: &T) {
    let items = pieces(&key, value);
    edits.remove_below(key);
    items.into_iter().for_each(|(key, value)| edits.put(key, value));
}

/// The number of a piece by what follows the value's key.
pub(super) fn piece_number(rest: &[u8]) -> Option<u16> {
    match rest {
        [] => Some(0),
        [high, low] => Some(u16::from_be_bytes([*high, *low])).filter(|number| *number > 0),
        _ => None,
    }
}

/// Puts pieces together again.
#[derive(Debug)]
pub(super) struct Assembly<K> {
    key: Option<K>,
    bytes: Vec<u8>,
    next: u32,
}

/// A piece that does not follow the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfOrder;

impl<K: PartialEq> Assembly<K> {
    pub(super) fn new() -> Self {
        Self { key: None, bytes: Vec::new(), next: 0 }
    }

    /// Takes the next piece; gives the value before it, if that is complete.
    pub(super) fn take(
        &mut self,
        key: K,
        number: u16,
        bytes: Vec<u8>,
    ) -> Result<Option<(K, Vec<u8>)>, OutOfOrder> {
        if number == 0 {
            let done = self.finish();
            (self.key, self.bytes, self.next) = (Some(key), bytes, 1);
            return Ok(done);
        }
        if self.key.as_ref() != Some(&key) || u32::from(number) != self.next {
            return Err(OutOfOrder);
        }
        self.bytes.extend_from_slice(&bytes);
        self.next += 1;
        Ok(None)
    }

    /// The last value.
    pub(super) fn finish(&mut self) -> Option<(K, Vec<u8>)> {
        self.key.take().map(|key| (key, std::mem::take(&mut self.bytes)))
    }
}

/// A number such that byte strings have the numbers' order: how many bytes it has, then those, big
/// endian, without leading zeros.
pub(super) fn put_ordered(out: &mut Vec<u8>, number: u64) {
    let zeros = number.leading_zeros() as usize / 8;
    let bytes = number.to_be_bytes();
    let significant = &bytes[zeros..];
    out.push(u8::try_from(significant.len()).expect("invariant: a number has at most 8 bytes"));
    out.extend_from_slice(significant);
}

/// Reads such a number and gives what follows it; refuses other forms of it.
pub(super) fn ordered(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = usize::from(*length);
    if length > 8 || rest.len() < length {
        return None;
    }
    let (significant, rest) = rest.split_at(length);
    if significant.first() == Some(&0) {
        return None;
    }
    let number = significant.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn ordered_numbers_read_back_and_keep_their_order(a in any::<u64>(), b in any::<u64>(), shift in 0u32..64) {
            let (a, b) = (a >> shift, b >> (shift / 2));
            let bytes = |number| {
                let mut out = Vec::new();
                put_ordered(&mut out, number);
                out
            };
            prop_assert_eq!(bytes(a).cmp(&bytes(b)), a.cmp(&b));
            let read = bytes(a);
            prop_assert_eq!(ordered(&read), Some((a, &[][..])));
        }
    }

    #[test]
    fn other_forms_of_numbers_are_refused() {
        for bytes in [&[][..], &[1], &[9, 1, 1, 1, 1, 1, 1, 1, 1, 1], &[2, 0, 1]] {
            assert_eq!(ordered(bytes), None);
        }
    }
}
