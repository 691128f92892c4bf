//! What a light node believes, and what it must ask to believe more.
//!
//! A [`LightChain`] is pinned to a genesis document and holds one [`TrustedPoint`]: the newest header
//! that a quorum certified, and the validator set that goes with it. Everything else that peers say is
//! a claim until a certificate covers it:
//!
//! ```text
//!   Need::Tip ──► goal (claimed or certified)
//!      │            │ same validator set and Pace::Skip: certificate alone ─────────────► trusted
//!      ▼            ▼
//!   Need::Batch ──► linked headers (hash links only) ──► goal reached, its certificate ─► trusted
//!                     │ set changes, or a stride is full
//!                     ▼
//!                   Need::Decision(height) ── certificate of that header ───────────────► trusted
//!                   Need::Decision(height + 1) ── set whose hash that header names ─────► set in force
//! ```
//!
//! Invariants:
//! - Trust moves only by a certificate that verifies under the set in force at that height.
//! - A validator set comes into force only when a trusted header names its hash.
//! - A false answer changes nothing; linked headers that a true certificate contradicts are dropped.
//!
//! The state machine is owned by whoever talks to peers: it asks what [`LightChain::next`] names,
//! hands in the answer, and stores [`LightChain::state`] when it wants to survive a restart.

mod checks;
mod error;
mod rules;
mod state;

use std::collections::VecDeque;

pub use error::{Blame, LightError, ResumeError};
pub use rules::{Need, Pace, Progress, Rules};
pub use state::{LightState, TrustedPoint};
use state::{Link, Linked};

use super::certificate::Certificate;
use super::genesis::Genesis;
use super::header::Header;
use super::query::{Finalized, MAX_BATCH};
use super::validators::ValidatorSet;
use crate::hash::{BlockHash, Digest};
use crate::units::{ChainTime, Height, Millis};

/// A light node's belief in one chain. See the [module](self).
#[derive(Clone, Debug)]
pub struct LightChain {
    rules: Rules,
    /// Link of height 0, fixed by the genesis document.
    origin: Header,
    state: LightState,
    /// The tip that a peer named: unknown, a chain without blocks, or a header.
    goal: Option<Option<Finalized>>,
}

impl LightChain {
    /// Milliseconds that a tip may be ahead of the local clock.
    pub const MAX_AHEAD: Millis = Millis(120_000);

    /// A light chain that believes in nothing but the genesis document.
    #[must_use]
    pub fn new(genesis: &Genesis, rules: Rules) -> Self {
        let hash = genesis.hash();
        let point = TrustedPoint { tip: None, validators: genesis.validators.clone() };
        let state = LightState { version: LightState::VERSION, genesis: hash, point, linked: None };
        Self { rules, origin: origin(genesis, hash), state, goal: None }
    }

    /// Goes on from a stored state.
    ///
    /// # Errors
    /// [`ResumeError`] when the state is of another version or chain, or contradicts itself.
    pub fn resume(genesis: &Genesis, rules: Rules, state: LightState) -> Result<Self, ResumeError> {
        if state.version != LightState::VERSION {
            return Err(ResumeError::Version(state.version));
        }
        if state.genesis != genesis.hash() {
            return Err(ResumeError::Chain(state.genesis));
        }
        let height = state.point.height();
        let set = state.point.validators.hash();
        let known = match &state.point.tip {
            None => set == genesis.validators.hash(),
            Some(tip) => {
                let header = &tip.header;
                (set == header.next_validators || set == header.validators)
                    && tip.certificate.block == header.hash()
            }
        };
        let linked = state.linked.as_ref().is_none_or(|linked| linked.head.height > height);
        if !known || !linked {
            return Err(ResumeError::Inconsistent(height));
        }
        Ok(Self { rules, origin: origin(genesis, state.genesis), state, goal: None })
    }

    /// What must be stored to go on after a restart.
    #[must_use]
    pub const fn state(&self) -> &LightState {
        &self.state
    }

    /// What is believed.
    #[must_use]
    pub const fn trusted(&self) -> &TrustedPoint {
        &self.state.point
    }

