//! The host's shell: disks, the store behind the rules, and the loops around them.
//!
//! The rules are [`samara_protocol::host::Host`]; here are [`DiskStore`] (redb and a file per sector),
//! [`HostService`] (answers requests on threads of its own), [`Prover`] (follows the chain, publishes
//! proofs, announces, sweeps) and [`Scrubber`] (reads every sector again, slowly).

mod config;
mod direct;
pub(crate) mod group;
mod prover;
mod role;
mod rows;
mod scrub;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod volumes;

pub use config::{ByteCount, HostConfig, HostConfigError, VolumeConfig};
pub use prover::{Prover, ProverConfig, ProverError};
pub use role::{HostRole, HostRoleError, HostStatus};
pub use scrub::{ScrubReport, Scrubber};
pub use service::{ChainFactsSource, ChainViewFacts, FactsError, HostService, ServiceLimits};
pub use store::{DiskStore, OpenStoreError};
pub use volumes::{OpenVolumeError, Volumes};
