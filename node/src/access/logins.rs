//! Logins: tokens that a password made, in memory only.

use std::collections::BTreeMap;

use samara_protocol::units::ChainTime;

use super::hash::SecretHash;
use super::id::{TokenId, UserId};

/// How long a login lasts: twelve hours, in milliseconds.
pub(super) const LASTS: u64 = 12 * 60 * 60 * 1000;
/// Logins of one user at a time; the oldest ends when there is one more.
const MOST_OF_A_USER: usize = 20;
/// Logins at a time, of all users that there can be.
const MOST: usize = 20_000;

/// A login.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) user: UserId,
    /// The password it was made with, as stored: another one ends it.
    pub(super) password: SecretHash,
    pub(super) created: ChainTime,
    pub(super) expires: ChainTime,
    pub(super) last_used: ChainTime,
    /// Of its token's text, which has 32 random bytes and needs no slower hash in memory.
    digest: blake3::Hash,
}

/// All logins.
#[derive(Default)]
pub(super) struct Logins(BTreeMap<TokenId, Login>);

impl Logins {
    /// Adds one.
    pub(super) fn insert(
        &mut self,
        id: TokenId,
        user: UserId,
        password: SecretHash,
        digest: blake3::Hash,
        now: ChainTime,
    ) -> ChainTime {
        self.0.retain(|_, login| login.expires > now);
        let own: Vec<_> = self.of(user).map(|(id, login)| (login.created, *id)).collect();
        if own.len() >= MOST_OF_A_USER
            && let Some((_, oldest)) = own.iter().min()
        {
            self.0.remove(oldest);
        }
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, login)| login.created).map(|(id, _)| *id);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        let expires = ChainTime(now.0.saturating_add(LASTS));
        let login = Login { user, password, created: now, expires, last_used: now, digest };
        self.0.insert(id, login);
        expires
    }

    /// Whose login has this id, whatever its secret.
    pub(super) fn user(&self, id: TokenId) -> Option<UserId> {
        self.0.get(&id).map(|login| login.user)
    }

    /// The live login that a text of this digest is, noted as used now.
    pub(super) fn find(
        &mut self,
        id: TokenId,
        digest: &blake3::Hash,
        now: ChainTime,
    ) -> Option<Login> {
        // Digests compare in constant time (blake3::Hash's `==`).
        let login = self.0.get_mut(&id)?;
        let works = login.digest == *digest && login.expires > now;
        works.then(|| {
            login.last_used = now;
            login.clone()
        })
    }

    /// Ends one, and gives it.
    pub(super) fn end(&mut self, id: TokenId) -> Option<Login> {
        self.0.remove(&id)
    }

    /// Ends all of a user.
    pub(super) fn end_all(&mut self, user: UserId) {
        self.0.retain(|_, login| login.user != user);
    }

    /// All that live.
    pub(super) fn live(&self, now: ChainTime) -> impl Iterator<Item = (&TokenId, &Login)> {
        self.0.iter().filter(move |(_, login)| login.expires > now)
    }

    fn of(&self, user: UserId) -> impl Iterator<Item = (&TokenId, &Login)> {
        self.0.iter().filter(move |(_, login)| login.user == user)
    }
}

#[cfg(test)]
mod tests {
    use samara_protocol::keys::sealed::Argon2Parameters;

    use super::*;

    fn id(number: u64) -> TokenId {
        TokenId(number.to_be_bytes())
    }

    fn add(logins: &mut Logins, number: u64, user: UserId, now: u64) {
        let password = SecretHash::nobodys(Argon2Parameters::INTERACTIVE);
        let digest = blake3::hash(&number.to_be_bytes());
        logins.insert(id(number), user, password, digest, ChainTime(now));
    }

    #[test]
    fn a_login_ends_by_itself_and_needs_its_secret() {
        let mut logins = Logins::default();
        add(&mut logins, 1, UserId([1; 8]), 1_000);
        let right = blake3::hash(&1u64.to_be_bytes());
        let mut found =
            |digest: &blake3::Hash, now| logins.find(id(1), digest, ChainTime(now)).is_some();
        assert!(found(&right, 1_000 + LASTS - 1));
        assert!(!found(&blake3::hash(b"wrong"), 1_000));
        assert!(!found(&right, 1_000 + LASTS));
    }

    #[test]
    fn a_user_has_so_many_logins_and_the_oldest_ends() {
        let mut logins = Logins::default();
        let (ada, bob) = (UserId([1; 8]), UserId([2; 8]));
        add(&mut logins, 1_000, bob, 0);
        for number in 0..30 {
            add(&mut logins, number, ada, number);
        }
        assert_eq!(logins.of(ada).count(), MOST_OF_A_USER);
        assert_eq!(logins.user(id(9)), None);
        assert_eq!(logins.user(id(10)), Some(ada));
        assert_eq!(logins.user(id(1_000)), Some(bob));
        logins.end_all(ada);
        assert_eq!(logins.live(ChainTime(0)).count(), 1);
    }
}
