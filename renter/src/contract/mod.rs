//! The renter's contracts: who holds data for it, under what terms, and how it talks to them.
//!
//! | type | what it is |
//! | --- | --- |
//! | [`ContractBook`] | the table of hosts, and the live contract with each |
//! | [`ContractLink`] | signs requests about one contract and verifies the answers |
//! | [`ContractHandle`] | a link with money and a list of sectors: stores, reads, commits |
//! | [`LineRates`] | how many bytes a second sectors may take of the line |
//! | [`Budget`] | the most that one operation may spend, and what it has spent |
//! | [`Writer`] | the epoch of this node, and whether another node has taken over |
//! | [`Reports`] | what was seen of hosts |
//! | [`Contractor`] | the autopilot: forms, renews and replaces within an [`Allowance`] |
//!
//! Invariants: a revision is on disk, signed, before it is sent, and its number grows by one; voucher
//! totals only grow and stay within the funds; no answer is believed unchecked; a fenced writer sends
//! nothing that changes anything (I8). Owner of all state is the [`ContractBook`].

mod allowance;
mod book;
mod budget;
mod commit;
mod contractor;
mod error;
mod handle;
mod line;
mod link;
mod plan;
mod prices;
mod purse;
mod queue;
mod records;
mod reports;
mod score;
mod writer;

#[cfg(test)]
mod tests;

pub use allowance::{Allowance, AllowanceError, Redundancy};
pub use book::{Adoption, BookError, ContractBook};
pub use budget::Budget;
pub use contractor::{Contractor, ContractorError, HostRegistry, StepOutcome, Turn};
pub use error::ContractError;
pub use handle::ContractHandle;
pub use line::LineRates;
pub(crate) use line::Queued;
pub use link::{ContractLink, HeadAnswer};
pub use plan::{
    HostVerdict, LiveSight, PendingSight, Plan, Reason, Sight, Standing, Step, least_funds,
    obstacles, plan, renewal_time, unpaid,
};
pub use prices::PriceLimits;
pub use records::{BookSnapshot, ContractSnapshot, HostRow, HostSnapshot, RolledBack};
pub use reports::{HostHealth, Incident, Reports};
pub use score::{BEST, byte_price, has_failed_its_duty, score, verdict};
pub use writer::{Writer, WriterState};
