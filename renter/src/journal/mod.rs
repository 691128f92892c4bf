//! The journal's shell.
mod error;

pub use error::JournalError;
