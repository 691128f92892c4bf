//! The words at rest, under a passphrase.
//!
//! | bytes | field |
//! | --- | --- |
//! | 0..8 | `samaseed` |
//! | 8 | version, 1 |
//! | 9..13 | Argon2id memory in KiB, little-endian like the next two |
//! | 13..17 | Argon2id iterations |
//! | 17..21 | Argon2id lanes |
//! | 21..37 | salt |
//! | 37..61 | nonce |
//! | 61.. | XChaCha20-Poly1305 of the phrase's entropy (16 or 32 bytes), then the tag (16) |
//!
//! Bytes 0..61 are the cipher's associated data. The key is Argon2id (version 0x13, 32 bytes out) of
//! the passphrase in NFKD and the salt; it is an argument here, because stretching it takes the
//! better part of a second and belongs on a thread of its own. Salt and nonce are drawn for every
//! sealing, so no key and nonce ever serve two plaintexts.
//!
//! Invariants: the parameters are bounded before anybody allocates by them; a file of a newer version
//! is refused by its number and never misread.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::phrase::Phrase;
use super::symmetric_key;

const MAGIC: [u8; 8] = *b"samaseed";
const VERSION: u8 = 1;
const SALT_LEN: usize = 16;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const PREFIX_LEN: usize = MAGIC.len() + 1;
const HEADER_LEN: usize = PREFIX_LEN + 3 * 4 + SALT_LEN + NONCE_LEN;

/// Length of a sealed phrase of 24 words, the longest there is, in bytes. A reader needs no more.
pub const MAX_LEN: usize = HEADER_LEN + 32 + TAG_LEN;

symmetric_key!(
    /// What Argon2id makes of the passphrase; seals one phrase.
    SealingKey
);

/// What Argon2id spends on one guess at the passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Parameters {
    memory_kib: u32,
    iterations: u32,
    lanes: u32,
}

impl Argon2Parameters {
    /// RFC 9106's second recommended option: 64 MiB, three passes, four lanes.
    pub const RECOMMENDED: Self = Self { memory_kib: 64 * 1024, iterations: 3, lanes: 4 };
    /// For secrets that are checked often: 19 MiB and two passes, what OWASP's password storage cheat sheet
    /// asks of Argon2id at least.
    pub const INTERACTIVE: Self = Self { memory_kib: 19 * 1024, iterations: 2, lanes: 1 };
    /// Most memory that is ever spent: 1 GiB.
    pub const MAX_MEMORY_KIB: u32 = 1024 * 1024;
    /// Most passes over the memory.
    pub const MAX_ITERATIONS: u32 = 32;
    /// Most lanes.
    pub const MAX_LANES: u32 = 16;

    /// Parameters within the bounds. Argon2 itself wants 8 KiB for each lane.
    ///
    /// # Errors
    /// [`Argon2Bounds`] outside of them.
    pub fn new(memory_kib: u32, iterations: u32, lanes: u32) -> Result<Self, Argon2Bounds> {
        let within = (1..=Self::MAX_LANES).contains(&lanes)
            && (8 * lanes..=Self::MAX_MEMORY_KIB).contains(&memory_kib)
            && (1..=Self::MAX_ITERATIONS).contains(&iterations);
        if within {
            Ok(Self { memory_kib, iterations, lanes })
        } else {
            Err(Argon2Bounds { memory_kib, iterations, lanes })
        }
    }

    /// Memory in KiB.
    #[must_use]
    pub const fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    #[must_use]
    pub const fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Lanes.
    #[must_use]
    pub const fn lanes(&self) -> u32 {
        self.lanes
    }
}

/// Argon2id parameters outside of what this program is willing to spend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Argon2id parameters out of bounds: {memory_kib} KiB (8 per lane to 1 GiB), {iterations} \
     iterations (1 to 32), {lanes} lanes (1 to 16)"
)]
pub struct Argon2Bounds {
    /// Memory asked for, in KiB.
    pub memory_kib: u32,
    /// Passes asked for.
    pub iterations: u32,
    /// Lanes asked for.
    pub lanes: u32,
}

/// How a phrase is sealed; everything but the passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealHeader {
    /// What stretching the passphrase costs.
    pub parameters: Argon2Parameters,
    /// Argon2id's salt; random, drawn for this sealing.
    pub salt: [u8; SALT_LEN],
    /// The cipher's nonce; random, drawn for this sealing.
    pub nonce: [u8; NONCE_LEN],
}

