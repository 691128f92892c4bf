//! The corpora: inputs to start from, made from the golden vectors and from a few small worlds.
//!
//! Each target has a folder in `tests/fuzz/corpus`. What is made here has a name of words and dashes and
//! is written by `cargo run --release -p samara-tests --bin corpus`; inputs that found something once are
//! kept beside it as `found-...`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use samara_protocol::chain::query::{ChainRequest, ChainResponse, Finalized, TransactionStatus};
use samara_protocol::chain::{Action, Transaction, TransactionBody, ValidatorSet};
use samara_protocol::encoding::{decode, encode};
use samara_protocol::hash::{Digest, SlabId, TransactionId};
use samara_protocol::journal::{
    BackupId, BackupLabel, Change, Content, Entry, Extent, HostIndex, Made, SlabRecord, StoredFile,
    StoredPath, VaultEvent, VaultId,
};
use samara_protocol::keys::Phrase;
use samara_protocol::keys::sealed::{Argon2Parameters, SealHeader, SealedPhrase, SealingKey};
use samara_protocol::ledger::state::StateKey;
use samara_protocol::ledger::{StateReader as _, prove};
use samara_protocol::sector::{prove_position, prove_range};
use samara_protocol::tree::{Builder, Limits, NewNode, Packer, Rules as TreeRules, TreeKind};
use samara_protocol::units::{Amount, Height};
use serde_json::Value;
use zeroize::Zeroizing;

use super::chain::proven_key;
use super::fields;
use super::fixtures::{GENESIS, blocks, entries, scan, secret, sectors, state};
use super::sector::{chunk_of, storage_proof_of};
use super::tree::boundary_key;

/// One input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// The target.
    pub target: &'static str,
    /// Its name in the target's corpus.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// The folder of all corpora.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// All inputs that are made.
#[must_use]
pub fn samples() -> Vec<Sample> {
    let mut samples = Samples::default();
    vectors(&mut samples);
    questions(&mut samples);
    stored_scans(&mut samples);
    state_proofs(&mut samples);
    sector_proofs(&mut samples);
    nodes(&mut samples);
    streams(&mut samples);
    engine(&mut samples);
    words(&mut samples);
    bodies(&mut samples);
    archives(&mut samples);
    samples.0
}

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn add(&mut self, target: &'static str, name: &str, bytes: impl Into<Vec<u8>>) {
        let name = name.replace([' ', ':', ',', '.'], "-").replace("--", "-");
        self.0.push(Sample { target, name, bytes: bytes.into() });
    }
}

/// The values of an area of the golden vectors.
fn area(text: &str) -> BTreeMap<String, Vec<u8>> {
    let values: BTreeMap<String, String> =
        serde_json::from_str(text).expect("invariant: the vectors are a map of texts");
    let value = |(name, text): (String, String)| {
        (name, hex::decode(text).expect("invariant: the vectors are in hex"))
    };
    values.into_iter().map(value).collect()
}

macro_rules! vectors {
    ($name:literal) => {
        area(include_str!(concat!("../../../protocol/vectors/", $name, ".json")))
    };
}

fn vectors(samples: &mut Samples) {
    for (name, bytes) in vectors!("chain") {
        let target = match name.as_str() {
            "genesis" => "genesis",
            "validators" => "validators",
            "header" => "header",
            "certificate" => "certificate",
            "record" => "recovery_record",
            "block" => "block",
            "vote" => "chain_values",
            name if name.starts_with("transaction: ") => "transaction",
            name if name.starts_with("state") => "chain_values",
            _ => continue,
        };
        samples.add(target, &name, bytes);
    }
    for (name, bytes) in vectors!("contract") {
        let target = match name.as_str() {
            "terms" => "terms",
            name if name.ends_with("sign bytes") => continue,
            name if name.contains("voucher") => "voucher",
            _ => "revision",
        };
        samples.add(target, &name, bytes);
    }
    host_vectors(samples);
    journal_vectors(samples);
    tree_vectors(samples);
    for (name, bytes) in vectors!("slab") {
        let target = match name.as_str() {
            name if name.starts_with("descriptor sealed") => "descriptor_sealed",
            name if name.starts_with("descriptor: ") => "descriptor",
            name if name.starts_with("geometry") => "slab_record",
            _ => continue,
        };
        samples.add(target, &name, bytes);
    }
}

