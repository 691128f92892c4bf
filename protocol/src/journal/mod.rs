//! The journal: every change of a renter as an event, and the sealed heads that keep it at the hosts.

pub mod slab_record;

pub use slab_record::{HostIndex, SlabRecord};
