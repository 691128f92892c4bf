//! The pure core of Samara.
//!
//! Everything here is a function of its arguments: keys, types, encodings, ledger rules, contract and
//! proof maths, slab and head formats, and the state machines of hosts and recovery. There is no task,
//! socket, file, clock or OS randomness in this crate; time and random bytes are arguments. The shells
//! in `samara-renter` and `samara-node` feed it and carry out what it decides, and the simulator in
//! `samara-tests` runs the very same code.
//!
//! Imports point down: [`units`], [`hash`], [`encoding`], [`signature`] below [`keys`], [`sector`], [`slab`],
//! then [`contract`], [`chain`], [`ledger`], [`host`], then [`journal`], [`tree`], [`recovery`], [`wire`].
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`encoding`] | the one canonical, bounded encoding of everything on wire and disk |
//! | [`hash`], [`units`], [`signature`] | newtypes: digests and ids, amounts and times, keys and signatures |
//! | [`keys`] | the twelve words and every key that grows from them |
//! | [`chain`] | headers, certificates, records, transactions, and what light nodes ask |
//! | [`ledger`] | the rules by which blocks change the state, and proofs of the state |
//! | [`contract`] | terms, revisions, vouchers, recovery records, what hosts announce and ask for |
//! | [`sector`], [`slab`] | proofs over stored bytes; sealing and erasure coding of slabs |
//! | [`host`] | what hosts are asked and answer, and the rules by which they do |
//! | [`journal`] | events, sealed heads, quorums |
//! | [`tree`] | checkpoint trees: content-addressed maps of files, events and slabs |
//! | [`recovery`] | the scan of the chain |
//! | [`wire`] | the messages between nodes |
//! | [`sync`] | how all crates take locks |

pub mod chain;
pub mod contract;
pub mod encoding;
pub mod hash;
pub mod host;
pub mod journal;
pub mod keys;
pub mod ledger;
pub mod recovery;
pub mod sector;
pub mod signature;
pub mod slab;
pub mod sync;
pub mod tree;
pub mod units;
pub mod wire;
