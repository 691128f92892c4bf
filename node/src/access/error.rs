//! Why somebody is not let in, and why a change of users or tokens was not made.

use std::time::Duration;

use samara_renter::error::Coded;

use super::hash::HashError;
use super::id::{TokenId, UserId};
use super::record::{MAX_EMAIL, MAX_NAME};
use super::role::Role;
use super::secret::{LEAST_PASSWORD, MAX_PASSWORD};
use super::settings::SettingsError;

/// Why a token is nobody's.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Unknown, wrong, expired, revoked, or of a disabled user: it is not said which.
    #[error("the token is unknown, wrong or no longer valid")]
    Unknown,
    /// It could not be checked.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such user, no password, disabled, or another password: it is not said which.
    #[error("the e-mail address or the password is wrong")]
    Wrong,
    /// Too many tries for this address.
    #[error("too many tries for this e-mail address; try again in {} s", .0.as_secs().saturating_add(1))]
    Wait(Duration),
    /// Users are not known here.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The password could not be checked.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// Why a user or token was not made, changed, shown or removed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// They are not known here, or the change is not acknowledged.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A secret was not hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// Not a name.
    #[error("a name has 1 to {MAX_NAME} bytes and no control characters")]
    Name,
    /// Not an e-mail address.
    #[error("an e-mail address is NAME@DOMAIN, without spaces and of at most {MAX_EMAIL} bytes")]
    Email,
    /// Too short or too long.
    #[error("a password has at least {LEAST_PASSWORD} characters and at most {MAX_PASSWORD} bytes")]
    Password,
    /// Two things at once.
    #[error("a user gets another password or has none any more, not both")]
    PasswordOrNone,
    /// A token that would never work.
    #[error("a token is valid for at least one second")]
    Lifetime,
    /// More than its user may do.
    #[error("the user is {user}: a token of the user's cannot be {asked}")]
    Role {
        /// The user's role.
        user: Role,
        /// The role asked for.
        asked: Role,
    },
    /// Another user has the e-mail address.
    #[error("another user has this e-mail address")]
    Taken,
    /// A bound is reached.
    #[error("there are {most} {what} already, which is the most: remove one first")]
    Full {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// Not a user's id.
    #[error("there is no user {0}")]
    NoUser(UserId),
    /// Not a token's id, or not one that whoever asks may see.
    #[error("there is no token {0}")]
    NoToken(TokenId),
    /// Nothing to log out of.
    #[error("this token was not made by a login: revoke it instead")]
    NoLogin,
}

impl Coded for HashError {
    fn code(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Random(_) | Self::Stretch(_) | Self::Ended => "internal",
        }
    }
}

impl Coded for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "unauthorized",
            Self::Hash(error) => error.code(),
        }
    }
}

impl Coded for LoginError {
    fn code(&self) -> &'static str {
        match self {
            Self::Wrong => "unauthorized",
            Self::Wait(_) => "too_many_tries",
            Self::Settings(error) => error.code(),
            Self::Hash(error) => error.code(),
        }
    }
}

impl Coded for AccessError {
    fn code(&self) -> &'static str {
        match self {
            Self::Settings(error) => error.code(),
            Self::Hash(error) => error.code(),
            Self::Random(_) => "internal",
            Self::Name => "bad_name",
            Self::Email => "bad_email",
            Self::Password => "bad_password",
            Self::Lifetime | Self::PasswordOrNone => "invalid",
            Self::Role { .. } => "bad_role",
            Self::Taken => "exists",
            Self::Full { .. } => "too_many",
            Self::NoUser(_) => "no_user",
            Self::NoToken(_) => "no_token",
            Self::NoLogin => "refused",
        }
    }
}
