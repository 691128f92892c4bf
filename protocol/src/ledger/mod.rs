//! The ledger: the pure rules by which blocks change the state.

pub mod state;
