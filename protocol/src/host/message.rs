//! Requests that a renter sends to a host, and the host's answers.
//!
//! The transport authenticates the host by the dial. A request that changes something or shows
//! something private carries a signature of the contract's key over the request's digest, the host's
//! key and a fresh challenge, so it can be replayed neither at another host nor, where it matters, at
//! this one: every mutation is idempotent, numbered, or compares before it writes. Every mutating
//! request carries the writer's claim of its epoch and is refused below the promised one; a higher
//! epoch raises what is promised, and its claim is kept as the proof.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::announcement::SignedPrices;
use super::claim::EpochClaim;
use crate::chain::Transaction;
use crate::contract::{ContractId, Revision, SignedRevision, SignedVoucher};
use crate::hash::{BlockHash, Digest, SectorRoot, SlabTag, digest};
use crate::sector::SectorEntry;
use crate::signature::{PublicKey, SecretKey, Signature};
use crate::units::{Amount, ChainTime, Epoch};

/// Most bytes of a sealed head (base and tail together).
pub const MAX_HEAD: usize = 1 << 20;
/// Most sectors that one commit appends or removes.
pub const MAX_COMMIT: usize = 1_024;
/// Most sector entries in one answer.
pub const MAX_ENTRIES: usize = 16_384;
/// Most descriptors asked for at once.
pub const MAX_TAGS: usize = 256;

/// A question to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostRequest {
    /// The signed price table. Free, open to all.
    Prices,
    /// Asks the host to sign a formation, a renewal or an early end as the last one: everybody else
    /// whom the ledger asks for has signed. Bounded per payer, per contract and per peer.
    Agree(Box<Transaction>),
    /// Everything that is about one contract.
    Contract(Box<ContractRequest>),
}

impl HostRequest {
    /// What is asked, in one or two words, for counts and traces.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Prices => "prices",
            Self::Agree(_) => "agree",
            Self::Contract(request) => request.call.name(),
        }
    }

    /// The bytes of a sector, if it carries one.
    #[must_use]
    pub const fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Contract(request) => match &request.call {
                ContractCall::Store { data, .. } => Some(data),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A request about one contract, signed by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractRequest {
    /// The contract.
    pub contract: ContractId,
    /// The writer's epoch, claimed with the contract's key; ignored by requests that read.
    pub claim: EpochClaim,
    /// Fresh random bytes; echoed in signed answers.
    pub challenge: [u8; 16],
    /// What is asked.
    pub call: ContractCall,
    /// By the contract key, see [`ContractRequest::sign`].
    pub signature: Signature,
}

impl ContractRequest {
    /// Signs a request to `host`.
    #[must_use]
    pub fn sign(
        genesis: &BlockHash,
        host: &PublicKey,
        key: &SecretKey,
        claim: EpochClaim,
        challenge: [u8; 16],
        call: ContractCall,
    ) -> Self {
        let contract = key.public();
        let mut request = Self { contract, claim, challenge, call, signature: Signature::EMPTY };
        request.signature = key.sign(request.sign_bytes(genesis, host).as_bytes());
        request
    }

    /// Whether the contract's key signed this request for this host.
    #[must_use]
    pub fn verify(&self, genesis: &BlockHash, host: &PublicKey) -> bool {
        self.contract.verify(self.sign_bytes(genesis, host).as_bytes(), &self.signature)
    }

    fn sign_bytes(&self, genesis: &BlockHash, host: &PublicKey) -> Digest {
        let call = self.call.fingerprint();
        let fields = (genesis, host, self.contract, self.claim, self.challenge, call);
        digest("samara v1 host request", &fields)
    }
}

/// What can be asked about a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContractCall {
    /// Stores a sector durably, for the time being: it stays only if a revision commits it before
    /// the host's grace time ends. Paid.
    Store {
        /// Pays for this and all before.
        voucher: SignedVoucher,
        /// Root the sender expects; the host computes its own and refuses another.
        root: SectorRoot,
        /// The sector's bytes: a power of two from 16 KiB to 4 MiB.
        #[serde(with = "crate::encoding::payload")]
        data: Bytes,
    },
    /// Reads a range of a sector with a proof. Paid.
    Read {
        /// Pays for this and all before.
        voucher: SignedVoucher,
        /// The sector; any that the host holds under this contract.
        root: SectorRoot,
        /// First byte; a multiple of the 16 KiB group.
        offset: u32,
        /// Bytes; a multiple of the group, or the whole sector.
        length: u32,
    },
    /// Appends and removes sectors in one new revision.
    Commit(Box<Commit>),
    /// Sealed slab descriptors by tag. Free.
    Descriptors {
        /// At most [`MAX_TAGS`].
        tags: Vec<SlabTag>,
    },
    /// The contract's sectors in order, from an index. Free.
    Sectors {
        /// Index of the first entry wanted.
        from: u64,
    },
    /// The latest revision, the head slot's state and the promised epoch. Free.
    Latest,
    /// Durably refuses epochs below the request's from now on, and answers as [`ContractCall::Head`].
    /// Free; refused once the contract has left the chain.
    Promise,
    /// The latest revision and the sealed head. Free, so that a contract without money left can
    /// still be recovered.
    Head,
    /// Appends to the sealed head, if it is what the writer believes.
    HeadAppend {
        /// The slot as the writer believes it to be.
        expected: SlotState,
        /// Bytes to append.
        #[serde(with = "serde_bytes")]
        tail: Vec<u8>,
        /// Signature of the slot's new state by the contract key.
        new: SignedSlot,
    },
    /// Replaces the whole sealed head, if it is what the writer has read. Its sequence must be higher
    /// than the slot's.
    HeadPut {
        /// The slot as the writer has read it.
        expected: SlotState,
        /// The new head, at most [`MAX_HEAD`] bytes.
        #[serde(with = "serde_bytes")]
        head: Vec<u8>,
        /// Signature of the slot's new state by the contract key.
        new: SignedSlot,
    },
}

