//! The sealed list of a slab's sectors and hosts.
//!
//! Each of the n hosts files it beside its sector, so any of them leads to all others. It is sealed
//! with XChaCha20-Poly1305 under a key of its own, derived from the slab's key, and a random nonce, since
//! repair writes it again with other hosts.
//!
//! ```text
//! sealed = nonce (24) || ciphertext || tag (16)
//! plain  = version (1) || slab id (16) || geometry (4) || count (varint) || count * (root (32) || host (32))
//! ```

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::geometry::Geometry;
use crate::encoding::{self, DecodeError};
use crate::hash::{Digest, SectorRoot, SlabId, digest};
use crate::sector::bounded_vec;
use crate::signature::PublicKey;

/// Most bytes of a sealed descriptor, which is also what hosts take: 16 KiB.
pub const MAX_DESCRIPTOR: usize = 16 << 10;
/// Most bytes of a plain one; 255 shards need 16,343.
pub const MAX_PLAIN_DESCRIPTOR: usize = MAX_DESCRIPTOR - NONCE - 16;

/// Bytes of the nonce.
const NONCE: usize = 24;
/// Most shards.
const MAX_SHARDS: usize = 255;
/// Derives the descriptor's key from the slab's.
const KEY: &str = "samara v1 slab descriptor key";
/// Domain of [`SlabDescriptor::hash`].
const HASH: &str = "samara v1 slab descriptor";

/// One sector of a slab and who keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardDescriptor {
    /// The sector's name.
    pub root: SectorRoot,
    /// The host's identity.
    pub host: PublicKey,
}

/// All sectors of a slab, in shard order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabDescriptor {
    /// Version of this format: [`SlabDescriptor::VERSION`].
    pub version: u8,
    /// The slab.
    pub slab: SlabId,
    /// Its shape.
    pub geometry: Geometry,
    /// As many as the geometry has shards.
    #[serde(deserialize_with = "bounded_vec::<MAX_SHARDS, _, _>")]
    pub shards: Vec<ShardDescriptor>,
}

/// Why bytes are not a slab's descriptor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Too long or too short to be one.
    #[error("a sealed descriptor does not have {0} bytes")]
    Length(usize),
    /// Other bytes or another key.
    #[error("the slab descriptor does not authenticate")]
    Forged,
    /// Authentic bytes that are no descriptor.
    #[error("reading a slab descriptor")]
    Malformed(#[from] DecodeError),
    /// A version of the future.
    #[error("slab {slab} has a descriptor of version {version}")]
    Version {
        /// The slab.
        slab: SlabId,
        /// Its version.
        version: u8,
    },
    /// Another number of shards than the geometry says.
    #[error("the descriptor of slab {slab} lists {listed} of {total} shards")]
    Shards {
        /// The slab.
        slab: SlabId,
        /// Shards listed.
        listed: usize,
        /// Shards of the geometry.
        total: u8,
    },
}

impl SlabDescriptor {
    /// The version that this code writes.
    pub const VERSION: u8 = 1;

    /// A descriptor.
    ///
    /// # Errors
    /// [`DescriptorError::Shards`] unless there are as many shards as the geometry says.
    pub fn new(
        slab: SlabId,
        geometry: Geometry,
        shards: Vec<ShardDescriptor>,
    ) -> Result<Self, DescriptorError> {
        let descriptor = Self { version: Self::VERSION, slab, geometry, shards };
        descriptor.check()?;
        Ok(descriptor)
    }