    /// Hash of the genesis document.
    #[must_use]
    pub const fn genesis(&self) -> &BlockHash {
        &self.state.genesis
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            trusted: self.state.point.height(),
            linked: self.linked_height(),
            target: self.goal.as_ref().map(|goal| height_of(goal.as_ref())),
        }
    }

    /// Accepts older or only newer tips from now on, for a chain that is known to have halted.
    pub const fn set_max_age(&mut self, age: Millis) {
        self.rules.max_age = age;
    }

    /// Forgets the named tip, so that [`Need::Tip`] is next.
    pub fn seek(&mut self) {
        self.goal = None;
    }

    /// Forgets linked headers that no certificate covers.
    pub fn drop_linked(&mut self) {
        self.state.linked = None;
    }

    /// What must be asked next.
    #[must_use]
    pub fn next(&self) -> Need {
        let Some(goal) = &self.goal else { return Need::Tip };
        let (goal, trusted) = (height_of(goal.as_ref()), self.state.point.height());
        if goal <= trusted {
            return Need::Done;
        }
        if !self.set_is_known() {
            return Need::Decision(trusted.next());
        }
        let stride = match self.rules.pace {
            Pace::Skip => u64::MAX,
            Pace::Walk { stride } => u64::from(stride.max(1)),
        };
        if let Some(linked) = &self.state.linked {
            if let Some(change) = linked.changes.front() {
                return Need::Decision(change.height);
            }
            let uncovered = linked.head.height.0 - trusted.0;
            if uncovered >= stride || linked.head.height >= goal {
                return Need::Decision(linked.head.height);
            }
        }
        let head = self.linked_height();
        let limit = (goal.0 - head.0).min(u64::from(MAX_BATCH));
        Need::Batch { from: head.next(), limit: u32::try_from(limit).unwrap_or(MAX_BATCH) }
    }

    /// Hands in a peer's tip (nothing, if its chain has no block). May be done at any time.
    ///
    /// # Errors
    /// [`LightError`]; nothing has changed then.
    pub fn supply_tip(
        &mut self,
        tip: Option<Finalized>,
        now: ChainTime,
    ) -> Result<Progress, LightError> {
        let trusted = self.state.point.height();
        let height = height_of(tip.as_ref());
        if height < trusted {
            return Err(LightError::Behind { height, trusted });
        }
        if let Some(tip) = &tip {
            self.check_tip(tip)?;
        }
        let time = tip.as_ref().map_or(self.origin.time, |tip| tip.header.time);
        self.check_age(height, time, now)?;
        // Links beyond this tip are of no use to reach it, and nothing vouches for them.
        if self.linked_height() > height {
            self.drop_linked();
        }
        self.goal = Some(tip);
        self.advance()
    }

    /// Hands in headers that answer [`Need::Batch`]; fewer than asked for are fine, none are not.
    ///
    /// # Errors
    /// [`LightError`]; blaming [`Blame::Answer`], nothing has changed. Blaming [`Blame::Batches`] or
    /// [`Blame::Tip`], the false part was dropped and [`LightChain::next`] asks for it again.
    pub fn supply_batch<'a>(
        &mut self,
        headers: impl IntoIterator<Item = &'a Header>,
    ) -> Result<Progress, LightError> {
        let Need::Batch { from, limit } = self.next() else {
            return Err(LightError::NotAsked { what: "a batch", needed: self.next() });
        };
        let mut link = self.link();
        let mut changes = VecDeque::new();
        let mut head = None;
        for (index, header) in headers.into_iter().enumerate() {
            if index >= limit as usize {
                return Err(LightError::TooMany { from, limit });
            }
            self.check_link(&link, header)?;
            link = Link::of(header);
            if header.next_validators != header.validators {
                changes.push_back(*header);
            }
            head = Some(*header);
        }
        let Some(head) = head else {
            return Err(self.empty_batch(from));
        };
        self.state.linked = Some(Linked { head, changes });
        self.advance()
    }

    /// Hands in an answer to [`Need::Decision`].
    ///
    /// # Errors
    /// As [`LightChain::supply_batch`].
    pub fn supply_decision(
        &mut self,
        validators: &ValidatorSet,
        certificate: &Certificate,
    ) -> Result<Progress, LightError> {
        let needed = self.next();
        let Need::Decision(height) = needed else {
            return Err(LightError::NotAsked { what: "a decision", needed });
        };
        if !self.set_is_known() {
            if validators.hash() != self.trusted_link().next_validators {
                return Err(LightError::Set { height });
            }
            self.state.point.validators = validators.clone();
            return self.advance();
        }
        let header = self
            .state
            .linked
            .as_ref()
            .map(|linked| linked.changes.front().copied().unwrap_or(linked.head));
        let Some(header) = header else {
            return Err(LightError::NotAsked { what: "a decision", needed });
        };
        if certificate.height != height {
            return Err(LightError::OtherBlock { height, certified: certificate.height });
        }
        self.verify(certificate)?;
        self.certify(header, certificate)?;
        self.advance()
    }

    /// Checks a finalised header beside the trusted one, without moving to it: against the trusted point
    /// itself, or by a certificate of the set in force.
    ///
    /// # Errors
    /// [`LightError::UnknownSet`] when nothing can be said about it yet or any more, others when it is false.
    pub fn check_finalized(&self, finalized: &Finalized) -> Result<(), LightError> {
        let header = &finalized.header;
        self.check_chain(header)?;
        let (height, hash, trusted) = (header.height, header.hash(), self.trusted_link());
        if height == trusted.height {
            let (trusted, other) = (trusted.hash, hash);
            let same = other == trusted;
            return if same { Ok(()) } else { Err(LightError::Fork { height, trusted, other }) };
        }
        let certified = finalized.certificate.height;
        if certified != height || finalized.certificate.block != hash {
            return Err(LightError::OtherBlock { height, certified });
        }
        if header.validators != self.state.point.validators.hash()
            || (height > trusted.height && !self.set_is_known())
        {
            return Err(LightError::UnknownSet { height });
        }
        Ok(self.verify(&finalized.certificate)?)
    }

    /// Takes every step for which nothing needs to be asked.
    fn advance(&mut self) -> Result<Progress, LightError> {
        if let Some(Some(goal)) = &self.goal
            && goal.header.height > self.state.point.height()
            && self.set_is_known()
        {
            let goal = goal.clone();
            if self.rules.pace == Pace::Skip {
                self.try_jump(goal)?;
            } else {
                self.try_arrive(goal)?;
            }
        }
        Ok(self.progress())
    }

    /// Jumps to a goal that the set in force decides.
    fn try_jump(&mut self, goal: Finalized) -> Result<(), LightError> {
        if goal.header.validators != self.state.point.validators.hash() {
            return self.try_arrive(goal);
        }
        if self.verify(&goal.certificate).is_err() {
            self.goal = None;
            return Err(LightError::FalseTip { height: goal.header.height });
        }
        self.state.linked = None;
        self.state.point.tip = Some(goal);
        Ok(())
    }

    /// Trusts the goal when links have reached it and only its own certificate is missing.
    fn try_arrive(&mut self, goal: Finalized) -> Result<(), LightError> {
        let Some(linked) = &self.state.linked else { return Ok(()) };
        let head = linked.head;
        let height = goal.header.height;
        let only_head = linked.changes.front().is_none_or(|change| change.height == height);
        if head.height != height || !only_head {
            return Ok(());
        }
        if self.verify(&goal.certificate).is_err() {
            self.goal = None;
            return Err(LightError::FalseTip { height });
        }
        self.certify(head, &goal.certificate)
    }

    /// Trusts a linked header by a certificate that was verified, unless it is for another block.
    fn certify(&mut self, header: Header, certificate: &Certificate) -> Result<(), LightError> {
        let (height, hash) = (header.height, header.hash());
        if certificate.block != hash {
            self.drop_linked();
            let certified = certificate.block;
            return Err(LightError::Contradicted { height, linked: hash, certified });
        }
        self.state.point.tip = Some(Finalized { header, certificate: certificate.clone() });
        if let Some(linked) = &mut self.state.linked {
            if linked.changes.front().is_some_and(|change| change.height == height) {
                linked.changes.pop_front();
            }
            if linked.head.height == height {
                self.state.linked = None;
            }
        }
        Ok(())
    }

    /// What an empty batch means; a tip that nothing vouches for is forgotten.
    fn empty_batch(&mut self, from: Height) -> LightError {
        let tip = self.goal.as_ref().map_or(Height(0), |goal| height_of(goal.as_ref()));
        let set = self.state.point.validators.hash();
        let certified = matches!(&self.goal, Some(Some(goal)) if goal.header.validators == set);
        if !certified {
            self.goal = None;
        }
        LightError::Empty { from, tip, certified }
    }
}

fn height_of(tip: Option<&Finalized>) -> Height {
    tip.map_or(Height(0), |tip| tip.header.height)
}

/// A stand-in for the header before the first: only height, time and set of it are used.
fn origin(genesis: &Genesis, hash: BlockHash) -> Header {
    let set = genesis.validators.hash();
    Header {
        version: Header::VERSION,
        genesis: hash,
        height: Height(0),
        time: genesis.time,
        parent: hash,
        transactions_root: Digest::ZERO,
        state_root: Digest::ZERO,
        records_root: Digest::ZERO,
        validators: set,
        next_validators: set,
    }
}
