//! Vaults that this node is bringing in right now. All others that are arriving were left by somebody else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use samara_protocol::journal::VaultId;
use samara_protocol::sync::lock;

/// Their ids. A cheap clone of one set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals(Arc<Mutex<BTreeSet<VaultId>>>);

impl Arrivals {
    /// Somebody works on a vault from here on.
    pub(crate) fn enter(&self, id: VaultId) -> Arrival {
        lock(&self.0).insert(id);
        Arrival { arrivals: self.clone(), id }
    }

    /// Whether somebody does.
    pub(crate) fn contains(&self, id: VaultId) -> bool {
        lock(&self.0).contains(&id)
    }
}

/// Work on a vault; when it is dropped, whatever has become of it, upkeep sees to the rest.
#[derive(Debug)]
pub(crate) struct Arrival {
    arrivals: Arrivals,
    /// The vault.
    pub(crate) id: VaultId,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        lock(&self.arrivals.0).remove(&self.id);
    }
}
