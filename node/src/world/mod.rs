//! The renter's world in the daemon: libp2p, redb, the file system, tokio.

mod below;
mod disk_files;
mod disk_store;
mod network_hosts;
mod runtime;

pub use disk_files::DiskFiles;
pub use disk_store::{DiskStore, OpenStoreError};
pub use network_hosts::NetworkHosts;
pub use runtime::{BlockingCompute, OsRandomness, SystemClock, TokioSpawner};