fn host_vectors(samples: &mut Samples) {
    for (name, bytes) in vectors!("host") {
        // Version 1, and the number of the host's variant.
        let wire = [&[1, 1][..], &bytes].concat();
        match name.as_str() {
            "announcement" => samples.add("announcement", &name, bytes),
            "claim" => samples.add("host_papers", &name, bytes),
            _ if name.starts_with("call: ") => samples.add("contract_call", &name, bytes),
            _ if name.starts_with("request: ") => {
                samples.add("host_request", &name, bytes);
                samples.add("wire_request", &name, wire);
            }
            _ => {
                if matches!(
                    name.as_str(),
                    "response: prices" | "response: latest" | "response: head written"
                ) {
                    samples.add("host_papers", &name, &bytes[1..]);
                }
                samples.add("host_response", &name, bytes);
                samples.add("wire_response", &name, wire);
            }
        }
    }
}

fn journal_vectors(samples: &mut Samples) {
    let area = vectors!("journal");
    let mut all = Vec::new();
    for (name, bytes) in &area {
        if name.starts_with("entry: ") {
            samples.add("entry", name, &bytes[..]);
            all.extend(decode::<Entry>(bytes));
        }
    }
    samples.add("entries", "as listed", encode(&all));
    samples.add("entries", "journal", encode(&journal()));
    let sealed = [&area["head base sealed"][..], &area["head tail sealed"]].concat();
    samples.add("head_slot", "base", &area["head base sealed"][..]);
    samples.add("head_slot", "base and tail", sealed);
    samples.add("head_base", "base", &area["head base"][..]);
    samples.add("head_tail", "tail", &area["head tail"][..]);
    let pieces = [&area["head base"][..], &area["head tail"]];
    samples.add("head_pieces", "base", fields(&pieces[..1]));
    samples.add("head_pieces", "base and tail", fields(&pieces));
    samples.add("slab_record", "slab record", &area["slab record"][..]);
}

/// Entries that follow each other; the vectors' do not.
fn journal() -> Vec<Entry> {
    let (vault, backup) = (VaultId([35; 16]), BackupId([37; 16]));
    let path = |path: &str| StoredPath::new(path).expect("invariant: a path");
    let extent = Extent { slab: SlabId([31; 16]), offset: 300, length: 70_000 };
    let put = |name: &str, content| VaultEvent::Put {
        path: path(name),
        file: StoredFile {
            size: 70_000,
            modified: 5,
            executable: false,
            hash: Digest([33; 32]),
            content,
        },
    };
    let slab = |byte: u8| SlabRecord {
        id: SlabId([byte; 16]),
        data: 1,
        column: 20,
        frame: 16,
        hosts: vec![HostIndex(0), HostIndex(1)],
        descriptor: Digest([32; 32]),
    };
    let events = [
        VaultEvent::Created { name: "home".into() },
        put("a/b", Content::Extents(vec![extent])),
        put("a/b", Content::Extents(vec![extent])),
        put("c", Content::Inline(vec![1; 9])),
        VaultEvent::Moved { from: path("c"), to: path("d/e") },
        VaultEvent::FolderMade { path: path("f") },
        VaultEvent::VersionRemoved { path: path("a/b"), version: 1 },
        VaultEvent::Relocated {
            path: path("a/b"),
            version: 2,
            extents: vec![Extent { slab: SlabId([30; 16]), ..extent }],
        },
        VaultEvent::Deleted { path: path("d/e") },
        VaultEvent::FolderRemoved { path: path("f") },
        VaultEvent::Renamed { name: "away".into() },
        VaultEvent::Removed,
    ];
    let added = |index: u16, byte| Change::HostAdded {
        index: HostIndex(index),
        host: secret(byte).public(),
    };
    let mut changes = vec![added(0, 2), added(1, 4), Change::SlabsStored(vec![slab(30), slab(31)])];
    for (number, event) in (0..).zip(events) {
        changes.push(Change::Vault { vault, number, made: Made::default(), event });
        if number == 3 {
            let label = Box::new(BackupLabel { name: "now".to_owned(), ..BackupLabel::default() });
            let origin = Box::default();
            changes.push(Change::BackupCreated { id: backup, scope: None, label, origin });
        }
    }
    let moved = SlabRecord { hosts: vec![HostIndex(1), HostIndex(0)], ..slab(30) };
    changes.extend([Change::SlabsMoved(vec![moved]), Change::BackupDeleted(backup)]);
    changes.push(Change::SlabsReleased(vec![SlabId([30; 16])]));
    changes.push(Change::Setting { name: "allowance".into(), value: vec![1] });
    changes.into_iter().map(|change| Entry { time: 9, salt: [34; 16], change }).collect()
}

