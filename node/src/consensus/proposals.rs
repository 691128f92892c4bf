//! Bodies of proposed blocks on their way between validators: signed parts and their assembly.
//!
//! Each part names its block and is signed by the validator that sends it, so that a part can be
//! judged alone, in any order, and nobody but validators can make a node keep bytes. What is kept is
//! bounded: per validator [`STREAMS_PER_SENDER`] unfinished bodies, each no longer than a block may
//! be. The body itself is not believed: its hash is computed when the block is checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use samara_protocol::chain::validators::ValidatorSet;
use samara_protocol::hash::{BlockHash, Digest, digest};
use samara_protocol::signature::{PublicKey, SecretKey, Signature};
use samara_protocol::units::Height;

/// Bytes of a block in one part; well below what the engine's gossip carries in one message.
pub(super) const PART_BYTES: usize = 64 * 1024;
/// Unfinished bodies kept for one sender: the current proposal, and the next that may overtake it.
const STREAMS_PER_SENDER: usize = 2;
/// Heights above the tip for which parts are kept: the one being decided and its follower.
pub(super) const HEIGHTS_AHEAD: u64 = 2;

/// Which proposal a part belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ProposalId {
    /// Height of the block.
    pub(super) height: Height,
    /// Round in which it is proposed.
    pub(super) round: u32,
    /// Round of an earlier quorum for the same block, if any.
    pub(super) valid_round: Option<u32>,
    /// Hash of the block.
    pub(super) block: BlockHash,
}

/// An encoded block that has come completely. Not believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) proposal: ProposalId,
    /// The validator that sent it.
    pub(super) sender: PublicKey,
    pub(super) bytes: Vec<u8>,
}

/// One piece of an encoded block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) proposal: ProposalId,
    /// The validator that sends it.
    sender: PublicKey,
    /// Number of this part, from 0.
    pub(super) index: u32,
    /// How many parts there are.
    pub(super) parts: u32,
    bytes: ByteBuf,
    signature: Signature,
}

/// Why a part was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PartError {
    #[error("a part for height {0}, which is not near the tip")]
    Height(Height),
    #[error("a part from {0}, which is no validator")]
    Stranger(PublicKey),
    #[error("a part of a block longer than a block may be")]
    TooLong,
    #[error("a part whose signature by {0} is false")]
    Signature(PublicKey),
}

impl Part {
    fn sign_bytes(&self, genesis: &BlockHash) -> Digest {
        let bytes = Digest(*blake3::hash(&self.bytes).as_bytes());
        let content = (genesis, self.proposal, self.sender, self.index, self.parts, bytes);
        digest("samara v1 proposal part", &content)
    }
}

/// Cuts an encoded block into signed parts.
pub(super) fn split(
    genesis: &BlockHash,
    proposal: ProposalId,
    block: &[u8],
    key: &SecretKey,
) -> Vec<Part> {
    let count = u32::try_from(block.len().div_ceil(PART_BYTES)).unwrap_or(u32::MAX);
    let mut parts: Vec<Part> = (0..count)
        .zip(block.chunks(PART_BYTES))
        .map(|(index, bytes)| Part {
            proposal,
            sender: key.public(),
            index,
            parts: count,
            bytes: ByteBuf::from(bytes),
            signature: Signature::EMPTY,
        })
        .collect();
    for part in &mut parts {
        part.signature = key.sign(part.sign_bytes(genesis).as_bytes());
    }
    parts
}

/// A body of which not all parts have come.
struct Stream {
    proposal: ProposalId,
    parts: u32,
    chunks: BTreeMap<u32, ByteBuf>,
}

impl Stream {
    fn is_complete(&self) -> bool {
        self.chunks.len() == self.parts as usize
    }
}

/// Puts bodies together again.
pub(super) struct Assembler {
    genesis: BlockHash,
    /// Most parts that a block may have.
    limit: u32,
    streams: BTreeMap<PublicKey, Vec<Stream>>,
}

impl Assembler {
    /// An assembler of blocks of at most `block_bytes`.
    pub(super) fn new(genesis: BlockHash, block_bytes: usize) -> Self {
        let limit = u32::try_from(block_bytes.div_ceil(PART_BYTES)).unwrap_or(u32::MAX);
        Self { genesis, limit, streams: BTreeMap::new() }
    }

