//! Sealed frames: ChaCha20-Poly1305 (RFC 8439) with the frame's number as the nonce.
//!
//! ```text
//! key   = the slab's key
//! nonce = frame number (u96 LE)
//! aad   = slab id (16) || geometry (4)
//! ```
//!
//! Owner of the rule that a frame is sealed once: whoever draws the slab id. A second attempt, even of
//! the same bytes, takes a new id and with it a new key.

use std::fmt;
use std::ops::Range;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::geometry::{Geometry, TAG};
use crate::encoding;
use crate::hash::SlabId;

/// Bytes of a frame's associated data.
const AAD: usize = SlabId::LEN + 4;

/// Why a frame is not sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame number that the slab does not have.
    #[error("slab {slab} has no frame {index}")]
    Index {
        /// The slab.
        slab: SlabId,
        /// Number of the frame.
        index: u32,
    },
    /// Not a whole frame, or not whole frames.
    #[error("{length} bytes at frame {index} of slab {slab} are not whole frames")]
    Length {
        /// The slab.
        slab: SlabId,
        /// Number of the frame.
        index: u32,
        /// Bytes given.
        length: usize,
    },
    /// The tag does not fit: other bytes, another key, slab, geometry or number.
    #[error("frame {index} of slab {slab} does not authenticate")]
    Forged {
        /// The slab.
        slab: SlabId,
        /// Number of the frame.
        index: u32,
    },
}

/// Seals and opens the frames of one slab, in place.
pub struct FrameCipher {
    key: LessSafeKey,
    slab: SlabId,
    geometry: Geometry,
    aad: [u8; AAD],
}

impl fmt::Debug for FrameCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameCipher")
            .field("slab", &self.slab)
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

impl FrameCipher {
    /// The cipher of one slab under the key that derives from its id.
    #[must_use]
    pub fn new(key: &[u8; 32], slab: SlabId, geometry: Geometry) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key)
            .expect("invariant: ChaCha20-Poly1305 takes any 32 bytes");
        let mut aad = [0; AAD];
        aad[..SlabId::LEN].copy_from_slice(&slab.0);
        aad[SlabId::LEN..].copy_from_slice(&encoding::encode(&geometry));
        Self { key: LessSafeKey::new(key), slab, geometry, aad }
    }

    /// Seals a frame: plaintext in all but the last 16 bytes of `frame`, where the tag goes.
    ///
    /// # Errors
    /// [`FrameError::Index`] and [`FrameError::Length`]; the bytes are then untouched.
    pub fn seal(&self, index: u32, frame: &mut [u8]) -> Result<(), FrameError> {
        self.check(index, frame)?;
        let (plain, tag) = frame.split_at_mut(self.geometry.frame_plain() as usize);
        let made = self
            .key
            .seal_in_place_separate_tag(nonce(index), Aad::from(&self.aad), plain)
            .expect("invariant: a frame is far below the cipher's limit of 256 GiB");
        tag.copy_from_slice(made.as_ref());
        Ok(())
    }

    /// Opens a frame; the plaintext is in all but the last 16 bytes.
    ///
    /// # Errors
    /// As [`FrameCipher::seal`], and [`FrameError::Forged`]; the bytes are then worthless.
    pub fn open<'a>(&self, index: u32, frame: &'a mut [u8]) -> Result<&'a mut [u8], FrameError> {
        self.check(index, frame)?;
        self.key
            .open_in_place(nonce(index), Aad::from(&self.aad), frame)
            .map_err(|_| FrameError::Forged { slab: self.slab, index })
    }

    /// Opens neighbouring frames from `first` on and appends what of their plaintext lies in `wanted`,
    /// a range of the slab's plaintext.
    ///
    /// # Errors
    /// As [`FrameCipher::open`]; what was appended by then is true.
    pub fn open_onto(
        &self,
        first: u32,
        frames: &[u8],
        wanted: &Range<u64>,
        plaintext: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let each = u64::from(self.geometry.frame_plain());
        for (index, sealed) in
            (u64::from(first)..).zip(frames.chunks(self.geometry.frame() as usize))
        {
            let start = index * each;
            // At most a frame, which has 64 KiB.
            let from = wanted.start.saturating_sub(start).min(each) as usize;
            let to = wanted.end.saturating_sub(start).min(each) as usize;
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let at = plaintext.len();
            plaintext.extend_from_slice(sealed);
            if let Err(error) = self.open(index, &mut plaintext[at..]) {
                plaintext.truncate(at);
                return Err(error);
            }
            if from > 0 {
                plaintext.copy_within(at + from..at + to.max(from), at);
            }
            plaintext.truncate(at + to.saturating_sub(from));
        }
        Ok(())
    }

    fn check(&self, index: u32, frame: &[u8]) -> Result<(), FrameError> {
        if index >= self.geometry.frames() {
            return Err(FrameError::Index { slab: self.slab, index });
        }
        if frame.len() != self.geometry.frame() as usize {
            return Err(FrameError::Length { slab: self.slab, index, length: frame.len() });
        }
        Ok(())
    }
}

