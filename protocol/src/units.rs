//! Quantities: money, heights, chain time, bytes, epochs.
//!
//! Arithmetic on money and sizes is checked; the operators are not implemented on purpose, so that
//! an overflow can only be a value of type `Option` (invariant I3).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of money in grains, the smallest unit. One coin (SAM) is [`Amount::COIN`] grains.
///
/// Bytes hold the number of grains. Texts for people and programs (JSON, TOML) hold coins, `"1.5 SAM"`:
/// a number of grains is larger than what most readers of JSON take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u128);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_newtype_struct("Amount", &self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            u128::deserialize(deserializer).map(Self)
        }
    }
}

impl Amount {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// Grains in one coin: 10^18.
    pub const COIN: Self = Self(1_000_000_000_000_000_000);

    /// Whole coins; saturates at the largest amount.
    pub const fn coins(coins: u64) -> Self {
        Self((coins as u128).saturating_mul(Self::COIN.0))
    }

    /// Sum, or `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Difference, or `None` when `other` is more than this.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// Product with a plain number, or `None` on overflow.
    #[must_use]
    pub const fn checked_mul(self, factor: u128) -> Option<Self> {
        match self.0.checked_mul(factor) {
            Some(product) => Some(Self(product)),
            None => None,
        }
    }

    /// Sum that stays at the largest amount; for prices and estimates, never for balances.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Difference that stays at zero; for remainders that are shown, never for balances.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Product that stays at the largest amount; for prices and estimates, never for balances.
    #[must_use]
    pub const fn saturating_mul(self, factor: u128) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl fmt::Display for Amount {
    /// Coins with as many decimals as are needed: `1.5 SAM`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / Self::COIN.0, self.0 % Self::COIN.0);
        if rest == 0 {
            return write!(f, "{whole} SAM");
        }
        let decimals = format!("{rest:018}");
        write!(f, "{whole}.{} SAM", decimals.trim_end_matches('0'))
    }
}

/// A text that is not an amount of coins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an amount: write coins, with at most 18 decimals, as in 2.5")]
pub struct ParseAmountError(String);

impl std::str::FromStr for Amount {
    type Err = ParseAmountError;

    /// Reads coins, with or without the unit: `2.5`, `2.5 SAM`.
    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        let refuse = || ParseAmountError(text.to_owned());
        let number = text.trim().trim_end_matches("SAM").trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && decimals.is_empty())
            || !digits(whole)
            || !digits(decimals)
            || decimals.len() > 18
        {
            return Err(refuse());
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| refuse())? };
        let rest: u128 = format!("{decimals:0<18}").parse().map_err(|_| refuse())?;
        whole
            .checked_mul(Self::COIN.0)
            .and_then(|grains| grains.checked_add(rest))
            .map(Self)
            .ok_or_else(refuse)
    }
}

/// A block's number. The genesis state has height 0, the first block height 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Height(pub u64);

impl Height {
    /// The height after this one.
    ///
    /// # Panics
    /// Never in practice: at a thousand blocks a second it takes 584 million years to overflow.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since the Unix epoch on the chain's clock: the time in block headers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ChainTime(pub u64);

impl ChainTime {
    /// This time plus a span; stays at the end of time.
    #[must_use]
    pub const fn plus(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span since an earlier time, zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// A span of time in milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Millis(pub u64);

impl Millis {
    /// Whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// Whole hours.
    pub const fn hours(hours: u64) -> Self {
        Self::seconds(hours.saturating_mul(3_600))
    }
}

/// Who may write for one seed: a counter that only grows, and the random id of the node that
/// claimed it. Ordered by the counter first; two claims of one counter are ordered by writer, so
/// that one of them wins everywhere.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch {
    /// Grows by one with each claim; 0 means that nobody has claimed yet.
    pub counter: u64,
    /// Random id of the claiming node.
    pub writer: [u8; 16],
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.counter, hex::encode(&self.writer[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_round_trip_through_text() {
        for text in ["0 SAM", "1.5 SAM", "0.000000000000000001 SAM", "12 SAM"] {
            assert_eq!(text.parse::<Amount>().unwrap().to_string(), text);
        }
        for text in ["", ".", "-1", "1.5.2", "1e3", "0.0000000000000000001"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    #[test]
    fn epochs_order_by_counter_then_writer() {
        let epoch = |counter, byte| Epoch { counter, writer: [byte; 16] };
        assert!(epoch(2, 0) > epoch(1, 9));
        assert!(epoch(2, 1) > epoch(2, 0));
    }
}
