//! Tokens that were found right, so that their further requests cost no Argon2.

use std::collections::BTreeMap;

use samara_protocol::units::ChainTime;

use super::hash::SecretHash;
use super::id::TokenId;

/// Tokens remembered at a time; the one unused for longest goes first, and pays again when it is back.
const MOST: usize = 1024;

/// Tokens that were found right.
#[derive(Default)]
pub(super) struct Remembered(BTreeMap<TokenId, Seen>);

struct Seen {
    /// Of the text that was shown.
    digest: blake3::Hash,
    /// The stored hash that it was right for.
    hash: SecretHash,
    used: ChainTime,
}

impl Remembered {
    /// Whether a text of this digest was found right for this very hash.
    pub(super) fn knows(&self, id: TokenId, digest: &blake3::Hash, hash: &SecretHash) -> bool {
        // Digests compare in constant time (blake3::Hash's `==`).
        self.0.get(&id).is_some_and(|seen| seen.digest == *digest && seen.hash == *hash)
    }

    /// Remembers one.
    pub(super) fn insert(
        &mut self,
        id: TokenId,
        digest: blake3::Hash,
        hash: SecretHash,
        now: ChainTime,
    ) {
        if self.0.len() >= MOST && !self.0.contains_key(&id) {
            let oldest = self.0.iter().min_by_key(|(_, seen)| seen.used).map(|(id, _)| *id);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        self.0.insert(id, Seen { digest, hash, used: now });
    }

    /// Notes that it was used.
    pub(super) fn touch(&mut self, id: TokenId, now: ChainTime) {
        self.0.entry(id).and_modify(|seen| seen.used = seen.used.max(now));
    }

    /// When it was used last, as far as that is remembered.
    pub(super) fn last_used(&self, id: TokenId) -> Option<ChainTime> {
        self.0.get(&id).map(|seen| seen.used)
    }

    /// Forgets one.
    pub(super) fn forget(&mut self, id: TokenId) {
        self.0.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use samara_protocol::keys::sealed::Argon2Parameters;

    use super::*;

    fn id(number: usize) -> TokenId {
        TokenId(u64::try_from(number).unwrap().to_be_bytes())
    }

    #[test]
    fn only_the_same_text_for_the_same_hash_is_known() {
        let hash = SecretHash::nobodys(Argon2Parameters::INTERACTIVE);
        let other = SecretHash::nobodys(Argon2Parameters::RECOMMENDED);
        let (right, wrong) = (blake3::hash(b"right"), blake3::hash(b"wrong"));
        let mut remembered = Remembered::default();
        remembered.insert(id(1), right, hash.clone(), ChainTime(5));
        assert!(remembered.knows(id(1), &right, &hash));
        assert!(!remembered.knows(id(1), &wrong, &hash));
        assert!(!remembered.knows(id(1), &right, &other));
        assert!(!remembered.knows(id(2), &right, &hash));
        remembered.forget(id(1));
        assert!(!remembered.knows(id(1), &right, &hash));
    }

    #[test]
    fn the_one_unused_for_longest_makes_room() {
        let hash = SecretHash::nobodys(Argon2Parameters::INTERACTIVE);
        let digest = blake3::hash(b"");
        let mut remembered = Remembered::default();
        for number in 0..MOST {
            remembered.insert(id(number), digest, hash.clone(), ChainTime(number as u64));
        }
        remembered.touch(id(0), ChainTime(1 << 20));
        remembered.insert(id(MOST), digest, hash.clone(), ChainTime(1 << 20));
        assert_eq!(remembered.0.len(), MOST);
        assert!(remembered.knows(id(0), &digest, &hash));
        assert_eq!(remembered.last_used(id(1)), None);
    }
}
