//! The engine's view of our types: heights, values, votes and validators as it wants them.
//!
//! The engine decides on a block's hash; the body travels beside the votes, see
//! [`super::proposals`]. A validator's address is its public key. All signing and verifying binds the
//! genesis hash, and a signature is judged only by [`PublicKey::verify`].

use std::fmt;

use arc_malachitebft_app_channel::app::types::core as engine;
use arc_malachitebft_app_channel::{Signer, Verifier};
use arc_malachitebft_signing::{Error as SigningError, VerificationResult};
use async_trait::async_trait;
use engine::{
    LinearTimeouts, NilOrVal, Round, SignedExtension, SignedMessage, ValidatorProof,
    VoteExtensionScope, VoteType, VotingPower,
};
use serde::{Deserialize, Serialize};

use samara_protocol::chain::certificate::{Vote as ProtocolVote, VoteKind};
use samara_protocol::chain::validators::ValidatorSet;
use samara_protocol::hash::{BlockHash, Digest, digest};
use samara_protocol::signature::{PublicKey, SecretKey, Signature};
use samara_protocol::units::Height;

use super::proposals::Part;

/// A block's number, as the engine counts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(super) struct EngineHeight(pub(super) u64);

impl EngineHeight {
    pub(super) const fn protocol(self) -> Height {
        Height(self.0)
    }
}

impl From<Height> for EngineHeight {
    fn from(height: Height) -> Self {
        Self(height.0)
    }
}

impl fmt::Display for EngineHeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl engine::Height for EngineHeight {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// Who votes: a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Address(pub(super) PublicKey);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl engine::Address for Address {}

/// What is decided: the hash of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct BlockId(pub(super) BlockHash);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl engine::Value for BlockId {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

/// A validator with the power of its vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EngineValidator {
    address: Address,
    power: u64,
}

impl engine::Validator<ChainContext> for EngineValidator {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.address.0
    }

    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// A validator set, ordered by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineValidators(Vec<EngineValidator>);

impl From<&ValidatorSet> for EngineValidators {
    fn from(set: &ValidatorSet) -> Self {
        let validator = |v: &_| -> EngineValidator {
            let &samara_protocol::chain::validators::Validator { key, power } = v;
            EngineValidator { address: Address(key), power }
        };
        Self(set.as_slice().iter().map(validator).collect())
    }
}

impl engine::ValidatorSet<ChainContext> for EngineValidators {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.0.iter().map(|validator| validator.power).sum()
    }

    fn get_by_address(&self, address: &Address) -> Option<&EngineValidator> {
        self.0.binary_search_by_key(address, |v| v.address).ok().map(|index| &self.0[index])
    }

    fn get_by_index(&self, index: usize) -> Option<&EngineValidator> {
        self.0.get(index)
    }
}

/// A prevote or precommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineVote {
    pub(super) kind: VoteType,
    pub(super) height: EngineHeight,
    pub(super) round: Round,
    pub(super) value: NilOrVal<BlockId>,
    pub(super) address: Address,
}

impl EngineVote {
    /// What is signed; nothing for a vote without a round, which nobody may cast.
    fn sign_bytes(&self, genesis: &BlockHash) -> Option<Digest> {
        let kind = match self.kind {
            VoteType::Prevote => VoteKind::Prevote,
            VoteType::Precommit => VoteKind::Precommit,
        };
        let block = match self.value {
            NilOrVal::Nil => None,
            NilOrVal::Val(BlockId(block)) => Some(block),
        };
        let vote = ProtocolVote {
            genesis: *genesis,
            kind,
            height: self.height.protocol(),
            round: self.round.as_u32()?,
            block,
            validator: self.address.0,
        };
        Some(vote.sign_bytes())
    }
}

impl engine::Vote<ChainContext> for EngineVote {
    fn height(&self) -> EngineHeight {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }

    fn extension(&self) -> Option<&SignedExtension<ChainContext>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<ChainContext>> {
        None
    }

    fn extend(self, _extension: SignedExtension<ChainContext>) -> Self {
        self
    }
}

/// A proposer's signed word that a block is its proposal of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineProposal {
    pub(super) height: EngineHeight,
    pub(super) round: Round,
    pub(super) value: BlockId,
    /// Round of an earlier quorum for the same block, if any.
    pub(super) pol_round: Round,
    pub(super) address: Address,
}

impl EngineProposal {
    fn sign_bytes(&self, genesis: &BlockHash) -> Digest {
        let content = (
            genesis,
            self.height,
            self.round.as_u32(),
            self.value,
            self.pol_round.as_u32(),
            self.address,
        );
        digest("samara v1 consensus proposal", &content)
    }
}

impl engine::Proposal<ChainContext> for EngineProposal {
    fn height(&self) -> EngineHeight {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockId {
        &self.value
    }

    fn take_value(self) -> BlockId {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.address
    }
}

impl engine::ProposalPart<ChainContext> for Part {
    fn is_first(&self) -> bool {
        self.index == 0
    }

    fn is_last(&self) -> bool {
        self.index.checked_add(1) == Some(self.parts)
    }
}

/// Ed25519 as the protocol defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ed25519;

impl engine::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = Signature;
    type PublicKey = PublicKey;
    type PrivateKey = SecretKey;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, &'static str> {
        bytes.try_into().map(Signature).map_err(|_| "a signature has 64 bytes")
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        bytes.try_into().map(PublicKey).map_err(|_| "a public key has 32 bytes")
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

/// Ties the types above together for the engine.
#[derive(Clone, Debug, Default)]
pub(super) struct ChainContext;

impl engine::Context for ChainContext {
    type Address = Address;
    type Height = EngineHeight;
    type ProposalPart = Part;
    type Proposal = EngineProposal;
    type Validator = EngineValidator;
    type ValidatorSet = EngineValidators;
    type Timeouts = LinearTimeouts;
    type Value = BlockId;
    type Vote = EngineVote;
    type Extension = ();
    type SigningScheme = Ed25519;

