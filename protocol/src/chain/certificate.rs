//! Votes of validators and the certificates that finalise a block.
//!
//! A certificate is valid under a validator set when precommits of more than two thirds of the power
//! sign the same block at one height and round. Only the sign bytes matter to a light client; the
//! engine's own wire formats stay inside the node's consensus module.

use serde::{Deserialize, Serialize};

use super::header::Header;
use super::validators::ValidatorSet;
use crate::hash::{BlockHash, Digest, digest};
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::units::Height;

/// The two kinds of votes of a Tendermint-like engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoteKind {
    /// First vote of a round.
    Prevote,
    /// Second vote of a round; more than two thirds of them finalise.
    Precommit,
}

/// What a validator signs when it votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The chain voted on.
    pub genesis: BlockHash,
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// Height of the block.
    pub height: Height,
    /// Round within the height, from 0.
    pub round: u32,
    /// The block, or nothing.
    pub block: Option<BlockHash>,
    /// Who votes.
    pub validator: PublicKey,
}

impl Vote {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn sign_bytes(&self) -> Digest {
        digest("samara v1 consensus vote", self)
    }
}

/// Precommits of a quorum for one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Height of the block.
    pub height: Height,
    /// Round in which it was decided.
    pub round: u32,
    /// Hash of the block's header.
    pub block: BlockHash,
    /// Who signed, with what; at most [`ValidatorSet::MAX`].
    pub signatures: Vec<(PublicKey, Signature)>,
}

/// Why a certificate proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A signer is not in the set.
    #[error("certificate of height {height}: {signer} is not a validator")]
    Stranger {
        /// The certificate's height.
        height: Height,
        /// The unknown signer.
        signer: PublicKey,
    },
    /// A signer appears twice.
    #[error("certificate of height {height}: {signer} signed twice")]
    Twice {
        /// The certificate's height.
        height: Height,
        /// The repeated signer.
        signer: PublicKey,
    },
    /// A signature does not verify.
    #[error("certificate of height {height}: the signature of {signer} is false")]
    BadSignature {
        /// The certificate's height.
        height: Height,
        /// The signer.
        signer: PublicKey,
    },
    /// Two thirds are not reached.
    #[error("certificate of height {height}: power {power} of {total} is no quorum")]
    NoQuorum {
        /// The certificate's height.
        height: Height,
        /// Power that signed.
        power: u64,
        /// Power of the whole set.
        total: u64,
    },
}

impl Certificate {
    /// The precommits of these validators for a block in round 0.
    #[must_use]
    pub fn sign(header: &Header, keys: &[SecretKey]) -> Self {
        let (height, round, block) = (header.height, 0, header.hash());
        let precommit = |key: &SecretKey| {
            let vote = Vote {
                genesis: header.genesis,
                kind: VoteKind::Precommit,
                height,
                round,
                block: Some(block),
                validator: key.public(),
            };
            (key.public(), key.sign(vote.sign_bytes().as_bytes()))
        };
        Self { height, round, block, signatures: keys.iter().map(precommit).collect() }
    }

    /// Checks every signature against a validator set.
    ///
    /// # Errors
    /// [`CertificateError`] for the first rule that is broken.
    pub fn verify(
        &self,
        genesis: &BlockHash,
        validators: &ValidatorSet,
    ) -> Result<(), CertificateError> {
        let height = self.height;
        let mut seen = std::collections::BTreeSet::new();
        let mut power = 0u64;
        for (signer, signature) in &self.signatures {
            let validator = validators
                .find(signer)
                .ok_or(CertificateError::Stranger { height, signer: *signer })?;
            if !seen.insert(*signer) {
                return Err(CertificateError::Twice { height, signer: *signer });
            }
            let vote = Vote {
                genesis: *genesis,
                kind: VoteKind::Precommit,
                height,
                round: self.round,
                block: Some(self.block),
                validator: *signer,
            };
            if !signer.verify(vote.sign_bytes().as_bytes(), signature) {
                return Err(CertificateError::BadSignature { height, signer: *signer });
            }
            power += validator.power;
        }
        if validators.is_quorum(power) {
            Ok(())
        } else {
            let total = validators.total_power();
            Err(CertificateError::NoQuorum { height, power, total })
        }
    }
}
