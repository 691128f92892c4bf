//! Where the bytes of an archive's versions come to lie: where they lie already, or in new slabs.

use std::collections::{BTreeMap, BTreeSet};

use samara_protocol::hash::Digest;
use samara_protocol::journal::{Change, Content, Extent, JournalState, StoredFile};

use super::super::shelf::{Shelf, Wanted};
use super::ImportError;
use crate::progress::{Meter, Phase, Progress, Unit};
use crate::transfer::{Packed, Piece, SlabClass};
use crate::vault::{Vaults, join_pieces};

/// Slabs that one entry names.
const SLABS: usize = 256;

/// The contents of versions, by number.
#[derive(Debug, Default)]
pub(super) struct Places {
    found: BTreeMap<u64, Content>,
    /// Versions to be stored.
    missing: Vec<Wanted>,
    pub(super) missing_bytes: u64,
    pub(super) shared: u64,
    pub(super) shared_bytes: u64,
}

impl Places {
    /// Looks for each version's bytes among those that this renter has. Bytes are the same if their
    /// length and BLAKE3 are.
    pub(super) async fn find(vaults: &Vaults, shelf: &mut Shelf) -> Result<Self, ImportError> {
        let versions = shelf.versions().await?;
        let hashes: BTreeSet<Digest> = versions.iter().map(|wanted| wanted.hash).collect();
        let readable = |file: &StoredFile| vaults.slabs.can_read(file);
        let known = vaults.journal.read(|state| contents(state, &hashes, readable));
        let mut places = Self::default();
        for wanted in versions {
            match known.get(&(wanted.hash, wanted.size)) {
                _ if wanted.size == 0 => {
                    places.found.insert(wanted.version, Content::Extents(Vec::new()));
                }
                Some(content) => {
                    places.found.insert(wanted.version, content.clone());
                    places.shared += 1;
                    places.shared_bytes = places.shared_bytes.saturating_add(wanted.size);
                }
                None => {
                    places.missing_bytes = places.missing_bytes.saturating_add(wanted.size);
                    places.missing.push(wanted);
                }
            }
        }
        Ok(places)
    }

    /// Where the bytes of a version are. One without bytes in the archive was given up before.
    pub(super) fn of(&self, version: u64) -> Content {
        self.found.get(&version).cloned().unwrap_or(Content::Erased)
    }

    /// Stores what is missing. Until what it returns is dropped, nothing of it is taken for garbage.
    pub(super) async fn store(
        &mut self,
        vaults: &Vaults,
        shelf: &mut Shelf,
        progress: &dyn Progress,
    ) -> Result<Packed, ImportError> {
        if self.missing.is_empty() {
            return Ok(Packed::default());
        }
        let clock = &vaults.world.clock;
        let (total, now) = (self.missing_bytes, clock.now());
        let mut meter = Meter::new(progress, Phase::Storing, Unit::Bytes, Some(total), now);
        let mut pipeline = vaults.slabs.uploader().pipeline(SlabClass::Data);
        let mut pieces: BTreeMap<u64, Vec<Piece>> = BTreeMap::new();
        let mut inline = 0u64;
        for wanted in std::mem::take(&mut self.missing) {
            let mut here: Vec<Piece> = Vec::new();
            let room = vaults.options.inline_batch.saturating_sub(inline);
            let mut small = (wanted.size <= vaults.options.inline.min(room)).then(Vec::new);
            let mut cursor = shelf.open_file(wanted.version).await?;
            loop {
                let (bytes, next) = shelf.read(cursor).await?;
                cursor = next;
                if bytes.is_empty() {
                    break;
                }
                match &mut small {
                    Some(small) => small.extend_from_slice(&bytes),
                    None => join_pieces(&mut here, pipeline.write(&bytes).await?),
                }
                meter.done = meter.done.saturating_add(bytes.len() as u64);
                meter.report(None, clock.now());
            }
            match small {
                Some(bytes) => {
                    inline = inline.saturating_add(wanted.size);
                    self.found.insert(wanted.version, Content::Inline(bytes));
                }
                None => drop(pieces.insert(wanted.version, here)),
            }
        }
        let packed = pipeline.finish().await?;
        let records: Vec<_> = packed.slabs.iter().map(|slab| slab.record.clone()).collect();
        for part in records.chunks(SLABS) {
            vaults.journal.append(vec![Change::SlabsStored(part.to_vec())]).await?;
        }
        for (version, pieces) in pieces {
            let extents = pieces.iter().map(|piece| Extent {
                slab: packed.record(piece).id,
                offset: piece.offset,
                length: piece.length,
            });
            self.found.insert(version, Content::Extents(extents.collect()));
        }
        Ok(packed)
    }
}

/// The contents of all versions with one of these hashes.
fn contents(
    state: &JournalState,
    hashes: &BTreeSet<Digest>,
    readable: impl Fn(&StoredFile) -> bool,
) -> BTreeMap<(Digest, u64), Content> {
    let files = state.vaults.values().flat_map(|vault| vault.files.values());
    let versions = files.flat_map(|file| &file.versions).map(|version| &version.file);
    let usable = versions.filter(|file| {
        hashes.contains(&file.hash) && file.content != Content::Erased && readable(file)
    });
    usable.map(|file| ((file.hash, file.size), file.content.clone())).collect()
}