    /// The plain encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::encode(self)
    }

    /// Reads a plain encoding.
    ///
    /// # Errors
    /// [`DescriptorError`] for anything but the one encoding of a descriptor.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DescriptorError> {
        if bytes.len() > MAX_PLAIN_DESCRIPTOR {
            return Err(DescriptorError::Length(bytes.len()));
        }
        let descriptor: Self = encoding::decode_canonical(bytes)?;
        descriptor.check()?;
        Ok(descriptor)
    }

    /// Digest of the plain encoding, by which the journal and the slab table name it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        digest(HASH, self)
    }

    /// Seals it under the slab's key. `nonce` is random for each sealing.
    #[must_use]
    pub fn seal(&self, key: &[u8; 32], nonce: [u8; NONCE]) -> Vec<u8> {
        let payload = Payload { msg: &self.to_bytes(), aad: HASH.as_bytes() };
        let sealed = cipher(key)
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("invariant: a descriptor is far below the cipher's limit of 256 GiB");
        [&nonce[..], &sealed].concat()
    }

    /// Opens what [`SlabDescriptor::seal`] made.
    ///
    /// # Errors
    /// [`DescriptorError`].
    pub fn open(key: &[u8; 32], sealed: &[u8]) -> Result<Self, DescriptorError> {
        let refused = DescriptorError::Length(sealed.len());
        if sealed.len() > MAX_DESCRIPTOR {
            return Err(refused);
        }
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or(refused)?;
        let payload = Payload { msg: sealed, aad: HASH.as_bytes() };
        let plain = cipher(key)
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_| DescriptorError::Forged)?;
        Self::from_bytes(&plain)
    }

    fn check(&self) -> Result<(), DescriptorError> {
        if self.version != Self::VERSION {
            return Err(DescriptorError::Version { slab: self.slab, version: self.version });
        }
        let (listed, total) = (self.shards.len(), self.geometry.total());
        if listed != usize::from(total) {
            return Err(DescriptorError::Shards { slab: self.slab, listed, total });
        }
        Ok(())
    }
}

/// The cipher under the descriptor's key, which no frame is sealed with.
fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    let key = Zeroizing::new(blake3::derive_key(KEY, key));
    XChaCha20Poly1305::new((&*key).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::sector::SectorSize;

    fn descriptor(data: u8, total: u8) -> SlabDescriptor {
        let geometry = Geometry::with_column(data, total, SectorSize::MAX).unwrap();
        let shard = |byte| ShardDescriptor {
            root: SectorRoot([byte; 32]),
            host: PublicKey([byte ^ 0xff; 32]),
        };
        SlabDescriptor::new(SlabId([7; 16]), geometry, (0..total).map(shard).collect()).unwrap()
    }

    #[test]
    fn the_largest_fits_what_hosts_take() {
        let descriptor = descriptor(255, 255);
        assert_eq!(descriptor.to_bytes().len(), 16_343);
        let sealed = descriptor.seal(&[1; 32], [2; 24]);
        assert!(sealed.len() <= MAX_DESCRIPTOR);
        assert_eq!(SlabDescriptor::open(&[1; 32], &sealed), Ok(descriptor));
    }

    #[test]
    fn each_changed_byte_is_refused() {
        let sealed = descriptor(2, 3).seal(&[1; 32], [2; 24]);
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            let opened = SlabDescriptor::open(&[1; 32], &changed);
            assert_eq!(opened, Err(DescriptorError::Forged), "byte {index}");
        }
        let opened = SlabDescriptor::open(&[2; 32], &sealed);
        assert_eq!(opened, Err(DescriptorError::Forged));
        assert_eq!(SlabDescriptor::open(&[1; 32], &[0; 23]), Err(DescriptorError::Length(23)));
        let long = vec![0; MAX_DESCRIPTOR + 1];
        assert_eq!(SlabDescriptor::open(&[1; 32], &long), Err(DescriptorError::Length(16_385)));
    }

    #[test]
    fn authentic_nonsense_is_refused() {
        let good = descriptor(2, 3);
        let mut shorter = good.clone();
        shorter.shards.pop();
        let mut newer = good.clone();
        newer.version = 2;
        for wrong in [shorter, newer] {
            assert!(SlabDescriptor::open(&[1; 32], &wrong.seal(&[1; 32], [0; 24])).is_err());
        }
        assert!(SlabDescriptor::new(good.slab, good.geometry, Vec::new()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn descriptors_round_trip(key: [u8; 32], nonce in any::<[u8; 24]>(), data in 1u8..40) {
            let descriptor = descriptor(data, data + 20);
            let sealed = descriptor.seal(&key, nonce);
            prop_assert_eq!(&SlabDescriptor::open(&key, &sealed).unwrap(), &descriptor);
            prop_assert_eq!(SlabDescriptor::from_bytes(&descriptor.to_bytes()), Ok(descriptor));
        }

        #[test]
        fn any_bytes_are_a_descriptor_or_an_error(bytes: Vec<u8>) {
            if let Ok(descriptor) = SlabDescriptor::from_bytes(&bytes) {
                prop_assert_eq!(descriptor.to_bytes(), bytes);
            }
            prop_assert!(SlabDescriptor::open(&[0; 32], &[7; 100]).is_err());
        }
    }
}
