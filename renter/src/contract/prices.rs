//! The highest prices that a renter pays.

use samara_protocol::host::announcement::Prices;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Amount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ContractError;

/// Highest prices that the allowance permits. Texts for people and programs (JSON) have `null` where there
/// is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceLimits {
    /// Grains for a byte and hour of storage.
    #[serde(with = "limit")]
    #[schemars(with = "Option<crate::schema::Coins>")]
    pub storage: Amount,
    /// Grains for a byte sent to the host.
    #[serde(with = "limit")]
    #[schemars(with = "Option<crate::schema::Coins>")]
    pub upload: Amount,
    /// Grains for a byte received from it.
    #[serde(with = "limit")]
    #[schemars(with = "Option<crate::schema::Coins>")]
    pub download: Amount,
    /// Grains for a request.
    #[serde(with = "limit")]
    #[schemars(with = "Option<crate::schema::Coins>")]
    pub request: Amount,
}

/// The limit that nothing is above.
const UNLIMITED: Amount = Amount(u128::MAX);

/// A limit, or none: a number that stands for infinity is one only to us.
mod limit {
    use samara_protocol::units::Amount;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    use super::UNLIMITED;

    pub(super) fn serialize<S: Serializer>(
        limit: &Amount,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() && *limit == UNLIMITED {
            serializer.serialize_none()
        } else {
            limit.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Amount, D::Error> {
        if deserializer.is_human_readable() {
            Ok(Option::<Amount>::deserialize(deserializer)?.unwrap_or(UNLIMITED))
        } else {
            Amount::deserialize(deserializer)
        }
    }
}

impl PriceLimits {
    /// No limit at all.
    pub const NONE: Self =
        Self { storage: UNLIMITED, upload: UNLIMITED, download: UNLIMITED, request: UNLIMITED };

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

#[cfg(test)]
mod tests {
    use samara_protocol::encoding;

    use super::*;

    #[test]
    fn no_limit_is_a_number_on_disk() {
        let limits = PriceLimits { upload: Amount::coins(2), ..PriceLimits::NONE };
        let plain = (limits.storage, limits.upload, limits.download, limits.request);
        assert_eq!(encoding::encode(&limits), encoding::encode(&plain));
        assert_eq!(encoding::decode::<PriceLimits>(&encoding::encode(&limits)).unwrap(), limits);
    }
}
