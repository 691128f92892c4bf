//! Puts of the same files to the same place: one after the other, so that the second finds what the first
//! has stored.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use samara_protocol::sync::lock;
use tokio::sync::OwnedMutexGuard;

use super::types::PutRequest;

/// What a put stores, and where: vault, target, source.
type Place = (String, String, PathBuf);

/// Puts under way. A cheap clone.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<BTreeMap<Place, Weak<tokio::sync::Mutex<()>>>>>);

impl Turns {
    /// Waits until no other put of the same source to the same place is under way. The others wait until
    /// what is given is dropped.
    pub(super) async fn take(&self, request: &PutRequest) -> OwnedMutexGuard<()> {
        let target = request.target.trim_start_matches('/').to_owned();
        let place = (request.vault.clone(), target, request.source.clone());
        let turn = {
            let mut turns = lock(&self.0);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&place).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(place, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}
