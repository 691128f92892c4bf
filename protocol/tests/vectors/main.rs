//! Golden vectors of everything that is signed, stored or sent: one file per area in `vectors/`, as a
//! map from a value's name to the hex of its canonical bytes, or of a digest or sealed form of it.
//!
//! The files are stable for ever: a difference means that old data, signatures or peers are not
//! understood any more. A new value gets its line from the code itself: add it to an area and run
//!
//! ```text
//! SAMARA_ADD_VECTORS=1 cargo test -p samara-protocol --test vectors
//! ```
//!
//! which writes lines that are missing and changes none. Every value is also read back from its line.

mod chain;
mod contract;
mod host;
mod journal;
mod keys;
mod ledger;
#[path = "../ledger/oracle.rs"]
#[allow(dead_code)] // The vectors use a part of the ledger tests' chain.
mod oracle;
mod sealed_slab;
mod sector;
mod slab;
mod tree;
#[path = "../ledger/world.rs"]
#[allow(dead_code)]
mod world;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use samara_protocol::encoding::{decode_canonical, encode};
use samara_protocol::signature::SecretKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The vectors of one area, as the code computes them now.
struct Area {
    name: &'static str,
    computed: BTreeMap<String, String>,
}

impl Area {
    fn new(name: &'static str) -> Self {
        Self { name, computed: BTreeMap::new() }
    }

    /// A value by its canonical encoding, which must read back as the same value.
    fn value<T>(&mut self, name: &str, value: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        let bytes = encode(value);
        assert_eq!(decode_canonical::<T>(&bytes).as_ref(), Ok(value), "{name}");
        self.bytes(name, &bytes);
    }

    /// A digest or a sealed form.
    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let before = self.computed.insert(name.to_owned(), hex::encode(bytes));
        assert_eq!(before, None, "{name} is there twice");
    }

    /// Compares with the file.
    #[expect(clippy::disallowed_methods, reason = "the test's own golden file")]
    fn finish(self) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors");
        let path = folder.join(self.name).with_extension("json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "{}".into());
        let mut known: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
        if std::env::var_os("SAMARA_ADD_VECTORS").is_some() {
            for (name, hex) in &self.computed {
                known.entry(name.clone()).or_insert_with(|| hex.clone());
            }
            std::fs::write(&path, serde_json::to_string_pretty(&known).unwrap() + "\n").unwrap();
        }
        for (name, hex) in &self.computed {
            assert_eq!(known.get(name), Some(hex), "{}: {name}", self.name);
        }
        assert_eq!(known.len(), self.computed.len(), "{}: a vector has no value", self.name);
    }
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&Zeroizing::new([byte; 32]))
}
