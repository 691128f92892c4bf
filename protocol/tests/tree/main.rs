//! Checkpoint trees against plain maps: same contents, same nodes; edits, lists and differences that
//! cost what they touch; the fold of a journal there and back.

mod cost;
mod maps;
mod state;
mod store;
