//! Tokens: making, listing and revoking them.

use samara_protocol::units::ChainTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::control::{AccessControl, Actor, readable};
use super::error::AccessError;
use super::id::{TokenId, UserId, draw};
use super::record::{TOKENS, Token, is_name};
use super::role::Role;
use super::secret::Secret;
use super::settings::SettingsError;

/// Live tokens of one user, and of nobody.
const MOST_OF_A_USER: usize = 100;
/// Stored tokens: with a thousand users they take some 3 MB of the 16 MiB that a checkpoint's root may have.
const MOST: usize = 10_000;
/// Expired ones that one change removes, so that it stays small.
const SWEPT: usize = 100;

/// A token to make.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For people.
    pub name: String,
    /// Whose it is to be; nobody's if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub user: Option<UserId>,
    /// The most that it may do; as its user if none is given, and a reader if it is nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// For how many seconds it is valid; for ever if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// How somebody came by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Made on purpose, and stored.
    Token,
    /// By a password, and gone with the node.
    Login,
}

/// A token as it is shown: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    /// To revoke it by.
    #[schemars(with = "String")]
    pub id: TokenId,
    /// Made, or by a login.
    pub kind: TokenKind,
    /// Whose it is; nobody's if it is of a program.
    #[schemars(with = "Option<String>")]
    pub user: Option<UserId>,
    /// The user's e-mail address.
    pub email: Option<String>,
    /// For people.
    pub name: String,
    /// The most that it may do.
    pub role: Role,
    /// When it was made.
    #[schemars(with = "u64")]
    pub created: ChainTime,
    /// From when on it does not work.
    #[schemars(with = "Option<u64>")]
    pub expires: Option<ChainTime>,
    /// When it was used last since the node's start.
    #[schemars(with = "Option<u64>")]
    pub last_used: Option<ChainTime>,
}

/// A new token, shown once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenMade {
    /// What it is.
    #[serde(flatten)]
    pub view: TokenView,
    /// Its text: nobody can show it again.
    #[schemars(with = "String")]
    pub token: Secret,
}

