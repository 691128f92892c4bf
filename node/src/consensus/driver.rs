//! The loop between the engine and the application: answers each of the engine's questions.
//!
//! Owner of the application and of the proposals' bodies on their way. Runs on a thread of its own,
//! so that the application may block on its disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_malachitebft_app_channel::app::consensus::{ProposedValue, SignedConsensusMsg};
use arc_malachitebft_app_channel::app::engine::host::{Next, SyncedValueOutcome};
use arc_malachitebft_app_channel::app::engine::util::events::{Event, RxEvent};
use arc_malachitebft_app_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
use arc_malachitebft_app_channel::app::types::LocallyProposedValue;
use arc_malachitebft_app_channel::app::types::core::{
    Context as _, HeightParams, LinearTimeouts, Round, Validator as _, Validity,
};
use arc_malachitebft_app_channel::app::types::sync::RawDecidedValue;
use arc_malachitebft_app_channel::{AppMsg, Channels, NetworkMsg, Reply};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{debug, info, warn};

use samara_protocol::chain::certificate::Certificate;
use samara_protocol::chain::validators::ValidatorSet;
use samara_protocol::hash::BlockHash;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::Height;

use super::codec::{certificate_of, engine_certificate, engine_next, engine_round};
use super::context::{
    Address, BlockId, ChainContext, ChainVerifier, EngineHeight, EngineValidators,
};
use super::error::ConsensusError;
use super::proposals::{Assembler, Body, Part, ProposalId, split};
use super::{Application, Origin, Undecided, Verdict};

/// Rounds of the height after next whose proposals are kept until the next height is decided.
const ROUNDS_OF_LATER_HEIGHT: u32 = 2;
/// Rounds beyond the current one whose proposals are checked: others may be ahead of this node.
const ROUNDS_AHEAD: u32 = 10;
/// Different blocks of one sender that are checked in one round: an honest one has one, and two
/// prove that it is not.
const BLOCKS_PER_ROUND: usize = 2;
/// From this round on the engine has every validator repeat the proposal it is locked on; before, only
/// a round's proposer sends one.
const HIDDEN_LOCK_ROUND: u32 = 10;
/// Blocks in one answer to a peer that syncs, and their bytes (the engine's limit is 10 MiB).
const SYNC_BLOCKS: u64 = 256;
const SYNC_BYTES: usize = 8 << 20;

/// What the loop needs besides the application.
pub(super) struct Settings {
    pub(super) verifier: ChainVerifier,
    /// The key of a node that may vote.
    pub(super) key: Option<SecretKey>,
    pub(super) timeouts: LinearTimeouts,
    /// Most bytes of an encoded block.
    pub(super) block_bytes: usize,
    pub(super) wake: Arc<Notify>,
}

/// A checked block of the height that is being decided.
#[derive(Clone, Copy)]
struct Known {
    proposal: ProposalId,
    /// Who sent it first, and in which round.
    source: Option<(PublicKey, u32)>,
    valid: bool,
    /// Whether the engine has heard of it.
    announced: bool,
}

pub(super) struct Driver<A> {
    application: A,
    settings: Settings,
    tip: Height,
    validators: ValidatorSet,
    assembler: Assembler,
    known: BTreeMap<BlockHash, Known>,
    /// Proposals of the height after next, by round.
    ahead: BTreeMap<u32, Body>,
    /// Round of the height that is being decided.
    round: u32,
    /// The engine's wait for the next height.
    held: Option<Reply<Next<ChainContext>>>,
    /// The last block came from a peer: there may be more, go on at once.
    syncing: bool,
    next_stream: u64,
}

type Outcome = Result<(), ConsensusError>;

fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> ConsensusError {
    ConsensusError::Application(Box::new(error))
}