impl ContractCall {
    /// What is asked, in one or two words.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Store { .. } => "store",
            Self::Read { .. } => "read",
            Self::Commit(_) => "commit",
            Self::Descriptors { .. } => "descriptors",
            Self::Sectors { .. } => "sectors",
            Self::Latest => "latest",
            Self::Promise => "promise",
            Self::Head => "head",
            Self::HeadAppend { .. } => "append head",
            Self::HeadPut { .. } => "put head",
        }
    }

    /// Digest that stands for the call in the request's signature. The bytes of a sector stand in by
    /// their root and those of a head by the slot's state, which the receiver checks against the
    /// bytes, so that 4 MiB are not hashed twice.
    fn fingerprint(&self) -> Digest {
        const DOMAIN: &str = "samara v1 host call";
        match self {
            Self::Store { voucher, root, data } => {
                digest(DOMAIN, &("store", voucher, root, data.len() as u64))
            }
            Self::HeadAppend { expected, tail, new } => {
                digest(DOMAIN, &("head append", expected, tail.len() as u64, new))
            }
            Self::HeadPut { expected, head, new } => {
                digest(DOMAIN, &("head put", expected, head.len() as u64, new))
            }
            other => digest(DOMAIN, &("call", other)),
        }
    }
}

/// One new revision and what it does to the list of sectors.
///
/// Removals come first: entries at `remove` (strictly ascending indexes) are taken out and the rest
/// closes up, then `append` is added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The state after the change: number one above the present, its size and data root.
    pub revision: Revision,
    /// By the contract key over the revision.
    pub renter: Signature,
    /// Sectors stored before, in the order they are appended; at most [`MAX_COMMIT`].
    pub append: Vec<SectorEntry>,
    /// Indexes to take out, ascending; at most [`MAX_COMMIT`].
    pub remove: Vec<u64>,
    /// Sealed descriptors to file, by tag; an empty one removes the tag.
    pub descriptors: Vec<SealedDescriptor>,
}

