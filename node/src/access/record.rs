//! Users and tokens as they are stored: one setting each.
//!
//! | setting | value |
//! | --- | --- |
//! | `user/<id>` | version 1, then [`User`] in the workspace's encoding |
//! | `token/<id>` | version 1, then [`Token`] likewise |
//!
//! The id is in both, and one that differs is refused. A record of another version, or that does not
//! decode, is nobody's: its tokens do not work, and it is left as it is.

use samara_protocol::encoding::{DecodeError, decode_limited, encode};
use samara_protocol::units::ChainTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::hash::SecretHash;
use super::id::{TokenId, UserId};
use super::role::Role;

/// Version of both records.
const VERSION: u8 = 1;
/// Longest record, bytes; the longest that there can be has some 500.
const MAX_RECORD: usize = 1024;
/// What a user's setting is called before its id.
pub(super) const USERS: &str = "user/";
/// What a token's setting is called before its id.
pub(super) const TOKENS: &str = "token/";
/// Longest name, bytes.
pub(super) const MAX_NAME: usize = 96;
/// Longest e-mail address, bytes (RFC 5321, section 4.5.3.1.3, without the brackets).
pub(super) const MAX_EMAIL: usize = 254;

/// Somebody who may do something here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Stays for ever.
    pub id: UserId,
    /// To log in with and to write to. No two users have the same, whatever the case of its letters.
    pub email: String,
    /// For people.
    pub name: String,
    /// The most that the user's tokens may do.
    pub role: Role,
    /// Whether nothing of the user's works.
    pub disabled: bool,
    /// When it was made, by the clock of the machine.
    pub created: ChainTime,
    /// Hash of the password; without one there is no login, only tokens.
    pub password: Option<SecretHash>,
}

/// What programs show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Part of its text.
    pub id: TokenId,
    /// Whose it is; nobody's if it is of a program.
    pub user: Option<UserId>,
    /// For people.
    pub name: String,
    /// The most that it may do.
    pub role: Role,
    /// When it was made, by the clock of the machine.
    pub created: ChainTime,
    /// From when on it does not work; never if nothing is said.
    pub expires: Option<ChainTime>,
    /// Hash of its whole text.
    pub hash: SecretHash,
}

/// Why a setting is no user or token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer program, or empty.
    #[error("the record has another version than {VERSION}: use a newer samara")]
    Version,
    /// It does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It stands under another's name.
    #[error("the record's id is not that of its name")]
    Id,
    /// A secret's hash that asks for more than is ever spent.
    #[error("the record's hash is out of bounds")]
    Cost,
}

impl User {
    /// Name of a user's setting.
    pub(super) fn setting(id: UserId) -> String {
        format!("{USERS}{id}")
    }

    /// The user as a setting.
    pub(super) fn to_setting(&self) -> (String, Vec<u8>) {
        (Self::setting(self.id), versioned(self))
    }

    /// The user that a setting is.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_setting((name, value): &(String, Vec<u8>)) -> Result<Self, RecordError> {
        let user: Self = read(value)?;
        if *name != Self::setting(user.id) {
            return Err(RecordError::Id);
        }
        let affordable = user.password.as_ref().is_none_or(|hash| hash.cost().is_some());
        if affordable { Ok(user) } else { Err(RecordError::Cost) }
    }
}

impl Token {
    /// Name of a token's setting.
    pub(super) fn setting(id: TokenId) -> String {
        format!("{TOKENS}{id}")
    }

    /// The token as a setting.
    pub(super) fn to_setting(&self) -> (String, Vec<u8>) {
        (Self::setting(self.id), versioned(self))
    }

    /// The token that a setting is.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_setting((name, value): &(String, Vec<u8>)) -> Result<Self, RecordError> {
        let token: Self = read(value)?;
        if *name != Self::setting(token.id) {
            return Err(RecordError::Id);
        }
        if token.hash.cost().is_some() { Ok(token) } else { Err(RecordError::Cost) }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: ChainTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

fn versioned<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(encode(record));
    bytes
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, RecordError> {
    match value.split_first() {
        Some((&VERSION, rest)) => Ok(decode_limited(rest, MAX_RECORD)?),
        _ => Err(RecordError::Version),
    }
}

/// Whether a text can be the name of a user or token: something that fits on a line.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control)
}

