//! Contracts between one renter and one host: terms, revisions, vouchers, and what they cost.
//!
//! A contract's id is its public key, which derives from the renter's seed and the contract's nonce;
//! a nonce is drawn for each formation, so an id is never used twice. Data changes by [`Revision`]s
//! signed by both sides; reads and uploads are paid by [`Voucher`]s, running totals signed by the
//! contract key alone, so parallel transfers never race.
//!
//! Revision 0 is what the chain itself formed and is the only one without signatures: empty data after
//! a formation, the old contract's data after a renewal ([`Revision::carried`]). It is trusted because
//! both sides signed the formation or renewal, so it is never checked by a signature but by comparing
//! it with what the chain formed ([`SignedRevision::verify_after`]).

pub mod announcement;
pub mod record;

use serde::{Deserialize, Serialize};

use self::record::RecoveryRecord;
use crate::hash::{BlockHash, ContractNonce, Digest, RecordTag, digest};
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::units::{Amount, ChainTime, Epoch, Millis};

/// A contract's id: the renter's key for it.
pub type ContractId = PublicKey;

/// Why terms cannot be put on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The nonce is all zeros: nobody drew it.
    #[error("the contract's nonce is missing")]
    NoNonce,
    /// The recovery tag is all zeros: no scan would find the contract.
    #[error("the contract's recovery tag is missing")]
    NoTag,
    /// The proof period is shorter than the chain allows.
    #[error("a proof period of {given:?} is shorter than {least:?}")]
    Period {
        /// The period.
        given: Millis,
        /// The chain's least.
        least: Millis,
    },
    /// No period, or more than [`ContractTerms::MAX_PERIODS`].
    #[error("a contract has 1 to {max} periods, not {0}", max = ContractTerms::MAX_PERIODS)]
    Periods(u32),
    /// The proof window is shorter than the chain allows, or longer than the period.
    #[error("a proof window of {given:?} is not between {least:?} and the period of {period:?}")]
    Window {
        /// The window.
        given: Millis,
        /// The chain's least.
        least: Millis,
        /// The contract's period.
        period: Millis,
    },
    /// The window has too few blocks, or more than [`ContractTerms::MAX_WINDOW_BLOCKS`].
    #[error("a proof window of {given} blocks is not between {least} and {max}", max = ContractTerms::MAX_WINDOW_BLOCKS)]
    WindowBlocks {
        /// The blocks.
        given: u32,
        /// The chain's least.
        least: u32,
    },
    /// The contract would end after the end of time.
    #[error("the contract would end after the end of time")]
    Endless,
}

/// The least that a chain asks of terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeastTerms {
    /// Shortest proof period.
    pub period: Millis,
    /// Shortest proof window.
    pub window: Millis,
    /// Fewest blocks of a proof window.
    pub window_blocks: u32,
}

/// What both sides agree on when a contract is formed. It starts with the block that includes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractTerms {
    /// The contract's key and id.
    pub contract: ContractId,
    /// The nonce from which the key derives.
    pub nonce: ContractNonce,
    /// Recovery tag of nonce and host.
    pub tag: RecordTag,
    /// The host's identity key, which is also its account.
    pub host: PublicKey,
    /// Account that gets back what is left of the renter's funds.
    pub refund: PublicKey,
    /// Length of one proof period.
    pub period: Millis,
    /// Number of periods.
    pub periods: u32,
    /// Length of the proof window after each period.
    pub window: Millis,
    /// Blocks that must have passed since the period's end before the window closes.
    pub window_blocks: u32,
    /// Price of storage: grains for a byte and hour.
    pub storage_price: Amount,
    /// Collateral at risk: grains for a byte, burned when a proof is missed.
    pub collateral_rate: Amount,
    /// Paid to the host from the funds for each accepted proof, for its transaction fee.
    pub proof_fee: Amount,
    /// Locked from the paying account.
    pub funds: Amount,
    /// Locked from the host's account.
    pub collateral: Amount,
}