/// A sealed slab descriptor under its opaque tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedDescriptor {
    /// Label under which the host files it.
    pub tag: SlabTag,
    /// At most [`crate::slab::MAX_DESCRIPTOR`] bytes.
    #[serde(with = "serde_bytes")]
    pub sealed: Vec<u8>,
}

/// What a head slot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotState {
    /// Grows with each write; 0 is the empty slot.
    pub sequence: u64,
    /// Bytes in the slot.
    pub length: u32,
    /// Plain BLAKE3 hash of the slot's bytes; zero for the empty slot.
    pub hash: Digest,
    /// Epoch of the writer.
    pub epoch: Epoch,
}

/// A slot's state signed by the contract key, kept and shown by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSlot {
    /// The state.
    pub state: SlotState,
    /// By the contract key.
    pub signature: Signature,
}

impl SignedSlot {
    /// The slot of a contract whose head was never written.
    pub const EMPTY: Self = Self {
        state: SlotState {
            sequence: 0,
            length: 0,
            hash: Digest::ZERO,
            epoch: Epoch { counter: 0, writer: [0; 16] },
        },
        signature: Signature::EMPTY,
    };

    /// Signs a state with the contract's key.
    #[must_use]
    pub fn sign(genesis: &BlockHash, state: SlotState, key: &SecretKey) -> Self {
        let message = Self::sign_bytes(genesis, &key.public(), &state);
        Self { state, signature: key.sign(message.as_bytes()) }
    }

    /// Whether the contract's key signed it; the empty slot needs no signature.
    #[must_use]
    pub fn verify(&self, genesis: &BlockHash, contract: &ContractId) -> bool {
        self.state == SlotState::default()
            || contract.verify(
                Self::sign_bytes(genesis, contract, &self.state).as_bytes(),
                &self.signature,
            )
    }

    fn sign_bytes(genesis: &BlockHash, contract: &ContractId, state: &SlotState) -> Digest {
        digest("samara v1 head slot", &(genesis, contract, state))
    }
}

/// A host's signed word that its slot holds a state, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadReceipt {
    /// What the slot holds.
    pub state: SlotState,
    /// The request's challenge.
    pub challenge: [u8; 16],
    /// By the host.
    pub signature: Signature,
}

impl HeadReceipt {
    /// Signs a receipt with the host's key.
    #[must_use]
    pub fn sign(
        genesis: &BlockHash,
        contract: &ContractId,
        state: SlotState,
        challenge: [u8; 16],
        key: &SecretKey,
    ) -> Self {
        let message = Self::sign_bytes(genesis, contract, &state, &challenge);
        Self { state, challenge, signature: key.sign(message.as_bytes()) }
    }

    /// Whether `host` signed it for this contract.
    #[must_use]
    pub fn verify(&self, genesis: &BlockHash, contract: &ContractId, host: &PublicKey) -> bool {
        let message = Self::sign_bytes(genesis, contract, &self.state, &self.challenge);
        host.verify(message.as_bytes(), &self.signature)
    }

    fn sign_bytes(
        genesis: &BlockHash,
        contract: &ContractId,
        state: &SlotState,
        challenge: &[u8; 16],
    ) -> Digest {
        digest("samara v1 head receipt", &(genesis, contract, state, challenge))
    }
}

/// What a host knows of a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractStatus {
    /// Latest doubly signed revision.
    pub revision: SignedRevision,
    /// The head slot.
    pub slot: SignedSlot,
    /// Epochs below this one are refused; the claim proves that it was not the host that chose it.
    pub promised: EpochClaim,
    /// The contract that this one renews, if the host took it over: it may still show that one's head.
    pub renews: Option<ContractId>,
    /// Highest voucher total seen.
    pub voucher_total: Amount,
    /// Of it, how much was used up.
    pub consumed: Amount,
    /// The host's receipt for the slot over the request's challenge: a later one that shows less proves a lie.
    pub receipt: HeadReceipt,
}

