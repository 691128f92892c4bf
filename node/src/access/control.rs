//! Tells whose a token is, and lets users in by their passwords.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use samara_protocol::keys::sealed::Argon2Parameters;
use samara_protocol::units::ChainTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{AccessError, LoginError, Refusal};
use super::hash::{HashError, Hasher, SecretHash};
use super::id::{TokenId, UserId, draw};
use super::local::LocalTokens;
use super::logins::Logins;
use super::record::{Token, USERS, User};
use super::remembered::Remembered;
use super::role::Role;
use super::secret::{MAX_PASSWORD, Secret, digest, token_id};
use super::settings::{Settings, SettingsError};
use super::tries::Tries;
use crate::clock::{Clock, Elapsed};

/// What the local administrator is called.
const LOCAL: &str = "local administrator";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// The user, if it is one: neither the local administrator nor a program's token is.
    #[schemars(with = "Option<String>")]
    pub user: Option<UserId>,
    /// The token that was shown; the local administrator's have no id.
    #[schemars(with = "Option<String>")]
    pub token: Option<TokenId>,
    /// For people.
    pub name: String,
    /// What this token may do now.
    pub role: Role,
}

impl Actor {
    /// Who shows a token of the data folder.
    #[must_use]
    pub fn local() -> Self {
        Self { user: None, token: None, name: LOCAL.to_owned(), role: Role::Administrator }
    }
}

/// A login, shown once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LoginMade {
    /// To be shown from now on.
    #[schemars(with = "String")]
    pub token: Secret,
    /// Until when.
    #[schemars(with = "u64")]
    pub expires: ChainTime,
    /// Whose it is.
    #[schemars(with = "String")]
    pub user: UserId,
    /// For people.
    pub name: String,
    /// What the user may do now.
    pub role: Role,
}

/// Knows who may do what.
pub struct AccessControl {
    pub(super) settings: Arc<dyn Settings>,
    local: LocalTokens,
    clock: Clock,
    elapsed: Elapsed,
    /// Apart from each other: a flood of wrong tokens keeps nobody from logging in.
    pub(super) tokens_hasher: Hasher,
    pub(super) passwords_hasher: Hasher,
    memory: Mutex<Memory>,
    /// One change at a time, so that bounds and e-mail addresses hold.
    pub(super) changes: tokio::sync::Mutex<()>,
}

/// What is gone with the process.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) remembered: Remembered,
    pub(super) logins: Logins,
    tries: Tries,
    /// Revoked, and perhaps not acknowledged yet. Each is of a stored token, so there are no more.
    pub(super) revoked: BTreeSet<TokenId>,
    /// Disabled or removed, likewise.
    pub(super) barred: BTreeSet<UserId>,
}

/// A token that works, and its user.
struct Standing {
    token: Token,
    user: Option<User>,
}

impl AccessControl {
    /// One over these settings, whose new hashes cost this.
    #[must_use]
    pub fn new(
        settings: Arc<dyn Settings>,
        local: LocalTokens,
        cost: Argon2Parameters,
        clock: Clock,
        elapsed: Elapsed,
    ) -> Self {
        Self {
            settings,
            local,
            clock,
            elapsed,
            tokens_hasher: Hasher::new(cost),
            passwords_hasher: Hasher::new(cost),
            memory: Mutex::default(),
            changes: tokio::sync::Mutex::default(),
        }
    }

    /// The tokens of the data folder.
    #[must_use]
    pub const fn local(&self) -> &LocalTokens {
        &self.local
    }

