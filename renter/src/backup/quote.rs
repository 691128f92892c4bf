//! What a backup will cost at most.
//!
//! A network backup writes metadata to the hosts: at most all that the latest checkpoint lies in, and what the
//! journal has taken in since, with parity; it is kept for as long as the contracts run. An archive reads
//! every byte of a vault once. Prices are the highest that any host of a live contract asks now.

use std::collections::BTreeMap;

use samara_protocol::journal::{BackupCounts, JournalState, VaultId};
use samara_protocol::tree::Limits;
use samara_protocol::units::{Amount, Millis};

use super::types::{BackupKind, QuoteRequest, QuoteRow, RecoveryEstimate};
use super::{BackupError, Backups, counts};
use crate::transfer::SlabClass;
use crate::vault::find;
use crate::world::random_bytes;

/// How long a quote can be agreed to.
const LIFE: Millis = Millis::seconds(600);
/// Quotes that are kept; the oldest goes first.
const MOST: usize = 1_000;
/// Bytes that a read is rounded up to at each end: hosts prove whole groups, frames are sealed as a whole.
pub(super) const ROUNDING: u64 = 2 * (64 << 10);
/// Bytes of metadata that are written whatever has changed: the root, and nodes of four trees with their slabs.
const ROOT: u64 = 1 << 20;
/// Requests that one extent or slab takes at most, beside bytes.
pub(super) const REQUESTS: u64 = 8;

/// A quote and what it stands for.
#[derive(Clone, Debug)]
pub(super) struct Quote {
    pub(super) kind: BackupKind,
    pub(super) scope: Option<VaultId>,
    pub(super) price: Amount,
    /// What a byte of metadata costs for as long as it is kept.
    pub(super) keeping: Amount,
    pub(super) counts: BackupCounts,
    moved: u64,
    expires: u64,
}

/// Quotes that were given and can be agreed to.
#[derive(Debug, Default)]
pub(super) struct Quotes(BTreeMap<(u64, [u8; 8]), Quote>);

impl Quotes {
    /// Keeps a quote; its id says when it expires.
    fn keep(&mut self, nonce: [u8; 8], quote: Quote) -> String {
        let id = format!("{:012x}{}", quote.expires, hex::encode(nonce));
        self.0.insert((quote.expires, nonce), quote);
        while self.0.len() > MOST {
            self.0.pop_first();
        }
        id
    }

    /// The quote with an id, unless it is too old.
    fn find(&mut self, id: &str, now: u64) -> Option<&Quote> {
        self.0.retain(|(expires, _), _| *expires > now);
        let (expires, nonce) = id.split_at_checked(12)?;
        let expires = u64::from_str_radix(expires, 16).ok()?;
        let mut bytes = [0; 8];
        hex::decode_to_slice(nonce, &mut bytes).ok()?;
        self.0.get(&(expires, bytes))
    }
}

impl Backups {
    /// The price of a backup.
    pub(crate) async fn quote(&self, request: &QuoteRequest) -> Result<QuoteRow, BackupError> {
        let vault = request.vault.as_deref();
        let scope = self.vaults.journal.read(|state| scope_of(state, vault))?;
        let quote = self.price(request.kind, scope).await?;
        let random = random_bytes(self.vaults.world.random.as_ref());
        let id = self.quotes().keep(random, quote.clone());
        let Quote { price, counts, moved, expires, .. } = quote;
        Ok(QuoteRow {
            id,
            kind: request.kind,
            vault: request.vault.clone(),
            price,
            moved,
            events: counts.events,
            versions: counts.versions,
            files: counts.files,
            file_size: counts.bytes,
            expires,
        })
    }

