//! The journal in the renter's own store, below `journal/`.
//!
//! | key | value |
//! | --- | --- |
//! | `journal/meta` | [`Meta`]: what this node may do, epoch, position acknowledged at least |
//! | `journal/base` | [`LocalBase`]: what the next full head starts with |
//! | `journal/entry/` + position (8 bytes, big-endian) | one encoded [`Entry`] |
//! | `journal/point/` + position (8 bytes, big-endian) | the [`JournalPoint`] of a base of this node |
//!
//! Entries begin at the checkpoint that the node has adopted, or at 0. Where the base names a checkpoint,
//! it is the state to start from: `checkpoint/` has copies of its nodes.
//!
//! Entries are durable here before any host sees them, and are never written over with others: a crash
//! at any moment leaves entries that are completed, not replaced.

use samara_protocol::contract::ContractId;
use samara_protocol::encoding;
use samara_protocol::journal::entry::JournalPoint;
use samara_protocol::journal::head::Segment;
use samara_protocol::journal::quorum::HeadSet;
use samara_protocol::journal::{Change, CheckpointName, Entry, JournalState};
use samara_protocol::units::Epoch;
use serde::{Deserialize, Serialize};

use super::error::JournalError;
use crate::checkpoint::{Checkpoints, Places, Recorder};
use crate::world::{Pages, Store, StoreError, Write};

const META: &[u8] = b"journal/meta";
const BASE: &[u8] = b"journal/base";
const ENTRY: &[u8] = b"journal/entry/";
const POINT: &[u8] = b"journal/point/";

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
    pub(super) const VERSION: u8 = 3;
}

/// What the next full head starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LocalBase {
    /// Grows with each change, so that slots with another base are known.
    pub(super) number: u64,
    /// See [`samara_protocol::journal::head::HeadBase`]; none before there is a contract.
    pub(super) origin: Option<ContractId>,
    pub(super) head_set: HeadSet,
    /// What the oldest entries have led to.
    pub(super) checkpoint: Option<CheckpointName>,
    pub(super) segments: Vec<Segment>,
    /// The journal's point after the checkpoint and all segments.
    pub(super) point: JournalPoint,
}

impl LocalBase {
    /// The points that heads with this base and no entries can show.
    pub(super) fn points(&self) -> impl Iterator<Item = JournalPoint> {
        let checkpoint = self.checkpoint.iter().map(|checkpoint| checkpoint.point);
        let segments = self.segments.iter().map(|segment| segment.from);
        checkpoint.chain(segments).chain([self.point])
    }
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
    /// What the acknowledged entries behind the checkpoint have changed.
    pub(super) recorder: Recorder,
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

/// Keeps the points of a base, and so of all bases that this node has written.
pub(super) fn put_points(base: &LocalBase) -> impl Iterator<Item = Write> {
    base.points().map(|point| {
        let key = [POINT, &point.position.to_be_bytes()].concat();
        Write::Put(key, encoding::encode(&point))
    })
}

/// Whether a base of this node has had this point.
pub(super) async fn has_point(
    store: &dyn Store,
    point: &JournalPoint,
) -> Result<bool, JournalError> {
    let known = store.read(&[POINT, &point.position.to_be_bytes()].concat()).await?;
    Ok(known == Some(encoding::encode(point)))
}

pub(super) fn put_entry(position: u64, entry: &Entry) -> Write {
    Write::Put(entry_key(position), encoding::encode(entry))
}

/// The entry that leads from a position to the next.
pub(super) async fn entry(store: &dyn Store, position: u64) -> Result<Option<Entry>, JournalError> {
    let bytes = store.read(&entry_key(position)).await?;
    bytes.map(|bytes| encoding::decode(&bytes).map_err(|error| damaged(&error))).transpose()
}

/// Gives the entries from one position to another, as far as they are kept here, with their positions and
/// encoded lengths.
async fn entries(
    store: &dyn Store,
    from: u64,
    to: u64,
    mut take: impl FnMut(u64, Entry, usize) -> Result<(), JournalError> + Send,
) -> Result<(), JournalError> {
    let mut pages = Pages::below(store, ENTRY);
    if let Some(before) = from.checked_sub(1) {
        pages = pages.after(entry_key(before));
    }
    while let Some(page) = pages.next().await? {
        for (key, value) in page {
            let position = position(&key)?;
            if position >= to {
                return Ok(());
            }
            let entry = encoding::decode(&value).map_err(|error| damaged(&error))?;
            take(position, entry, value.len())?;
        }
    }
    Ok(())
}

/// The position of an entry's key.
fn position(key: &[u8]) -> Result<u64, JournalError> {
    let position = key[ENTRY.len()..].try_into().map(u64::from_be_bytes);
    position.map_err(|error| damaged(&error))
}

/// The entries from a position on, of which there are so many as one read gives, and none from `to` on.
pub(super) async fn page(
    store: &dyn Store,
    from: u64,
    to: u64,
) -> Result<Vec<(u64, Entry)>, JournalError> {
    let before = from.checked_sub(1).map(entry_key);
    let rows = store.scan(ENTRY, before.as_deref(), Pages::ROWS).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let position = position(&key)?;
        if position >= to {
            break;
        }
        let entry = encoding::decode(&value).map_err(|error| damaged(&error))?;
        entries.push((position, entry));
    }
    Ok(entries)
}

