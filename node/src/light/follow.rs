//! The follower: keeps the trusted point at the tip.
//!
//! One task. It asks what [`LightChain::next`] names: tips from one peer by long poll, and from all of
//! them at the start, every [`SURVEY_EVERY`] and whenever the tip is old, so that no single peer can hide
//! the chain's end for long. False answers are blamed on whoever gave them.
//!
//! [`LightChain::next`]: samara_protocol::chain::LightChain::next

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use samara_protocol::chain::LightChain;
use samara_protocol::chain::light::{Blame, LightError, Need, Progress};
use samara_protocol::chain::query::{ChainRequest, ChainResponse, Finalized, LONG_POLL};
use samara_protocol::encoding;
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Height;
use tokio::time::Instant;
use tracing::warn;

use super::Inner;
use super::peer::ChainPeer;

/// How long a long poll may take: what the peer may hold it, and the way there and back.
const POLL_DEADLINE: Duration = LONG_POLL.saturating_add(Duration::from_secs(10));
/// How long a tip may take in a survey.
const TIP_DEADLINE: Duration = Duration::from_secs(5);
/// How long batches and decisions may take.
const WALK_DEADLINE: Duration = Duration::from_secs(60);
/// Time between two surveys of all peers.
const SURVEY_EVERY: Duration = Duration::from_secs(60);
/// Most peers asked at once in a survey.
const SURVEYED: usize = 8;
/// Pause when nobody answers, or nobody knows better.
const RETRY: Duration = Duration::from_millis(500);
/// Time between two writes of the trusted point; losing a few blocks of it costs nothing.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Follows until the client stops.
pub(super) async fn run(inner: Arc<Inner>, chain: LightChain) {
    let stop = inner.stop.clone();
    let mut follower = Follower {
        inner,
        chain: Some(chain),
        tip_peer: None,
        batch_peers: BTreeSet::new(),
        surveyed: None,
        saved: None,
        warned: false,
    };
    stop.run_until_cancelled(follower.follow()).await;
    follower.save().await;
}

struct Follower {
    inner: Arc<Inner>,
    /// The chain on its way to the tip; away only while a step of it is verified.
    chain: Option<LightChain>,
    /// Who named the tip that is being walked to.
    tip_peer: Option<PublicKey>,
    /// Who gave the headers since the trusted point.
    batch_peers: BTreeSet<PublicKey>,
    surveyed: Option<Instant>,
    saved: Option<Instant>,
    /// Whether it was said that the tip is old.
    warned: bool,
}

impl Follower {
    fn need(&self) -> Need {
        self.chain.as_ref().map_or(Need::Done, LightChain::next)
    }

