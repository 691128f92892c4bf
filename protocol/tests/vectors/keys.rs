//! The golden vectors in `vectors/keys.json`, computed by another implementation of the formulas in
//! `protocol/src/keys/tree.rs` (Python's `hashlib`, `blake3` and `cryptography`), and the BIP39 standard's own.

use samara_protocol::hash::{BlockHash, ContractNonce, SlabId};
use samara_protocol::keys::{KeyTree, Phrase};
use samara_protocol::signature::{PublicKey, SecretKey};
use serde::Deserialize;
use zeroize::Zeroizing;

#[derive(Deserialize)]
struct Vectors {
    bip39: Vec<Bip39Vector>,
    trees: Vec<TreeVector>,
}

#[derive(Deserialize)]
struct Bip39Vector {
    words: String,
    entropy: String,
    passphrase: String,
    seed: String,
}

#[derive(Deserialize)]
struct TreeVector {
    words: String,
    passphrase: String,
    genesis: String,
    nonce: String,
    slab_id: String,
    host: String,
    accounts: Vec<AccountVector>,
    host_identities: Vec<IndexVector>,
    validators: Vec<IndexVector>,
    contract: String,
    recovery_tag_key: String,
    record_tag: String,
    slab: String,
    slab_tag_key: String,
    slab_tag: String,
    head: String,
    journal: String,
    metadata: String,
    archive: String,
}

#[derive(Deserialize)]
struct AccountVector {
    // A string, because JSON readers elsewhere round numbers over 2^53.
    index: String,
    public: String,
}

#[derive(Deserialize)]
struct IndexVector {
    index: u32,
    public: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../vectors/keys.json")).unwrap()
}

fn public(key: &SecretKey) -> String {
    key.public().to_string()
}

#[test]
fn words_and_seeds_are_those_of_the_standard() {
    for vector in vectors().bip39 {
        let phrase = Phrase::parse(&vector.words).unwrap();
        let entropy = Zeroizing::new(hex::decode(&vector.entropy).unwrap());
        assert_eq!(Phrase::from_entropy(&entropy), Ok(phrase.clone()));
        assert_eq!(*phrase.line(), vector.words);
        assert_eq!(hex::encode(phrase.seed(&vector.passphrase).as_bytes()), vector.seed);
    }
}

#[test]
fn every_key_of_the_tree_is_pinned() {
    for vector in vectors().trees {
        let seed = Phrase::parse(&vector.words).unwrap().seed(&vector.passphrase);
        let tree = KeyTree::new(&seed, &vector.genesis.parse::<BlockHash>().unwrap());
        let nonce: ContractNonce = vector.nonce.parse().unwrap();
        let slab: SlabId = vector.slab_id.parse().unwrap();
        let host: PublicKey = vector.host.parse().unwrap();
        let contract = tree.contract(&nonce).public();

        for account in &vector.accounts {
            let index = account.index.parse().unwrap();
            assert_eq!(public(&tree.account(index)), account.public, "account {index}");
        }
        for IndexVector { index, public: expected } in &vector.host_identities {
            assert_eq!(&public(&tree.host_identity(*index)), expected, "host {index}");
        }
        for IndexVector { index, public: expected } in &vector.validators {
            assert_eq!(&public(&tree.validator(*index)), expected, "validator {index}");
        }
        assert_eq!(contract.to_string(), vector.contract);
        assert_eq!(hex::encode(tree.recovery_tag().as_bytes()), vector.recovery_tag_key);
        assert_eq!(tree.recovery_tag().tag(&nonce, &host).to_string(), vector.record_tag);
        assert_eq!(hex::encode(tree.slab(&slab).as_bytes()), vector.slab);
        assert_eq!(hex::encode(tree.slab_tag_key().as_bytes()), vector.slab_tag_key);
        assert_eq!(tree.slab_tag_key().tag(&contract, &slab).to_string(), vector.slab_tag);
        assert_eq!(hex::encode(tree.head(&contract).as_bytes()), vector.head);
        assert_eq!(hex::encode(tree.journal().as_bytes()), vector.journal);
        assert_eq!(hex::encode(tree.metadata().as_bytes()), vector.metadata);
        assert_eq!(public(&tree.archive()), vector.archive);
    }
}
