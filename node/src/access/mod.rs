//! Who may do what: users, roles, tokens. No HTTP here; `api` asks.
//!
//! A request shows a token; [`AccessControl::actor`] says whose it is and which [`Role`] it acts with.
//! The rules:
//!
//! - The tokens of the data folder ([`LocalTokens`]) are the local administrator's and always work: who
//!   reads the folder owns the node. So no change of users can lock everybody out.
//! - Users and tokens are settings ([`Settings`]), one each, in the renter's sealed journal. They come
//!   back from the words. A node without a renter, or one that does not know its names yet, knows the
//!   local administrator only.
//! - Secrets are kept as Argon2id hashes ([`SecretHash`]). A token that was found right is remembered by
//!   its BLAKE3 digest, so that a token costs one Argon2 and its further requests none. What is
//!   remembered counts only for the hash that is stored now: a token that was revoked is forgotten by it.
//! - A token acts with its own role or its user's, whichever is less, as both are at that moment. A
//!   disabled user's tokens do not work.
//! - A login is a token that is kept in memory only, so that one is possible while no host answers. It
//!   ends after twelve hours, with the node, with its user, and with a change of the password.
//! - Revoking and disabling hold here at once, whether or not enough hosts took the change.
//! - Roles come from this node's own settings, never from an archive.
//!
//! [`AccessControl`] owns what is in memory; the journal owns the rest.

mod control;
mod error;
mod hash;
mod id;
mod local;
mod logins;
mod record;
mod remembered;
mod role;
mod secret;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;
mod tries;
mod users;

pub use control::{AccessControl, Actor, LoginMade};
pub use error::{AccessError, LoginError, Refusal};
pub use hash::{HashError, SecretHash};
pub use id::{ParseTokenIdError, TokenId, UserId};
pub use local::{LocalTokenError, LocalTokens, TOKEN_FILE};
pub use record::{RecordError, Token, User};
pub use role::{ParseRoleError, Role};
pub use secret::Secret;
pub use settings::{MemorySettings, NoSettings, Settings, SettingsError};
pub use tokens::{NewToken, TokenKind, TokenMade, TokenView};
pub use users::{EditUser, NewUser, UserView};
