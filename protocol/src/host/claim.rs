//! Proof that a node of the words has claimed an epoch.
//!
//! A host that refuses an old writer must not be believed on its word: it shows the claim that the new
//! node signed. One claim that verifies is proof, whatever the other hosts say; a refusal without one
//! is the host's own failure.

use serde::{Deserialize, Serialize};

use crate::contract::ContractId;
use crate::hash::{BlockHash, ContractNonce, Digest, digest};
use crate::signature::{SecretKey, Signature};
use crate::units::Epoch;

/// An epoch, claimed with the key of a contract.
///
/// It names the contract by the nonce from which its key derives, so that whoever has the words can
/// verify it without knowing the contract: after a renewal the host shows the claim that was signed for
/// the contract before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochClaim {
    /// Nonce of the contract whose key signed.
    pub nonce: ContractNonce,
    /// The epoch.
    pub epoch: Epoch,
    /// By the contract's key, see [`EpochClaim::sign`].
    pub signature: Signature,
}

impl EpochClaim {
    /// Nobody has claimed anything.
    pub const NONE: Self = Self {
        nonce: ContractNonce([0; 16]),
        epoch: Epoch { counter: 0, writer: [0; 16] },
        signature: Signature::EMPTY,
    };

    /// Claims an epoch at the contract of `nonce`, whose key is `key`.
    #[must_use]
    pub fn sign(genesis: &BlockHash, nonce: ContractNonce, epoch: Epoch, key: &SecretKey) -> Self {
        if epoch == Self::NONE.epoch {
            return Self::NONE;
        }
        let message = Self::sign_bytes(genesis, &key.public(), &nonce, &epoch);
        Self { nonce, epoch, signature: key.sign(message.as_bytes()) }
    }

    /// Whether the key of `contract`, which must be that of the claim's nonce, signed it. The epoch that
    /// nobody has claimed needs no signature.
    #[must_use]
    pub fn verify(&self, genesis: &BlockHash, contract: &ContractId) -> bool {
        let message = Self::sign_bytes(genesis, contract, &self.nonce, &self.epoch);
        self.epoch == Self::NONE.epoch || contract.verify(message.as_bytes(), &self.signature)
    }

    fn sign_bytes(
        genesis: &BlockHash,
        contract: &ContractId,
        nonce: &ContractNonce,
        epoch: &Epoch,
    ) -> Digest {
        digest("samara v1 epoch claim", &(genesis, contract, nonce, epoch))
    }
}

impl Default for EpochClaim {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_claim_holds_for_its_chain_contract_nonce_and_epoch_only() {
        let key = |byte| SecretKey::from_bytes(&Zeroizing::new([byte; 32]));
        let (genesis, nonce) = (BlockHash([1; 32]), ContractNonce([2; 16]));
        let epoch = Epoch { counter: 3, writer: [4; 16] };
        let claim = EpochClaim::sign(&genesis, nonce, epoch, &key(5));
        let id = key(5).public();
        assert!(claim.verify(&genesis, &id));
        assert!(!claim.verify(&BlockHash([9; 32]), &id));
        assert!(!claim.verify(&genesis, &key(6).public()));
        let nonces = EpochClaim { nonce: ContractNonce([9; 16]), ..claim };
        let higher = EpochClaim { epoch: Epoch { counter: u64::MAX, ..epoch }, ..claim };
        assert!(!nonces.verify(&genesis, &id) && !higher.verify(&genesis, &id));
        assert!(EpochClaim::NONE.verify(&genesis, &id));
        assert_eq!(EpochClaim::sign(&genesis, nonce, Epoch::default(), &key(5)), EpochClaim::NONE);
    }
}
