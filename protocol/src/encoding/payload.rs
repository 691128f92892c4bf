//! Large byte strings inside messages, without copies.
//!
//! A field of type [`Bytes`] with `#[serde(with = "payload")]` is encoded like any byte string.
//! [`encode_parts`] leaves it out of the buffer that it fills and gives the message as several parts
//! that share the payload's memory. [`decode_shared`] makes such a field a part of the buffer that
//! was received; [`super::decode`] copies it.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserializer, Serialize, Serializer};

use super::DecodeError;

/// Payloads below this (bytes) are copied: parts cost more than they save.
const SHARED_FROM: usize = 16 << 10;

thread_local! {
    /// What [`decode_shared`] reads on this thread. Serde's data model has no shared buffers, so the
    /// buffer reaches the field's decoder beside it.
    static RECEIVED: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Encodes a field.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Decodes a field: a part of the received buffer within [`decode_shared`], else a copy.
///
/// # Errors
/// The deserializer's.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_bytes(PayloadVisitor)
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a byte string")
    }

    fn visit_borrowed_bytes<E: serde::de::Error>(self, bytes: &'de [u8]) -> Result<Bytes, E> {
        if bytes.len() < SHARED_FROM {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        RECEIVED.with_borrow(|received| match received {
            Some(received) if holds(received, bytes) => Ok(received.slice_ref(bytes)),
            _ => Ok(Bytes::copy_from_slice(bytes)),
        })
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes::from(bytes))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Bytes, A::Error> {
        // Formats for people write byte strings as lists.
        let mut bytes = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            if bytes.len() == super::super::sector::SectorSize::MAX.len() {
                return Err(A::Error::custom("a byte string longer than any sector"));
            }
            bytes.push(byte);
        }
        Ok(Bytes::from(bytes))
    }
}

/// Whether `part` lies in the memory of `whole`.
fn holds(whole: &Bytes, part: &[u8]) -> bool {
    let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

/// Decodes a value that must fill `bytes` exactly; its payload shares their memory.
///
/// # Errors
/// As [`super::decode`].
pub fn decode_shared<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, DecodeError> {
    let _reset = Reset(RECEIVED.replace(Some(bytes.clone())));
    super::decode(bytes)
}

/// Restores what was there before, also when a decoder panics.
struct Reset(Option<Bytes>);

impl Drop for Reset {
    fn drop(&mut self) {
        RECEIVED.set(self.0.take());
    }
}

/// Encodes a value behind `head`. The parts, one after the other, are the bytes that
/// [`super::encode`] gives; a long `payload` of the value is a part of its own that shares its memory.
///
/// # Panics
/// As [`super::encode`]: never for the types of this workspace.
pub fn encode_parts<T: Serialize>(head: Vec<u8>, value: &T, payload: Option<&Bytes>) -> Vec<Bytes> {
    let payload = payload.filter(|payload| payload.len() >= SHARED_FROM);
    let parts = Parts { done: Vec::new(), filling: head, payload };
    postcard::serialize_with_flavor(value, parts)
        .expect("invariant: all encoded types have known lengths")
}

/// Collects parts; notices the payload by where it lies.
struct Parts<'a> {
    done: Vec<Bytes>,
    filling: Vec<u8>,
    payload: Option<&'a Bytes>,
}

impl Flavor for Parts<'_> {
    type Output = Vec<Bytes>;

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        match self.payload {
            Some(payload) if std::ptr::eq(data, &payload[..]) => {
                let before = std::mem::take(&mut self.filling);
                self.done.extend([Bytes::from(before), payload.clone()]);
            }
            _ => self.filling.extend_from_slice(data),
        }
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.filling.push(data);
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<Vec<Bytes>> {
        if !self.filling.is_empty() {
            self.done.push(Bytes::from(self.filling));
        }
        Ok(self.done)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use serde::Deserialize;

    use super::*;
    use crate::encoding::{decode, encode};

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Message {
        before: String,
        #[serde(with = "crate::encoding::payload")]
        data: Bytes,
        after: u64,
    }

    proptest! {
        #[test]
        fn parts_are_the_bytes_of_the_whole_and_share_the_payload(
            before in ".{0,20}", length in 0usize..40_000, after in any::<u64>(), head: Vec<u8>,
        ) {
            let data = Bytes::from(vec![7; length]);
            let message = Message { before, data, after };
            let parts = encode_parts(head.clone(), &message, Some(&message.data));
            let long = length >= SHARED_FROM;
            prop_assert_eq!(parts.len(), if long { 3 } else { 1 });
            prop_assert!(!long || std::ptr::eq(&parts[1][..], &message.data[..]));
            let whole = Bytes::from(parts.concat());
            prop_assert_eq!(&whole[head.len()..], &encode(&message)[..]);
            let body = whole.slice(head.len()..);
            let shared: Message = decode_shared(&body).unwrap();
            prop_assert_eq!(&shared, &message);
            prop_assert_eq!(long, holds(&whole, &shared.data) && !shared.data.is_empty());
            let copied: Message = decode(&body).unwrap();
            prop_assert_eq!(&copied, &message);
            prop_assert!(length == 0 || !holds(&whole, &copied.data));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = decode_shared::<Message>(&Bytes::from(bytes));
        }
    }
}
