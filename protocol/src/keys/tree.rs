//! Every key of a node, from one seed and one network.
//!
//! ```text
//! master = BLAKE3 derive_key("samara key tree v1: master", seed (64) || genesis hash (32))
//! key    = BLAKE3 derive_key(context of the purpose, master (32) || parameters)
//! ```
//!
//! | key | context `samara key tree v1: ...` | parameters |
//! | --- | --- | --- |
//! | [`KeyTree::account`] | `wallet account` | index (u64) |
//! | [`KeyTree::host_identity`] | `host identity` | index (u32) |
//! | [`KeyTree::validator`] | `validator` | index (u32) |
//! | [`KeyTree::contract`] | `contract` | nonce (16 bytes) |
//! | [`KeyTree::recovery_tag`] | `recovery tag` | none |
//! | [`KeyTree::slab`] | `slab` | slab id (16 bytes) |
//! | [`KeyTree::slab_tag_key`] | `slab tag` | none |
//! | [`KeyTree::head`] | `head` | contract's public key (32 bytes) |
//! | [`KeyTree::journal`] | `journal` | none |
//! | [`KeyTree::metadata`] | `metadata` | none |
//! | [`KeyTree::archive`] | `archive` | none |
//!
//! Parameters are in the canonical encoding ([`crate::encoding`]: integers as varints, byte arrays as
//! they are). Keys have 32 bytes; a signing key is RFC 8032's private key with those bytes. Tags are
//! BLAKE3 keyed hashes cut to 16 bytes: `nonce (16) || host (32)` for a recovery record,
//! `contract (32) || slab id (16)` for a slab.
//!
//! Invariants: a purpose has one context and a context one purpose; the genesis hash is in every key,
//! so no key is of use on another network. The seed is not kept, only the master, which is worth as
//! much as the words on this network and is treated like them.

use std::fmt;

use serde::Serialize;
use zeroize::Zeroizing;

use super::phrase::Seed;
use super::symmetric_key;
use crate::encoding;
use crate::hash::{BlockHash, ContractNonce, RecordTag, SlabId, SlabTag};
use crate::signature::{PublicKey, SecretKey};

/// Starts every context of the tree.
macro_rules! context {
    ($purpose:literal) => {
        concat!("samara key tree v1: ", $purpose)
    };
}

const MASTER: &str = context!("master");
const ACCOUNT: &str = context!("wallet account");
const HOST_IDENTITY: &str = context!("host identity");
const VALIDATOR: &str = context!("validator");
const CONTRACT: &str = context!("contract");
const RECOVERY_TAG: &str = context!("recovery tag");
const SLAB: &str = context!("slab");
const SLAB_TAG: &str = context!("slab tag");
const HEAD: &str = context!("head");
const JOURNAL: &str = context!("journal");
const METADATA: &str = context!("metadata");
const ARCHIVE: &str = context!("archive");

symmetric_key!(
    /// Tags recovery records, so that a scanner knows its own among everybody's.
    TagKey
);
symmetric_key!(
    /// Seals the frames of one sealing attempt of one slab.
    SlabKey
);
symmetric_key!(
    /// Labels slabs at hosts, so that a host learns no slab id and cannot link two contracts.
    SlabTagKey
);
symmetric_key!(
    /// Seals the head that one contract's host keeps.
    HeadKey
);
symmetric_key!(
    /// Seals the journal's events and tails.
    JournalKey
);
symmetric_key!(
    /// Decides where the nodes of checkpoint trees end. They are sealed with the slabs they lie in.
    MetadataKey
);

impl TagKey {
    /// The tag of the recovery record of the contract `nonce` with `host`.
    #[must_use]
    pub fn tag(&self, nonce: &ContractNonce, host: &PublicKey) -> RecordTag {
        RecordTag(keyed_tag(self.as_bytes(), nonce.as_bytes(), host.as_bytes()))
    }
}

impl SlabTagKey {
    /// The label under which the host of `contract` files its part of `slab`.
    #[must_use]
    pub fn tag(&self, contract: &PublicKey, slab: &SlabId) -> SlabTag {
        SlabTag(keyed_tag(self.as_bytes(), contract.as_bytes(), slab.as_bytes()))
    }
}