impl AccessControl {
    /// The tokens and logins that somebody may see: all, or the own. Newest last.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn tokens(&self, actor: &Actor) -> Result<Vec<TokenView>, AccessError> {
        let (tokens, users) = (self.stored_tokens()?, self.stored_users()?);
        let email = |id: Option<UserId>| {
            users.iter().find(|user| Some(user.id) == id).map(|user| user.email.clone())
        };
        let now = self.now();
        let memory = self.memory();
        let stored = tokens.into_iter().filter(|token| !memory.revoked.contains(&token.id));
        let mut views: Vec<TokenView> = stored
            .map(|token| view(&token, email(token.user), memory.remembered.last_used(token.id)))
            .collect();
        for (id, login) in memory.logins.live(now) {
            let Some(user) = users.iter().find(|user| user.id == login.user) else { continue };
            views.push(TokenView {
                id: *id,
                kind: TokenKind::Login,
                user: Some(user.id),
                email: Some(user.email.clone()),
                name: "login".to_owned(),
                role: user.role,
                created: login.created,
                expires: Some(login.expires),
                last_used: Some(login.last_used),
            });
        }
        views.retain(|view| actor.sees(view.id, view.user));
        views.sort_by_key(|view| (view.created, view.id));
        Ok(views)
    }

    /// Makes a token. Those of the same user that have expired make room.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn create_token(&self, new: NewToken) -> Result<TokenMade, AccessError> {
        if !is_name(&new.name) {
            return Err(AccessError::Name);
        }
        let created = self.now();
        let expires = match new.expires_in {
            Some(0) => return Err(AccessError::Lifetime),
            Some(seconds) => {
                Some(ChainTime(created.0.saturating_add(seconds.saturating_mul(1000))))
            }
            None => None,
        };
        let id = TokenId(draw()?);
        let text = Secret::draw(id)?;
        let secret = Zeroizing::new(text.reveal().as_bytes().to_vec());
        let hash = self.tokens_hasher.place().await?.hash(secret).await?;

        let _one_at_a_time = self.changes.lock().await;
        let (role, email) = self.role_of(&new)?;
        let mut changes = self.room_for(new.user, created)?;
        let NewToken { name, user, .. } = new;
        let token = Token { id, user, name, role, created, expires, hash };
        changes.push(token.to_setting());
        self.settings.store(changes).await?;
        Ok(TokenMade { view: view(&token, email, None), token: text })
    }

    /// Ends a token or login that somebody may see. Holds here at once, acknowledged or not.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn revoke(&self, actor: &Actor, id: TokenId) -> Result<(), AccessError> {
        if self.end_login(actor, id) {
            return Ok(());
        }
        let _one_at_a_time = self.changes.lock().await;
        let token = self.stored_token(id)?.filter(|token| actor.sees(id, token.user));
        let token = token.ok_or(AccessError::NoToken(id))?;
        {
            let mut memory = self.memory();
            memory.revoked.insert(id);
            memory.remembered.forget(id);
        }
        self.settings.store(vec![(Token::setting(token.id), Vec::new())]).await?;
        self.memory().revoked.remove(&id);
        Ok(())
    }

    fn end_login(&self, actor: &Actor, id: TokenId) -> bool {
        let mut memory = self.memory();
        let user = memory.logins.user(id);
        let ends = user.is_some_and(|user| actor.sees(id, Some(user)));
        if ends {
            memory.logins.end(id);
        }
        ends
    }

    /// The role of a token to make, and its user's e-mail address.
    fn role_of(&self, new: &NewToken) -> Result<(Role, Option<String>), AccessError> {
        let Some(id) = new.user else { return Ok((new.role.unwrap_or(Role::Reader), None)) };
        let user = self.stored_user(id)?.ok_or(AccessError::NoUser(id))?;
        let asked = new.role.unwrap_or(user.role);
        match asked <= user.role {
            true => Ok((asked, Some(user.email))),
            false => Err(AccessError::Role { user: user.role, asked }),
        }
    }

    /// Changes that make room for one more token, if there can be one.
    fn room_for(
        &self,
        user: Option<UserId>,
        now: ChainTime,
    ) -> Result<Vec<(String, Vec<u8>)>, AccessError> {
        let tokens = self.stored_tokens()?;
        let (over, live): (Vec<_>, Vec<_>) = tokens
            .iter()
            .filter(|token| token.user == user)
            .partition(|token| token.is_expired(now));
        if live.len() >= MOST_OF_A_USER {
            let what = "tokens of this user";
            return Err(AccessError::Full { what, most: MOST_OF_A_USER });
        }
        if tokens.len() - over.len().min(SWEPT) >= MOST {
            return Err(AccessError::Full { what: "tokens", most: MOST });
        }
        let swept = over.into_iter().take(SWEPT);
        Ok(swept.map(|token| (Token::setting(token.id), Vec::new())).collect())
    }

    pub(super) fn stored_tokens(&self) -> Result<Vec<Token>, SettingsError> {
        let settings = self.settings.load(TOKENS)?;
        let tokens = settings.iter().map(|setting| (&setting.0, Token::from_setting(setting)));
        Ok(tokens.filter_map(|(name, token)| readable(name, token)).collect())
    }
}

impl Actor {
    /// Whether a token is this actor's business: an administrator's is every one, anybody's the own.
    fn sees(&self, token: TokenId, user: Option<UserId>) -> bool {
        let own = self.token == Some(token) || (self.user.is_some() && self.user == user);
        own || self.role == Role::Administrator
    }
}

fn view(token: &Token, email: Option<String>, last_used: Option<ChainTime>) -> TokenView {
    TokenView {
        id: token.id,
        kind: TokenKind::Token,
        user: token.user,
        email,
        name: token.name.clone(),
        role: token.role,
        created: token.created,
        expires: token.expires,
        last_used,
    }
}