fn tree_vectors(samples: &mut Samples) {
    let area = vectors!("tree");
    let file =
        |name: &str| (&area[&format!("file key: {name}")], &area[&format!("file value: {name}")]);
    let mut files: Vec<&[u8]> = Vec::new();
    for name in ["version 0", "version 300", "mark"] {
        let (key, value) = file(name);
        samples.add("file_items", name, fields(&[key, value]));
        files.extend([&key[..], value]);
    }
    samples.add("file_items", "all", fields(&files));
    let key = &area["event key: 300"];
    for name in ["here", "stored", "erased"] {
        let value = &area[&format!("event: {name}")];
        samples.add("event_items", name, fields(&[key, value]));
        samples.add("event_items", &format!("{name} alone"), &value[..]);
    }
    let slab = [&fields(&[&area["slab key"]])[..], &area["slab value"]].concat();
    samples.add("slab_items", "slab", slab);
    let held = [&area["held key: 300 to 500"][..], &area["held value"]];
    samples.add("held_items", "held", fields(&held));
    let root = &area["checkpoint root"];
    samples.add("checkpoint_root", "root", &root[..]);
    let slab: [&[u8]; 2] = [&area["slab key"], &area["slab value"]];
    let all = [&[&root[..]][..], &slab, &files, &held].concat();
    samples.add("checkpoint_root", "root and items", fields(&all));
}