const _: () = assert!(TAG as usize == ring::aead::MAX_TAG_LEN);

fn nonce(index: u32) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..4].copy_from_slice(&index.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{AeadInPlace as _, KeyInit as _};
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    use super::*;
    use crate::sector::SectorSize;

    fn geometry() -> Geometry {
        Geometry::new(3, 5, SectorSize::new(4 << 10).unwrap(), 1 << 10).unwrap()
    }

    /// RFC 8439 by another implementation.
    fn oracle(key: [u8; 32], slab: SlabId, index: u32, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&index.to_le_bytes());
        let aad = [&slab.0[..], &[3, 5, 12, 10]].concat();
        let mut frame = plain.to_vec();
        chacha20poly1305::ChaCha20Poly1305::new(&key.into())
            .encrypt_in_place(&nonce.into(), &aad, &mut frame)
            .unwrap();
        frame
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_sealed_frame_is_the_oracles_and_opens(
            key: [u8; 32], slab: [u8; 16], index in 0u32..12, fill: u8,
        ) {
            let (slab, plain) = (SlabId(slab), vec![fill; 1_008]);
            let cipher = FrameCipher::new(&key, slab, geometry());
            let mut frame = plain.clone();
            frame.resize(1_024, 0xee);
            cipher.seal(index, &mut frame).unwrap();
            prop_assert_eq!(&frame, &oracle(key, slab, index, &plain));
            prop_assert_eq!(&*cipher.open(index, &mut frame).unwrap(), &plain[..]);
        }

        #[test]
        fn runs_open_to_what_is_wanted_of_their_plaintexts(
            key: [u8; 32], first in 0u32..8, count in 1u32..=4, fill: u8, a in 0u64..5_000,
            b in 0u64..5_000,
        ) {
            let cipher = FrameCipher::new(&key, SlabId([1; 16]), geometry());
            let (mut sealed, mut plain) = (Vec::new(), Vec::new());
            for index in first..first + count {
                let bytes: Vec<u8> =
                    (0..1_008u32).map(|at| fill.wrapping_add((at + index) as u8)).collect();
                plain.extend_from_slice(&bytes);
                sealed.extend(oracle(key, SlabId([1; 16]), index, &bytes));
            }
            let start = u64::from(first) * 1_008;
            let whole = plain.len() as u64;
            let (from, to) = (a.min(b).min(whole), a.max(b).min(whole));
            for (from, to) in [(0, whole), (from, to)] {
                let mut opened = b"before".to_vec();
                cipher.open_onto(first, &sealed, &(start + from..start + to), &mut opened).unwrap();
                let expected = [b"before", &plain[from as usize..to as usize]].concat();
                prop_assert_eq!(opened, expected);
            }
        }
    }

    #[test]
    fn everything_that_is_bound_is_checked() {
        let (key, slab) = ([9; 32], SlabId([4; 16]));
        let cipher = FrameCipher::new(&key, slab, geometry());
        let mut sealed = vec![5; 1_024];
        cipher.seal(2, &mut sealed).unwrap();
        let forged = |cipher: &FrameCipher, index: u32, bytes: &[u8]| {
            cipher.open(index, &mut bytes.to_vec()).is_err()
        };
        assert!(!forged(&cipher, 2, &sealed));
        assert!(forged(&cipher, 3, &sealed));
        assert!(forged(&FrameCipher::new(&[8; 32], slab, geometry()), 2, &sealed));
        assert!(forged(&FrameCipher::new(&key, SlabId([5; 16]), geometry()), 2, &sealed));
        let wider = Geometry::new(3, 6, geometry().column(), 1 << 10).unwrap();
        assert!(forged(&FrameCipher::new(&key, slab, wider), 2, &sealed));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(forged(&cipher, 2, &changed), "byte {index}");
        }
    }

    #[test]
    fn wrong_numbers_and_lengths_are_refused() {
        let slab = SlabId([4; 16]);
        let cipher = FrameCipher::new(&[9; 32], slab, geometry());
        let index = FrameError::Index { slab, index: 12 };
        assert_eq!(cipher.seal(12, &mut [0; 1_024]), Err(index));
        let length = FrameError::Length { slab, index: 0, length: 1_023 };
        assert_eq!(cipher.seal(0, &mut [0; 1_023]), Err(length));
        let mut opened = Vec::new();
        let mut open = |first, frames: &[u8]| {
            cipher.open_onto(first, frames, &(0..u64::MAX), &mut opened).is_err()
        };
        assert!(open(0, &[0; 1_500]));
        assert!(open(u32::MAX, &[0; 2_048]));
        assert!(opened.is_empty());
    }

    #[test]
    fn debug_shows_no_key() {
        let cipher = FrameCipher::new(&[0xab; 32], SlabId([4; 16]), geometry());
        assert!(!format!("{cipher:?}").to_lowercase().contains("abab"));
    }
}