    /// Takes a step on a thread that may take its time.
    async fn step<T: Send + 'static>(
        &mut self,
        step: impl FnOnce(&mut LightChain) -> T + Send + 'static,
    ) -> T {
        let mut chain = self.chain.take().unwrap_or_else(|| self.inner.chain().as_ref().clone());
        let work = move || {
            let done = step(&mut chain);
            (chain, done)
        };
        let (chain, done) = self.inner.verify(work).await;
        self.chain = Some(chain);
        done
    }

    async fn follow(&mut self) {
        loop {
            let need = self.need();
            let went_on = match need {
                Need::Tip | Need::Done => self.look_for_tip().await,
                Need::Batch { from, limit } => self.walk(ChainRequest::Batch { from, limit }).await,
                Need::Decision(height) => self.walk(ChainRequest::Decision(height)).await,
            };
            if !went_on {
                let woken = self.inner.wake.notified();
                // Either way the loop begins anew.
                let _ = tokio::time::timeout(RETRY, woken).await;
            }
        }
    }

    /// Waits for a newer tip at one peer, or asks all. Returns false when it is of no use to ask again
    /// at once.
    async fn look_for_tip(&mut self) -> bool {
        let status = self.inner.status.borrow().clone();
        let due = self.surveyed.is_none_or(|at| at.elapsed() >= SURVEY_EVERY);
        if !status.contacted || due {
            return self.survey().await;
        }
        let above = self.inner.trusted_height();
        let Some(peer) = self.inner.peers.in_turn(None).into_iter().next() else { return false };
        let inner = Arc::clone(&self.inner);
        let poll = peer.ask(ChainRequest::Tip { above: Some(above) }, POLL_DEADLINE);
        let answer = tokio::select! {
            biased;
            () = inner.wake.notified() => {
                self.surveyed = None;
                return true;
            }
            answer = poll => answer,
        };
        match answer {
            Ok(ChainResponse::Tip(tip)) => {
                let newer = tip.as_ref().is_some_and(|tip| tip.header.height > above);
                let taken = self.take_tip(peer.key(), tip.map(|tip| *tip)).await;
                self.settle(taken).await;
                if self.inner.status.borrow().stale.is_some() {
                    // This peer waits for a block that others may know.
                    self.surveyed = None;
                }
                taken && newer
            }
            Ok(ChainResponse::Refused(reason)) => {
                self.inner.peers.pause(&peer.key(), &reason);
                false
            }
            Ok(_) => {
                self.inner.peers.drop_false(&peer.key(), "it answers another question");
                true
            }
            Err(error) => {
                self.inner.peers.failed(&peer.key(), &error);
                self.surveyed = None;
                false
            }
        }
    }

    /// Asks several peers for their tips and takes each that is true.
    async fn survey(&mut self) -> bool {
        self.surveyed = Some(Instant::now());
        let peers: Vec<Arc<dyn ChainPeer>> =
            self.inner.peers.in_turn(None).into_iter().take(SURVEYED).collect();
        let asked =
            peers.iter().map(|peer| peer.ask(ChainRequest::Tip { above: None }, TIP_DEADLINE));
        let mut answers: Vec<(PublicKey, Option<Finalized>)> = Vec::new();
        for (peer, answer) in peers.iter().zip(join_all(asked).await) {
            let key = peer.key();
            match answer {
                Ok(ChainResponse::Tip(tip)) => answers.push((key, tip.map(|tip| *tip))),
                Ok(ChainResponse::Refused(reason)) => self.inner.peers.pause(&key, &reason),
                Ok(_) => self.inner.peers.drop_false(&key, "it answers another question"),
                Err(error) => self.inner.peers.failed(&key, &error),
            }
        }
        // Lowest first, so that nobody is behind what another one said a moment later.
        answers.sort_by_key(|(_, tip)| tip.as_ref().map(|tip| tip.header.height));
        let mut taken = false;
        for (key, tip) in answers {
            taken |= self.take_tip(key, tip).await;
        }
        self.settle(taken).await;
        if !taken {
            self.surveyed = None;
        }
        taken
    }

    async fn take_tip(&mut self, peer: PublicKey, tip: Option<Finalized>) -> bool {
        let now = (self.inner.clock)();
        match self.step(move |chain| chain.supply_tip(tip, now)).await {
            Ok(progress) => {
                self.inner.peers.answered(&peer);
                if progress.target > Some(progress.trusted) {
                    self.tip_peer = Some(peer);
                }
                true
            }
            Err(LightError::Behind { height, trusted }) => {
                let reason = format!("its tip {height} is behind {trusted}");
                self.inner.peers.pause(&peer, &reason);
                false
            }
            Err(error @ LightError::Ahead { height, ahead }) => {
                warn!(%error, peer = %peer.short(), "a clock is wrong: this one or the validators'");
                self.inner.status.send_modify(|status| status.ahead = Some((height, ahead)));
                self.inner.peers.pause(&peer, "its tip is from the future");
                false
            }
            Err(error) => {
                self.blame(&error, peer);
                false
            }
        }
    }

    /// Asks for headers or a decision on the way to a tip that cannot be jumped to.
    async fn walk(&mut self, request: ChainRequest) -> bool {
        for peer in self.inner.peers.in_turn(None) {
            let key = peer.key();
            let answer = match peer.ask(request.clone(), WALK_DEADLINE).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.inner.peers.failed(&key, &error);
                    continue;
                }
            };
            if let Some(result) = self.take_step(key, answer).await {
                let done = result.map_err(|error| self.blame(&error, key)).is_ok();
                self.settle(done).await;
                return done;
            }
        }
        // Nobody can lead to this tip: look what others name.
        if let Some(chain) = &mut self.chain {
            chain.seek();
        }
        false
    }

    /// Hands a walk's answer to the chain; nothing if it is none.
    async fn take_step(
        &mut self,
        peer: PublicKey,
        answer: ChainResponse,
    ) -> Option<Result<Progress, LightError>> {
        match answer {
            ChainResponse::Batch(blocks) => {
                self.batch_peers.insert(peer);
                let supply = move |chain: &mut LightChain| {
                    chain.supply_batch(blocks.iter().map(|block| &block.header))
                };
                Some(self.step(supply).await)
            }
            ChainResponse::Decision { validators, certificate } => {
                let supply =
                    move |chain: &mut LightChain| chain.supply_decision(&validators, &certificate);
                Some(self.step(supply).await)
            }
            ChainResponse::Refused(reason) => {
                self.inner.peers.pause(&peer, &reason);
                None
            }
            _ => {
                self.inner.peers.drop_false(&peer, "it answers another question");
                None
            }
        }
    }

    fn blame(&mut self, error: &LightError, peer: PublicKey) {
        let reason = error.to_string();
        let peers = &self.inner.peers;
        match error.blame() {
            Blame::Answer => peers.drop_false(&peer, &reason),
            Blame::Tip => self.tip_peer.iter().for_each(|peer| peers.drop_false(peer, &reason)),
            // Not all of them need to have lied, but one of them did, and they come back in a while.
            Blame::Batches => {
                self.batch_peers.iter().for_each(|peer| peers.drop_false(peer, &reason));
                self.batch_peers.clear();
            }
            Blame::TipOrAnswer => {
                peers.pause(&peer, &reason);
                self.tip_peer.iter().for_each(|peer| peers.pause(peer, &reason));
            }
            // The chain moved on while the question was under way.
            Blame::Caller => {}
        }
    }

    /// Publishes and stores what is trusted now, after an answer was taken or none came.
    async fn settle(&mut self, answered: bool) {
        if let Some(chain) = &self.chain
            && chain.trusted() != self.inner.chain().trusted()
        {
            self.inner.set_chain(chain.clone());
        }
        let at_tip = self.need() == Need::Done;
        let moved = self.inner.publish(at_tip);
        if at_tip {
            self.tip_peer = None;
            self.batch_peers.clear();
        }
        if at_tip && answered {
            let stale = self.inner.status.borrow().stale;
            if let Some(age) = stale.filter(|_| moved || !self.warned) {
                warn!(seconds = age.0 / 1_000, "the newest block that peers know is old");
            }
            self.warned = stale.is_some();
        }
        if moved && self.saved.is_none_or(|at| at.elapsed() >= SAVE_EVERY) {
            self.saved = Some(Instant::now());
            self.save().await;
        }
    }

    async fn save(&self) {
        let state = {
            let chain = self.inner.chain();
            if chain.trusted().height() == Height(0) {
                return;
            }
            encoding::encode(chain.state())
        };
        if let Err(error) = self.inner.store.save(state).await {
            warn!(%error, "the light client's trusted point cannot be stored");
        }
    }
}
