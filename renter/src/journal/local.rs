//! The journal in the renter's own store, below `journal/`.
//!
//! | key | value |
//! | --- | --- |
//! | `journal/meta` | [`Meta`]: what this node may do, epoch, position acknowledged at least |
//! | `journal/base` | [`LocalBase`]: what the next full head starts with |
//! | `journal/entry/` + position (8 bytes, big-endian) | one encoded [`Entry`] |
//!
//! Entries are durable here before any host sees them, and are never written over with others: a crash
//! at any moment leaves entries that are completed, not replaced.

use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::Segment;
use samara_protocol::journal::quorum::HeadSet;
use samara_protocol::journal::{Change, Entry, JournalState};
use samara_protocol::units::Epoch;
use serde::{Deserialize, Serialize};

use super::error::JournalError;
use crate::world::{Pages, Store, StoreError, Write};

const META: &[u8] = b"journal/meta";
const BASE: &[u8] = b"journal/base";
const ENTRY: &[u8] = b"journal/entry/";

/// What this node may do with the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Neither started fresh nor recovered.
    #[default]
    Fresh,
    /// It writes, unless it is fenced.
    Active,
    /// It reads.
    ReadOnly,
}

/// The node's part in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) version: u8,
    pub(super) mode: Mode,
    pub(super) epoch: Epoch,
    pub(super) account: u64,
    pub(super) fenced: Option<Epoch>,
    /// Entries known to be acknowledged; those after may be.
    pub(super) acknowledged: u64,
}

impl Meta {
    pub(super) const VERSION: u8 = 1;
}

/// What the next full head starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LocalBase {
    /// Grows with each change, so that slots with another base are known.
    pub(super) number: u64,
    /// See [`samara_protocol::journal::head::HeadBase`]; none before there is a contract.
    pub(super) origin: Option<ContractId>,
    pub(super) head_set: HeadSet,
    pub(super) segments: Vec<Segment>,
    /// The journal's point after all segments.
    pub(super) point: JournalPoint,
}

/// Everything that the store holds.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) meta: Meta,
    pub(super) base: LocalBase,
    /// Entries after the base's point.
    pub(super) tail: Vec<Entry>,
    /// The fold up to the acknowledged position.
    pub(super) published: JournalState,
    /// The fold of all.
    pub(super) working: JournalState,
}

fn entry_key(position: u64) -> Vec<u8> {
    [ENTRY, &position.to_be_bytes()].concat()
}

pub(super) fn put_meta(meta: &Meta) -> Write {
    Write::Put(META.to_vec(), encoding::encode(meta))
}

pub(super) fn put_base(base: &LocalBase) -> Write {
    Write::Put(BASE.to_vec(), encoding::encode(base))
}

pub(super) fn put_entry(position: u64, entry: &Entry) -> Write {
    Write::Put(entry_key(position), encoding::encode(entry))
}

/// The entry that leads from a position to the next.
pub(super) async fn entry(store: &dyn Store, position: u64) -> Result<Option<Entry>, JournalError> {
    let bytes = store.read(&entry_key(position)).await?;
    bytes.map(|bytes| encoding::decode(&bytes).map_err(|error| damaged(&error))).transpose()
}

/// The changes from a position on, as far as they are kept here, with their positions.
pub(super) async fn changes(
    store: &dyn Store,
    from: u64,
    to: u64,
    mut take: impl FnMut(u64, Change) + Send,
) -> Result<(), JournalError> {
    let mut pages = Pages::below(store, ENTRY);
    if let Some(before) = from.checked_sub(1) {
        pages = pages.after(entry_key(before));
    }
    while let Some(page) = pages.next().await? {
        for (key, value) in page {
            let position = key[ENTRY.len()..].try_into().map(u64::from_be_bytes);
            let position = position.map_err(|error| damaged(&error))?;
            if position >= to {
                return Ok(());
            }
            let entry: Entry = encoding::decode(&value).map_err(|error| damaged(&error))?;
            take(position, entry.change);
        }
    }
    Ok(())
}

fn damaged(error: &dyn std::fmt::Display) -> JournalError {
    JournalError::Damaged(error.to_string())
}

/// Reads and replays everything.
pub(super) async fn load(store: &dyn Store) -> Result<Loaded, JournalError> {
    let Some(meta) = store.read(META).await? else { return Ok(Loaded::default()) };
    let meta: Meta = encoding::decode(&meta).map_err(|error| damaged(&error))?;
    if meta.version != Meta::VERSION {
        return Err(JournalError::Damaged(format!("it has version {}", meta.version)));
    }
    let base = store.read(BASE).await?.unwrap_or_default();
    let base: LocalBase = encoding::decode(&base).map_err(|error| damaged(&error))?;
    let mut loaded = Loaded { meta, base, ..Loaded::default() };
    let mut published = None;
    let mut met_base = loaded.base.point.position == 0;
    let mut pages = Pages::below(store, ENTRY);
    while let Some(page) = pages.next().await? {
        for (key, value) in page {
            let point = loaded.working.point;
            if point.position == meta.acknowledged && published.is_none() {
                published = Some(loaded.working.clone());
            }
            if key != entry_key(point.position) {
                return Err(JournalError::Damaged(format!("entry {} is missing", point.position)));
            }
            let entry: Entry = encoding::decode(&value).map_err(|error| damaged(&error))?;
            loaded.working.apply(&entry).map_err(|error| damaged(&error))?;
            met_base |= loaded.working.point == loaded.base.point;
            if point.position >= loaded.base.point.position {
                loaded.tail.push(entry);
            }
        }
    }
    if !met_base || loaded.working.point.position < meta.acknowledged {
        return Err(JournalError::Damaged("its entries end too early".into()));
    }
    loaded.published = published.unwrap_or_else(|| loaded.working.clone());
    Ok(loaded)
}

/// The fold up to a position, from the store.
pub(super) async fn replay(
    store: &dyn Store,
    to: u64,
) -> Result<Option<JournalState>, JournalError> {
    let mut state = JournalState::default();
    let mut pages = Pages::below(store, ENTRY);
    while state.point.position < to {
        let Some(page) = pages.next().await? else { return Ok(None) };
        for (_, value) in page {
            if state.point.position == to {
                break;
            }
            let entry: Entry = encoding::decode(&value).map_err(|error| damaged(&error))?;
            state.apply(&entry).map_err(|error| damaged(&error))?;
        }
    }
    Ok(Some(state))
}

/// Replaces everything. A crash in between leaves a node that is fresh, never a mixture.
pub(super) async fn replace(
    store: &dyn Store,
    meta: &Meta,
    base: &LocalBase,
    entries: &[Entry],
) -> Result<(), StoreError> {
    store.commit(vec![Write::Delete(META.to_vec()), Write::Delete(BASE.to_vec())]).await?;
    Pages::below(store, ENTRY).delete().await?;
    let mut position = 0u64;
    for part in entries.chunks(Pages::ROWS) {
        let mut writes = Vec::with_capacity(part.len());
        for entry in part {
            writes.push(put_entry(position, entry));
            position = position.saturating_add(1);
        }
        store.commit(writes).await?;
    }
    store.commit(vec![put_base(base), put_meta(meta)]).await
}
