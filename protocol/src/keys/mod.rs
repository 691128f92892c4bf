//! The words and every key that grows from them.
//!
//! [`phrase`] reads and writes the BIP39 words and stretches them to a 64-byte seed, [`tree`] derives
//! every key of a node from that seed and a network's genesis hash, and [`sealed`] is the format in
//! which the words rest on disk under a passphrase.
//!
//! Invariants: no secret exists that the words and public data (ids, nonces, indexes) do not give
//! back; every secret type zeroizes when it is dropped and prints as `redacted`; randomness is an
//! argument. Golden vectors in `vectors/keys.json` pin every derivation: a change to one of them
//! orphans what people have stored.

pub mod phrase;
pub mod sealed;
pub mod tree;

pub use phrase::{Phrase, PhraseError, Seed};
pub use tree::KeyTree;

/// Declares a newtype over 32 secret bytes: zeroized when dropped, never printed.
macro_rules! symmetric_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(zeroize::Zeroizing<[u8; 32]>);

        impl $name {
            /// The key with these 32 bytes.
            #[must_use]
            pub fn from_bytes(bytes: &zeroize::Zeroizing<[u8; 32]>) -> Self {
                Self(bytes.clone())
            }

            /// The 32 secret bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    };
}
use symmetric_key;