/// The first 16 bytes of the keyed hash of two fields, each of a fixed length.
fn keyed_tag(key: &[u8; 32], first: &[u8], second: &[u8]) -> [u8; 16] {
    let mut hasher = Zeroizing::new(blake3::Hasher::new_keyed(key));
    hasher.update(first).update(second);
    let mut tag = [0; 16];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

/// BLAKE3's key derivation over `secret || public`, leaving no copy of the secret in the hasher.
fn derive_key(context: &'static str, secret: &[u8], public: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut hasher = Zeroizing::new(blake3::Hasher::new_derive_key(context));
    hasher.update(secret).update(public);
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// Derives every key of one seed on one network. Zeroized when dropped, never printed.
#[derive(Clone)]
pub struct KeyTree {
    master: Zeroizing<[u8; 32]>,
}

impl KeyTree {
    /// The tree of a seed on the network with this genesis block.
    #[must_use]
    pub fn new(seed: &Seed, genesis: &BlockHash) -> Self {
        Self { master: derive_key(MASTER, seed.as_bytes(), genesis.as_bytes()) }
    }

    /// The signing key of wallet account `index`.
    #[must_use]
    pub fn account(&self, index: u64) -> SecretKey {
        self.signing(ACCOUNT, &index)
    }

    /// The identity (and peer id) of the host with this index.
    #[must_use]
    pub fn host_identity(&self, index: u32) -> SecretKey {
        self.signing(HOST_IDENTITY, &index)
    }

    /// The validator key with this index. After a recovery a new index is used, never an old one:
    /// what the old one has signed is not known any more.
    #[must_use]
    pub fn validator(&self, index: u32) -> SecretKey {
        self.signing(VALIDATOR, &index)
    }

    /// The renter's key of the contract formed under `nonce`.
    #[must_use]
    pub fn contract(&self, nonce: &ContractNonce) -> SecretKey {
        self.signing(CONTRACT, nonce)
    }

    /// The key that tags recovery records.
    #[must_use]
    pub fn recovery_tag(&self) -> TagKey {
        TagKey(self.derive(RECOVERY_TAG, &()))
    }

    /// The key of a slab. An id names one sealing attempt, so its key serves one plaintext.
    #[must_use]
    pub fn slab(&self, id: &SlabId) -> SlabKey {
        SlabKey(self.derive(SLAB, id))
    }

    /// The key that labels slabs at hosts.
    #[must_use]
    pub fn slab_tag_key(&self) -> SlabTagKey {
        SlabTagKey(self.derive(SLAB_TAG, &()))
    }

    /// The key of the head kept under the contract with this public key.
    #[must_use]
    pub fn head(&self, contract: &PublicKey) -> HeadKey {
        HeadKey(self.derive(HEAD, contract))
    }

    /// The key of the journal.
    #[must_use]
    pub fn journal(&self) -> JournalKey {
        JournalKey(self.derive(JOURNAL, &()))
    }

    /// The key of checkpoint trees.
    #[must_use]
    pub fn metadata(&self) -> MetadataKey {
        MetadataKey(self.derive(METADATA, &()))
    }

    /// The key that signs archives, so that their owner knows them again.
    #[must_use]
    pub fn archive(&self) -> SecretKey {
        self.signing(ARCHIVE, &())
    }

    fn signing<P: Serialize>(&self, context: &'static str, parameters: &P) -> SecretKey {
        SecretKey::from_bytes(&self.derive(context, parameters))
    }

    fn derive<P: Serialize>(&self, context: &'static str, parameters: &P) -> Zeroizing<[u8; 32]> {
        derive_key(context, &self.master[..], &encoding::encode(parameters))
    }
}

impl fmt::Debug for KeyTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyTree(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::keys::phrase::Phrase;

    fn tree(genesis: u8) -> KeyTree {
        let phrase = Phrase::from_entropy(&Zeroizing::new([3; 16])).unwrap();
        KeyTree::new(&phrase.seed(""), &BlockHash([genesis; 32]))
    }

    #[test]
    fn every_key_is_another_one() {
        let mut keys = BTreeSet::new();
        for tree in [tree(1), tree(2)] {
            for index in 0..3 {
                assert!(keys.insert(*tree.account(u64::from(index)).to_bytes()));
                assert!(keys.insert(*tree.host_identity(index).to_bytes()));
                assert!(keys.insert(*tree.validator(index).to_bytes()));
            }
            for byte in [0, 1] {
                assert!(keys.insert(*tree.contract(&ContractNonce([byte; 16])).to_bytes()));
                assert!(keys.insert(*tree.slab(&SlabId([byte; 16])).as_bytes()));
                assert!(keys.insert(*tree.head(&PublicKey([byte; 32])).as_bytes()));
            }
            for key in [
                tree.recovery_tag().as_bytes(),
                tree.slab_tag_key().as_bytes(),
                tree.journal().as_bytes(),
                tree.metadata().as_bytes(),
            ] {
                assert!(keys.insert(*key));
            }
            assert!(keys.insert(*tree.archive().to_bytes()));
        }
        assert_eq!(keys.len(), 2 * (9 + 6 + 4 + 1));
    }

    #[test]
    fn tags_depend_on_both_fields() {
        let (record, slab) = (tree(1).recovery_tag(), tree(1).slab_tag_key());
        let (nonce, host) = (ContractNonce([1; 16]), PublicKey([2; 32]));
        let tag = record.tag(&nonce, &host);
        assert_eq!(tag, record.tag(&nonce, &host));
        assert_ne!(tag, record.tag(&ContractNonce([2; 16]), &host));
        assert_ne!(tag, record.tag(&nonce, &PublicKey([3; 32])));
        assert_ne!(tag, tree(2).recovery_tag().tag(&nonce, &host));

        let tag = slab.tag(&host, &SlabId([1; 16]));
        assert_ne!(tag, slab.tag(&host, &SlabId([2; 16])));
        assert_ne!(tag, slab.tag(&PublicKey([3; 32]), &SlabId([1; 16])));
    }

    #[test]
    fn secrets_are_not_printed() {
        let tree = tree(1);
        assert_eq!(format!("{tree:?}"), "KeyTree(redacted)");
        assert_eq!(format!("{:?}", tree.slab(&SlabId([1; 16]))), "SlabKey(redacted)");
        assert_eq!(format!("{:?}", tree.journal()), "JournalKey(redacted)");
    }
}
