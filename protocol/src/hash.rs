//! Digests and the ids that are digests or random bytes.
//!
//! Each kind of id is its own type, so that a block hash cannot be passed where a slab id is meant.
//! All digests are BLAKE3 (32 bytes). Structures are hashed under a domain string with
//! [`digest`]; sector roots are the plain BLAKE3 hash of the sector's bytes.

use serde::Serialize;

use crate::encoding;

/// Declares a newtype over a byte array that prints as hex.
macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight hex digits, for logs and tables.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        /// Hex digits where people read it, else the bytes.
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    ::serde::Serialize::serialize(&self.0, serializer)
                }
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = <String as ::serde::Deserialize>::deserialize(deserializer)?;
                    text.parse().map_err(::serde::de::Error::custom)
                } else {
                    <[u8; $len] as ::serde::Deserialize>::deserialize(deserializer).map(Self)
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::hash::ParseIdError;

            fn from_str(text: &str) -> Result<Self, $crate::hash::ParseIdError> {
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| $crate::hash::ParseIdError {
                    what: stringify!($name),
                    digits: 2 * $len,
                })?;
                Ok(Self(bytes))
            }
        }
    };
}
pub(crate) use byte_id;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {what} is written with {digits} hex digits")]
pub struct ParseIdError {
    /// Name of the id's type.
    pub(crate) what: &'static str,
    /// Hex digits it is written with.
    pub(crate) digits: usize,
}

byte_id!(
    /// A BLAKE3 digest without a more precise meaning: Merkle nodes, roots, payload hashes.
    Digest, 32
);
byte_id!(
    /// Hash of a block's header: the block's identity, and what validators sign.
    BlockHash, 32
);
byte_id!(
    /// Hash of a transaction's body without its signatures.
    TransactionId, 32
);
byte_id!(
    /// Plain BLAKE3 hash of a sector's bytes, as `b3sum` prints it.
    SectorRoot, 32
);
byte_id!(
    /// Random name of one sealing attempt of a slab; its key derives from it.
    SlabId, 16
);
byte_id!(
    /// Opaque label under which a host files a slab's sector and descriptor for one contract.
    SlabTag, 16
);
byte_id!(
    /// Random name of one contract formation, from which the contract's key derives.
    ContractNonce, 16
);
byte_id!(
    /// Keyed hash by which a scanner knows its own recovery records.
    RecordTag, 16
);

impl Digest {
    /// Thirty-two zero bytes: the digest of nothing where a format needs one.
    pub const ZERO: Self = Self([0; 32]);
}

/// Hashes a value's canonical encoding under a domain string.
///
/// The digest is `BLAKE3 derive_key(domain, encode(value))`, so that no two structures share digests.
pub fn digest<T: Serialize + ?Sized>(domain: &'static str, value: &T) -> Digest {
    Digest(blake3::derive_key(domain, &encoding::encode(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_text() {
        let id = SlabId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("abc".parse::<SlabId>().is_err());
    }

    #[test]
    fn domains_separate() {
        assert_ne!(digest("samara test a", &1u8), digest("samara test b", &1u8));
    }
}
