//! What hosts were ever sent, compared: no key seals two plaintexts (I8), whichever machine sealed them,
//! whether a host kept them, and whether anybody acknowledged them.
//!
//! The witness knows the words and every draw of 16 random bytes, so it knows every slab id before it is
//! used: a descriptor's tag tells which slab it is of. A sector that no descriptor ever listed is tried
//! under the ids that were drawn shortly before it was sent. Heads and descriptors are sealed with random
//! nonces: each is seen with one ciphertext only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use samara_protocol::contract::ContractId;
use samara_protocol::hash::{Digest, SectorRoot, SlabId, SlabTag, digest};
use samara_protocol::host::message::{ContractCall, ContractRequest};
use samara_protocol::keys::tree::KeyTree;
use samara_protocol::sector::SectorSize;
use samara_protocol::slab::{FrameCipher, Geometry, SlabDescriptor};
use samara_protocol::sync::lock;
use samara_renter::contract::Redundancy;
use samara_renter::transfer::SlabClass;

use super::run::FRAME;
use super::trace::Trace;

/// Slab ids under which a sector is tried that no descriptor lists: those drawn last before it was sent.
const TRIED: usize = 16;
/// Such sectors that are tried at the end of a run.
const SECTORS: usize = 24;
/// Bytes of a head's piece before its nonce, with its length; bytes of the nonce.
const PIECE: usize = 4 + 1 + 8 + 16 + 8;
const NONCE: usize = 24;

/// The witness of one run.
#[derive(Debug)]
pub(super) struct Witness {
    keys: Arc<KeyTree>,
    redundancy: Redundancy,
    trace: Arc<Trace>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Slabs by the tags that they have under each contract, and how many draws those are of.
    tags: BTreeMap<ContractId, (usize, BTreeMap<SlabTag, SlabId>)>,
    /// Roots of each slab's data sectors: the digests of its ciphertext.
    sealed: BTreeMap<SlabId, Vec<SectorRoot>>,
    /// Sectors that were sent, with how many ids had been drawn; of those that were described, nothing.
    sent: BTreeMap<SectorRoot, Option<(usize, Bytes)>>,
    /// What was sealed with each nonce, by the key's owner.
    nonces: BTreeMap<(Digest, [u8; NONCE]), Digest>,
}

impl Witness {
    pub(super) fn new(keys: Arc<KeyTree>, redundancy: Redundancy, trace: Arc<Trace>) -> Self {
        Self { keys, redundancy, trace, inner: Mutex::default() }
    }

    /// A host was sent this.
    pub(super) fn see(&self, request: &ContractRequest) {
        match &request.call {
            ContractCall::Store { root, data, .. } => {
                let drawn = self.trace.draws();
                let mut inner = lock(&self.inner);
                inner.sent.entry(*root).or_insert_with(|| Some((drawn, data.clone())));
            }
            ContractCall::Commit(commit) => {
                for file in commit.descriptors.iter().filter(|file| !file.sealed.is_empty()) {
                    self.see_descriptor(&request.contract, &file.tag, &file.sealed);
                }
            }
            ContractCall::HeadAppend { tail: pieces, .. }
            | ContractCall::HeadPut { head: pieces, .. } => {
                self.see_pieces(&request.contract, pieces);
            }
            _ => {}
        }
    }

    fn see_descriptor(&self, contract: &ContractId, tag: &SlabTag, sealed: &[u8]) {
        let Some(slab) = self.slab_of(contract, tag) else {
            return self
                .trace
                .violation(format!("a descriptor of a slab id that nobody drew: {tag}"));
        };
        self.see_nonce(digest("descriptor", &slab), sealed.get(..NONCE), sealed);
        let opened = SlabDescriptor::open(self.keys.slab(&slab).as_bytes(), sealed);
        let Ok(descriptor) = opened else {
            return self.trace.violation(format!("the descriptor of slab {slab} does not open"));
        };
        let roots = descriptor.shards.iter().map(|shard| shard.root);
        let data = roots.take(usize::from(descriptor.geometry.data())).collect::<Vec<_>>();
        let mut inner = lock(&self.inner);
        for shard in &descriptor.shards {
            inner.sent.insert(shard.root, None);
        }
        let first = inner.sealed.entry(slab).or_insert_with(|| data.clone());
        if *first != data {
            self.trace.violation(format!("slab id {slab} seals two plaintexts"));
        }
    }

