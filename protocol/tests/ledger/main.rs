//! The rules of the ledger, through its public interface.

mod contracts;
mod oracle;
mod proofs;
mod random;
mod rules;
mod world;