/// The changes from a position on, as far as they are kept here, with their positions.
pub(super) async fn changes(
    store: &dyn Store,
    from: u64,
    to: u64,
    mut take: impl FnMut(u64, Change) + Send,
) -> Result<(), JournalError> {
    entries(store, from, to, |position, entry, _| {
        take(position, entry.change);
        Ok(())
    })
    .await
}

fn damaged(error: &dyn std::fmt::Display) -> JournalError {
    JournalError::Damaged(error.to_string())
}

/// The state from which the entries of a base lead on.
async fn begin(
    store: &dyn Store,
    checkpoints: &Checkpoints,
    base: &LocalBase,
) -> Result<JournalState, JournalError> {
    let Some(name) = &base.checkpoint else { return Ok(JournalState::default()) };
    let kept = checkpoints.state(name, &Places::new()).await;
    let Err(error) = kept else { return Ok(kept?) };
    // Copies of its nodes are missing here, and repair may have moved its slabs since.
    tracing::warn!(%error, "the checkpoint is not all here; it is read from the hosts");
    let mut moved = Places::new();
    changes(store, name.point.position, u64::MAX, |_, change| moved_by(&change, &mut moved))
        .await?;
    Ok(checkpoints.state(name, &moved).await?)
}

/// Notes where a change says that slabs lie now.
pub(crate) fn moved_by(change: &Change, places: &mut Places) {
    if let Change::SlabsMoved(records) = change {
        places.extend(records.iter().map(|record| (record.id, record.clone())));
    }
}

/// Reads everything, from the checkpoint on.
pub(super) async fn load(
    store: &dyn Store,
    checkpoints: &Checkpoints,
) -> Result<Loaded, JournalError> {
    let Some(meta) = store.read(META).await? else { return Ok(Loaded::default()) };
    let meta: Meta = encoding::decode(&meta).map_err(|error| damaged(&error))?;
    if meta.version != Meta::VERSION {
        return Err(JournalError::Damaged(format!("it has version {}", meta.version)));
    }
    let base = base(store).await?;
    let state = begin(store, checkpoints, &base).await?;
    let mut loaded = Loaded { meta, base, published: state, ..Loaded::default() };
    let mut met_base = loaded.base.point == loaded.published.point;
    // Beyond what is known to be acknowledged.
    let mut beyond: Vec<Entry> = Vec::new();
    let mut position = loaded.published.point.position;
    entries(store, position, u64::MAX, |at, entry, length| {
        if at != position {
            return Err(JournalError::Damaged(format!("entry {position} is missing")));
        }
        if position >= loaded.base.point.position {
            loaded.tail.push(entry.clone());
        }
        if position < meta.acknowledged {
            let taken = loaded.recorder.apply(&mut loaded.published, &entry, length);
            taken.map_err(|error| damaged(&error))?;
            met_base |= loaded.published.point == loaded.base.point;
        } else {
            beyond.push(entry);
        }
        position += 1;
        Ok(())
    })
    .await?;
    // A base lies on what is acknowledged.
    if !met_base || position < meta.acknowledged {
        return Err(JournalError::Damaged("its entries end too early".into()));
    }
    loaded.working = loaded.published.clone();
    for entry in &beyond {
        loaded.working.apply(entry).map_err(|error| damaged(&error))?;
    }
    Ok(loaded)
}

async fn base(store: &dyn Store) -> Result<LocalBase, JournalError> {
    let base = store.read(BASE).await?.unwrap_or_default();
    encoding::decode(&base).map_err(|error| damaged(&error))
}

/// The fold up to a position, from the store; nothing if that is before its checkpoint or behind its end.
pub(super) async fn replay(
    store: &dyn Store,
    checkpoints: &Checkpoints,
    to: u64,
) -> Result<Option<JournalState>, JournalError> {
    let base = base(store).await?;
    if base.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.point.position > to) {
        return Ok(None);
    }
    let mut state = begin(store, checkpoints, &base).await?;
    entries(store, state.point.position, to, |_, entry, _| {
        state.apply(&entry).map_err(|error| damaged(&error))
    })
    .await?;
    Ok((state.point.position == to).then_some(state))
}

/// Replaces everything with entries from a position on. A crash in between leaves a node that is fresh,
/// never a mixture.
pub(super) async fn replace(
    store: &dyn Store,
    meta: &Meta,
    base: &LocalBase,
    from: u64,
    entries: &[Entry],
) -> Result<(), StoreError> {
    store.commit(vec![Write::Delete(META.to_vec()), Write::Delete(BASE.to_vec())]).await?;
    Pages::below(store, ENTRY).delete().await?;
    Pages::below(store, POINT).delete().await?;
    let mut position = from;
    for part in entries.chunks(Pages::ROWS) {
        let mut writes = Vec::with_capacity(part.len());
        for entry in part {
            writes.push(put_entry(position, entry));
            position = position.saturating_add(1);
        }
        store.commit(writes).await?;
    }
    let points = put_points(base);
    store.commit(points.chain([put_base(base), put_meta(meta)]).collect()).await
}