impl ContractTerms {
    /// Most periods of a contract.
    pub const MAX_PERIODS: u32 = 100_000;
    /// Most blocks that a proof window may wait for.
    pub const MAX_WINDOW_BLOCKS: u32 = 100_000;

    /// Checks the terms against what a chain asks for, for a contract that starts at `start`. Whether
    /// the money is there is the ledger's business.
    ///
    /// # Errors
    /// [`TermsError`] for the first rule that is broken.
    pub fn check(&self, least: &LeastTerms, start: ChainTime) -> Result<(), TermsError> {
        if self.nonce == ContractNonce::default() {
            return Err(TermsError::NoNonce);
        }
        if self.tag == RecordTag::default() {
            return Err(TermsError::NoTag);
        }
        if self.period < least.period || self.period.0 == 0 {
            return Err(TermsError::Period { given: self.period, least: least.period });
        }
        if self.periods == 0 || self.periods > Self::MAX_PERIODS {
            return Err(TermsError::Periods(self.periods));
        }
        if self.window < least.window || self.window > self.period {
            let least = least.window;
            return Err(TermsError::Window { given: self.window, least, period: self.period });
        }
        if self.window_blocks < least.window_blocks || self.window_blocks > Self::MAX_WINDOW_BLOCKS
        {
            let least = least.window_blocks;
            return Err(TermsError::WindowBlocks { given: self.window_blocks, least });
        }
        // The window after the last period counts as well.
        let spans = u64::from(self.periods) + 1;
        let span = self.period.0.checked_mul(spans).and_then(|span| span.checked_add(start.0));
        if span.is_none() { Err(TermsError::Endless) } else { Ok(()) }
    }

    /// Time from start to the end of the last period; saturates.
    #[must_use]
    pub const fn duration(&self) -> Millis {
        Millis(self.period.0.saturating_mul(self.periods as u64))
    }

    /// The record this formation leaves for scanners.
    #[must_use]
    pub const fn record(&self) -> RecoveryRecord {
        RecoveryRecord {
            nonce: self.nonce,
            tag: self.tag,
            host: self.host,
            contract: self.contract,
        }
    }

    /// Pay for holding `bytes` for `span`: `bytes * price * span / 1 h`, rounded down; saturates.
    #[must_use]
    pub const fn storage_pay(&self, bytes: u64, span: Millis) -> Amount {
        storage_pay(self.storage_price, bytes, span)
    }

    /// What a missed proof of `bytes` burns, before it is capped by the collateral left; saturates.
    #[must_use]
    pub const fn penalty(&self, bytes: u64) -> Amount {
        self.collateral_rate.saturating_mul(bytes as u128)
    }
}

/// Pay for holding `bytes` for `span` at `price` grains for a byte and hour; saturates.
#[must_use]
pub const fn storage_pay(price: Amount, bytes: u64, span: Millis) -> Amount {
    const HOUR: u128 = Millis::hours(1).0 as u128;
    let per_hour = price.saturating_mul(bytes as u128);
    // Whole hours and the rest apart, so that the product overflows only where the result does.
    let whole = per_hour.saturating_mul(span.0 as u128 / HOUR);
    let rest = per_hour.0.saturating_mul(span.0 as u128 % HOUR) / HOUR;
    whole.saturating_add(Amount(rest))
}

/// The state of a contract's data, agreed by both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The contract.
    pub contract: ContractId,
    /// Grows by one with each revision; 0 is the state that the chain formed.
    pub number: u64,
    /// Bytes in all sectors.
    pub size: u64,
    /// Root over the ordered list of sectors, see [`crate::sector`].
    pub data_root: Digest,
    /// The writer's epoch.
    pub epoch: Epoch,
}

impl Revision {
    /// The empty state in which a formed contract starts.
    #[must_use]
    pub fn initial(contract: ContractId) -> Self {
        let data_root = crate::sector::empty_data_root();
        Self { contract, number: 0, size: 0, data_root, epoch: Epoch::default() }
    }