    /// The slab that a tag stands for.
    fn slab_of(&self, contract: &ContractId, tag: &SlabTag) -> Option<SlabId> {
        let mut inner = lock(&self.inner);
        let (known, tags) = inner.tags.entry(*contract).or_default();
        let drawn = self.trace.drawn(*known);
        *known += drawn.len();
        let key = self.keys.slab_tag_key();
        tags.extend(drawn.into_iter().map(|slab| (key.tag(contract, &slab), slab)));
        tags.get(tag).copied()
    }

    /// The pieces of a head, each with its nonce.
    fn see_pieces(&self, contract: &ContractId, mut pieces: &[u8]) {
        while let Some((length, _)) = pieces.split_first_chunk::<4>() {
            let end = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let end = end.saturating_add(4).min(pieces.len());
            let (piece, rest) = pieces.split_at(end);
            let nonce = piece.get(PIECE..PIECE + NONCE);
            self.see_nonce(digest("head", contract), nonce, &piece[4..]);
            pieces = rest;
        }
    }

    fn see_nonce(&self, key: Digest, nonce: Option<&[u8]>, sealed: &[u8]) {
        let Some(nonce) = nonce.and_then(|nonce| nonce.try_into().ok()) else { return };
        let what = digest("sealed", sealed);
        let first = *lock(&self.inner).nonces.entry((key, nonce)).or_insert(what);
        if first != what {
            self.trace.violation(format!("a nonce seals two heads or descriptors: {nonce:?}"));
        }
    }

    /// Sectors that no descriptor has listed: of attempts that came to nothing before. They are looked at
    /// once a run is over.
    pub(super) fn finish(&self) {
        let drawn = self.trace.drawn(0);
        let mut inner = lock(&self.inner);
        let sent = std::mem::take(&mut inner.sent);
        let open = sent.into_iter().filter_map(|(root, sent)| Some((root, sent?)));
        let mut first: BTreeMap<(SlabId, usize), SectorRoot> = BTreeMap::new();
        for (root, (before, data)) in open.take(SECTORS) {
            let ids = &drawn[before.saturating_sub(TRIED)..before];
            let Some((slab, column)) = self.find(ids, &data) else { continue };
            let known = inner.sealed.get(&slab).and_then(|roots| roots.get(column)).copied();
            let known = known.unwrap_or_else(|| *first.entry((slab, column)).or_insert(root));
            if known != root {
                self.trace.violation(format!("slab id {slab} seals two plaintexts, one in vain"));
            }
        }
    }

    /// The slab, of these, that a sector is a data column of, and which.
    fn find(&self, ids: &[SlabId], data: &[u8]) -> Option<(SlabId, usize)> {
        let bytes = u32::try_from(data.len()).ok()?;
        let column = SectorSize::new(u64::from(bytes)).ok()?;
        let frame = FRAME.min(bytes);
        let mut shapes = BTreeSet::new();
        for class in [SlabClass::Data, SlabClass::Metadata] {
            let Redundancy { data, total, .. } = self.redundancy.for_class(class);
            let totals = data + 1..=total;
            shapes.extend(totals.map(|total| (data, total)));
        }
        for slab in ids.iter().rev() {
            let key = self.keys.slab(slab);
            for (data_sectors, total) in shapes.iter().rev() {
                let Ok(geometry) = Geometry::new(*data_sectors, *total, column, frame) else {
                    continue;
                };
                let cipher = FrameCipher::new(key.as_bytes(), *slab, geometry);
                for number in 0..u32::from(*data_sectors) {
                    let mut sealed = data[..frame as usize].to_vec();
                    if cipher.open(number * (bytes / frame), &mut sealed).is_ok() {
                        return Some((*slab, number as usize));
                    }
                }
            }
        }
        None
    }
}