/// Questions to chain peers, and what they answer.
fn questions(samples: &mut Samples) {
    let chain = blocks();
    let body = TransactionBody {
        genesis: GENESIS,
        account: secret(3).public(),
        nonce: 7,
        fee: Amount(1),
        valid_until: TransactionBody::ALWAYS,
        action: Action::Transfer { to: secret(4).public(), amount: Amount::coins(2) },
    };
    let id = body.id();
    let transaction = Transaction::signed(body, &[&secret(3)]);
    let keys = vec![StateKey::Totals, StateKey::Host(secret(2).public())];
    let requests = [
        ("tip", ChainRequest::Tip { above: Some(Height(7)) }),
        ("batch", ChainRequest::Batch { from: Height(3), limit: 4 }),
        ("decision", ChainRequest::Decision(Height(10))),
        ("next decision", ChainRequest::Decision(Height(11))),
        ("state", ChainRequest::State(keys)),
        ("hosts", ChainRequest::Hosts { after: Some(secret(2).public()), limit: 9 }),
        ("submit", ChainRequest::Submit(Box::new(transaction))),
        ("transaction", ChainRequest::Transaction(id)),
    ];
    let mut answers = Vec::new();
    for (name, request) in requests {
        let bytes = encode(&request);
        samples.add("wire_request", &format!("chain {name}"), [&[1, 0][..], &bytes].concat());
        samples.add("chain_request", name, bytes);
        answers.push((name, chain.answer(&request)));
    }
    answers.retain(|(_, answer)| !matches!(answer, ChainResponse::Refused(_)));
    answers.extend([
        ("refused", ChainResponse::Refused("no".to_owned())),
        ("hosts", ChainResponse::Hosts(vec![secret(2).public()])),
        ("accepted", ChainResponse::Accepted(TransactionId([1; 32]))),
        ("included", ChainResponse::Transaction(TransactionStatus::Included(Height(9)))),
        ("state", state_answer()),
    ]);
    for (name, answer) in answers {
        let bytes = encode(&answer);
        samples.add("wire_response", &format!("chain {name}"), [&[1, 0][..], &bytes].concat());
        samples.add("chain_response", name, bytes);
    }
    let (set, certificate) = chain.decision(Height(5)).expect("invariant: the chain is as long");
    samples.add("certificate", "synthetic", encode(&certificate));
    samples.add("validators", "synthetic", encode::<ValidatorSet>(&set));
    samples.add("genesis", "synthetic", encode(&chain.genesis));
}

fn state_answer() -> ChainResponse {
    let key = StateKey::Totals;
    let value = state().value(&key).expect("invariant: a state in memory can be read");
    let proof = prove(state(), Height(0), &key).expect("invariant: the state is there");
    let tip = blocks().tip().expect("invariant: the chain has blocks");
    let at: Box<Finalized> = Box::new(tip);
    ChainResponse::State { at, values: vec![(value.map(Into::into), proof)] }
}

fn stored_scans(samples: &mut Samples) {
    for answers in [0, 1, 2, 3, 4, 32] {
        let (scan, name) = (scan(answers), format!("after {answers} answers"));
        samples.add("scan_state", &name, encode(&scan.state()));
        samples.add("light_state", &name, encode(scan.chain().state()));
    }
}

fn state_proofs(samples: &mut Samples) {
    for number in 0..6 {
        let key = proven_key(number);
        let value = state().value(&key).expect("invariant: a state in memory can be read");
        let proof = prove(state(), Height(0), &key).expect("invariant: the state is there");
        let head = [number, u8::from(value.is_some())];
        let input = [&head[..], &fields(&[&value.unwrap_or_default()]), &proof.0].concat();
        samples.add("state_proof", &format!("key {number}"), input);
    }
}

fn sector_proofs(samples: &mut Samples) {
    let [first, second, ..] = sectors() else { return };
    for (start, end) in [(0u8, 1u8), (1, 3), (0, 4)] {
        let range = u32::from(start) << 14..u32::from(end) << 14;
        let proof = prove_range(&first.outboard, range).expect("invariant: whole groups");
        let input = [&[start, end][..], &encode(&proof)].concat();
        samples.add("range_proof", &format!("groups {start} to {end}"), input);
    }
    for (number, sector, chunk) in [(0u8, first, 37u8), (1, second, 3)] {
        let proof = chunk_of(sector, u32::from(chunk)).expect("invariant: the sector has it");
        let input = [&[number, chunk][..], &encode(&proof)].concat();
        samples.add("chunk_proof", &format!("sector {number}"), input);
    }
    for position in [0u64, 70_000, 114_000] {
        let proof = prove_position(&entries(), position).expect("invariant: the contract has it");
        let input = [&position.to_le_bytes()[..], &encode(&proof)].concat();
        samples.add("position_proof", &format!("at {position}"), input);
    }
    samples.add("storage_proof", "whole", encode(&storage_proof_of()));
    samples.add("outboard", "four groups", [&[16][..], &first.outboard.to_bytes()].concat());
    samples.add("outboard", "one group", [&[14][..], &second.outboard.to_bytes()].concat());
}