/// Whether a text can be an e-mail address: the shape only, for nobody but a mail server knows more.
pub(super) fn is_email(text: &str) -> bool {
    let bad = |c: char| c.is_control() || c.is_whitespace();
    let parts = text.split_once('@');
    let shaped = parts.is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@')
    });
    shaped && text.len() <= MAX_EMAIL && !text.contains(bad)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use samara_protocol::keys::sealed::Argon2Parameters;

    use super::*;

    fn hash() -> SecretHash {
        SecretHash::nobodys(Argon2Parameters::INTERACTIVE)
    }

    fn user() -> User {
        User {
            id: UserId([1, 2, 3, 4, 5, 6, 7, 8]),
            email: "ada@example.org".to_owned(),
            name: "Ada".to_owned(),
            role: Role::Operator,
            disabled: true,
            created: ChainTime(1_000),
            password: Some(hash()),
        }
    }

    fn token() -> Token {
        Token {
            id: TokenId([9; 8]),
            user: Some(user().id),
            name: "nightly".to_owned(),
            role: Role::Reader,
            created: ChainTime(1_000),
            expires: Some(ChainTime(2_000)),
            hash: hash(),
        }
    }

    #[test]
    fn records_read_back() {
        assert_eq!(User::from_setting(&user().to_setting()), Ok(user()));
        assert_eq!(Token::from_setting(&token().to_setting()), Ok(token()));
        let setting = user().to_setting();
        assert_eq!(setting.0, "user/0102030405060708");
        assert!(setting.0.len() <= samara_protocol::journal::entry::MAX_SETTING_NAME);
    }

    /// Written by the first version, and to be read by every later one.
    #[test]
    fn records_have_these_bytes() {
        let argon = format!("809801{}{}", "0201", "00".repeat(48));
        let user_bytes = format!(
            "01 0102030405060708 0f{} 03{} 01 01 e807 01 {argon}",
            hex::encode("ada@example.org"),
            hex::encode("Ada"),
        );
        assert_eq!(hex::encode(user().to_setting().1), user_bytes.replace(' ', ""));
        let token_bytes = format!(
            "01 0909090909090909 01 0102030405060708 07{} 00 e807 01 d00f {argon}",
            hex::encode("nightly"),
        );
        assert_eq!(hex::encode(token().to_setting().1), token_bytes.replace(' ', ""));
    }

    #[test]
    fn what_is_not_of_this_program_is_refused() {
        let (name, value) = user().to_setting();
        let with = |change: &dyn Fn(&mut String, &mut Vec<u8>)| {
            let (mut name, mut value) = (name.clone(), value.clone());
            change(&mut name, &mut value);
            User::from_setting(&(name, value)).unwrap_err()
        };
        assert_eq!(with(&|_, value| value[0] = 2), RecordError::Version);
        assert_eq!(with(&|_, value| value.clear()), RecordError::Version);
        assert_eq!(with(&|name, _| name.push('0')), RecordError::Id);
        assert!(matches!(with(&|_, value| value.push(0)), RecordError::Decode(_)));
        assert!(matches!(with(&|_, value| value.resize(2_000, 0)), RecordError::Decode(_)));
    }

    #[test]
    fn names_and_addresses_fit_on_a_line() {
        for good in ["a@b", "ada.lovelace+x@example.org", "é@ü.example"] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@b", "a".repeat(MAX_EMAIL));
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\n", &long] {
            assert!(!is_email(bad), "{bad}");
        }
        assert!(is_name("Ada L.") && !is_name("") && !is_name("a\nb") && !is_name(&"a".repeat(97)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(mut value: Vec<u8>) {
            let setting = |value: &Vec<u8>| ("user/0102030405060708".to_owned(), value.clone());
            let _ = User::from_setting(&setting(&value));
            value.insert(0, VERSION);
            let _ = User::from_setting(&setting(&value));
            let _ = Token::from_setting(&setting(&value));
        }
    }
}
