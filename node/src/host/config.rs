//! A host's configuration in human units: coins for a terabyte and month, sizes as `2 TB`.

use std::path::PathBuf;
use std::str::FromStr;

use samara_protocol::host::{HostAnnouncement, Prices};
use samara_protocol::units::{Amount, Millis};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Hours of a month, as prices count it: a twelfth of 365 days.
const HOURS_PER_MONTH: u128 = 730;
/// Bytes of a terabyte, as prices count it.
const TERABYTE: u128 = 1_000_000_000_000;

/// A number of bytes, written as `500 GB`, `1.5TB` or `2 TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

/// Why a host's configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostConfigError {
    /// A text that is not a number of bytes.
    #[error("'{0}' is not a size: write it as 500 GB or 2 TiB")]
    Size(String),
    /// An amount of coins that cannot be read.
    #[error("{key}: {reason}")]
    Amount {
        /// Name of the setting.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The operator's name is too long.
    #[error("the operator's name of {0} bytes is over {max}", max = HostAnnouncement::MAX_OPERATOR_BYTES)]
    Operator(usize),
}

impl FromStr for ByteCount {
    type Err = HostConfigError;

    fn from_str(text: &str) -> Result<Self, HostConfigError> {
        let refuse = || HostConfigError::Size(text.to_owned());
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1_000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            "t" | "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return Err(refuse()),
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| refuse())?;
        let whole = whole.checked_mul(factor).ok_or_else(refuse)?;
        // Twelve decimals of a terabyte are single bytes.
        if decimals.len() > 12 || (number.contains('.') && decimals.is_empty()) {
            return Err(refuse());
        }
        let scale = 10u128.pow(decimals.len() as u32);
        let part: u64 =
            if decimals.is_empty() { 0 } else { decimals.parse().map_err(|_| refuse())? };
        let part = u128::from(part) * u128::from(factor) / scale;
        let part = u64::try_from(part).map_err(|_| refuse())?;
        whole.checked_add(part).map(Self).ok_or_else(refuse)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} B", self.0))
    }
}

/// A folder for sectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeConfig {
    /// The folder; made if it is not there.
    pub path: PathBuf,
    /// Most bytes of sectors in it.
    pub limit: ByteCount,
}

/// What an operator decides about a host. Prices are texts in coins, such as `2.5 SAM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// Where sectors go.
    pub volumes: Vec<VolumeConfig>,
    /// Who runs it; at most 64 bytes. Each operator gets one shard of a
    /// slab, as far as there are enough operators.
    pub operator: String,
    /// Whether it forms new contracts.
    pub accepting: bool,
    /// Coins for storing a terabyte for a month.
    pub storage_per_terabyte_month: String,
    /// Coins for receiving a terabyte.
    pub upload_per_terabyte: String,
    /// Coins for sending a terabyte.
    pub download_per_terabyte: String,
    /// Coins for each paid request.
    pub request: String,
    /// Coins of collateral for a stored terabyte.
    pub collateral_per_terabyte: String,
    /// Most coins of collateral in one contract.
    pub maximum_collateral: String,
    /// Coins for each proof, to cover its fee.
    pub proof_fee: String,
    /// Longest contract in days.
    pub maximum_duration_days: u64,
    /// Bytes a second that the scrubber reads at most.
    pub scrub_rate: ByteCount,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            volumes: Vec::new(),
            operator: String::new(),
            accepting: true,
            storage_per_terabyte_month: "2".into(),
            upload_per_terabyte: "0.1".into(),
            download_per_terabyte: "2".into(),
            request: "0.0000001".into(),
            collateral_per_terabyte: "4".into(),
            maximum_collateral: "100".into(),
            proof_fee: "0.00001".into(),
            maximum_duration_days: 365,
            scrub_rate: ByteCount(16 << 20),
        }
    }
}

fn coins(key: &'static str, text: &str) -> Result<Amount, HostConfigError> {
    text.parse::<Amount>()
        .map_err(|error| HostConfigError::Amount { key, reason: error.to_string() })
}

/// An equal share for each of `parts`, rounded up, so that a price is never rounded to nothing.
fn share(amount: Amount, parts: u128) -> Amount {
    Amount(amount.0.div_ceil(parts))
}

impl HostConfig {
    /// The prices in grains.
    ///
    /// # Errors
    /// [`HostConfigError::Amount`] for a text that is not an amount.
    pub fn prices(&self) -> Result<Prices, HostConfigError> {
        let storage = coins("storage_per_terabyte_month", &self.storage_per_terabyte_month)?;
        let upload = coins("upload_per_terabyte", &self.upload_per_terabyte)?;
        let download = coins("download_per_terabyte", &self.download_per_terabyte)?;
        let collateral = coins("collateral_per_terabyte", &self.collateral_per_terabyte)?;
        Ok(Prices {
            storage: share(storage, TERABYTE * HOURS_PER_MONTH),
            upload: share(upload, TERABYTE),
            download: share(download, TERABYTE),
            request: coins("request", &self.request)?,
            collateral_rate: share(collateral, TERABYTE),
            maximum_collateral: coins("maximum_collateral", &self.maximum_collateral)?,
            proof_fee: coins("proof_fee", &self.proof_fee)?,
            maximum_duration: Millis::hours(self.maximum_duration_days.saturating_mul(24)),
        })
    }

    /// What the host announces when it answers at `addresses`.
    ///
    /// # Errors
    /// As [`HostConfig::prices`], and [`HostConfigError::Operator`].
    pub fn announcement(
        &self,
        addresses: Vec<String>,
    ) -> Result<HostAnnouncement, HostConfigError> {
        if self.operator.len() > HostAnnouncement::MAX_OPERATOR_BYTES {
            return Err(HostConfigError::Operator(self.operator.len()));
        }
        Ok(HostAnnouncement {
            addresses,
            operator: self.operator.clone(),
            capacity: self.volumes.iter().fold(0, |sum, v| u64::saturating_add(sum, v.limit.0)),
            accepting: self.accepting,
            prices: self.prices()?,
        })
    }
}