/// A host's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostResponse {
    /// To [`HostRequest::Prices`].
    Prices(Box<SignedPrices>),
    /// To [`HostRequest::Agree`]: the host's signature of the body's id.
    Agreed(Signature),
    /// To [`ContractCall::Store`]: durable.
    Stored,
    /// To [`ContractCall::Read`].
    Range {
        /// The bytes.
        #[serde(with = "crate::encoding::payload")]
        data: Bytes,
        /// Siblings that lead to the root.
        proof: crate::sector::RangeProof,
    },
    /// To [`ContractCall::Commit`]: the host's signature of the revision, durable.
    Committed(Signature),
    /// To [`ContractCall::Descriptors`], in the order asked; empty where there is none.
    Descriptors(Vec<serde_bytes::ByteBuf>),
    /// To [`ContractCall::Sectors`]: at most [`MAX_ENTRIES`].
    Sectors(Vec<SectorEntry>),
    /// To [`ContractCall::Latest`].
    Latest(Box<ContractStatus>),
    /// To [`ContractCall::Promise`] and [`ContractCall::Head`].
    Head {
        /// Revision, slot and promised epoch.
        status: Box<ContractStatus>,
        /// The sealed head.
        #[serde(with = "serde_bytes")]
        head: Vec<u8>,
    },
    /// To [`ContractCall::HeadAppend`] and [`ContractCall::HeadPut`].
    HeadWritten(HeadReceipt),
    /// The request was refused; nothing was changed.
    Refused(Refusal),
}

impl HostResponse {
    /// The bytes of a sector's range, if it carries one.
    #[must_use]
    pub const fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Range { data, .. } => Some(data),
            _ => None,
        }
    }
}

/// Why a host refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The request does not decode, breaks a bound or is signed falsely.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// No such contract with this host.
    #[error("the host has no contract {0}")]
    UnknownContract(ContractId),
    /// The contract has ended.
    #[error("contract {contract} ended at chain time {ended:?}")]
    Expired {
        /// The contract.
        contract: ContractId,
        /// When.
        ended: ChainTime,
    },
    /// A higher epoch was promised: another node writes for this seed now.
    #[error("epoch {given} is fenced: the host promised epoch {epoch}", epoch = .promised.epoch)]
    Fenced {
        /// The request's epoch.
        given: Epoch,
        /// What the host promised, with its proof.
        promised: Box<EpochClaim>,
    },
    /// No room.
    #[error("the host has no room: {free} bytes free, {needed} needed")]
    Full {
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The voucher does not cover the request.
    #[error("the voucher's total is {total}, the request needs {needed}")]
    Payment {
        /// Total of the voucher that counts.
        total: Amount,
        /// Total that would be enough.
        needed: Amount,
    },
    /// The contract's terms or a renewal's differ from what the host agrees to.
    #[error("the host does not agree to these terms: {0}")]
    Terms(String),
    /// The host does not hold this sector under this contract.
    #[error("the host has no sector {0} under this contract")]
    UnknownSector(SectorRoot),
    /// The sector's bytes on disk no longer match its root.
    #[error("sector {0} is damaged at the host")]
    Damaged(SectorRoot),
    /// The revision does not follow the host's latest.
    #[error("revision {given} does not follow the host's latest {latest}")]
    RevisionConflict {
        /// Number given.
        given: u64,
        /// The host's latest number.
        latest: u64,
    },
    /// The slot is not what the writer believes; a full put with a higher sequence mends it.
    #[error("the head slot is at sequence {sequence}", sequence = .0.sequence)]
    HeadConflict(SlotState),
    /// The host cannot answer now; nothing was changed.
    #[error("the host is busy: {0}")]
    Busy(String),
    /// The host failed inside; nothing is promised to have changed.
    #[error("the host failed: {0}")]
    Internal(String),
}
