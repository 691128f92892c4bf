//! Limits of transfers, as the owner sets them while the node runs: below `line` in the renter's store.

use samara_protocol::encoding;

use super::Renter;
use crate::contract::LineRates;
use crate::world::{Store, StoreError, Write};

const KEY: &[u8] = b"line";

/// What the owner has set, if anything.
pub(super) async fn load(store: &dyn Store) -> Result<Option<LineRates>, StoreError> {
    let stored = store.read(KEY).await?;
    // A row that does not decode is one that is missing: the configuration counts.
    Ok(stored.and_then(|row| encoding::decode(&row).ok()))
}

impl Renter {
    /// How many bytes a second sectors may take of the line: of puts, gets, repair, audits and garbage
    /// collection together.
    #[must_use]
    pub fn line_rates(&self) -> LineRates {
        self.inner.book.line().rates()
    }

    /// Sets these limits from now on, also for what is under way; nothing for those of the configuration.
    /// They are kept over restarts.
    ///
    /// # Errors
    /// [`StoreError`]; the limits are as before.
    pub async fn set_line_rates(&self, rates: Option<LineRates>) -> Result<(), StoreError> {
        let write = match &rates {
            Some(rates) => Write::Put(KEY.to_vec(), encoding::encode(rates)),
            None => Write::Delete(KEY.to_vec()),
        };
        self.inner.world.store.commit(vec![write]).await?;
        self.inner.book.line().set(rates.unwrap_or(self.inner.line));
        Ok(())
    }
}
