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
    Context as _, HeightParams, LinearTimeouts, Round, Validity,
};
use arc_malachitebft_app_channel::app::types::sync::RawDecidedValue;
use arc_malachitebft_app_channel::{AppMsg, Channels, NetworkMsg, Reply};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{debug, info, warn};

use samara_protocol::chain::validators::ValidatorSet;
use samara_protocol::hash::BlockHash;
use samara_protocol::signature::SecretKey;
use samara_protocol::units::Height;

use super::codec::{certificate_of, engine_certificate, engine_next, engine_round};
use super::context::{
    Address, BlockId, ChainContext, ChainVerifier, EngineHeight, EngineValidators,
};
use super::engine::ConsensusError;
use super::proposals::{Assembler, HEIGHTS_AHEAD, Part, ProposalId, split};
use super::{Application, Origin, Undecided, Verdict};

/// Bodies of the height after next that are kept until the next is decided.
const MAX_AHEAD: usize = 8;
/// Different blocks of one height that are checked; honest validators propose one in each round.
const MAX_KNOWN: usize = 64;
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
    ahead: BTreeMap<ProposalId, Vec<u8>>,
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
            self.judge(proposal, &undecided.bytes)?;
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

    fn value(&self, known: &Known) -> ProposedValue<ChainContext> {
        let height = EngineHeight::from(known.proposal.height);
        let round = Round::new(known.proposal.round);
        let validators = EngineValidators::from(&self.validators);
        let proposer = ChainContext.select_proposer(&validators, height, round);
        let proposer =
            *arc_malachitebft_app_channel::app::types::core::Validator::address(proposer);
        ProposedValue {
            height,
            round,
            valid_round: engine_round(known.proposal.valid_round),
            proposer,
            value: BlockId(known.proposal.block),
            validity: Validity::from_bool(known.valid),
        }
    }

    /// Has the application check a body for the height after the tip.
    fn judge(
        &mut self,
        proposal: ProposalId,
        bytes: &[u8],
    ) -> Result<Option<Known>, ConsensusError> {
        if let Some(known) = self.known.get_mut(&proposal.block) {
            known.proposal = proposal;
            if known.valid {
                return Ok(Some(*known));
            }
        } else if self.known.len() >= MAX_KNOWN {
            warn!(height = %proposal.height, "too many proposals for one height");
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
        let known = Known { proposal, valid, announced: false };
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
        let (now, later) = std::mem::take(&mut self.ahead)
            .into_iter()
            .partition(|(proposal, _)| proposal.height == height.protocol());
        self.ahead = later;
        let now: BTreeMap<ProposalId, Vec<u8>> = now;
        for (proposal, bytes) in now {
            self.judge(proposal, &bytes)?;
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
        self.known.insert(undecided.block, Known { proposal, valid: true, announced: true });
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
        let (proposal, bytes) = match added {
            Ok(Some(complete)) => complete,
            Ok(None) => return Ok(None),
            Err(error) => {
                debug!(tip = %self.tip, %error, "proposal part dropped");
                return Ok(None);
            }
        };
        if proposal.height != self.tip.next() {
            if self.ahead.len() < MAX_AHEAD {
                self.ahead.insert(proposal, bytes);
            }
            self.release();
            return Ok(None);
        }
        let known = self.judge(proposal, &bytes)?;
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

    // --- decisions -----------------------------------------------------------------------------

    fn decide(&mut self, certificate: samara_protocol::chain::certificate::Certificate) -> Outcome {
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
        self.ahead.retain(|p, _| p.height > self.tip && p.height.0 - self.tip.0 <= HEIGHTS_AHEAD);
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
        Ok(SyncedValueOutcome::Verdict(self.value(&Known { proposal, valid, announced: true })))
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