impl<A: Application> Driver<A> {
    pub(super) fn new(application: A, settings: Settings, stream_seed: u64) -> Self {
        let assembler = Assembler::new(settings.verifier.genesis, settings.block_bytes);
        Self {
            tip: application.tip(),
            validators: application.validators(),
            application,
            settings,
            assembler,
            known: BTreeMap::new(),
            ahead: BTreeMap::new(),
            round: 0,
            held: None,
            syncing: false,
            next_stream: stream_seed,
        }
    }

    /// Serves the engine until it ends, the application fails, or `stop` fires.
    pub(super) async fn run(
        mut self,
        mut channels: Channels<ChainContext>,
        mut stop: oneshot::Receiver<()>,
    ) -> Outcome {
        for undecided in self.application.all_undecided().map_err(failed)? {
            let proposal = self.proposal_of(&undecided);
            self.judge(proposal, None, &undecided.bytes)?;
        }
        let mut events = channels.events.subscribe();
        loop {
            let wait = match self.held {
                Some(_) => self.application.next_block_in(),
                None => Duration::MAX,
            };
            tokio::select! {
                biased;
                _ = &mut stop => return Ok(()),
                message = channels.consensus.recv() => {
                    let message = message.ok_or(ConsensusError::EngineEnded)?;
                    self.handle(message, &channels.network).await?;
                }
                () = self.next_height_is_live(&mut events), if self.held.is_some() => self.release(),
                () = self.settings.wake.notified() => self.release_if_wanted(),
                () = tokio::time::sleep(wait), if self.held.is_some() => self.release_if_wanted(),
            }
        }
    }

    async fn handle(
        &mut self,
        message: AppMsg<ChainContext>,
        network: &mpsc::Sender<NetworkMsg<ChainContext>>,
    ) -> Outcome {
        match message {
            AppMsg::ConsensusReady { reply } => {
                info!(tip = %self.tip, "consensus starts");
                answer(reply, (engine_next(self.tip), self.parameters()));
            }
            AppMsg::StartedRound { height, round, reply_value, .. } => {
                if round != Round::ZERO {
                    debug!(%height, %round, "another round");
                }
                self.round = round.as_u32().unwrap_or(0);
                answer(reply_value, self.announce(height)?);
            }
            AppMsg::GetValue { height, round, reply, .. } => {
                self.propose(height, round, reply, network).await?;
            }
            AppMsg::ReceivedProposalPart { part, reply, .. } => {
                let value = match part.content {
                    StreamContent::Data(part) => self.receive(part)?,
                    StreamContent::Fin => None,
                };
                answer(reply, value);
            }
            AppMsg::RestreamProposal { height, round, valid_round, value_id, .. } => {
                self.restream(height, round, valid_round, value_id.0, network).await?;
            }
            AppMsg::Decided { certificate, reply, .. } => {
                self.decide(certificate_of(&certificate))?;
                answer(reply, ());
            }
            AppMsg::Finalized { reply, evidence, .. } => {
                if !evidence.is_empty() {
                    warn!(tip = %self.tip, "a validator voted or proposed twice");
                }
                self.held = Some(reply);
                if std::mem::take(&mut self.syncing) || self.must_go_on() {
                    self.release();
                }
            }
            AppMsg::ProcessSyncedValue { height, round, value_bytes, reply, .. } => {
                answer(reply, self.sync(height, round, &value_bytes)?);
            }
            AppMsg::GetDecidedValues { range, reply } => {
                answer(reply, self.history(*range.start(), *range.end())?);
            }
            AppMsg::GetHistoryMinHeight { reply } => answer(reply, EngineHeight(1)),
            AppMsg::ExtendVote { reply, .. } => answer(reply, None),
            AppMsg::VerifyVoteExtensions { extensions, reply, .. } => {
                let accepted = extensions.into_iter().map(|(address, ())| (address, Ok(())));
                answer(reply, accepted.collect());
            }
        }
        Ok(())
    }

    // --- when the next height starts -----------------------------------------------------------

    fn parameters(&self) -> HeightParams<ChainContext> {
        let validators = EngineValidators::from(&self.validators);
        // No target time: blocks are on demand, and a full node with one would lag behind.
        HeightParams::new(validators, self.settings.timeouts, None)
    }

