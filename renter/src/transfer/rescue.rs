//! A part of a column that others rebuild because its own host does not give it.
//!
//! A rebuilt byte takes k bytes of others, so these are fetched and held in *cells*: pieces of the
//! column that are small enough for a few of them to fit into a budget of their own. A cell that has
//! its room needs nothing but answers to end, never the reader; so a reader that stops holds nobody up.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures::future::AbortHandle;
use samara_protocol::slab::{Geometry, reconstruct};
use tokio::sync::OwnedSemaphorePermit;

/// Copies of k parts that a rebuild holds: as they came, as the code wants them, and what it makes.
const COPIES: u64 = 3;
/// Cells that fit into the budget.
const AT_ONCE: u64 = 3;
/// Smallest cell: what a host reads at least.
const SMALLEST: u32 = 16 << 10;

/// Length of the cells of a slab: the largest power of two of which a few fit into `budget` bytes.
pub(super) fn cell(geometry: &Geometry, budget: u64) -> u32 {
    let each = budget / (AT_ONCE * COPIES * u64::from(geometry.data()).max(1));
    let power = each.checked_ilog2().map_or(0, |log2| 1u64 << log2);
    u32::try_from(power)
        .unwrap_or(u32::MAX)
        .clamp(SMALLEST, geometry.column().bytes().max(SMALLEST))
}

/// Bytes that the rebuilding of a range takes while it lasts.
pub(super) fn room(geometry: &Geometry, range: &Range<u32>) -> u64 {
    COPIES * u64::from(geometry.data()) * range.len() as u64
}

/// A range cut where cells meet.
pub(super) fn cells(range: &Range<u32>, cell: u32) -> impl Iterator<Item = Range<u32>> {
    let end = range.end;
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = ((start / cell).saturating_add(1)).saturating_mul(cell).min(end);
        (start < end).then_some(start..at)
    })
}

/// One cell being rebuilt. Dropped, it asks nobody any more and gives its room back.
pub(super) struct Rescue {
    pub(super) range: Range<u32>,
    /// Parts of helpers that nobody wanted for themselves, by shard.
    parts: BTreeMap<usize, Bytes>,
    asked: BTreeMap<usize, AbortHandle>,
    pub(super) rebuilding: bool,
    _room: OwnedSemaphorePermit,
}

impl Rescue {
    pub(super) fn new(range: Range<u32>, room: OwnedSemaphorePermit) -> Self {
        let (parts, asked) = (BTreeMap::new(), BTreeMap::new());
        Self { range, parts, asked, rebuilding: false, _room: room }
    }

    pub(super) fn ask(&mut self, shard: usize, request: AbortHandle) {
        self.asked.insert(shard, request);
    }

    /// What a helper answered; `None` if it failed.
    pub(super) fn take(&mut self, shard: usize, part: Option<Bytes>) {
        self.asked.remove(&shard);
        if let Some(bytes) = part {
            self.parts.insert(shard, bytes);
        }
    }

    pub(super) fn part(&self, shard: usize) -> Option<&Bytes> {
        self.parts.get(&shard)
    }

    pub(super) fn is_asked(&self, shard: usize) -> bool {
        self.asked.contains_key(&shard)
    }

    /// Shards that were asked and have not answered.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = usize> {
        self.asked.keys().copied()
    }
}

impl Drop for Rescue {
    fn drop(&mut self) {
        for request in self.asked.values() {
            request.abort();
        }
    }
}

/// Rebuilds the `wanted` shards of one range from any k.
pub(super) fn rebuild(
    geometry: &Geometry,
    sources: Vec<Option<Bytes>>,
    wanted: &[usize],
) -> Result<Vec<(usize, Bytes)>, String> {
    // The code works in place.
    let mut shards: Vec<Option<Vec<u8>>> =
        sources.into_iter().map(|source| source.map(Vec::from)).collect();
    reconstruct(geometry, &mut shards, wanted).map_err(|error| error.to_string())?;
    let made = wanted.iter().map(|shard| {
        let bytes = shards.get_mut(*shard).and_then(Option::take);
        bytes.map(|bytes| (*shard, Bytes::from(bytes))).ok_or("nothing was rebuilt")
    });
    made.collect::<Result<_, _>>().map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use samara_protocol::sector::SectorSize;

    use super::*;

    #[test]
    fn cells_tile_a_range_and_meet_at_the_same_places_for_all() {
        let all = |range: Range<u32>| {
            cells(&range, 16).map(|cell| (cell.start, cell.end)).collect::<Vec<_>>()
        };
        assert_eq!(all(5..40), [(5, 16), (16, 32), (32, 40)]);
        assert_eq!(all(16..32), [(16, 32)]);
        assert_eq!(all(0..3), [(0, 3)]);
        assert_eq!(all(7..7), []);
        assert_eq!(all(u32::MAX - 3..u32::MAX), [(u32::MAX - 3, u32::MAX)]);
    }

    #[test]
    fn some_cells_of_any_shape_fit_into_the_budget() {
        let column = SectorSize::MAX;
        for data in [1, 2, 4, 10, 20, 40] {
            let geometry = Geometry::new(data, 2 * data, column, 64 << 10).unwrap();
            let cell = cell(&geometry, 48 << 20);
            assert!(AT_ONCE * room(&geometry, &(0..cell)) <= 48 << 20, "{data}");
            assert!(cell == column.bytes() || 2 * AT_ONCE * room(&geometry, &(0..cell)) > 48 << 20);
        }
    }
}