impl SealHeader {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.parameters.memory_kib.to_le_bytes());
        bytes.extend_from_slice(&self.parameters.iterations.to_le_bytes());
        bytes.extend_from_slice(&self.parameters.lanes.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.nonce);
        bytes
    }
}

/// Why bytes are not a sealed phrase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedFormatError {
    /// Something else.
    #[error("this is not a sealed phrase of samara")]
    NotSealed,
    /// Written by a later release.
    #[error(
        "the phrase is sealed in format {found}, and this release reads {VERSION}: use a newer one"
    )]
    NewerVersion {
        /// The version in the file.
        found: u8,
    },
    /// A version that never was.
    #[error("the phrase is sealed in format {found}, which does not exist")]
    NoSuchVersion {
        /// The version in the file.
        found: u8,
    },
    /// Cut short or too long.
    #[error("a sealed phrase has {} or {MAX_LEN} bytes, not {len}", MAX_LEN - 16)]
    Length {
        /// Bytes found.
        len: usize,
    },
    /// Parameters that would cost too much, or that Argon2 does not have.
    #[error("the sealed phrase has unreasonable parameters")]
    Parameters(#[from] Argon2Bounds),
}

/// The key does not open the phrase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wrong passphrase, or the sealed phrase was altered")]
pub struct OpenError;

/// A phrase under a passphrase, as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPhrase {
    header: SealHeader,
    ciphertext: Vec<u8>,
}

impl SealedPhrase {
    /// Seals a phrase under the key that [`SealHeader::parameters`] and salt give.
    #[must_use]
    pub fn seal(phrase: &Phrase, header: SealHeader, key: &SealingKey) -> Self {
        let entropy = phrase.entropy();
        let ciphertext = XChaCha20Poly1305::new(key.as_bytes().into())
            .encrypt(
                XNonce::from_slice(&header.nonce),
                Payload { msg: &entropy, aad: &header.encode() },
            )
            .expect("invariant: 32 bytes are within the cipher's limit");
        Self { header, ciphertext }
    }

    /// How the phrase is sealed: what a reader needs to derive the key.
    #[must_use]
    pub const fn header(&self) -> &SealHeader {
        &self.header
    }

    /// The bytes to store, at most [`MAX_LEN`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header.encode();
        bytes.extend_from_slice(&self.ciphertext);
        bytes
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// [`SealedFormatError`]; the version is judged before anything behind it.
    pub fn decode(bytes: &[u8]) -> Result<Self, SealedFormatError> {
        let mut reader = Reader(bytes);
        if reader.take::<8>() != Some(MAGIC) {
            return Err(SealedFormatError::NotSealed);
        }
        let length = SealedFormatError::Length { len: bytes.len() };
        match reader.take::<1>() {
            Some([VERSION]) => {}
            Some([found]) if found > VERSION => {
                return Err(SealedFormatError::NewerVersion { found });
            }
            Some([found]) => return Err(SealedFormatError::NoSuchVersion { found }),
            None => return Err(length),
        }
        let Some((memory, iterations, lanes, salt, nonce)) = reader.fields() else {
            return Err(length);
        };
        let ciphertext = reader.0;
        if !matches!(ciphertext.len().checked_sub(TAG_LEN), Some(16 | 32)) {
            return Err(length);
        }
        let parameters = Argon2Parameters::new(memory, iterations, lanes)?;
        let header = SealHeader { parameters, salt, nonce };
        Ok(Self { header, ciphertext: ciphertext.to_vec() })
    }

    /// Opens the phrase.
    ///
    /// # Errors
    /// [`OpenError`]: the passphrase was another one, or a bit was changed.
    pub fn open(&self, key: &SealingKey) -> Result<Phrase, OpenError> {
        let entropy = XChaCha20Poly1305::new(key.as_bytes().into())
            .decrypt(
                XNonce::from_slice(&self.header.nonce),
                Payload { msg: &self.ciphertext, aad: &self.header.encode() },
            )
            .map(Zeroizing::new)
            .map_err(|_| OpenError)?;
        Phrase::from_entropy(&entropy).map_err(|_| OpenError)
    }
}