    /// Whose a token is, and what it may do at this moment. Costs one Argon2 at most.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn actor(&self, shown: &str) -> Result<Actor, Refusal> {
        if self.local.knows(shown) {
            return Ok(Actor::local());
        }
        let id = token_id(shown).ok_or(Refusal::Unknown)?;
        let digest = digest(shown);
        if let Some(actor) = self.logged_in(id, &digest) {
            return Ok(actor);
        }
        let hash = self.standing(id).ok_or(Refusal::Unknown)?.token.hash;
        if !self.memory().remembered.knows(id, &digest, &hash) {
            self.verify(shown, id, &digest, &hash).await?;
        }
        // It may have been revoked while it was checked.
        let standing = self.standing(id).ok_or(Refusal::Unknown)?;
        self.memory().remembered.touch(id, self.now());
        Ok(standing.actor())
    }

    /// Checks a token that is not remembered, and remembers it if it is right.
    async fn verify(
        &self,
        shown: &str,
        id: TokenId,
        digest: &blake3::Hash,
        hash: &SecretHash,
    ) -> Result<(), Refusal> {
        let place = self.tokens_hasher.place().await?;
        // A request beside this one may have paid meanwhile.
        if self.memory().remembered.knows(id, digest, hash) {
            return Ok(());
        }
        let secret = Zeroizing::new(shown.as_bytes().to_vec());
        if !place.matches(secret, hash.clone()).await? {
            return Err(Refusal::Unknown);
        }
        let now = self.now();
        self.memory().remembered.insert(id, *digest, hash.clone(), now);
        Ok(())
    }

    /// The user whose login this is.
    fn logged_in(&self, id: TokenId, digest: &blake3::Hash) -> Option<Actor> {
        let now = self.now();
        let login = self.memory().logins.find(id, digest, now)?;
        let user = self.enabled_user(login.user)?;
        if user.password != Some(login.password) {
            return None;
        }
        Some(Actor { user: Some(user.id), token: Some(id), role: user.role, name: user.name })
    }

    /// A stored token that works, whoever shows it.
    fn standing(&self, id: TokenId) -> Option<Standing> {
        let token = self.stored_token(id).ok().flatten()?;
        if token.is_expired(self.now()) || self.memory().revoked.contains(&id) {
            return None;
        }
        let user = match token.user {
            Some(user) => Some(self.enabled_user(user)?),
            None => None,
        };
        Some(Standing { token, user })
    }

    fn enabled_user(&self, id: UserId) -> Option<User> {
        let user = self.stored_user(id).ok().flatten()?;
        (!user.disabled && !self.is_barred(id)).then_some(user)
    }

    /// Logs a user in. The answer is the same, and takes the same time, for an unknown user and a wrong
    /// password.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(&self, email: &str, password: &Secret) -> Result<LoginMade, LoginError> {
        let who = email.trim().to_lowercase();
        // What nobody can work out now is no try.
        let place = self.passwords_hasher.place().await?;
        let tried = self.memory().tries.begin(&who, (self.elapsed)());
        tried.map_err(LoginError::Wait)?;
        let user = self.user_by_email(&who)?.and_then(|user| self.enabled_user(user.id));
        let known = user.as_ref().and_then(|user| user.password.clone());
        let secret = match password.reveal().len() <= MAX_PASSWORD {
            true => password.of_password(),
            false => Zeroizing::default(),
        };
        let cost = self.passwords_hasher.cost();
        let hash = known.clone().unwrap_or_else(|| SecretHash::nobodys(cost));
        let right = place.matches(secret, hash).await?;
        match (user, known) {
            (Some(user), Some(known)) if right => {
                self.memory().tries.right(&who);
                self.let_in(user, known)
            }
            _ => Err(LoginError::Wrong),
        }
    }

    fn let_in(&self, user: User, password: SecretHash) -> Result<LoginMade, LoginError> {
        let id = TokenId(draw().map_err(HashError::from)?);
        let token = Secret::draw(id).map_err(HashError::from)?;
        let now = self.now();
        let digest = digest(token.reveal());
        let expires = self.memory().logins.insert(id, user.id, password, digest, now);
        Ok(LoginMade { token, expires, user: user.id, name: user.name, role: user.role })
    }

    /// Ends the login that somebody shows.
    ///
    /// # Errors
    /// [`AccessError::NoLogin`].
    pub fn logout(&self, actor: &Actor) -> Result<(), AccessError> {
        let ended = actor.token.and_then(|id| self.memory().logins.end(id));
        ended.map(drop).ok_or(AccessError::NoLogin)
    }

    pub(super) fn now(&self) -> ChainTime {
        (self.clock)()
    }

    /// Held for a moment, never across an await.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stored_user(&self, id: UserId) -> Result<Option<User>, SettingsError> {
        let name = User::setting(id);
        let found = self.settings.load(&name)?.into_iter().find(|setting| setting.0 == name);
        Ok(found.and_then(|setting| readable(&setting.0, User::from_setting(&setting))))
    }

    pub(super) fn stored_token(&self, id: TokenId) -> Result<Option<Token>, SettingsError> {
        let name = Token::setting(id);
        let found = self.settings.load(&name)?.into_iter().find(|setting| setting.0 == name);
        Ok(found.and_then(|setting| readable(&setting.0, Token::from_setting(&setting))))
    }

    pub(super) fn stored_users(&self) -> Result<Vec<User>, SettingsError> {
        let settings = self.settings.load(USERS)?;
        let users = settings.iter().map(|setting| (&setting.0, User::from_setting(setting)));
        Ok(users.filter_map(|(name, user)| readable(name, user)).collect())
    }

    /// The user with an e-mail address in small letters.
    pub(super) fn user_by_email(&self, email: &str) -> Result<Option<User>, SettingsError> {
        let users = self.stored_users()?;
        Ok(users.into_iter().find(|user| user.email.to_lowercase() == email))
    }
}

impl Standing {
    fn actor(self) -> Actor {
        let Token { id, name, role, .. } = self.token;
        match self.user {
            Some(user) => Actor {
                user: Some(user.id),
                token: Some(id),
                name: user.name,
                role: role.min(user.role),
            },
            None => Actor { user: None, token: Some(id), name, role },
        }
    }
}

/// A record that can be used; one that cannot is told of, and left alone.
pub(super) fn readable<T>(setting: &str, record: Result<T, super::RecordError>) -> Option<T> {
    match record {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(setting, %error, "a user or token cannot be read, and does not work");
            None
        }
    }
}
