//! Users: making, changing and removing them.

use std::collections::BTreeMap;

use samara_protocol::units::ChainTime;
use samara_renter::archive::ArchivedUser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::control::AccessControl;
use super::error::AccessError;
use super::hash::SecretHash;
use super::id::{UserId, draw};
use super::record::{Token, User, is_email, is_name};
use super::role::Role;
use super::secret::Secret;

/// Users that there can be.
const MOST: usize = 1_000;

/// A user to make.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// To log in with.
    pub email: String,
    /// For people; what stands before the `@` if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the user may do.
    pub role: Role,
    /// To log in with; without one the user has tokens only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
}

/// What is to change about a user; the rest stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EditUser {
    /// Another e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Another role. Tokens act with theirs or this one, whichever is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether nothing of the user's works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Another password; logins end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// No password any more; logins end.
    pub remove_password: bool,
}

/// A user as it is shown: all but the hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserView {
    /// Stays for ever.
    #[schemars(with = "String")]
    pub id: UserId,
    /// To log in with and to write to.
    pub email: String,
    /// For people.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// Whether nothing of the user's works.
    pub disabled: bool,
    /// When it was made.
    #[schemars(with = "u64")]
    pub created: ChainTime,
    /// Whether the user can log in with a password.
    pub has_password: bool,
    /// Stored tokens.
    pub tokens: u64,
}

/// Who the users of an archive are here, by their ids there, and the settings of those who are new.
type Newcomers = (BTreeMap<UserId, UserId>, Vec<(String, Vec<u8>)>);

impl AccessControl {
    /// Finds the users of an archive by their e-mail addresses. Those whom nobody knows here get a record
    /// that is disabled, with the least role: an archive admits nobody. One whose address makes no
    /// sense, or for whom there is no room, is nobody here.
    pub fn newcomers(&self, users: &[ArchivedUser]) -> Newcomers {
        let (mut known, mut settings) = (BTreeMap::new(), Vec::new());
        // Who cannot be read must not be made a second time.
        let Ok(stored) = self.stored_users() else { return (known, settings) };
        let (mut room, mut by_email) = (MOST.saturating_sub(stored.len()), BTreeMap::new());
        for user in stored {
            by_email.entry(user.email.to_lowercase()).or_insert(user.id);
        }
        for archived in users {
            let email = archived.email.trim();
            let small = email.to_lowercase();
            if let Some(id) = by_email.get(&small) {
                known.insert(archived.id, *id);
                continue;
            }
            let name = email.split('@').next().unwrap_or_default();
            if room == 0 || !is_email(email) || !is_name(name) {
                continue;
            }
            let Ok(id) = draw().map(UserId) else { continue };
            let (email, name, created) = (email.to_owned(), name.to_owned(), self.now());
            let (role, disabled, password) = (Role::Reader, true, None);
            let user = User { id, email, name, role, disabled, created, password };
            room -= 1;
            settings.push(user.to_setting());
            by_email.insert(small, id);
            known.insert(archived.id, id);
        }
        (known, settings)
    }

    /// Users as an archive tells of them.
    #[must_use]
    pub fn people(&self) -> Vec<ArchivedUser> {
        let users = self.stored_users().unwrap_or_default();
        users.into_iter().map(|user| ArchivedUser { id: user.id, email: user.email }).collect()
    }

