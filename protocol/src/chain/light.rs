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

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, CertificateError};
use super::genesis::Genesis;
use super::header::Header;
use super::query::{Finalized, MAX_BATCH};
use super::validators::ValidatorSet;
use crate::hash::{BlockHash, Digest};
use crate::units::{ChainTime, Height, Millis};

/// How a light chain gets from its trusted point to the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Jumps to a tip that the set in force certified; walks header by header only where the set changed.
    Skip,
    /// Links every header, and asks for a certificate whenever so many blocks are linked without one,
    /// so that a false chain costs no more than that and one batch.
    Walk {
        /// Linked blocks from which on a certificate is asked for, at least 1.
        stride: u32,
    },
}

/// How a light chain judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Jumping or walking.
    pub pace: Pace,
    /// Oldest tip that is accepted.
    pub max_age: Millis,
}

impl Rules {
    /// Blocks between two certificates of a walk: four batches.
    pub const STRIDE: u32 = 4 * MAX_BATCH;
    /// Heartbeats after which a tip is old.
    pub const HEARTBEATS: u64 = 5;
    /// Shortest age at which a tip is called old, for chains with a very short heartbeat.
    pub const LEAST_AGE: Millis = Millis(30_000);

    /// Rules for following the tip.
    #[must_use]
    pub fn follow(genesis: &Genesis) -> Self {
        let beats = genesis.parameters.heartbeat.0.saturating_mul(Self::HEARTBEATS);
        Self { pace: Pace::Skip, max_age: Millis(beats).max(Self::LEAST_AGE) }
    }

    /// Rules for seeing every block.
    #[must_use]
    pub fn walk(genesis: &Genesis) -> Self {
        Self { pace: Pace::Walk { stride: Self::STRIDE }, ..Self::follow(genesis) }
    }
}

/// What a light chain wants to know next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The newest finalised header of a peer.
    Tip,
    /// Consecutive blocks.
    Batch {
        /// First height.
        from: Height,
        /// Most blocks that are taken.
        limit: u32,
    },
    /// Validator set and certificate of a height.
    Decision(Height),
    /// Nothing: the known tip is trusted.
    Done,
}

/// How far a light chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Height of the trusted point.
    pub trusted: Height,
    /// Height up to which headers are linked; at least `trusted`.
    pub linked: Height,
    /// Height of the tip that is being walked to, if a peer named one.
    pub target: Option<Height>,
}

/// Whose answer a [`LightError`] proves false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The answer that was just handed in.
    Answer,
    /// One of the batches since the trusted point.
    Batches,
    /// The tip that was handed in before.
    Tip,
    /// This answer or the tip before: it cannot be known yet. Both are to be asked for elsewhere.
    TipOrAnswer,
    /// Nobody: the caller handed in what was not asked for.
    Caller,
}

