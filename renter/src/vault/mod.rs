//! Vaults: files in and out of the network, and their names.
//!
//! | file | what it does |
//! | --- | --- |
//! | `put` | walks a folder, leaves out what has not changed, cuts the rest into batches |
//! | `batch` | reads files, packs them into slabs, and has slabs and names acknowledged together |
//! | `large` | a file with slabs of its own, which goes on where an earlier put was cut |
//! | `turn` | the same put twice at once: one waits for the other |
//! | `checkpoint` | which slabs of such a file are stored, durably |
//! | `reading` | what all of them do with a file's bytes |
//! | `plan` | which files a get is about, where they go, and which of them share a read |
//! | `get`, `place` | fetches and verifies files, and gives them their names |
//! | `range` | ranges of one file |
//! | `check` | files read back and compared, and written nowhere |
//! | `names` | lists, moves and removes |
//! | `arrivals` | vaults that are being brought in from archives |
//! | `price` | what moving and keeping bytes costs at most |
//!
//! Invariants: a file counts as stored only when its slabs and its event are acknowledged (B1); a file
//! gets its name on disk only after all its bytes had its hash (I6); memory is bounded by the transfer's
//! budgets, whatever the size of a file.

mod arrivals;
mod batch;
mod check;
mod checkpoint;
mod error;
mod get;
mod large;
mod names;
mod place;
mod plan;
mod price;
mod put;
mod range;
mod reading;
mod turn;
mod types;

use std::sync::Arc;

pub(crate) use arrivals::{Arrival, Arrivals};
pub(crate) use batch::append as append_changes;
pub(crate) use check::{BadFile, Contents};
pub(crate) use checkpoint::{checkpointed_slabs, sweep as sweep_checkpoints};
pub use error::{GetError, PutError, VaultError};
pub(crate) use get::Source;
pub(crate) use names::{
    check_file_place, check_folder_place, check_name, event as vault_event, find, folder, totals,
};
pub(crate) use plan::{Chosen, Destination, Ranges, SlabTable, select};
pub use range::FileStream;
pub(crate) use range::inline_range;
pub(crate) use reading::{join as join_pieces, update as update_hash};
pub use types::{
    Conflict, FileRow, GetReport, GetRequest, ItemReport, ListOptions, ListRow, PutReport,
    PutRequest, PutStreamRequest, VaultRow, VersionRow,
};

use samara_protocol::journal::UserId;

use crate::contract::Budget;
use crate::journal::Journal;
use crate::slabs::Slabs;
use crate::world::World;

/// Limits of puts and gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaultOptions {
    /// Longest content that may ride in its event, bytes.
    pub inline: u64,
    /// Most such bytes in one batch.
    pub inline_batch: u64,
    /// Most files in one batch.
    pub batch_files: usize,
    /// Bytes after which a batch is closed. A file of so many has slabs of its own and a checkpoint.
    pub batch_bytes: u64,
    /// Bytes read from a file at once.
    pub chunk: usize,
    /// Most bytes of neighbouring small files that are fetched together.
    pub shared_read: u32,
    /// Files, or groups of small ones, fetched at one time.
    pub parallel_reads: usize,
}

impl Default for VaultOptions {
    fn default() -> Self {
        Self {
            inline: 4 << 10,
            inline_batch: 64 << 10,
            batch_files: 1_000,
            batch_bytes: 128 << 20,
            chunk: 1 << 20,
            shared_read: 4 << 20,
            parallel_reads: 4,
        }
    }
}

/// The vaults of a renter. A cheap clone.
#[derive(Clone)]
pub(crate) struct Vaults {
    pub(crate) world: World,
    pub(crate) journal: Journal,
    pub(crate) slabs: Slabs,
    pub(crate) options: Arc<VaultOptions>,
    claims: checkpoint::Claims,
    turns: turn::Turns,
    /// Vaults that are being brought in.
    pub(crate) arrivals: Arrivals,
}

impl Vaults {
    pub(crate) fn new(world: World, journal: Journal, slabs: Slabs, options: VaultOptions) -> Self {
        let options = Arc::new(options);
        let (claims, turns) = (Arc::default(), turn::Turns::default());
        let arrivals = Arrivals::default();
        Self { world, journal, slabs, options, claims, turns, arrivals }
    }

    /// The same vaults, whose changes are this user's.
    pub(crate) fn acting(&self, by: Option<UserId>) -> Self {
        Self { journal: self.journal.acting(by), ..self.clone() }
    }

    /// The same vaults, whose transfers are paid out of this budget.
    pub(crate) fn within(&self, budget: Budget) -> Self {
        Self { slabs: self.slabs.within(budget), ..self.clone() }
    }
}

pub(crate) fn item(path: impl Into<String>, code: &str, reason: impl ToString) -> ItemReport {
    ItemReport { path: path.into(), code: code.to_owned(), reason: reason.to_string() }
}
