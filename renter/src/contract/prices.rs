//! The highest prices that a renter pays.

use samara_protocol::host::announcement::Prices;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Amount;
use serde::{Deserialize, Serialize};

use super::error::ContractError;

/// Highest prices that the allowance permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceLimits {
    /// Grains for a byte and hour of storage.
    pub storage: Amount,
    /// Grains for a byte sent to the host.
    pub upload: Amount,
    /// Grains for a byte received from it.
    pub download: Amount,
    /// Grains for a request.
    pub request: Amount,
}

impl PriceLimits {
    /// No limit at all.
    pub const NONE: Self = Self {
        storage: Amount(u128::MAX),
        upload: Amount(u128::MAX),
        download: Amount(u128::MAX),
        request: Amount(u128::MAX),
    };

    /// Refuses transfer prices above the limits.
    pub(super) fn check_transfer(
        &self,
        host: &PublicKey,
        prices: &Prices,
    ) -> Result<(), ContractError> {
        match self.above(prices).filter(|(what, ..)| *what != "storage") {
            Some((what, asked, limit)) => {
                Err(ContractError::TooExpensive { host: *host, what, asked, limit })
            }
            None => Ok(()),
        }
    }

    /// The first price above its limit: name, price, limit. Storage comes last, because a formed
    /// contract fixes it and only the others can still change.
    #[must_use]
    pub fn above(&self, prices: &Prices) -> Option<(&'static str, Amount, Amount)> {
        [
            ("upload", prices.upload, self.upload),
            ("download", prices.download, self.download),
            ("requests", prices.request, self.request),
            ("storage", prices.storage, self.storage),
        ]
        .into_iter()
        .find(|(_, asked, limit)| asked > limit)
    }
}