/// What is false about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// A header of another format.
    #[error("block {height}: header version {version} is unknown")]
    Version {
        /// The header's height.
        height: Height,
        /// Its version.
        version: u8,
    },
    /// A header of another chain.
    #[error("block {height}: belongs to the chain {genesis}, not to this one")]
    Chain {
        /// The header's height.
        height: Height,
        /// The chain it names.
        genesis: BlockHash,
    },
    /// A header out of order.
    #[error("block {found} where block {expected} must be")]
    Order {
        /// The height that follows.
        expected: Height,
        /// The header's height.
        found: Height,
    },
    /// A header that does not name its predecessor.
    #[error("block {height}: its parent {parent} is not the block before it")]
    Parent {
        /// The header's height.
        height: Height,
        /// The parent it names.
        parent: BlockHash,
    },
    /// Chain time that does not grow.
    #[error("block {height}: its time is not later than that of an earlier block")]
    Time {
        /// The header's height.
        height: Height,
    },
    /// A header decided by another set than its predecessor announced.
    #[error("block {height}: names another validator set than the block before announced")]
    Validators {
        /// The header's height.
        height: Height,
    },
    /// A certificate that proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A certificate of another block than the header it comes with.
    #[error("block {height}: the certificate is for height {certified} or for another block")]
    OtherBlock {
        /// The height asked for.
        height: Height,
        /// The certificate's height.
        certified: Height,
    },
    /// A set whose hash is not the one that a trusted header announced.
    #[error("block {height}: the validator set given is not the one announced")]
    Set {
        /// The height that the set decides.
        height: Height,
    },
    /// A block whose validators are not those in force after the trusted point: nothing is known of it.
    #[error("block {height}: decided by validators that are not known here")]
    UnknownSet {
        /// The block.
        height: Height,
    },
    /// A quorum certified another block than the one that batches led to.
    #[error("block {height}: headers led to {linked}, validators certified {certified}")]
    Contradicted {
        /// The height.
        height: Height,
        /// Hash of the linked header.
        linked: BlockHash,
        /// Hash of the certified one.
        certified: BlockHash,
    },
    /// The claimed tip is not what the set in force certified.
    #[error("block {height}: claimed as the tip, but not certified by the validators in force")]
    FalseTip {
        /// The tip's height.
        height: Height,
    },
    /// Another block at the trusted height.
    #[error("block {height}: {other} stands against the trusted {trusted}")]
    Fork {
        /// The height.
        height: Height,
        /// What is trusted.
        trusted: BlockHash,
        /// What the peer names.
        other: BlockHash,
    },
    /// A tip below the trusted point.
    #[error("the tip {height} is below the trusted block {trusted}")]
    Behind {
        /// The tip's height, 0 for a chain without blocks.
        height: Height,
        /// Height of the trusted point.
        trusted: Height,
    },
    /// A tip that is too old: the peer is cut off, the chain has halted, or somebody hides its end.
    #[error("the tip {height} is {} s old", .age.0 / 1_000)]
    Stale {
        /// The tip's height, 0 for a chain without blocks.
        height: Height,
        /// Its age.
        age: Millis,
    },
    /// A tip from the future; the local clock may be wrong.
    #[error("the tip {height} is {} s ahead of the local clock", .ahead.0 / 1_000)]
    Ahead {
        /// The tip's height.
        height: Height,
        /// By how much.
        ahead: Millis,
    },
    /// A batch without blocks below the known tip.
    #[error("no block {from} in the answer, though the tip is {tip}")]
    Empty {
        /// First height asked for.
        from: Height,
        /// The known tip.
        tip: Height,
        /// Whether the set in force certified that tip; otherwise the tip itself may be a lie.
        certified: bool,
    },
    /// More blocks than asked for.
    #[error("more than the {limit} blocks from {from} that were asked for")]
    TooMany {
        /// First height asked for.
        from: Height,
        /// Most blocks asked for.
        limit: u32,
    },
    /// An answer to no question.
    #[error("{what} was handed in, but {needed:?} is needed")]
    NotAsked {
        /// What came.
        what: &'static str,
        /// What [`LightChain::next`] names.
        needed: Need,
    },
}

impl LightError {
    /// Who is to blame.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Contradicted { .. } => Blame::Batches,
            Self::FalseTip { .. } => Blame::Tip,
            Self::Empty { certified: false, .. } => Blame::TipOrAnswer,
            Self::NotAsked { .. } => Blame::Caller,
            _ => Blame::Answer,
        }
    }
}

/// Why a stored state cannot be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Written by another version.
    #[error("light chain state of version {0} is unknown")]
    Version(u8),
    /// Of another chain.
    #[error("light chain state belongs to the chain {0}")]
    Chain(BlockHash),
    /// Its parts contradict each other.
    #[error("light chain state at block {0} is inconsistent")]
    Inconsistent(Height),
}

/// The newest block a light node believes in, with the set that decides what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedPoint {
    /// The certified header; nothing before the first block.
    pub tip: Option<Finalized>,
    /// The set that decides the next block; if `tip` changed the set and the new one is not known
    /// yet, the set that decided `tip`.
    pub validators: ValidatorSet,
}

impl TrustedPoint {
    /// Height of the point, 0 for the genesis.
    #[must_use]
    pub fn height(&self) -> Height {
        self.tip.as_ref().map_or(Height(0), |tip| tip.header.height)
    }
}

