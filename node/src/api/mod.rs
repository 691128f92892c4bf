//! The local HTTP API: what the command line and other programs use.
//!
//! On loopback, behind a token that only who reads the data folder knows. Routes and codes are
//! described in `docs/api.md`; a long operation streams JSON lines ([`stream`]).

pub mod access;
pub mod client;
pub mod codes;
pub mod error;
mod extract;
mod routes;
mod server;
mod state;
pub mod stream;

pub use error::ApiError;
pub use routes::{
    AcceptClock, AllowanceAnswer, AllowanceRequest, AnnouncedHost, BackupLimit, ChainStatus,
    Changed, Done, FaucetRequest, Included, LimitsRequest, MoveRequest, NameRequest, NodeStatus,
    PinRequest, PreviewRequest, RecoveryAnswer, RemoveRequest, SendRequest, SignedChange,
    ValidatorRow, ValidatorsAnswer, VersionGivenUp, Wallet,
};
pub use server::Server;
pub use state::{Api, Node};
