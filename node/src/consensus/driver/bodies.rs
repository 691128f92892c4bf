//! Proposals and their bodies: which are checked and told to the engine, and those that this node makes
//! or repeats.

use arc_malachitebft_app_channel::app::consensus::ProposedValue;
use arc_malachitebft_app_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
use arc_malachitebft_app_channel::app::types::LocallyProposedValue;
use arc_malachitebft_app_channel::app::types::core::{
    Context as _, Round, Validator as _, Validity,
};
use arc_malachitebft_app_channel::{NetworkMsg, Reply};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use samara_protocol::hash::BlockHash;
use samara_protocol::signature::PublicKey;

use super::{Driver, Known, Outcome, answer, failed};
use crate::consensus::codec::engine_round;
use crate::consensus::context::{Address, BlockId, ChainContext, EngineHeight, EngineValidators};
use crate::consensus::error::ConsensusError;
use crate::consensus::proposals::{Body, Part, ProposalId, split};
use crate::consensus::{Application, Origin, Undecided, Verdict};

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

impl<A: Application> Driver<A> {
    pub(super) fn proposal_of(&self, undecided: &Undecided) -> ProposalId {
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

    pub(super) fn value(&self, known: &Known) -> ProposedValue<ChainContext> {
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
    pub(super) fn judge(
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
    pub(super) fn announce(
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

    pub(super) async fn propose(
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

    pub(super) async fn restream(
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

    pub(super) fn receive(
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
}
