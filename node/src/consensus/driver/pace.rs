//! When the next height starts: at once, or when the application or another validator wants it.

use arc_malachitebft_app_channel::app::consensus::SignedConsensusMsg;
use arc_malachitebft_app_channel::app::engine::host::Next;
use arc_malachitebft_app_channel::app::engine::util::events::{Event, RxEvent};
use arc_malachitebft_app_channel::app::types::core::HeightParams;

use super::{Driver, answer};
use crate::consensus::Application;
use crate::consensus::codec::engine_next;
use crate::consensus::context::{Address, ChainContext, EngineValidators};

impl<A: Application> Driver<A> {
    pub(super) fn parameters(&self) -> HeightParams<ChainContext> {
        let validators = EngineValidators::from(&self.validators);
        // No target time: blocks are on demand, and a full node with one would lag behind.
        HeightParams::new(validators, self.settings.timeouts, None)
    }

    fn votes(&self) -> bool {
        let key = self.settings.key.as_ref();
        key.is_some_and(|key| self.validators.find(&key.public()).is_some())
    }

    /// Whether the next height cannot wait. A node without a vote never delays it: it only listens.
    pub(super) fn must_go_on(&self) -> bool {
        !self.votes()
            || !self.known.is_empty()
            || !self.ahead.is_empty()
            || self.application.next_block_in().is_zero()
    }

    pub(super) fn release_if_wanted(&mut self) {
        if self.must_go_on() {
            self.release();
        }
    }

    pub(super) fn release(&mut self) {
        if let Some(reply) = self.held.take() {
            answer(reply, Next::Start(engine_next(self.tip), self.parameters()));
        }
    }

    /// Waits for a validator's vote or proposal above the tip: others have started the height.
    pub(super) async fn next_height_is_live(&self, events: &mut RxEvent<ChainContext>) {
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
}
