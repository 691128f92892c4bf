//! Bytes of nodes, written and read by hand: the postcard wire format of the rest of the project, in
//! its canonical form only, over slices.

use super::node::NodeError;

/// Bytes of a varint.
pub(super) const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a varint: little-endian groups of seven bits.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The low seven bits; truncation is the point.
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a byte string behind its length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a slice from its start.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn byte(&mut self) -> Result<u8, NodeError> {
        let byte = self.bytes.get(self.at).copied().ok_or(NodeError::Cut)?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], NodeError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(NodeError::Cut)?;
        self.at += length;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], NodeError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("invariant: the slice has N bytes"))
    }

    /// A varint of at most `limit`, in its shortest form.
    pub(super) fn varint(&mut self, limit: u64) -> Result<u64, NodeError> {
        let (mut value, mut shift) = (0u64, 0u32);
        loop {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift > 63 || (shift == 63 && bits > 1) {
                return Err(NodeError::Number);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let longer = shift > 0 && bits == 0;
                return if longer || value > limit { Err(NodeError::Number) } else { Ok(value) };
            }
            shift += 7;
        }
    }

    /// A length or count of at most `limit`.
    pub(super) fn length(&mut self, limit: usize) -> Result<usize, NodeError> {
        let value = self.varint(limit as u64)?;
        usize::try_from(value).map_err(|_| NodeError::Number)
    }

    pub(super) fn u32(&mut self) -> Result<u32, NodeError> {
        let value = self.varint(u64::from(u32::MAX))?;
        u32::try_from(value).map_err(|_| NodeError::Number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::encoding;

    proptest! {
        #[test]
        fn varints_are_those_of_the_encoding(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(&out, &encoding::encode(&value));
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(Reader::new(&out).varint(u64::MAX), Ok(value));
        }
    }

    #[test]
    fn long_forms_and_overflows_are_refused() {
        for bytes in [
            &[0x81, 0x00][..],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert_eq!(Reader::new(bytes).varint(u64::MAX), Err(NodeError::Number));
        }
        assert_eq!(Reader::new(&[5]).varint(4), Err(NodeError::Number));
        assert_eq!(Reader::new(&[0x80]).varint(4), Err(NodeError::Cut));
    }
}
