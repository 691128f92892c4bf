//! Sequences that refuse to be longer than their type allows while they are decoded.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// Most hashes of any proof: two for each level of a 4 MiB sector's chunk tree.
const MAX_HASHES: usize = 24;

/// Decodes a vector of at most `MAX` items, for `#[serde(deserialize_with = "..")]`.
pub(crate) fn bounded_vec<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Bounded<const MAX: usize, T>(PhantomData<T>);

    impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for Bounded<MAX, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut out = Vec::with_capacity(items.size_hint().unwrap_or(0).min(MAX));
            while let Some(item) = items.next_element()? {
                if out.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                out.push(item);
            }
            Ok(out)
        }
    }

    deserializer.deserialize_seq(Bounded::<MAX, T>(PhantomData))
}

/// Hashes as one byte string, for `#[serde(with = "..")]`: serde would spell out each byte.
pub(super) mod hashes {
    use super::{Deserialize, Deserializer, MAX_HASHES, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(
        hashes: &[[u8; 32]],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(hashes.as_flattened())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<[u8; 32]>, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() > MAX_HASHES {
            return Err(D::Error::invalid_length(bytes.len(), &"at most 24 hashes of 32 bytes"));
        }
        Ok(hashes.to_vec())
    }
}