/// Headers that are linked to the trusted point by hashes and covered by no certificate yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Linked {
    head: Header,
    /// Those that change the validator set; at most one batch, since no batch is asked for while any is left.
    changes: VecDeque<Header>,
}

/// Everything that must survive a restart. Encode it with [`crate::encoding`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LightState {
    version: u8,
    genesis: BlockHash,
    point: TrustedPoint,
    linked: Option<Linked>,
}

impl LightState {
    const VERSION: u8 = 1;
}

/// What the next header must connect to.
#[derive(Clone, Copy)]
struct Link {
    height: Height,
    hash: BlockHash,
    time: ChainTime,
    next_validators: Digest,
}

impl Link {
    fn of(header: &Header) -> Self {
        Self {
            height: header.height,
            hash: header.hash(),
            time: header.time,
            next_validators: header.next_validators,
        }
    }
}

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

    fn verify(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        certificate.verify(&self.state.genesis, &self.state.point.validators)
    }

    /// Checks what can be known about a tip before its height is reached.
    fn check_tip(&self, tip: &Finalized) -> Result<(), LightError> {
        let header = &tip.header;
        self.check_chain(header)?;
        let (height, hash) = (header.height, header.hash());
        let certified = tip.certificate.height;
        if certified != height || tip.certificate.block != hash {
            return Err(LightError::OtherBlock { height, certified });
        }
        let trusted = self.trusted_link();
        if height == trusted.height {
            return if hash == trusted.hash {
                Ok(())
            } else {
                Err(LightError::Fork { height, trusted: trusted.hash, other: hash })
            };
        }
        if header.time <= trusted.time {
            return Err(LightError::Time { height });
        }
        if self.set_is_known() && header.validators == trusted.next_validators {
            self.verify(&tip.certificate)?;
        }
        Ok(())
    }

    fn check_age(&self, height: Height, time: ChainTime, now: ChainTime) -> Result<(), LightError> {
        let (age, ahead) = (now.since(time), time.since(now));
        if age > self.rules.max_age {
            return Err(LightError::Stale { height, age });
        }
        if ahead > Self::MAX_AHEAD {
            return Err(LightError::Ahead { height, ahead });
        }
        Ok(())
    }

    fn check_chain(&self, header: &Header) -> Result<(), LightError> {
        let height = header.height;
        if header.version != Header::VERSION {
            return Err(LightError::Version { height, version: header.version });
        }
        if header.genesis != self.state.genesis {
            return Err(LightError::Chain { height, genesis: header.genesis });
        }
        // The largest height has no successor; no honest chain comes near it.
        if height.0 == u64::MAX {
            return Err(LightError::Order { expected: self.linked_height().next(), found: height });
        }
        Ok(())
    }

    fn check_link(&self, link: &Link, header: &Header) -> Result<(), LightError> {
        self.check_chain(header)?;
        let (height, expected) = (header.height, link.height.next());
        if height != expected {
            return Err(LightError::Order { expected, found: height });
        }
        if header.parent != link.hash {
            return Err(LightError::Parent { height, parent: header.parent });
        }
        if header.time <= link.time {
            return Err(LightError::Time { height });
        }
        if header.validators != link.next_validators {
            return Err(LightError::Validators { height });
        }
        Ok(())
    }

    /// Whether the set that decides the block after the trusted point is at hand.
    fn set_is_known(&self) -> bool {
        let next = self.state.point.tip.as_ref().map(|tip| tip.header.next_validators);
        next.is_none_or(|next| next == self.state.point.validators.hash())
    }

    fn linked_height(&self) -> Height {
        let linked = self.state.linked.as_ref().map(|linked| linked.head.height);
        linked.unwrap_or_else(|| self.state.point.height())
    }

    fn link(&self) -> Link {
        match &self.state.linked {
            Some(linked) => Link::of(&linked.head),
            None => self.trusted_link(),
        }
    }

    fn trusted_link(&self) -> Link {
        match &self.state.point.tip {
            Some(tip) => Link::of(&tip.header),
            // The genesis document itself is the first block's parent.
            None => Link { hash: self.state.genesis, ..Link::of(&self.origin) },
        }
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
