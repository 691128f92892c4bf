//! Secrets as texts: passwords, and tokens `samara_<id>_<secret>`.

use std::fmt;

use samara_protocol::keys::phrase::normalize;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::id::TokenId;

/// What every token begins with, so that people and scanners know one when they see it.
const PREFIX: &str = "samara_";
/// Hex digits of a token's secret: 32 random bytes.
const DIGITS: usize = 64;
/// Fewest characters of a password.
pub const LEAST_PASSWORD: usize = 12;
/// Longest password, bytes.
pub const MAX_PASSWORD: usize = 1024;

/// A password or a token's text. Wiped when dropped, and never shown by `Debug`.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret text.
    #[must_use]
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The text itself, for who is to have it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is hashed of a password: its NFKD form, so that keyboards which compose an accent differently
    /// type the same.
    pub(super) fn of_password(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(normalize(&self.0).as_bytes().to_vec())
    }

    /// Whether a password is neither short nor endless.
    pub(super) fn is_password(&self) -> bool {
        self.0.len() <= MAX_PASSWORD && self.0.chars().count() >= LEAST_PASSWORD
    }

    /// A new token's text.
    pub(super) fn draw(id: TokenId) -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; DIGITS / 2]);
        getrandom::fill(&mut bytes[..])?;
        let digits = Zeroizing::new(hex::encode(&bytes[..]));
        // Room is made beforehand: a text that grows would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 16 + 1 + DIGITS));
        for part in [PREFIX, &id.to_string(), "_", &digits] {
            text.push_str(part);
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// For who is to have it: a body that carries it, or the answer that shows it once.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// The id in a token's text; nothing if the text is no token.
pub(super) fn token_id(text: &str) -> Option<TokenId> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let digits = |text: &str, count| text.len() == count && text.bytes().all(is_digit);
    if digits(id, 16) && digits(secret, DIGITS) { id.parse().ok() } else { None }
}

/// What a token is remembered by. It is of 32 random bytes, so a quick hash gives nothing away.
pub(super) fn digest(text: &str) -> blake3::Hash {
    blake3::hash(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_name_their_id_and_are_drawn_anew() {
        let id = TokenId([0xab; 8]);
        let (one, two) = (Secret::draw(id).unwrap(), Secret::draw(id).unwrap());
        assert_ne!(one.reveal(), two.reveal());
        assert!(one.reveal().starts_with("samara_abababababababab_"));
        assert_eq!(one.reveal().len(), 7 + 16 + 1 + 64);
        assert_eq!(token_id(one.reveal()), Some(id));
        assert_eq!(format!("{one:?}"), "Secret(not shown)");
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        let good = Secret::draw(TokenId([1; 8])).unwrap();
        let good = good.reveal();
        let upper = format!("samara_{}", good[7..].to_uppercase());
        let longer = format!("{good}0");
        for bad in ["", "samara_", "samara__", &good[1..], &good[..good.len() - 1], &upper, &longer]
        {
            assert_eq!(token_id(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_none(text in ".*") {
            let _ = token_id(&text);
            let _ = token_id(&format!("samara_{text}"));
        }
    }
}