/// Stored nodes of small trees: leaves, and nodes above them.
fn nodes(samples: &mut Samples) {
    let limits = Limits::new(256, 500).expect("invariant: limits as the vectors have them");
    for (name, kind) in [
        ("files", TreeKind::Files),
        ("events", TreeKind::Events),
        ("slabs", TreeKind::Slabs),
        ("held", TreeKind::Held),
    ] {
        let mut builder = Builder::new(&TreeRules::new(kind, boundary_key(), limits));
        let mut nodes: Vec<NewNode> = Vec::new();
        for number in 0..40u8 {
            let key = format!("folder {:02}/file {number:03}", number / 10).into_bytes();
            let value = vec![number; usize::from(number)];
            nodes.extend(builder.push(key, value).expect("invariant: the items are short"));
        }
        nodes.extend(builder.finish().0);
        // Each in a slab of its own.
        let mut packer = Packer::new(65_520, 65_520);
        let (mut leaf, mut above) = (Vec::new(), Vec::new());
        for (number, node) in (1..).zip(&nodes) {
            packer.place(node).expect("invariant: children come first");
            let stored = packer.take();
            packer.stored(SlabId([number; 16]));
            let kept = if node.reference.level == 0 { &mut leaf } else { &mut above };
            *kept = stored;
        }
        samples.add("tree_node", &format!("{name} leaf"), leaf);
        samples.add("tree_node", &format!("{name} above"), above);
    }
}

fn streams(samples: &mut Samples) {
    let frame = |body: &[u8]| [&(body.len() as u32).to_le_bytes()[..], body].concat();
    let requests = [frame(b"first"), frame(b""), frame(&[7; 300])].concat();
    samples.add("frames", "requests", [&[0][..], &requests].concat());
    samples.add("frames", "bulk request", [&[1][..], &frame(&[8; 900])].concat());
    samples.add("frames", "answer", [&[0, 0][..], &frame(b"answer")].concat());
    samples.add("frames", "refusal", vec![0, 1, 0, 0, 0, 0]);
    samples.add("frames", "claim", [&[1, 0][..], &(6u32 << 20).to_le_bytes(), &[1; 40]].concat());
}

/// The engine's messages, by their mirrors in the node's codec. Texts are encoded as bytes are.
fn engine(samples: &mut Samples) {
    let (key, signature) = (secret(21).public(), secret(21).sign(b"vote"));
    let block = [9u8; 32];
    let vote = (1u8, 5u64, Some(1u32), Some(block), key, signature);
    let polka = (5u64, Some(1u32), block, vec![(key, signature)]);
    let round = (5u64, Some(1u32), true, vec![(0u8, Some(block), key, signature)]);
    let (_, certificate) = blocks().decision(Height(5)).expect("invariant: the chain is as long");
    let value = ("b".repeat(40), certificate);
    let messages = [
        ("vote", encode(&(0u8, &vote))),
        ("proposal", encode(&(1u8, 5u64, Some(1u32), block, None::<u32>, key, signature))),
        ("polka", encode(&polka)),
        ("lively polka", encode(&(1u8, &polka))),
        ("lively round", encode(&(2u8, &round))),
        ("proposed", encode(&(5u64, Some(1u32), None::<u32>, key, block, true))),
        ("end of stream", encode(&("s".repeat(20), 4u64, None::<u8>))),
        ("sync request", encode(&(1u64, 50u64))),
        ("sync response", encode(&(1u64, vec![value]))),
    ];
    messages.into_iter().for_each(|(name, bytes)| samples.add("engine_messages", name, bytes));
}