    /// All users, by e-mail address.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn users(&self) -> Result<Vec<UserView>, AccessError> {
        let tokens = self.stored_tokens()?;
        let mut users = self.stored_users()?;
        users.sort_by(|a, b| a.email.cmp(&b.email));
        Ok(users.into_iter().map(|user| self.view(user, &tokens)).collect())
    }

    /// One user.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn user(&self, id: UserId) -> Result<UserView, AccessError> {
        let user = self.stored_user(id)?.ok_or(AccessError::NoUser(id))?;
        Ok(self.view(user, &self.stored_tokens()?))
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn add_user(&self, new: NewUser) -> Result<UserView, AccessError> {
        let NewUser { email, name, role, password } = new;
        let email = email.trim().to_owned();
        let name = name.unwrap_or_else(|| email.split('@').next().unwrap_or_default().to_owned());
        let password = match password {
            Some(password) => Some(self.hashed(&password).await?),
            None => None,
        };
        let (id, created) = (UserId(draw()?), self.now());
        let user = User { id, email, name, role, disabled: false, created, password };
        let _one_at_a_time = self.changes.lock().await;
        let known = self.stored_users()?.len();
        if known >= MOST {
            return Err(AccessError::Full { what: "users", most: MOST });
        }
        self.check(&user)?;
        self.settings.store(vec![user.to_setting()]).await?;
        Ok(self.view(user, &[]))
    }

    /// Changes a user. To disable one holds here at once, acknowledged or not.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn edit_user(&self, id: UserId, edit: EditUser) -> Result<UserView, AccessError> {
        if edit.password.is_some() && edit.remove_password {
            return Err(AccessError::PasswordOrNone);
        }
        let logins_end = edit.password.is_some() || edit.remove_password;
        let password = match &edit.password {
            Some(password) => Some(self.hashed(password).await?),
            None => None,
        };
        let _one_at_a_time = self.changes.lock().await;
        let mut user = self.stored_user(id)?.ok_or(AccessError::NoUser(id))?;
        user.email = edit.email.map_or(user.email, |email| email.trim().to_owned());
        user.name = edit.name.unwrap_or(user.name);
        user.role = edit.role.unwrap_or(user.role);
        // Another change must not take back a disabling that is not acknowledged yet.
        user.disabled = edit.disabled.unwrap_or_else(|| user.disabled || self.is_barred(id));
        user.password = match edit.remove_password {
            true => None,
            false => password.or(user.password),
        };
        self.check(&user)?;
        if user.disabled {
            self.bar(id);
        }
        self.settings.store(vec![user.to_setting()]).await?;
        {
            let mut memory = self.memory();
            memory.barred.remove(&id);
            if logins_end {
                memory.logins.end_all(id);
            }
        }
        Ok(self.view(user, &self.stored_tokens()?))
    }

    /// Removes a user with all tokens. Holds here at once, acknowledged or not.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn remove_user(&self, id: UserId) -> Result<(), AccessError> {
        let _one_at_a_time = self.changes.lock().await;
        self.stored_user(id)?.ok_or(AccessError::NoUser(id))?;
        self.bar(id);
        let tokens = self.stored_tokens()?;
        let own: Vec<_> = tokens.iter().filter(|token| token.user == Some(id)).collect();
        let mut gone = vec![(User::setting(id), Vec::new())];
        gone.extend(own.iter().map(|token| (Token::setting(token.id), Vec::new())));
        self.settings.store(gone).await?;
        let mut memory = self.memory();
        memory.barred.remove(&id);
        for token in own {
            memory.remembered.forget(token.id);
            memory.revoked.remove(&token.id);
        }
        Ok(())
    }

    /// Whether a user was disabled or removed here, acknowledged or not.
    pub(super) fn is_barred(&self, id: UserId) -> bool {
        self.memory().barred.contains(&id)
    }

    fn bar(&self, id: UserId) {
        let mut memory = self.memory();
        memory.barred.insert(id);
        memory.logins.end_all(id);
    }

    /// Whether a user may be stored as it is.
    fn check(&self, user: &User) -> Result<(), AccessError> {
        if !is_email(&user.email) {
            return Err(AccessError::Email);
        }
        if !is_name(&user.name) {
            return Err(AccessError::Name);
        }
        let holder = self.user_by_email(&user.email.to_lowercase())?;
        match holder.is_some_and(|holder| holder.id != user.id) {
            true => Err(AccessError::Taken),
            false => Ok(()),
        }
    }

    async fn hashed(&self, password: &Secret) -> Result<SecretHash, AccessError> {
        if !password.is_password() {
            return Err(AccessError::Password);
        }
        Ok(self.passwords_hasher.place().await?.hash(password.of_password()).await?)
    }

    /// A user as it is shown: one whom nothing lets in is disabled.
    fn view(&self, user: User, tokens: &[Token]) -> UserView {
        let own = tokens.iter().filter(|token| token.user == Some(user.id)).count();
        UserView {
            disabled: user.disabled || self.is_barred(user.id),
            id: user.id,
            email: user.email,
            name: user.name,
            role: user.role,
            created: user.created,
            has_password: user.password.is_some(),
            tokens: u64::try_from(own).unwrap_or(u64::MAX),
        }
    }
}
