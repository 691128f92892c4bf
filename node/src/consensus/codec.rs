//! Bytes of the engine's messages, in its log and between validators.
//!
//! The engine's generic types have no encoding of ours, so each has a plain mirror here that goes
//! through [`samara_protocol::encoding`]. These formats are private to validators of one release and
//! are no part of the chain: what the chain keeps are headers and [`Certificate`]s.

use arc_malachitebft_app_channel::app::consensus::{
    LivenessMsg, ProposedValue, SignedConsensusMsg,
};
use arc_malachitebft_app_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
use arc_malachitebft_app_channel::app::types::PeerId;
use arc_malachitebft_app_channel::app::types::codec::{Codec, HasEncodedLen};
use arc_malachitebft_app_channel::app::types::core::{
    CommitCertificate, CommitSignature, ExtendedCommitCertificate, NilOrVal, PolkaCertificate,
    PolkaSignature, Round, RoundCertificate, RoundCertificateType, RoundSignature, SignedProposal,
    SignedVote, ValidatorProof, Validity, VoteExtensions, VoteType,
};
use arc_malachitebft_app_channel::app::types::sync;
use arc_malachitebft_sync::{ValueRequest, ValueResponse};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use samara_protocol::chain::certificate::{Certificate, VoteKind};
use samara_protocol::encoding::{self, DecodeError};
use samara_protocol::hash::BlockHash;
use samara_protocol::signature::{PublicKey, Signature};
use samara_protocol::units::Height;

use super::context::{Address, BlockId, ChainContext, EngineHeight, EngineProposal, EngineVote};
use super::proposals::Part;

/// Why a message of another validator, or of our own log, is not understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a peer id that is none")]
    PeerId,
}

/// The codec of every message.
#[derive(Clone, Copy, Debug)]
pub(super) struct EngineCodec;

fn encode<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    Ok(Bytes::from(encoding::encode(value)))
}

fn decode<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, CodecError> {
    Ok(encoding::decode(bytes)?)
}

/// The engine's round of ours; nothing is the engine's `Nil`.
pub(super) fn engine_round(round: Option<u32>) -> Round {
    round.map_or(Round::Nil, Round::Some)
}