fn words(samples: &mut Samples) {
    let keys: Value = serde_json::from_str(include_str!("../../../protocol/vectors/keys.json"))
        .expect("invariant: the vectors are JSON");
    for (number, phrase) in keys["bip39"].as_array().into_iter().flatten().take(2).enumerate() {
        let words = phrase["words"].as_str().unwrap_or_default();
        samples.add("texts", &format!("words {number}"), words);
    }
    for (name, text) in [
        ("amount", "2.5"),
        ("amount of all digits", "170141183460469231731.687303715884105727"),
        ("key", "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"),
        ("path", "fotos/2026/wald.jpg"),
        ("address", "/ip4/192.0.2.1/tcp/4001"),
        ("redundancy", "10/30"),
        ("source", "sealed:words.sealed"),
        ("network", "10.1.0.0/16"),
        ("url", "https://0x7f.1:8443/a/../b?c#d"),
    ] {
        samples.add("texts", name, text);
    }
    sealed_words(samples);
    samples.add("samara_toml", "sample", samara_node::config::SAMPLE);
    samples.add("samara_toml", "roles", ROLES);
    samples.add("network_toml", "network", NETWORK);
}

fn sealed_words(samples: &mut Samples) {
    let header =
        SealHeader { parameters: Argon2Parameters::RECOMMENDED, salt: [1; 16], nonce: [2; 24] };
    let key = SealingKey::from_bytes(&Zeroizing::new([3; 32]));
    let phrases = [
        ("12 words", Phrase::from_entropy(&Zeroizing::new([4u8; 16]))),
        ("24 words", Phrase::from_entropy(&Zeroizing::new([4u8; 32]))),
    ];
    for (name, phrase) in phrases {
        let phrase = phrase.expect("invariant: so much entropy makes a phrase");
        let sealed = SealedPhrase::seal(&phrase, header.clone(), &key);
        samples.add("sealed_words", name, sealed.encode());
    }
}

const ROLES: &str = r#"api = "127.0.0.1:4020"
listen = ["/ip4/0.0.0.0/tcp/4001"]
[words]
from = "file:words"
[chain]
validator = true
[host]
[renter]
minimum_sector = 16384
"#;

const NETWORK: &str = r#"name = "test"
genesis_time = 1700000000000
consensus_peers = ["/ip4/192.0.2.1/tcp/4002"]
[[peers]]
key = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
address = "/ip4/192.0.2.1/tcp/4001"
[[validators]]
key = "0101010101010101010101010101010101010101010101010101010101010101"
power = 1
[[allocations]]
account = "0202020202020202020202020202020202020202020202020202020202020202"
coins = "1.5"
[parameters]
heartbeat_ms = 10000
minimum_fee = "0.0001"
minimum_period_ms = 60000
minimum_window_ms = 30000
minimum_window_blocks = 3
block_transactions = 1000
block_bytes = 1048576
block_deadlines = 100
"#;

