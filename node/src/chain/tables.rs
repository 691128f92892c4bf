//! The tables of the embedded store.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | `version`: u32 little-endian; `genesis`: encoded document; `voter <key>`: 16 bytes, see [`super::VoteLog`] |
//! | `scanned` | height | encoded `ScannedBlock`: header, then records |
//! | `transactions` | height | encoded list of transactions |
//! | `certificates` | height | encoded `Certificate` |
//! | `validators` | first height that a set decides | encoded `ValidatorSet` |
//! | `transaction_index` | transaction id | height |
//! | `state` | encoded `StateKey` | encoded value |
//! | `state_nodes` | tree node key | tree node |
//! | `deadlines` | time, contract | nothing |
//! | `undecided` | block hash | round, encoded block |
//! | `proposed` | round of the height after the tip | hash of the block proposed here |

use redb::TableDefinition;

pub(super) type Rows = TableDefinition<'static, u64, &'static [u8]>;
pub(super) type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const SCANNED: Rows = TableDefinition::new("scanned");
pub(super) const TRANSACTIONS: Rows = TableDefinition::new("transactions");
pub(super) const CERTIFICATES: Rows = TableDefinition::new("certificates");
pub(super) const VALIDATORS: Rows = TableDefinition::new("validators");
pub(super) const INDEX: TableDefinition<'static, &[u8; 32], u64> =
    TableDefinition::new("transaction_index");
pub(super) const STATE: Bytes = TableDefinition::new("state");
pub(super) const NODES: Bytes = TableDefinition::new("state_nodes");
pub(super) const DEADLINES: TableDefinition<'static, (u64, &[u8; 32]), ()> =
    TableDefinition::new("deadlines");
pub(super) const UNDECIDED: TableDefinition<'static, &[u8; 32], (u32, &[u8])> =
    TableDefinition::new("undecided");
pub(super) const PROPOSED: TableDefinition<'static, u32, &[u8; 32]> =
    TableDefinition::new("proposed");

/// Format of the folder that this code writes.
pub(super) const VERSION: u32 = 1;
