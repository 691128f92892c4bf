//! The renter of Samara: what an owner of files runs.
//!
//! Everything here reaches the outside through the traits of [`world`], so the same code runs in the
//! daemon and in the seeded simulator. Rules that keep it deterministic: `select! { biased }` only, no
//! task spawned but through [`world::Spawner`], no clock or random byte but the world's, no iteration
//! over a `HashMap`.

pub mod contract;
pub mod transfer;
pub mod world;
