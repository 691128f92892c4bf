//! The memory of uploads: a byte budget, plaintext, and the columns of slabs under way.
//!
//! A quarter of the budget is for plaintext, the rest for columns. They are apart because columns are
//! always given back in the end, whereas plaintext waits for its source: whoever holds plaintext may
//! wait for columns, never the other way round. Columns count until the last request that carries one
//! has ended, whoever holds it.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use samara_protocol::sector::SectorSize;
use samara_protocol::slab::{Geometry, SlabBuffer};
use samara_protocol::sync::lock;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::options::{Redundancy, TransferOptions, UNIT, units};

/// Plaintext that every pipeline may hold without a permit, and by which it grows, bytes.
pub(super) const GRANULE: usize = 1 << 20;

/// The byte budget of all uploads and the buffers that are used again.
pub(super) struct Buffers {
    plaintext: Arc<Semaphore>,
    columns: Arc<Semaphore>,
    column_units: u32,
    free: Mutex<Vec<SlabBuffer>>,
}

/// Plaintext with its part of the budget.
#[derive(Default)]
pub(super) struct Plaintext {
    pub(super) bytes: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Plaintext {
    /// Bytes that it may have.
    pub(super) fn permitted(&self) -> usize {
        let units = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        GRANULE + units * UNIT as usize
    }

    /// Adds a part of the budget.
    pub(super) fn extend(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
    }
}

impl From<Vec<u8>> for Plaintext {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, permit: None }
    }
}

impl Buffers {
    pub(super) fn new(options: &TransferOptions) -> Arc<Self> {
        let (plaintext, columns) = shares(options);
        let (plaintext, column_units) = (units(plaintext).max(1), units(columns).max(1));
        Arc::new(Self {
            plaintext: Arc::new(Semaphore::new(plaintext as usize)),
            columns: Arc::new(Semaphore::new(column_units as usize)),
            column_units,
            free: Mutex::default(),
        })
    }

    /// Bytes of the budget that are free.
    pub(super) fn left(&self) -> u64 {
        let permits = self.plaintext.available_permits() + self.columns.available_permits();
        permits as u64 * UNIT
    }

    /// Waits for a [`GRANULE`] of plaintext.
    pub(super) async fn plaintext(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.plaintext.clone().acquire_many_owned(units(GRANULE as u64)).await
    }

    /// Waits for room for the columns of a slab; at least one slab is always let through.
    pub(super) async fn room(
        &self,
        geometry: &Geometry,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        let wanted = units(SlabBuffer::memory_for(geometry) as u64).min(self.column_units);
        self.columns.clone().acquire_many_owned(wanted).await
    }

    /// Columns of a slab, in memory that was used before if there is some of that size.
    pub(super) fn columns(
        self: &Arc<Self>,
        geometry: &Geometry,
        permit: OwnedSemaphorePermit,
    ) -> Columns {
        let needed = SlabBuffer::memory_for(geometry);
        let mut free = self.free();
        let fits = |buffer: &SlabBuffer| {
            (needed..=needed.saturating_add(needed / 4)).contains(&buffer.memory())
        };
        let buffer = free.iter().position(fits).map(|index| free.swap_remove(index));
        // Memory of other sizes is not in the budget any more.
        free.retain(fits);
        drop(free);
        Columns { buffer: buffer.unwrap_or_default(), permit, buffers: self.clone() }
    }

    fn free(&self) -> MutexGuard<'_, Vec<SlabBuffer>> {
        // A vector of buffers survives any panic between two of its operations.
        lock(&self.free)
    }
}

/// Bytes for plaintext and for columns.
fn shares(options: &TransferOptions) -> (u64, u64) {
    let plaintext = options.upload_budget / 4;
    (plaintext, options.upload_budget - plaintext)
}

/// The longest column with which two slabs of this shape fit into the budget.
pub(super) fn largest_column(options: &TransferOptions, redundancy: Redundancy) -> SectorSize {
    let (plaintext, columns) = shares(options);
    let (data, total) = (u64::from(redundancy.data), u64::from(redundancy.total));
    let fits = |column: SectorSize| {
        let column = u64::from(column.bytes());
        2 * data * column <= plaintext && 2 * total * column <= columns
    };
    let mut largest = options.minimum_column;
    while let Some(larger) = largest.doubled() {
        if larger > options.maximum_column || !fits(larger) {
            break;
        }
        largest = larger;
    }
    largest
}

/// The n columns of a slab. Their memory is used again after the last clone of the last column.
pub(super) struct Columns {
    pub(super) buffer: SlabBuffer,
    permit: OwnedSemaphorePermit,
    buffers: Arc<Buffers>,
}

impl Drop for Columns {
    fn drop(&mut self) {
        let held = self.permit.num_permits() + self.buffers.columns.available_permits();
        let mut free = self.buffers.free();
        if held >= self.buffers.column_units as usize {
            // The last slab under way: memory that nobody waits for goes back to the system.
            free.clear();
        } else {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// One column that keeps all of its slab alive.
struct Column {
    columns: Arc<Columns>,
    shard: usize,
}

impl AsRef<[u8]> for Column {
    fn as_ref(&self) -> &[u8] {
        self.columns.buffer.column(self.shard).unwrap_or_default()
    }
}

/// A column to send, without a copy.
pub(super) fn column(columns: &Arc<Columns>, shard: usize) -> Bytes {
    Bytes::from_owner(Column { columns: columns.clone(), shard })
}