fn kind_of(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

fn engine_kind(kind: VoteKind) -> VoteType {
    match kind {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    }
}

fn block_of(value: &NilOrVal<BlockId>) -> Option<BlockHash> {
    match value {
        NilOrVal::Nil => None,
        NilOrVal::Val(block) => Some(block.0),
    }
}

fn engine_value(block: Option<BlockHash>) -> NilOrVal<BlockId> {
    block.map_or(NilOrVal::Nil, |block| NilOrVal::Val(BlockId(block)))
}

#[derive(Serialize, Deserialize)]
struct WireVote {
    kind: VoteKind,
    height: EngineHeight,
    round: Option<u32>,
    block: Option<BlockHash>,
    address: Address,
    signature: Signature,
}

impl From<&SignedVote<ChainContext>> for WireVote {
    fn from(vote: &SignedVote<ChainContext>) -> Self {
        Self {
            kind: kind_of(vote.message.kind),
            height: vote.message.height,
            round: vote.message.round.as_u32(),
            block: block_of(&vote.message.value),
            address: vote.message.address,
            signature: vote.signature,
        }
    }
}

impl From<WireVote> for SignedVote<ChainContext> {
    fn from(wire: WireVote) -> Self {
        let vote = EngineVote {
            kind: engine_kind(wire.kind),
            height: wire.height,
            round: engine_round(wire.round),
            value: engine_value(wire.block),
            address: wire.address,
        };
        Self::new(vote, wire.signature)
    }
}

#[derive(Serialize, Deserialize)]
struct WireProposal {
    height: EngineHeight,
    round: Option<u32>,
    block: BlockId,
    pol_round: Option<u32>,
    address: Address,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
enum WireConsensus {
    Vote(WireVote),
    Proposal(WireProposal),
}

#[derive(Serialize, Deserialize)]
struct WirePolka {
    height: EngineHeight,
    round: Option<u32>,
    block: BlockId,
    signatures: Vec<(Address, Signature)>,
}

impl From<&PolkaCertificate<ChainContext>> for WirePolka {
    fn from(polka: &PolkaCertificate<ChainContext>) -> Self {
        Self {
            height: polka.height,
            round: polka.round.as_u32(),
            block: polka.value_id,
            signatures: polka.polka_signatures.iter().map(|s| (s.address, s.signature)).collect(),
        }
    }
}

impl From<WirePolka> for PolkaCertificate<ChainContext> {
    fn from(wire: WirePolka) -> Self {
        let signature = |(address, signature)| PolkaSignature::new(address, signature);
        Self {
            height: wire.height,
            round: engine_round(wire.round),
            value_id: wire.block,
            polka_signatures: wire.signatures.into_iter().map(signature).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct WireRound {
    height: EngineHeight,
    round: Option<u32>,
    skip: bool,
    signatures: Vec<(VoteKind, Option<BlockHash>, Address, Signature)>,
}

impl From<&RoundCertificate<ChainContext>> for WireRound {
    fn from(certificate: &RoundCertificate<ChainContext>) -> Self {
        let signature = |s: &RoundSignature<ChainContext>| {
            (kind_of(s.vote_type), block_of(&s.value_id), s.address, s.signature)
        };
        Self {
            height: certificate.height,
            round: certificate.round.as_u32(),
            skip: certificate.cert_type == RoundCertificateType::Skip,
            signatures: certificate.round_signatures.iter().map(signature).collect(),
        }
    }
}

impl From<WireRound> for RoundCertificate<ChainContext> {
    fn from(wire: WireRound) -> Self {
        let signature = |(kind, block, address, signature)| {
            RoundSignature::new(engine_kind(kind), engine_value(block), address, signature)
        };
        Self {
            height: wire.height,
            round: engine_round(wire.round),
            cert_type: if wire.skip {
                RoundCertificateType::Skip
            } else {
                RoundCertificateType::Precommit
            },
            round_signatures: wire.signatures.into_iter().map(signature).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
enum WireLiveness {
    Vote(WireVote),
    Polka(WirePolka),
    Round(WireRound),
}

#[derive(Serialize, Deserialize)]
struct WireStream {
    stream: ByteBuf,
    sequence: u64,
    content: Option<Part>,
}

#[derive(Serialize, Deserialize)]
struct WireProposed {
    height: EngineHeight,
    round: Option<u32>,
    valid_round: Option<u32>,
    proposer: Address,
    block: BlockId,
    valid: bool,
}

#[derive(Serialize, Deserialize)]
struct WireResponse {
    start: EngineHeight,
    values: Vec<(ByteBuf, Certificate)>,
}

/// Our certificate of the engine's.
pub(super) fn certificate_of(certificate: &CommitCertificate<ChainContext>) -> Certificate {
    let signature = |s: &CommitSignature<ChainContext>| -> (PublicKey, Signature) {
        (s.address.0, s.signature)
    };
    Certificate {
        height: certificate.height.protocol(),
        round: certificate.round.as_u32().unwrap_or(0),
        block: certificate.value_id.0,
        signatures: certificate.commit_signatures.iter().map(signature).collect(),
    }
}

/// The engine's certificate of ours, without vote extensions.
pub(super) fn engine_certificate(
    certificate: Certificate,
) -> ExtendedCommitCertificate<ChainContext> {
    let signature = |(key, signature)| CommitSignature::new(Address(key), signature);
    let commit = CommitCertificate {
        height: EngineHeight::from(certificate.height),
        round: Round::new(certificate.round),
        value_id: BlockId(certificate.block),
        commit_signatures: certificate.signatures.into_iter().map(signature).collect(),
    };
    ExtendedCommitCertificate::from_commit_certificate_and_extensions(
        commit,
        VoteExtensions::default(),
    )
}

impl Codec<Part> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<Part, CodecError> {
        decode(&bytes)
    }

    fn encode(&self, part: &Part) -> Result<Bytes, CodecError> {
        encode(part)
    }
}

impl Codec<SignedConsensusMsg<ChainContext>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<SignedConsensusMsg<ChainContext>, CodecError> {
        Ok(match decode(&bytes)? {
            WireConsensus::Vote(vote) => SignedConsensusMsg::Vote(vote.into()),
            WireConsensus::Proposal(wire) => {
                let proposal = EngineProposal {
                    height: wire.height,
                    round: engine_round(wire.round),
                    value: wire.block,
                    pol_round: engine_round(wire.pol_round),
                    address: wire.address,
                };
                SignedConsensusMsg::Proposal(SignedProposal::new(proposal, wire.signature))
            }
        })
    }

    fn encode(&self, message: &SignedConsensusMsg<ChainContext>) -> Result<Bytes, CodecError> {
        encode(&match message {
            SignedConsensusMsg::Vote(vote) => WireConsensus::Vote(vote.into()),
            SignedConsensusMsg::Proposal(signed) => WireConsensus::Proposal(WireProposal {
                height: signed.message.height,
                round: signed.message.round.as_u32(),
                block: signed.message.value,
                pol_round: signed.message.pol_round.as_u32(),
                address: signed.message.address,
                signature: signed.signature,
            }),
        })
    }
}

impl Codec<LivenessMsg<ChainContext>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<LivenessMsg<ChainContext>, CodecError> {
        Ok(match decode(&bytes)? {
            WireLiveness::Vote(vote) => LivenessMsg::Vote(vote.into()),
            WireLiveness::Polka(polka) => LivenessMsg::PolkaCertificate(polka.into()),
            WireLiveness::Round(round) => LivenessMsg::SkipRoundCertificate(round.into()),
        })
    }

    fn encode(&self, message: &LivenessMsg<ChainContext>) -> Result<Bytes, CodecError> {
        encode(&match message {
            LivenessMsg::Vote(vote) => WireLiveness::Vote(vote.into()),
            LivenessMsg::PolkaCertificate(polka) => WireLiveness::Polka(polka.into()),
            LivenessMsg::SkipRoundCertificate(round) => WireLiveness::Round(round.into()),
        })
    }
}

impl Codec<StreamMessage<Part>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<StreamMessage<Part>, CodecError> {
        let wire: WireStream = decode(&bytes)?;
        let content = wire.content.map_or(StreamContent::Fin, StreamContent::Data);
        let stream = StreamId::new(wire.stream.into_vec().into());
        Ok(StreamMessage::new(stream, wire.sequence, content))
    }

    fn encode(&self, message: &StreamMessage<Part>) -> Result<Bytes, CodecError> {
        encode(&WireStream {
            stream: ByteBuf::from(message.stream_id.to_bytes().to_vec()),
            sequence: message.sequence,
            content: message.content.as_data().cloned(),
        })
    }
}

impl Codec<ValidatorProof<ChainContext>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<ValidatorProof<ChainContext>, CodecError> {
        let (key, peer, signature): (ByteBuf, ByteBuf, Signature) = decode(&bytes)?;
        Ok(ValidatorProof::new(key.into_vec(), peer.into_vec(), signature))
    }

    fn encode(&self, proof: &ValidatorProof<ChainContext>) -> Result<Bytes, CodecError> {
        let bytes = |bytes: &[u8]| ByteBuf::from(bytes.to_vec());
        encode(&(bytes(&proof.public_key), bytes(&proof.peer_id), proof.signature))
    }
}

impl Codec<ProposedValue<ChainContext>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<ProposedValue<ChainContext>, CodecError> {
        let wire: WireProposed = decode(&bytes)?;
        Ok(ProposedValue {
            height: wire.height,
            round: engine_round(wire.round),
            valid_round: engine_round(wire.valid_round),
            proposer: wire.proposer,
            value: wire.block,
            validity: Validity::from_bool(wire.valid),
        })
    }

    fn encode(&self, proposed: &ProposedValue<ChainContext>) -> Result<Bytes, CodecError> {
        encode(&WireProposed {
            height: proposed.height,
            round: proposed.round.as_u32(),
            valid_round: proposed.valid_round.as_u32(),
            proposer: proposed.proposer,
            block: proposed.value,
            valid: proposed.validity.is_valid(),
        })
    }
}

impl Codec<PolkaCertificate<ChainContext>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<PolkaCertificate<ChainContext>, CodecError> {
        Ok(decode::<WirePolka>(&bytes)?.into())
    }

    fn encode(&self, polka: &PolkaCertificate<ChainContext>) -> Result<Bytes, CodecError> {
        encode(&WirePolka::from(polka))
    }
}

impl Codec<sync::Status<ChainContext>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<sync::Status<ChainContext>, CodecError> {
        let (peer, tip_height, history_min_height): (ByteBuf, _, _) = decode(&bytes)?;
        let peer_id = PeerId::from_bytes(&peer).map_err(|_| CodecError::PeerId)?;
        Ok(sync::Status { peer_id, tip_height, history_min_height })
    }

    fn encode(&self, status: &sync::Status<ChainContext>) -> Result<Bytes, CodecError> {
        let peer = ByteBuf::from(status.peer_id.to_bytes());
        encode(&(peer, status.tip_height, status.history_min_height))
    }
}

