//! Redundancy as people write it: `4/8`.

use samara_renter::transfer;

/// Any `data` of `total` hosts bring a file back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redundancy {
    /// K.
    pub data: u8,
    /// N.
    pub total: u8,
}

impl Redundancy {
    /// The same with a margin for acknowledgements of half of what may be lost.
    #[must_use]
    pub fn with_margin(self) -> transfer::Redundancy {
        let spare = self.total - self.data;
        transfer::Redundancy { data: self.data, total: self.total, margin: spare.div_ceil(2) }
    }

    /// The same where a slab counts as stored only once every one of its hosts has it.
    #[must_use]
    pub const fn strict(self) -> transfer::Redundancy {
        transfer::Redundancy { data: self.data, total: self.total, margin: self.total - self.data }
    }
}

impl std::fmt::Display for Redundancy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.data, self.total)
    }
}

impl std::str::FromStr for Redundancy {
    type Err = ParseRedundancyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(data, total)| {
            Some(Self { data: data.trim().parse().ok()?, total: total.trim().parse().ok()? })
        });
        parsed
            .filter(|parsed| parsed.data >= 1 && parsed.data < parsed.total)
            .ok_or_else(|| ParseRedundancyError(text.to_owned()))
    }
}

/// A text that is no redundancy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no redundancy: write K/N with K below N, as in 4/8")]
pub struct ParseRedundancyError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redundancy_is_read_as_it_is_written() {
        let redundancy = Redundancy { data: 4, total: 8 };
        assert_eq!("4/8".parse(), Ok(redundancy));
        assert_eq!(redundancy.to_string(), "4/8");
        assert_eq!((redundancy.with_margin().margin, redundancy.strict().margin), (2, 4));
        for text in ["8/8", "0/4", "4", "a/b", "10/300"] {
            assert!(text.parse::<Redundancy>().is_err(), "{text}");
        }
    }
}
