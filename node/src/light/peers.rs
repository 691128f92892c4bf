//! The chain peers of a light client: who is asked next, and who is not asked any more.
//!
//! Peers take turns. One that does not answer is asked again only after a pause that doubles; one that
//! gave a false answer is dropped, for [`DROPPED_FOR`] (a bug or a broken disk can be mended, and a node
//! with one configured peer must not be cut off for ever). Peers in a pause are asked when nobody else
//! is left; dropped ones never.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use samara_protocol::chain::query::{ChainRequest, ChainResponse};
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use samara_renter::world::ChainError;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::peer::{AskError, ChainPeer};

/// How long a peer with a false answer is not asked.
pub const DROPPED_FOR: Duration = Duration::from_secs(600);
/// How long an answer makes a peer a witness.
const WITNESS_FOR: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why an answer was not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It proves false: the peer is dropped.
    False(String),
    /// The peer cannot say better now (it lags, or refuses); another is asked.
    Unusable(String),
}

struct Entry {
    peer: Arc<dyn ChainPeer>,
    pause: Duration,
    paused_until: Option<Instant>,
    dropped_until: Option<Instant>,
    /// Why it was dropped last.
    dropped_for: String,
    answered: Option<Instant>,
}

/// The set of peers. The lock guards the list only and is never held across an await.
pub(super) struct PeerSet {
    entries: Mutex<(Vec<Entry>, usize)>,
}

impl PeerSet {
    pub(super) fn new(peers: Vec<Arc<dyn ChainPeer>>) -> Self {
        let set = Self { entries: Mutex::new((Vec::new(), 0)) };
        for peer in peers {
            set.add(peer);
        }
        set
    }

    /// Adds a peer, or forgives one that is known.
    pub(super) fn add(&self, peer: Arc<dyn ChainPeer>) {
        let key = peer.key();
        let mut entries = self.lock();
        entries.0.retain(|entry| entry.peer.key() != key);
        entries.0.push(Entry {
            peer,
            pause: FIRST_PAUSE,
            paused_until: None,
            dropped_until: None,
            dropped_for: String::new(),
            answered: None,
        });
    }

    /// Peers in the order in which to ask them; each call begins with another one.
    pub(super) fn in_turn(&self, avoid: Option<PublicKey>) -> Vec<Arc<dyn ChainPeer>> {
        let now = Instant::now();
        let mut entries = self.lock();
        let turn = entries.1;
        entries.1 = turn.wrapping_add(1);
        let list = &entries.0;
        let mut order: Vec<(u8, &Entry)> = (0..list.len())
            .map(|index| &list[(index + turn % list.len()) % list.len()])
            .filter(|entry| entry.dropped_until.is_none_or(|until| until <= now))
            .map(|entry| {
                let paused = entry.paused_until.is_some_and(|until| until > now);
                let avoided = avoid == Some(entry.peer.key());
                (u8::from(paused) * 2 + u8::from(avoided), entry)
            })
            .collect();
        order.sort_by_key(|(rank, _)| *rank);
        order.into_iter().map(|(_, entry)| Arc::clone(&entry.peer)).collect()
    }

    /// Number of peers with a usable answer in the last minutes.
    pub(super) fn witnesses(&self) -> usize {
        let now = Instant::now();
        let fresh = |entry: &&Entry| {
            let dropped = entry.dropped_until.is_some_and(|until| until > now);
            !dropped && entry.answered.is_some_and(|at| now.duration_since(at) < WITNESS_FOR)
        };
        self.lock().0.iter().filter(fresh).count()
    }

    /// Why a peer is not asked now, if all are dropped: nobody is left who could tell more.
    pub(super) fn all_dropped(&self) -> Option<String> {
        let now = Instant::now();
        let entries = self.lock();
        let dropped = |entry: &Entry| entry.dropped_until.is_some_and(|until| until > now);
        let last = entries.0.last().filter(|_| entries.0.iter().all(dropped))?;
        Some(last.dropped_for.clone())
    }