    /// The price that was agreed to, or that of the moment if none was. One that was agreed to and does not
    /// suffice any more is refused.
    pub(super) async fn agreed(
        &self,
        id: Option<&str>,
        kind: BackupKind,
        scope: Option<VaultId>,
    ) -> Result<Quote, BackupError> {
        let now = self.price(kind, scope).await?;
        let Some(id) = id else { return Ok(now) };
        let time = self.vaults.world.clock.now();
        let quote = self.quotes().find(id, time).cloned();
        let quote = quote.ok_or_else(|| BackupError::NoQuote(id.chars().take(80).collect()))?;
        if quote.kind != kind || quote.scope != scope {
            return Err(BackupError::OtherQuote(id.to_owned()));
        }
        if now.price > quote.price {
            return Err(BackupError::StaleQuote { quoted: quote.price, now: now.price });
        }
        Ok(Quote { counts: now.counts, ..quote })
    }

    async fn price(&self, kind: BackupKind, scope: Option<VaultId>) -> Result<Quote, BackupError> {
        if kind == BackupKind::Archive && scope.is_none() {
            return Err(BackupError::NoScope);
        }
        let prices = self.vaults.highest_prices().await;
        let journal = &self.vaults.journal;
        let counts = journal.read(|state| counts(state, scope));
        let metadata = journal.read(metadata_bytes).saturating_add(journal.status().uncut);
        let (moved, price, keeping) = match kind {
            BackupKind::Network => {
                let price = self.vaults.price_of(metadata, SlabClass::Metadata, &prices);
                (price.stored, price.price, price.keeping)
            }
            BackupKind::Archive => {
                let (bytes, extents) = journal.read(|state| to_read(state, scope));
                let moved = bytes.saturating_add(metadata);
                let requests = extents.saturating_add(1).saturating_mul(REQUESTS);
                (moved, prices.of_reading(moved, requests), Amount::ZERO)
            }
        };
        let expires = self.vaults.world.clock.now().saturating_add(LIFE.0);
        Ok(Quote { kind, scope, price, keeping, counts, moved, expires })
    }

    /// The most that it costs to bring all names back, and so many bytes of files in so many pieces.
    pub(crate) async fn estimate_recovery(&self, bytes: u64, pieces: u64) -> RecoveryEstimate {
        let journal = &self.vaults.journal;
        let names = journal.read(metadata_bytes).saturating_add(journal.status().uncut);
        let nodes = names / Limits::STORED.min() as u64 + REQUESTS;
        let pieces = pieces.saturating_add(nodes);
        let read = names.saturating_add(bytes).saturating_add(pieces.saturating_mul(ROUNDING));
        let prices = self.vaults.highest_prices().await;
        let price = prices.of_reading(read, pieces.saturating_mul(REQUESTS));
        RecoveryEstimate { price, names }
    }
}

/// The vault with a name, or none for all.
pub(super) fn scope_of(
    state: &JournalState,
    vault: Option<&str>,
) -> Result<Option<VaultId>, BackupError> {
    Ok(vault.map(|name| find(state, name).map(|(id, _)| id)).transpose()?)
}

/// Bytes of metadata that a checkpoint may have to write anew, but for what came since the last one.
fn metadata_bytes(state: &JournalState) -> u64 {
    let latest = state.checkpoint.iter().flat_map(|name| {
        let trees = name.trees.iter().filter_map(|id| state.slabs.get(id));
        trees.map(|slab| slab.record.capacity()).chain(std::iter::once(u64::from(name.length)))
    });
    latest.fold(ROOT, u64::saturating_add)
}

/// Bytes that an archive of a vault reads from hosts at most, and in how many pieces.
fn to_read(state: &JournalState, scope: Option<VaultId>) -> (u64, u64) {
    let vault = scope.and_then(|id| state.vaults.get(&id));
    let files = vault.into_iter().flat_map(|vault| vault.files.values());
    let versions = files.flat_map(|file| &file.versions);
    let extents = versions.flat_map(|version| version.file.content.extents());
    extents.fold((0, 0), |(bytes, count): (u64, u64), extent| {
        (bytes.saturating_add(u64::from(extent.length) + ROUNDING), count + 1)
    })
}
