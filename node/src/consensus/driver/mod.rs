//! The loop between the engine and the application: answers each of the engine's questions.
//!
//! Owner of the application and of the proposals' bodies on their way. Runs on a thread of its own,
//! so that the application may block on its disk.

mod bodies;
mod pace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_malachitebft_app_channel::app::engine::host::{Next, SyncedValueOutcome};
use arc_malachitebft_app_channel::app::streaming::StreamContent;
use arc_malachitebft_app_channel::app::types::core::{LinearTimeouts, Round};
use arc_malachitebft_app_channel::app::types::sync::RawDecidedValue;
use arc_malachitebft_app_channel::{AppMsg, Channels, NetworkMsg, Reply};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{debug, info, warn};

use samara_protocol::chain::certificate::Certificate;
use samara_protocol::chain::validators::ValidatorSet;
use samara_protocol::hash::BlockHash;
use samara_protocol::signature::{PublicKey, SecretKey};
use samara_protocol::units::Height;

use super::codec::{certificate_of, engine_certificate, engine_next};
use super::context::{ChainContext, ChainVerifier, EngineHeight};
use super::error::ConsensusError;
use super::proposals::{Assembler, Body, ProposalId};
use super::{Application, Origin, Verdict};

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