impl Codec<sync::Request<ChainContext>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<sync::Request<ChainContext>, CodecError> {
        let (from, to): (EngineHeight, EngineHeight) = decode(&bytes)?;
        Ok(sync::Request::ValueRequest(ValueRequest::new(from..=to)))
    }

    fn encode(&self, request: &sync::Request<ChainContext>) -> Result<Bytes, CodecError> {
        let sync::Request::ValueRequest(request) = request;
        encode(&(request.range.start(), request.range.end()))
    }
}

impl Codec<sync::Response<ChainContext>> for EngineCodec {
    type Error = CodecError;

    fn decode(&self, bytes: Bytes) -> Result<sync::Response<ChainContext>, CodecError> {
        let wire: WireResponse = decode(&bytes)?;
        let value = |(block, certificate): (ByteBuf, Certificate)| {
            sync::RawDecidedValue::new(block.into_vec().into(), engine_certificate(certificate))
        };
        let values = wire.values.into_iter().map(value).collect();
        Ok(sync::Response::ValueResponse(ValueResponse::new(wire.start, values)))
    }

    fn encode(&self, response: &sync::Response<ChainContext>) -> Result<Bytes, CodecError> {
        let sync::Response::ValueResponse(response) = response;
        let value = |value: &sync::RawDecidedValue<ChainContext>| {
            let certificate = certificate_of(&value.certificate.trim_vote_extensions());
            (ByteBuf::from(value.value_bytes.to_vec()), certificate)
        };
        let values = response.values.iter().map(value).collect();
        encode(&WireResponse { start: response.start_height, values })
    }
}

impl HasEncodedLen<sync::Response<ChainContext>> for EngineCodec {
    /// An upper bound: varints are counted with their longest forms.
    fn encoded_len(&self, response: &sync::Response<ChainContext>) -> Result<usize, CodecError> {
        const VARINT: usize = 10;
        const SIGNED: usize = PublicKey::LEN + 64;
        let sync::Response::ValueResponse(response) = response;
        let value = |value: &sync::RawDecidedValue<ChainContext>| {
            let signatures = value.certificate.commit_signatures.len();
            4 * VARINT + value.value_bytes.len() + BlockHash::LEN + SIGNED * signatures
        };
        Ok(2 * VARINT + response.values.iter().map(value).sum::<usize>())
    }
}

/// The next height after a tip, as the engine counts.
pub(super) fn engine_next(tip: Height) -> EngineHeight {
    EngineHeight::from(tip.next())
}