    /// The state in which the successor of a renewed contract starts: number 0 with the data and
    /// epoch of the old contract's last revision.
    #[must_use]
    pub const fn carried(contract: ContractId, last: &Self) -> Self {
        Self { contract, number: 0, ..*last }
    }

    /// What both sides sign.
    #[must_use]
    pub fn sign_bytes(&self, genesis: &BlockHash) -> Digest {
        digest("samara v1 revision", &(genesis, self))
    }
}

/// A revision with both signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRevision {
    /// The revision.
    pub revision: Revision,
    /// By the contract key.
    pub renter: Signature,
    /// By the host.
    pub host: Signature,
}

impl SignedRevision {
    /// Whether this is a revision of a contract that was formed empty: the empty revision 0, or a
    /// later one with both signatures. For renewed contracts use [`SignedRevision::verify_after`].
    #[must_use]
    pub fn verify(&self, genesis: &BlockHash, host: &PublicKey) -> bool {
        self.verify_after(genesis, host, &Revision::initial(self.revision.contract))
    }

    /// Whether this is a revision of the contract that the chain formed as `formed`: that very state,
    /// or a later one of the same contract with both signatures.
    #[must_use]
    pub fn verify_after(&self, genesis: &BlockHash, host: &PublicKey, formed: &Revision) -> bool {
        if self.revision.number == 0 {
            return self.revision == *formed
                && (self.renter, self.host) == (Signature::EMPTY, Signature::EMPTY);
        }
        if self.revision.contract != formed.contract {
            return false;
        }
        let message = self.revision.sign_bytes(genesis);
        self.revision.contract.verify(message.as_bytes(), &self.renter)
            && host.verify(message.as_bytes(), &self.host)
    }

    /// The empty state of a contract just formed, which needs no signature.
    #[must_use]
    pub fn initial(contract: ContractId) -> Self {
        Self::formed(Revision::initial(contract))
    }

    /// What the chain formed, empty or [carried](Revision::carried), which needs no signature.
    #[must_use]
    pub const fn formed(revision: Revision) -> Self {
        Self { revision, renter: Signature::EMPTY, host: Signature::EMPTY }
    }
}

/// A running total of what the renter owes for transfers. Host and chain keep the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// The contract.
    pub contract: ContractId,
    /// Everything owed since formation, at most the contract's funds.
    pub total: Amount,
    /// The writer's epoch.
    pub epoch: Epoch,
}

/// A voucher with the contract key's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVoucher {
    /// The voucher.
    pub voucher: Voucher,
    /// By the contract key.
    pub signature: Signature,
}

impl SignedVoucher {
    /// Signs a voucher with the contract's key.
    #[must_use]
    pub fn sign(genesis: &BlockHash, voucher: Voucher, key: &SecretKey) -> Self {
        let signature = key.sign(Self::sign_bytes(genesis, &voucher).as_bytes());
        Self { voucher, signature }
    }

    /// Whether the contract key signed it.
    #[must_use]
    pub fn verify(&self, genesis: &BlockHash) -> bool {
        let message = Self::sign_bytes(genesis, &self.voucher);
        self.voucher.contract.verify(message.as_bytes(), &self.signature)
    }

    fn sign_bytes(genesis: &BlockHash, voucher: &Voucher) -> Digest {
        digest("samara v1 voucher", &(genesis, voucher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_pay_is_by_byte_and_hour() {
        assert_eq!(storage_pay(Amount(3), 1_000, Millis::hours(2)), Amount(6_000));
        assert_eq!(storage_pay(Amount(3), 1_000, Millis::seconds(1_800)), Amount(1_500));
        let all = storage_pay(Amount(u128::MAX), u64::MAX, Millis(u64::MAX));
        assert!(all >= Amount(u128::MAX / 2));
    }
}