    /// Validators take turns, one step per height and per round.
    fn select_proposer<'a>(
        &self,
        validators: &'a EngineValidators,
        height: EngineHeight,
        round: Round,
    ) -> &'a EngineValidator {
        let turn = height.0.wrapping_add(u64::from(round.as_u32().unwrap_or(0)));
        let count = validators.0.len() as u64;
        let index = usize::try_from(turn % count).unwrap_or(0);
        &validators.0[index]
    }

    fn new_proposal(
        &self,
        height: EngineHeight,
        round: Round,
        value: BlockId,
        pol_round: Round,
        address: Address,
    ) -> EngineProposal {
        EngineProposal { height, round, value, pol_round, address }
    }

    fn new_prevote(
        &self,
        height: EngineHeight,
        round: Round,
        value: NilOrVal<BlockId>,
        address: Address,
    ) -> EngineVote {
        EngineVote { kind: VoteType::Prevote, height, round, value, address }
    }

    fn new_precommit(
        &self,
        height: EngineHeight,
        round: Round,
        value: NilOrVal<BlockId>,
        address: Address,
    ) -> EngineVote {
        EngineVote { kind: VoteType::Precommit, height, round, value, address }
    }
}

/// Judges signatures for one chain.
#[derive(Clone, Copy)]
pub(super) struct ChainVerifier {
    pub(super) genesis: BlockHash,
}

impl ChainVerifier {
    /// Whether a vote carries its validator's signature.
    pub(super) fn vote_is_signed(&self, vote: &EngineVote, signature: &Signature) -> bool {
        let bytes = vote.sign_bytes(&self.genesis);
        bytes.is_some_and(|bytes| vote.address.0.verify(bytes.as_bytes(), signature))
    }

    /// Whether a proposal carries its validator's signature.
    pub(super) fn proposal_is_signed(&self, p: &EngineProposal, signature: &Signature) -> bool {
        p.address.0.verify(p.sign_bytes(&self.genesis).as_bytes(), signature)
    }

    fn proof_bytes(&self, public_key: &[u8], peer_id: &[u8]) -> Digest {
        let preimage = ValidatorProof::<ChainContext>::signing_bytes(public_key, peer_id);
        digest("samara v1 validator proof", &(self.genesis, preimage))
    }
}

#[async_trait]
impl Verifier<ChainContext> for ChainVerifier {
    async fn verify_signed_vote(
        &self,
        vote: &EngineVote,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, SigningError> {
        let valid = vote.address.0 == *key && self.vote_is_signed(vote, signature);
        Ok(VerificationResult::from_bool(valid))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &EngineProposal,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, SigningError> {
        let valid = proposal.address.0 == *key && self.proposal_is_signed(proposal, signature);
        Ok(VerificationResult::from_bool(valid))
    }

    async fn verify_signed_vote_extension(
        &self,
        _scope: &VoteExtensionScope<ChainContext>,
        _extension: &(),
        _signature: &Signature,
        _key: &PublicKey,
    ) -> Result<VerificationResult, SigningError> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(
        &self,
        proof: &ValidatorProof<ChainContext>,
    ) -> Result<VerificationResult, SigningError> {
        let bytes = self.proof_bytes(&proof.public_key, &proof.peer_id);
        let valid = proof
            .decoded_public_key()
            .is_ok_and(|key| key.verify(bytes.as_bytes(), &proof.signature));
        Ok(VerificationResult::from_bool(valid))
    }
}

/// Signs for one validator on one chain.
pub(super) struct ChainSigner {
    pub(super) verifier: ChainVerifier,
    pub(super) key: SecretKey,
}

#[async_trait]
impl Signer<ChainContext> for ChainSigner {
    async fn sign_vote(
        &self,
        vote: EngineVote,
    ) -> Result<SignedMessage<ChainContext, EngineVote>, SigningError> {
        let bytes = vote.sign_bytes(&self.verifier.genesis).ok_or_else(SigningError::new)?;
        let signature = self.key.sign(bytes.as_bytes());
        Ok(SignedMessage::new(vote, signature))
    }

    async fn sign_proposal(
        &self,
        proposal: EngineProposal,
    ) -> Result<SignedMessage<ChainContext, EngineProposal>, SigningError> {
        let signature = self.key.sign(proposal.sign_bytes(&self.verifier.genesis).as_bytes());
        Ok(SignedMessage::new(proposal, signature))
    }

    async fn sign_vote_extension(
        &self,
        _scope: VoteExtensionScope<ChainContext>,
        _extension: (),
    ) -> Result<SignedMessage<ChainContext, ()>, SigningError> {
        Err(SigningError::new())
    }

    async fn sign_validator_proof(
        &self,
        public_key: Vec<u8>,
        peer_id: Vec<u8>,
    ) -> Result<ValidatorProof<ChainContext>, SigningError> {
        let bytes = self.verifier.proof_bytes(&public_key, &peer_id);
        let signature = self.key.sign(bytes.as_bytes());
        Ok(ValidatorProof::new(public_key, peer_id, signature))
    }
}
