//! The rows of the table of hosts and contracts: as people see them, as the head keeps them, as they are
//! stored. Plain data, which the table, handles and commits share.

use samara_protocol::contract::{ContractId, ContractTerms, Revision, SignedRevision};
use samara_protocol::encoding;
use samara_protocol::hash::ContractNonce;
use samara_protocol::journal::HostIndex;
use samara_protocol::ledger::state::Contract;
use samara_protocol::signature::{PublicKey, Signature};
use samara_protocol::units::{Amount, ChainTime};
use serde::{Deserialize, Serialize};

/// Where live contracts are stored.
pub(super) const LIVE: &[u8] = b"contract/live/";

/// A host of the table as people and the journal see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// Its number.
    pub index: HostIndex,
    /// Its key.
    pub host: PublicKey,
    /// Who runs it, as it said when it was added.
    pub operator: String,
    /// The live contract with it.
    pub contract: Option<ContractId>,
}

/// The whole table, for the head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookSnapshot {
    /// Hosts, ordered by number.
    pub hosts: Vec<HostSnapshot>,
}

/// One host in a [`BookSnapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSnapshot {
    /// Its number.
    pub index: HostIndex,
    /// Its key.
    pub host: PublicKey,
    /// Who runs it.
    pub operator: String,
    /// The live contract with it.
    pub contract: Option<ContractSnapshot>,
}

/// One contract in a [`BookSnapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractSnapshot {
    /// Nonce from which its key derives.
    pub nonce: ContractNonce,
    /// Its latest doubly signed revision.
    pub revision: SignedRevision,
    /// Highest voucher total signed.
    pub voucher_total: Amount,
    /// Contracts under whose ids the host files descriptors, see [`ContractHandle::slab_tags`](super::ContractHandle::slab_tags).
    pub labels: Vec<ContractId>,
}

/// A host shows an older revision than one that it has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The host.
    pub host: PublicKey,
    /// The revision that the head knew.
    pub known: Revision,
    /// The revision that the host shows.
    pub shown: Revision,
}

/// A live contract as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LiveRecord {
    pub(super) nonce: ContractNonce,
    pub(super) terms: ContractTerms,
    /// What the chain formed, or the latest that it had seen when the contract was taken over.
    pub(super) formed: Revision,
    pub(super) revision: SignedRevision,
    /// A revision that was about to be sent when this was written.
    pub(super) pending: Option<(Revision, Signature)>,
    pub(super) voucher_total: Amount,
    /// When its last period ends.
    pub(super) ends: ChainTime,
    /// See [`ContractHandle::slab_tags`](super::ContractHandle::slab_tags); never empty.
    pub(super) labels: Vec<ContractId>,
}

impl LiveRecord {
    pub(super) fn new(
        contract: &Contract,
        revision: SignedRevision,
        voucher_total: Amount,
        labels: Vec<ContractId>,
    ) -> Self {
        Self {
            nonce: contract.terms.nonce,
            terms: contract.terms.clone(),
            formed: contract.revision,
            revision,
            pending: None,
            voucher_total,
            ends: contract.ends(),
            labels,
        }
    }

    pub(super) fn key(index: HostIndex) -> Vec<u8> {
        [LIVE, &index.0.to_be_bytes()].concat()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        encoding::encode(self)
    }
}

/// A host as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostRecord {
    pub(super) host: PublicKey,
    pub(super) operator: String,
    /// What a restored head knew of the contract, until it is adopted.
    pub(super) known: Option<ContractSnapshot>,
    /// Whether a contract with it lives on the chain that is not taken over yet: it has not answered.
    pub(super) awaited: bool,
    /// The contract that was given up on the chain: it counts for no head any more.
    pub(super) given_up: Option<ContractId>,
}

impl HostRecord {
    pub(super) fn new(host: PublicKey, operator: String) -> Self {
        Self { host, operator, known: None, awaited: false, given_up: None }
    }
}
