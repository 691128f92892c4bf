//! Argon2id hashes of secrets, and how many of them are worked out at a time.

use std::sync::Arc;

use samara_protocol::keys::sealed::Argon2Parameters;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::stretch::{StretchError, stretch};

/// Most memory that a stored hash may ask for, KiB, and most passes: room for dearer costs later.
const MAX_COST: (u32, u32) = (65_536, 16);
/// Hashes worked out at a time: a machine of two processors goes on with its other work.
const AT_ONCE: usize = 2;
/// Requests that wait for theirs; further ones are refused at once.
const WAITING: usize = 64;

/// Argon2id (version 0x13) of a secret, with its salt and cost. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHash {
    memory_kib: u32,
    iterations: u32,
    lanes: u32,
    salt: [u8; 16],
    digest: [u8; 32],
}

/// Why a secret was not hashed or compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many wait already.
    #[error("too many tokens and passwords are being checked; try again in a moment")]
    Busy,
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// Argon2id did not run.
    #[error(transparent)]
    Stretch(#[from] StretchError),
    /// The thread that worked it out ended.
    #[error("the check of a secret broke off")]
    Ended,
}

impl SecretHash {
    /// Hashes a secret under a fresh salt. Blocks.
    fn of(secret: &[u8], cost: Argon2Parameters) -> Result<Self, HashError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)?;
        Ok(Self {
            memory_kib: cost.memory_kib(),
            iterations: cost.iterations(),
            lanes: cost.lanes(),
            salt,
            digest: *stretch(secret, &salt, cost)?,
        })
    }

    /// A hash that no secret has, as dear as one of this cost.
    pub(super) fn nobodys(cost: Argon2Parameters) -> Self {
        Self {
            memory_kib: cost.memory_kib(),
            iterations: cost.iterations(),
            lanes: cost.lanes(),
            salt: [0; 16],
            digest: [0; 32],
        }
    }

    /// What comparing with it costs; nothing if that is more than is ever spent.
    pub(super) fn cost(&self) -> Option<Argon2Parameters> {
        let within = self.memory_kib <= MAX_COST.0 && self.iterations <= MAX_COST.1;
        let cost = || Argon2Parameters::new(self.memory_kib, self.iterations, self.lanes).ok();
        within.then(cost).flatten()
    }

    /// Whether it is this secret's. Blocks.
    fn is_of(&self, secret: &[u8]) -> Result<bool, HashError> {
        let Some(cost) = self.cost() else { return Ok(false) };
        let digest = stretch(secret, &self.salt, cost)?;
        // Hashes of equal length compare in constant time (blake3::Hash's `==`).
        Ok(blake3::Hash::from_bytes(*digest) == blake3::Hash::from_bytes(self.digest))
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash(not shown)")
    }
}

/// Works hashes out, off the runtime's threads, a few at a time: nobody can exhaust the machine with wrong
/// secrets.
pub(super) struct Hasher {
    cost: Argon2Parameters,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Leave to work one hash out.
pub(super) struct Place {
    cost: Argon2Parameters,
    _held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Hasher {
    /// One whose new hashes cost this.
    pub(super) fn new(cost: Argon2Parameters) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { cost, running: places(AT_ONCE), waiting: places(AT_ONCE + WAITING) }
    }

    /// What new hashes cost.
    pub(super) const fn cost(&self) -> Argon2Parameters {
        self.cost
    }

    /// Waits for leave to work one hash out.
    pub(super) async fn place(&self) -> Result<Place, HashError> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| HashError::Busy)?;
        // It is never closed.
        let running =
            Arc::clone(&self.running).acquire_owned().await.map_err(|_| HashError::Ended)?;
        Ok(Place { cost: self.cost, _held: (waiting, running) })
    }
}

impl Place {
    /// Hashes a secret.
    pub(super) async fn hash(self, secret: Zeroizing<Vec<u8>>) -> Result<SecretHash, HashError> {
        self.work(move |cost| SecretHash::of(&secret, cost)).await
    }

    /// Whether a hash is this secret's.
    pub(super) async fn matches(
        self,
        secret: Zeroizing<Vec<u8>>,
        hash: SecretHash,
    ) -> Result<bool, HashError> {
        self.work(move |_cost| hash.is_of(&secret)).await
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(Argon2Parameters) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        // The place goes along: work whose client has gone still takes its part of the machine.
        let work = move || {
            let place = self;
            work(place.cost)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| HashError::Ended)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Argon2Parameters {
        Argon2Parameters::new(8, 1, 1).unwrap()
    }

    fn secret(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[test]
    fn the_cost_of_new_hashes_is_within_bounds() {
        let cost = Argon2Parameters::INTERACTIVE;
        assert_eq!(SecretHash::nobodys(cost).cost(), Some(cost));
    }

    #[tokio::test]
    async fn a_hash_is_of_its_secret_and_of_no_other() {
        let hasher = Hasher::new(cheap());
        let hash = hasher.place().await.unwrap().hash(secret("one")).await.unwrap();
        let again = hasher.place().await.unwrap().hash(secret("one")).await.unwrap();
        assert_ne!(hash, again, "the salt is drawn for each");
        for (text, right) in [("one", true), ("two", false), ("", false)] {
            let place = hasher.place().await.unwrap();
            assert_eq!(place.matches(secret(text), hash.clone()).await.unwrap(), right, "{text}");
        }
        assert!(!format!("{hash:?}").contains(char::is_numeric));
    }

    #[tokio::test]
    async fn a_stored_hash_cannot_ask_for_all_memory() {
        let greedy = SecretHash { memory_kib: 1 << 20, ..SecretHash::nobodys(cheap()) };
        assert!(greedy.cost().is_none());
        let place = Hasher::new(cheap()).place().await.unwrap();
        assert!(!place.matches(secret("x"), greedy).await.unwrap());
    }

    #[tokio::test]
    async fn few_hashes_are_worked_out_at_a_time_and_few_wait() {
        let hasher = Arc::new(Hasher::new(cheap()));
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(hasher.place().await.unwrap());
        }
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(hasher.place())).collect();
        for place in &mut waiting {
            assert!(futures::poll!(place.as_mut()).is_pending());
        }
        assert!(matches!(hasher.place().await, Err(HashError::Busy)));
        // The end of one is another's turn, and makes room.
        drop(held.pop());
        assert!(waiting.remove(0).await.is_ok());
        drop(waiting);
        assert!(hasher.place().await.is_ok());
    }
}
