//! The one encoding of everything that is hashed, signed, sent or stored.
//!
//! Values are encoded with [postcard](https://postcard.jamesmunns.com/wire-format): little-endian
//! varints, length-prefixed sequences, fixed arrays without a prefix. Postcard accepts over-long
//! varints, so a value that must have one byte string only (a transaction, a header) is decoded with
//! [`decode_canonical`], which encodes it again and compares.
//!
//! Invariant I7: any bytes give a value or a [`DecodeError`]; a length field never allocates more than
//! what was received, because every decoder works on a slice that was already bounded by its reader
//! and serde caps its size hints.

use serde::{Serialize, de::DeserializeOwned};

pub mod payload;

/// Why bytes are not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes do not follow the format.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// The type that was being decoded.
        what: &'static str,
        /// The decoder's own words.
        reason: String,
    },
    /// A value was complete, and bytes were left.
    #[error("{extra} bytes follow a complete {what}")]
    Trailing {
        /// The type that was being decoded.
        what: &'static str,
        /// How many bytes were left over.
        extra: usize,
    },
    /// The bytes decode, but are not the bytes this value encodes to.
    #[error("{what} is not in its canonical form")]
    NotCanonical {
        /// The type that was being decoded.
        what: &'static str,
    },
    /// More bytes than this type may have.
    #[error("{what} of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// The type that was being decoded.
        what: &'static str,
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// Encodes a value.
///
/// # Panics
/// Never for the types of this workspace: postcard to a growing vector fails only for sequences of
/// unknown length, and none of them has one.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("invariant: all encoded types have known lengths")
}

/// Decodes a value that must fill `bytes` exactly.
///
/// # Errors
/// [`DecodeError`] when the bytes are malformed or bytes are left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let what = short_name::<T>();
    let (value, rest) = postcard::take_from_bytes(bytes)
        .map_err(|error| DecodeError::Malformed { what, reason: error.to_string() })?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing { what, extra: rest.len() }) }
}

/// Decodes a value of at most `limit` bytes.
///
/// # Errors
/// As [`decode`], and [`DecodeError::TooLong`] before a byte is looked at.
pub fn decode_limited<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { what: short_name::<T>(), len: bytes.len(), limit });
    }
    decode(bytes)
}

/// Decodes a value and refuses every byte string but the one that [`encode`] gives for it.
///
/// # Errors
/// As [`decode`], and [`DecodeError::NotCanonical`].
pub fn decode_canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let value = decode::<T>(bytes)?;
    if encode(&value) == bytes {
        Ok(value)
    } else {
        Err(DecodeError::NotCanonical { what: short_name::<T>() })
    }
}

/// The type's name without its path, for error texts.
fn short_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    full.rsplit("::").next().unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_over_long_varint_is_not_canonical() {
        let bytes = [0x81, 0x00];
        assert_eq!(decode::<u32>(&bytes), Ok(1));
        assert_eq!(decode_canonical::<u32>(&bytes), Err(DecodeError::NotCanonical { what: "u32" }));
    }

    #[test]
    fn bytes_left_over_are_refused() {
        assert_eq!(decode::<u8>(&[7, 7]), Err(DecodeError::Trailing { what: "u8", extra: 1 }));
    }

    #[test]
    fn a_huge_length_field_is_an_error_not_an_allocation() {
        let claim = encode(&u64::MAX);
        assert!(matches!(decode::<Vec<u64>>(&claim), Err(DecodeError::Malformed { .. })));
    }
}