/// Takes fixed fields off the front of untrusted bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    #[expect(clippy::type_complexity, reason = "five fields in a row, named by the one caller")]
    fn fields(&mut self) -> Option<(u32, u32, u32, [u8; SALT_LEN], [u8; NONCE_LEN])> {
        Some((
            u32::from_le_bytes(self.take()?),
            u32::from_le_bytes(self.take()?),
            u32::from_le_bytes(self.take()?),
            self.take()?,
            self.take()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::from_bytes(&Zeroizing::new([byte; 32]))
    }

    fn header() -> SealHeader {
        let parameters = Argon2Parameters::RECOMMENDED;
        SealHeader { parameters, salt: [5; 16], nonce: [6; 24] }
    }

    fn phrase(len: usize) -> Phrase {
        Phrase::from_entropy(&Zeroizing::new(vec![9; len])).unwrap()
    }

    fn sealed() -> Vec<u8> {
        SealedPhrase::seal(&phrase(32), header(), &key(1)).encode()
    }

    #[test]
    fn seals_and_opens() {
        for len in [16, 32] {
            let bytes = SealedPhrase::seal(&phrase(len), header(), &key(1)).encode();
            assert_eq!(bytes.len(), HEADER_LEN + len + TAG_LEN);
            let sealed = SealedPhrase::decode(&bytes).unwrap();
            assert_eq!(sealed.header(), &header());
            assert_eq!(sealed.open(&key(1)), Ok(phrase(len)));
            assert_eq!(sealed.open(&key(2)), Err(OpenError));
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let bytes = sealed();
        for bit in 0..8 * bytes.len() {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            if let Ok(sealed) = SealedPhrase::decode(&altered) {
                assert_eq!(sealed.open(&key(1)), Err(OpenError), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_version_is_refused_whatever_follows() {
        let mut bytes = sealed();
        bytes[8] = 2;
        let newer = Err(SealedFormatError::NewerVersion { found: 2 });
        assert_eq!(SealedPhrase::decode(&bytes), newer);
        assert_eq!(SealedPhrase::decode(&bytes[..9]), newer);
        bytes[8] = 0;
        let none = Err(SealedFormatError::NoSuchVersion { found: 0 });
        assert_eq!(SealedPhrase::decode(&bytes), none);
    }

    #[test]
    fn other_files_and_cut_ones_are_refused() {
        assert_eq!(SealedPhrase::decode(b"legal winner"), Err(SealedFormatError::NotSealed));
        let bytes = sealed();
        for len in (8..bytes.len()).filter(|len| *len != MAX_LEN - 16) {
            let refused = Err(SealedFormatError::Length { len });
            assert_eq!(SealedPhrase::decode(&bytes[..len]), refused);
        }
        let long = [bytes.as_slice(), &[0]].concat();
        let refused = Err(SealedFormatError::Length { len: MAX_LEN + 1 });
        assert_eq!(SealedPhrase::decode(&long), refused);
    }

    #[test]
    fn parameters_are_bounded() {
        let gib = Argon2Parameters::MAX_MEMORY_KIB;
        assert!(Argon2Parameters::new(gib, 32, 16).is_ok());
        assert!(Argon2Parameters::new(8, 1, 1).is_ok());
        for (memory, iterations, lanes) in [
            (gib + 1, 1, 1),
            (u32::MAX, 1, 1),
            (gib, 33, 1),
            (gib, u32::MAX, 1),
            (gib, 0, 1),
            (gib, 1, 0),
            (gib, 1, 17),
            (gib, 1, u32::MAX),
            (31, 1, 4),
        ] {
            assert!(Argon2Parameters::new(memory, iterations, lanes).is_err());
            let mut bytes = sealed();
            bytes[9..13].copy_from_slice(&memory.to_le_bytes());
            bytes[13..17].copy_from_slice(&iterations.to_le_bytes());
            bytes[17..21].copy_from_slice(&lanes.to_le_bytes());
            let refused = SealedPhrase::decode(&bytes);
            assert!(matches!(refused, Err(SealedFormatError::Parameters(_))), "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(tail in vec(any::<u8>(), 0..120)) {
            let _ = SealedPhrase::decode(&tail);
            let bytes = [&MAGIC[..], &[VERSION], &tail].concat();
            if let Ok(sealed) = SealedPhrase::decode(&bytes) {
                assert_eq!(sealed.encode(), bytes);
            }
        }
    }
}