    fn votes(&self) -> bool {
        let key = self.settings.key.as_ref();
        key.is_some_and(|key| self.validators.find(&key.public()).is_some())
    }

    /// Whether the next height cannot wait. A node without a vote never delays it: it only listens.
    fn must_go_on(&self) -> bool {
        !self.votes()
            || !self.known.is_empty()
            || !self.ahead.is_empty()
            || self.application.next_block_in().is_zero()
    }

    fn release_if_wanted(&mut self) {
        if self.must_go_on() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(reply) = self.held.take() {
            answer(reply, Next::Start(engine_next(self.tip), self.parameters()));
        }
    }

    /// Waits for a validator's vote or proposal above the tip: others have started the height.
    async fn next_height_is_live(&self, events: &mut RxEvent<ChainContext>) {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match events.recv().await {
                Ok(Event::Received(message)) if self.is_ahead(&message) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                // The engine is ending; its other channel says so.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    fn is_ahead(&self, message: &SignedConsensusMsg<ChainContext>) -> bool {
        let verifier = &self.settings.verifier;
        let (height, Address(signer), signed) = match message {
            SignedConsensusMsg::Vote(vote) => {
                let (message, signature) = (&vote.message, &vote.signature);
                (message.height, message.address, verifier.vote_is_signed(message, signature))
            }
            SignedConsensusMsg::Proposal(proposal) => {
                let (message, signature) = (&proposal.message, &proposal.signature);
                (message.height, message.address, verifier.proposal_is_signed(message, signature))
            }
        };
        height.protocol() > self.tip && self.validators.find(&signer).is_some() && signed
    }

    // --- proposals -----------------------------------------------------------------------------

    fn proposal_of(&self, undecided: &Undecided) -> ProposalId {
        ProposalId {
            height: self.tip.next(),
            round: undecided.round,
            valid_round: None,
            block: undecided.block,
        }
    }

    /// Whose turn it is, by the set that decides the next height.
    fn proposer(&self, proposal: &ProposalId) -> Address {
        let validators = EngineValidators::from(&self.validators);
        let (height, round) = (EngineHeight::from(proposal.height), Round::new(proposal.round));
        *ChainContext.select_proposer(&validators, height, round).address()
    }

    fn value(&self, known: &Known) -> ProposedValue<ChainContext> {
        ProposedValue {
            height: EngineHeight::from(known.proposal.height),
            round: Round::new(known.proposal.round),
            valid_round: engine_round(known.proposal.valid_round),
            proposer: self.proposer(&known.proposal),
            value: BlockId(known.proposal.block),
            validity: Validity::from_bool(known.valid),
        }
    }

    /// Whether a sender may have one more block checked: what bounds the work and the disk that a
    /// hostile validator can take, without letting it crowd out the proposals of others.
    fn may_introduce(&self, proposal: &ProposalId, sender: PublicKey) -> bool {
        let round = proposal.round;
        let its_turn = self.proposer(proposal).0 == sender || round >= HIDDEN_LOCK_ROUND;
        let near = round <= self.round.saturating_add(ROUNDS_AHEAD);
        let source = Some((sender, round));
        let before = self.known.values().filter(|known| known.source == source).count();
        its_turn && near && before < BLOCKS_PER_ROUND
    }

    /// Has the application check a body for the height after the tip.
    fn judge(
        &mut self,
        proposal: ProposalId,
        sender: Option<PublicKey>,
        bytes: &[u8],
    ) -> Result<Option<Known>, ConsensusError> {
        if let Some(known) = self.known.get_mut(&proposal.block) {
            let again = std::mem::replace(&mut known.proposal, proposal) == proposal;
            if known.valid || again {
                return Ok(Some(*known));
            }
        } else if let Some(sender) = sender
            && !self.may_introduce(&proposal, sender)
        {
            debug!(height = %proposal.height, %sender, "proposal out of turn dropped");
            return Ok(None);
        }
        let origin = Origin::Proposal { round: proposal.round };
        let (block, valid) = match self.application.check(bytes, origin).map_err(failed)? {
            Verdict::Valid(block) => (block, true),
            Verdict::Invalid { block, reason } => {
                warn!(height = %proposal.height, %block, reason, "invalid proposal");
                (block, false)
            }
            Verdict::Malformed(reason) => {
                warn!(height = %proposal.height, reason, "malformed proposal");
                return Ok(None);
            }
        };
        if block != proposal.block {
            warn!(height = %proposal.height, %block, "a proposal's body is another block");
            return Ok(None);
        }
        let source = sender.map(|sender| (sender, proposal.round));
        let known = Known { proposal, source, valid, announced: false };
        self.known.insert(block, known);
        Ok(Some(known))
    }

    /// Values of a height that just started a round, that the engine has not heard of.
    fn announce(
        &mut self,
        height: EngineHeight,
    ) -> Result<Vec<ProposedValue<ChainContext>>, ConsensusError> {
        if height.protocol() != self.tip.next() {
            return Ok(Vec::new());
        }
        let next = height.protocol();
        for body in std::mem::take(&mut self.ahead).into_values() {
            if body.proposal.height == next {
                self.judge(body.proposal, Some(body.sender), &body.bytes)?;
            }
        }
        let fresh: Vec<Known> = self.known.values().filter(|k| !k.announced).copied().collect();
        self.known.values_mut().for_each(|known| known.announced = true);
        Ok(fresh.iter().map(|known| self.value(known)).collect())
    }

    async fn propose(
        &mut self,
        height: EngineHeight,
        round: Round,
        reply: Reply<LocallyProposedValue<ChainContext>>,
        network: &mpsc::Sender<NetworkMsg<ChainContext>>,
    ) -> Outcome {
        let Some(number) = round.as_u32().filter(|_| height.protocol() == self.tip.next()) else {
            warn!(%height, %round, tip = %self.tip, "asked to propose out of turn");
            return Ok(());
        };
        let undecided = self.application.propose(number).map_err(failed)?;
        let proposal = self.proposal_of(&undecided);
        let known = Known { proposal, source: None, valid: true, announced: true };
        self.known.insert(undecided.block, known);
        answer(reply, LocallyProposedValue::new(height, round, BlockId(undecided.block)));
        self.publish(proposal, &undecided.bytes, network).await
    }

    async fn restream(
        &mut self,
        height: EngineHeight,
        round: Round,
        valid_round: Round,
        block: BlockHash,
        network: &mpsc::Sender<NetworkMsg<ChainContext>>,
    ) -> Outcome {
        let undecided = self.application.undecided(&block).map_err(failed)?;
        let (Some(undecided), Some(round)) = (undecided, round.as_u32()) else {
            warn!(%height, %block, "asked to repeat a proposal that is not here");
            return Ok(());
        };
        let height = height.protocol();
        let proposal = ProposalId { height, round, valid_round: valid_round.as_u32(), block };
        self.publish(proposal, &undecided.bytes, network).await
    }

    async fn publish(
        &mut self,
        proposal: ProposalId,
        bytes: &[u8],
        network: &mpsc::Sender<NetworkMsg<ChainContext>>,
    ) -> Outcome {
        let Some(key) = &self.settings.key else { return Ok(()) };
        self.next_stream = self.next_stream.wrapping_add(1);
        let stream = StreamId::new(self.next_stream.to_le_bytes().to_vec().into());
        for part in split(&self.settings.verifier.genesis, proposal, bytes, key) {
            let sequence = u64::from(part.index);
            let content = StreamContent::Data(part);
            let message = StreamMessage::new(stream.clone(), sequence, content);
            let sent = network.send(NetworkMsg::PublishProposalPart(message)).await;
            sent.map_err(|_| ConsensusError::EngineEnded)?;
        }
        Ok(())
    }

    fn receive(
        &mut self,
        part: Part,
    ) -> Result<Option<ProposedValue<ChainContext>>, ConsensusError> {
        let added = self.assembler.add(part, self.tip, &self.validators);
        let body = match added {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(None),
            Err(error) => {
                debug!(tip = %self.tip, %error, "proposal part dropped");
                return Ok(None);
            }
        };
        let proposal = body.proposal;
        if proposal.height != self.tip.next() {
            self.keep_ahead(body);
            self.release();
            return Ok(None);
        }
        let known = self.judge(proposal, Some(body.sender), &body.bytes)?;
        let mut value = None;
        // While the height has not started, the value waits for its first round.
        if self.held.is_none()
            && let Some(known) = known
        {
            if let Some(known) = self.known.get_mut(&proposal.block) {
                known.announced = true;
            }
            value = Some(self.value(&known));
        }
        self.release();
        Ok(value)
    }

    /// Keeps a proposal of the height after next until the next one is decided.
    fn keep_ahead(&mut self, body: Body) {
        let round = body.proposal.round;
        let its_turn = self.proposer(&body.proposal).0 == body.sender;
        if its_turn && round < ROUNDS_OF_LATER_HEIGHT {
            self.ahead.entry(round).or_insert(body);
        }
    }

    // --- decisions -----------------------------------------------------------------------------

    fn decide(&mut self, certificate: Certificate) -> Outcome {
        if certificate.height <= self.tip {
            return Ok(());
        }
        if certificate.height != self.tip.next() {
            return Err(ConsensusError::Gap { tip: self.tip, decided: certificate.height });
        }
        self.application.commit(certificate).map_err(failed)?;
        self.tip = self.application.tip();
        self.validators = self.application.validators();
        self.known.clear();
        self.assembler.prune(self.tip);
        self.ahead.retain(|_, body| body.proposal.height > self.tip);
        self.round = 0;
        Ok(())
    }

    fn sync(
        &mut self,
        height: EngineHeight,
        round: Round,
        bytes: &[u8],
    ) -> Result<SyncedValueOutcome<ChainContext>, ConsensusError> {
        let Some(number) = round.as_u32().filter(|_| height.protocol() == self.tip.next()) else {
            return Ok(SyncedValueOutcome::LocalTransientError);
        };
        let origin = Origin::Decided { round: number };
        let (block, valid) = match self.application.check(bytes, origin).map_err(failed)? {
            Verdict::Valid(block) => (block, true),
            Verdict::Invalid { block, reason } => {
                warn!(%height, %block, reason, "a decided block breaks the rules of this release");
                (block, false)
            }
            Verdict::Malformed(reason) => {
                debug!(%height, reason, "malformed block from a peer");
                return Ok(SyncedValueOutcome::PeerFault);
            }
        };
        self.syncing = true;
        let proposal =
            ProposalId { height: height.protocol(), round: number, valid_round: None, block };
        let known = Known { proposal, source: None, valid, announced: true };
        Ok(SyncedValueOutcome::Verdict(self.value(&known)))
    }

    fn history(
        &self,
        from: EngineHeight,
        to: EngineHeight,
    ) -> Result<Vec<RawDecidedValue<ChainContext>>, ConsensusError> {
        let count = to.0.saturating_sub(from.0).saturating_add(1).min(SYNC_BLOCKS);
        let limit = usize::try_from(count).unwrap_or(usize::MAX);
        let blocks = self.application.decided(from.protocol(), limit, SYNC_BYTES);
        let value = |(block, certificate): (Vec<u8>, _)| {
            RawDecidedValue::new(block.into(), engine_certificate(certificate))
        };
        Ok(blocks.map_err(failed)?.into_iter().map(value).collect())
    }
}

/// Answers the engine. It may have ended meanwhile, which the next read of its channel tells.
fn answer<T>(reply: Reply<T>, value: T) {
    let _ = reply.send(value);
}