    /// Takes a part; gives sender and encoded block when it was the last one missing.
    ///
    /// `validators` decide the block after `tip`.
    pub(super) fn add(
        &mut self,
        part: Part,
        tip: Height,
        validators: &ValidatorSet,
    ) -> Result<Option<Body>, PartError> {
        self.judge(&part, tip, validators)?;
        let Part { proposal, sender, index, parts, bytes, .. } = part;
        let streams = self.streams.entry(sender).or_default();
        let found = streams.iter().position(|s| s.proposal == proposal && s.parts == parts);
        let position = found.unwrap_or_else(|| {
            if streams.len() >= STREAMS_PER_SENDER {
                streams.remove(0);
            }
            streams.push(Stream { proposal, parts, chunks: BTreeMap::new() });
            streams.len() - 1
        });
        streams[position].chunks.insert(index, bytes);
        if !streams[position].is_complete() {
            return Ok(None);
        }
        let stream = streams.remove(position);
        let chunks: Vec<ByteBuf> = stream.chunks.into_values().collect();
        let bytes = chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect();
        Ok(Some(Body { proposal, sender, bytes }))
    }

    /// Forgets bodies that can no longer be decided.
    pub(super) fn prune(&mut self, tip: Height) {
        self.streams.retain(|_, streams| {
            streams.retain(|stream| stream.proposal.height > tip);
            !streams.is_empty()
        });
    }

    fn judge(&self, part: &Part, tip: Height, validators: &ValidatorSet) -> Result<(), PartError> {
        let height = part.proposal.height;
        if height <= tip || height.0 - tip.0 > HEIGHTS_AHEAD {
            return Err(PartError::Height(height));
        }
        if validators.find(&part.sender).is_none() {
            return Err(PartError::Stranger(part.sender));
        }
        let in_range = part.parts <= self.limit && part.index < part.parts;
        if !in_range || part.bytes.len() > PART_BYTES {
            return Err(PartError::TooLong);
        }
        if !part.sender.verify(part.sign_bytes(&self.genesis).as_bytes(), &part.signature) {
            return Err(PartError::Signature(part.sender));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use samara_protocol::chain::validators::Validator;
    use zeroize::Zeroizing;

    use super::*;

    const GENESIS: BlockHash = BlockHash([1; 32]);

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(&Zeroizing::new([byte; 32]))
    }

    fn set(keys: &[&SecretKey]) -> ValidatorSet {
        let validator = |key: &&SecretKey| Validator { key: key.public(), power: 1 };
        ValidatorSet::new(keys.iter().map(validator).collect()).unwrap()
    }

    fn id(height: u64, byte: u8) -> ProposalId {
        let block = BlockHash([byte; 32]);
        ProposalId { height: Height(height), round: 0, valid_round: None, block }
    }

    #[test]
    fn parts_in_any_order_and_repeated_give_the_block() {
        let (key, tip) = (key(7), Height(4));
        let validators = set(&[&key]);
        let block: Vec<u8> = (0..PART_BYTES * 3 + 5).map(|i| i as u8).collect();
        let mut parts = split(&GENESIS, id(5, 1), &block, &key);
        parts.reverse();
        let mut assembler = Assembler::new(GENESIS, 4 * PART_BYTES);
        let last = parts.pop().unwrap();
        for part in parts.iter().chain(&parts) {
            assert_eq!(assembler.add(part.clone(), tip, &validators), Ok(None));
        }
        let body = Body { proposal: id(5, 1), sender: key.public(), bytes: block };
        assert_eq!(assembler.add(last, tip, &validators), Ok(Some(body)));
        assert!(assembler.streams.values().all(Vec::is_empty));
    }

    #[test]
    fn strangers_forgeries_and_other_heights_are_refused() {
        let (ours, other) = (key(7), key(8));
        let validators = set(&[&ours]);
        let mut assembler = Assembler::new(GENESIS, PART_BYTES);
        let mut add = |part: Part| assembler.add(part, Height(4), &validators);
        let part = |height, key: &SecretKey| split(&GENESIS, id(height, 1), b"x", key).remove(0);
        assert_eq!(add(part(4, &ours)), Err(PartError::Height(Height(4))));
        assert_eq!(add(part(7, &ours)), Err(PartError::Height(Height(7))));
        assert_eq!(add(part(5, &other)), Err(PartError::Stranger(other.public())));
        let mut forged = part(5, &ours);
        forged.bytes = ByteBuf::from(b"y".as_slice());
        assert_eq!(add(forged), Err(PartError::Signature(ours.public())));
        let long = split(&GENESIS, id(5, 1), &vec![0; PART_BYTES + 1], &ours).remove(0);
        assert_eq!(add(long), Err(PartError::TooLong));
    }

    #[test]
    fn a_sender_keeps_few_unfinished_bodies() {
        let key = key(7);
        let validators = set(&[&key]);
        let mut assembler = Assembler::new(GENESIS, 2 * PART_BYTES);
        for byte in 0..50 {
            let parts = split(&GENESIS, id(5, byte), &vec![byte; PART_BYTES + 1], &key);
            assembler.add(parts[0].clone(), Height(4), &validators).unwrap();
        }
        assert_eq!(assembler.streams[&key.public()].len(), STREAMS_PER_SENDER);
        assembler.prune(Height(5));
        assert!(assembler.streams.is_empty());
    }
}
