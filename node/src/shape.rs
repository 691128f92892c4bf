//! Redundancy as people write it: `4/8`.

use samara_renter::transfer::Redundancy;

/// Any `data` of `total` hosts bring a file back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// K.
    pub data: u8,
    /// N.
    pub total: u8,
}

impl Shape {
    /// The same with a margin for acknowledgements of half of what may be lost.
    #[must_use]
    pub fn redundancy(self) -> Redundancy {
        let spare = self.total - self.data;
        Redundancy { data: self.data, total: self.total, margin: spare.div_ceil(2) }
    }

    /// The same where a slab counts as stored only once every one of its hosts has it.
    #[must_use]
    pub const fn strict(self) -> Redundancy {
        Redundancy { data: self.data, total: self.total, margin: self.total - self.data }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.data, self.total)
    }
}

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(data, total)| {
            Some(Self { data: data.trim().parse().ok()?, total: total.trim().parse().ok()? })
        });
        parsed.filter(|shape| shape.data >= 1 && shape.data < shape.total).ok_or_else(|| {
            format!("'{text}' is no redundancy: write K/N with K below N, as in 4/8")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_as_it_is_written() {
        let shape = Shape { data: 4, total: 8 };
        assert_eq!("4/8".parse(), Ok(shape));
        assert_eq!(shape.to_string(), "4/8");
        assert_eq!((shape.redundancy().margin, shape.strict().margin), (2, 4));
        for text in ["8/8", "0/4", "4", "a/b", "10/300"] {
            assert!(text.parse::<Shape>().is_err(), "{text}");
        }
    }
}