    /// Notes a usable answer.
    pub(super) fn answered(&self, key: &PublicKey) {
        self.change(key, |entry| {
            entry.answered = Some(Instant::now());
            entry.pause = FIRST_PAUSE;
            entry.paused_until = None;
        });
    }

    /// Notes that a peer did not answer, or lags.
    pub(super) fn pause(&self, key: &PublicKey, reason: &str) {
        debug!(peer = %key.short(), reason, "chain peer is passed over for a while");
        self.change(key, |entry| {
            entry.paused_until = Some(Instant::now() + entry.pause);
            entry.pause = (entry.pause * 2).min(LONGEST_PAUSE);
        });
    }

    /// Drops a peer for a false answer.
    pub(super) fn drop_false(&self, key: &PublicKey, reason: &str) {
        warn!(peer = %key.short(), reason, "chain peer dropped: it gave a false answer");
        self.change(key, |entry| {
            entry.dropped_until = Some(Instant::now() + DROPPED_FOR);
            reason.clone_into(&mut entry.dropped_for);
        });
    }

    /// Notes what a failed question says about the peer.
    pub(super) fn failed(&self, key: &PublicKey, error: &AskError) {
        if error.is_false() {
            self.drop_false(key, &error.to_string());
        } else {
            self.pause(key, &error.to_string());
        }
    }

    /// Asks peers in turn until one answers with something that `check` takes.
    pub(super) async fn ask<T: Send>(
        &self,
        request: &ChainRequest,
        deadline: Duration,
        avoid: Option<PublicKey>,
        mut check: impl FnMut(ChainResponse) -> Result<T, Rejection> + Send,
    ) -> Result<(T, PublicKey), ChainError> {
        self.ask_with(request, deadline, avoid, |response| std::future::ready(check(response)))
            .await
    }

    /// As [`PeerSet::ask`], for a check that takes its time elsewhere.
    pub(super) async fn ask_with<T, F>(
        &self,
        request: &ChainRequest,
        deadline: Duration,
        avoid: Option<PublicKey>,
        mut check: impl FnMut(ChainResponse) -> F + Send,
    ) -> Result<(T, PublicKey), ChainError>
    where
        F: Future<Output = Result<T, Rejection>> + Send,
    {
        let mut worst = ChainError::Unreachable("no chain peer is left to ask".to_owned());
        for peer in self.in_turn(avoid) {
            let key = peer.key();
            let response = match peer.ask(request.clone(), deadline).await {
                Ok(response) => response,
                Err(error) => {
                    self.failed(&key, &error);
                    worst = worse(worst, ChainError::Unreachable(error.to_string()));
                    continue;
                }
            };
            match check(response).await {
                Ok(value) => {
                    self.answered(&key);
                    return Ok((value, key));
                }
                Err(Rejection::False(reason)) => {
                    self.drop_false(&key, &reason);
                    worst = worse(worst, ChainError::False(reason));
                }
                Err(Rejection::Unusable(reason)) => {
                    self.answered(&key);
                    worst = worse(worst, ChainError::Unreachable(reason));
                }
            }
        }
        Err(worst)
    }

    fn change(&self, key: &PublicKey, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().0.iter_mut().find(|entry| entry.peer.key() == *key) {
            change(entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Entry>, usize)> {
        // Every change is a single assignment or push; a panic elsewhere leaves the list whole.
        lock(&self.entries)
    }
}

/// A lie says more than a silence.
fn worse(one: ChainError, other: ChainError) -> ChainError {
    if matches!(one, ChainError::False(_)) { one } else { other }
}

/// The refusal in an answer, or the complaint that it answers something else.
pub(super) fn unexpected(response: ChainResponse) -> Rejection {
    match response {
        ChainResponse::Refused(reason) => Rejection::Unusable(format!("refused: {reason}")),
        _ => Rejection::False("it answers another question".to_owned()),
    }
}