/// Bodies in the order of the target's readers.
const BODIES: [(&str, &str); 16] = [
    ("name", r#"{"name":"home"}"#),
    ("move", r#"{"from":"a/b","to":"c"}"#),
    ("remove", r#"{"path":"a","recursive":true,"version":3}"#),
    ("allowance", r#"{"hosts":30,"funds":"2.5","period":86400,"periods":30,"dry_run":true}"#),
    ("send", r#"{"to":"0202","amount":"2.5"}"#),
    ("faucet", r#"{"amount":"1"}"#),
    ("put", r#"{"vault":"home","source":"/tmp/a","target":"b","exclude":["*.o"]}"#),
    ("get", r#"{"vault":"home","path":"a","destination":"/tmp/b","version":2}"#),
    ("list", r#"{"folder":"a","recursive":true}"#),
    ("backup", r#"{"name":"today","description":"all of it"}"#),
    ("restore", r#"{"backup":"today","destination":"/tmp/b"}"#),
    ("recover", r#"{"restart":true,"maximum_age":5,"give_up":[]}"#),
    ("message", r#"{"message_type":"error","code":"busy","message":"later"}"#),
    ("access", r#"{"address":"127.0.0.1:41234","token":"00ff","pid":4711}"#),
    ("error", r#"{"code":"busy","message":"later"}"#),
    ("notify", NOTIFY),
];

const NOTIFY: &str = r#"{"mail":{"server":"a.b","security":"tls","user":"me","password":"x","from":"a@b","to":["c@d"]},"webhooks":[{"url":"https://a/b","secret":"0123456789abcdef","kinds":["test"]}],"off":["expiring"]}"#;

fn bodies(samples: &mut Samples) {
    for (number, (name, text)) in (0u8..).zip(BODIES) {
        samples.add("api_bodies", name, [&[number][..], text.as_bytes()].concat());
    }
    let change = blocks().genesis.validators.clone();
    let mut next: Vec<_> = change.as_slice().to_vec();
    next.truncate(2);
    let set = ValidatorSet::new(next).expect("invariant: two of four validators");
    let (account, fee) = ((secret(3).public(), 1), Amount(5));
    let change = samara_node::validators::SetChange::propose(GENESIS, account, fee, change, set);
    let text = serde_json::to_vec(&change.document()).expect("invariant: a plain document");
    samples.add("validator_change", "proposal", text);
}

/// An archive, and its documents in the order of the target's readers.
fn archives(samples: &mut Samples) {
    let archive = super::archive::sample().expect("invariant: the sample's parts are in order");
    samples.add("archive", "vault", archive);
    let zeros = "0".repeat(64);
    for (number, (name, text)) in (0u8..).zip(DOCUMENTS) {
        let text = text.replace("ZEROS", &zeros);
        samples.add("archive_documents", name, [&[number][..], text.as_bytes()].concat());
    }
}

const DOCUMENTS: [(&str, &str); 9] = [
    (
        "format",
        r#"{"kind":"samara vault archive","version":1,"oldest_reader":1,"vault":{"sid":"abababababababababababababababab","name":"home","created":5}}"#,
    ),
    (
        "event",
        r#"{"seq":1,"time":5,"chain_time":6,"kind":"put","actor":"0101010101010101","prev_hash":"ZEROS","payload":{"path":"a/b.txt","size":12,"modified":7,"executable":false,"hash":"ZEROS","erased":true}}"#,
    ),
    (
        "version",
        r#"{"uid":"0011223344556677","version":2,"path":"a/b.txt","size":12,"modified":7,"executable":false,"hash":"ZEROS","put":5,"listed":true,"deleted":false,"file":"x"}"#,
    ),
    ("users", r#"{"users":[{"id":"0101010101010101","email":"a@example.org"}]}"#),
    ("settings", r#"{"settings":{"tone":"01"}}"#),
    ("signature", r#"{"version":1,"key":"ZEROS","signature":"ZEROS"}"#),
    ("entry", r#"{"name":"x","size":3,"blake3":"ZEROS"}"#),
    (
        "manifest",
        r#"{"version":1,"vault":"abababababababababababababababab","events":1,"versions":0,"files":0,"users":0,"bytes":0,"head":"ZEROS","entries":[{"name":"x","size":3,"blake3":"ZEROS"},{"name":"y","size":3,"blake3":"ZEROS"}]}"#,
    ),
    (
        "history",
        r#"{"seq":0,"time":5,"chain_time":6,"kind":"created","prev_hash":"ZEROS","payload":{"name":"home"}}
{"seq":0,"time":5,"chain_time":6,"kind":"put","prev_hash":"ZEROS","payload":{"path":"a","size":0,"modified":7,"executable":false,"hash":"ZEROS"}}
{"seq":0,"time":5,"chain_time":6,"kind":"moved","prev_hash":"ZEROS","payload":{"from":"a","to":"b"}}
{"seq":0,"time":5,"chain_time":6,"kind":"relocated","prev_hash":"ZEROS","payload":{"path":"b","version":1}}
{"seq":0,"time":5,"chain_time":6,"kind":"deleted","prev_hash":"ZEROS","payload":{"path":"b"}}"#,
    ),
];
