//! What a host tells the world about itself.

use serde::{Deserialize, Serialize};

use crate::hash::{BlockHash, Digest, digest};
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::units::{Amount, ChainTime, Millis};

/// A host's entry on the chain, keyed by its identity key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAnnouncement {
    /// Multiaddresses at which it answers; at most [`HostAnnouncement::MAX_ADDRESSES`].
    pub addresses: Vec<String>,
    /// Who runs it, as it says itself; each operator gets one shard of a slab, as far as there are
    /// enough operators. At most 64 bytes.
    pub operator: String,
    /// Bytes it offers in all.
    pub capacity: u64,
    /// Whether it forms new contracts.
    pub accepting: bool,
    /// Its prices when it announced; the signed price table is what binds.
    pub prices: Prices,
}

impl HostAnnouncement {
    /// Most addresses in one announcement.
    pub const MAX_ADDRESSES: usize = 8;
    /// Most bytes of one address.
    pub const MAX_ADDRESS_BYTES: usize = 128;
    /// Most bytes of the operator's name.
    pub const MAX_OPERATOR_BYTES: usize = 64;

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`AnnouncementError`] for the first one that is broken.
    pub fn check(&self) -> Result<(), AnnouncementError> {
        if self.addresses.len() > Self::MAX_ADDRESSES {
            return Err(AnnouncementError::Addresses(self.addresses.len()));
        }
        let fits = |address: &&String| (1..=Self::MAX_ADDRESS_BYTES).contains(&address.len());
        if let Some(address) = self.addresses.iter().find(|address| !fits(address)) {
            return Err(AnnouncementError::Address(address.len()));
        }
        if self.operator.len() > Self::MAX_OPERATOR_BYTES {
            return Err(AnnouncementError::Operator(self.operator.len()));
        }
        Ok(())
    }
}

/// Why an announcement cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncementError {
    /// Too many addresses.
    #[error("{0} addresses are over the limit of {max}", max = HostAnnouncement::MAX_ADDRESSES)]
    Addresses(usize),
    /// An address is empty or too long.
    #[error("an address has 1 to {max} bytes, not {0}", max = HostAnnouncement::MAX_ADDRESS_BYTES)]
    Address(usize),
    /// The operator's name is too long.
    #[error("an operator of {0} bytes is over the limit of {max}", max = HostAnnouncement::MAX_OPERATOR_BYTES)]
    Operator(usize),
}

/// What a host asks for and offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// Grains for a byte and hour of storage.
    pub storage: Amount,
    /// Grains for a byte received.
    pub upload: Amount,
    /// Grains for a byte sent.
    pub download: Amount,
    /// Grains for each paid request.
    pub request: Amount,
    /// Grains of collateral it puts at risk for a byte.
    pub collateral_rate: Amount,
    /// Most collateral it puts into one contract.
    pub maximum_collateral: Amount,
    /// What it wants for each proof it publishes.
    pub proof_fee: Amount,
    /// Longest contract it agrees to.
    pub maximum_duration: Millis,
}

impl Prices {
    /// Price of storing a sector of `bytes`.
    #[must_use]
    pub const fn store_cost(&self, bytes: u64) -> Amount {
        self.upload.saturating_mul(bytes as u128).saturating_add(self.request)
    }

    /// Price of reading `bytes` of a sector.
    #[must_use]
    pub const fn read_cost(&self, bytes: u64) -> Amount {
        self.download.saturating_mul(bytes as u128).saturating_add(self.request)
    }
}

/// A price table signed by its host, good until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPrices {
    /// The host.
    pub host: PublicKey,
    /// The prices.
    pub prices: Prices,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes it offers in all.
    pub capacity: u64,
    /// Whether it forms new contracts.
    pub accepting: bool,
    /// Chain time until which it holds to them.
    pub valid_until: ChainTime,
    /// By the host, over all of the above.
    pub signature: Signature,
}

impl SignedPrices {
    /// Signs the table; whatever `signature` held is replaced.
    #[must_use]
    pub fn sign(mut self, genesis: &BlockHash, key: &SecretKey) -> Self {
        self.signature = key.sign(self.sign_bytes(genesis).as_bytes());
        self
    }

    /// Whether the host signed it.
    #[must_use]
    pub fn verify(&self, genesis: &BlockHash) -> bool {
        self.host.verify(self.sign_bytes(genesis).as_bytes(), &self.signature)
    }

    fn sign_bytes(&self, genesis: &BlockHash) -> Digest {
        let table =
            (self.host, self.prices, self.free, self.capacity, self.accepting, self.valid_until);
        digest("samara v1 host prices", &(genesis, table))
    }
}
