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
    Changed, DeliveryRow, Done, FaucetRequest, Included, LimitsRequest, MailAnswer, MailRequest,
    MoveRequest, NameRequest, NodeStatus, NoticeRow, NotifyAnswer, NotifyRequest, PinRequest,
    RecoveryAnswer, RemoveRequest, SendRequest, SignedChange, ValidatorRow, ValidatorsAnswer,
    VersionGivenUp, Wallet, WebhookAnswer, WebhookRequest,
};
pub use server::Server;
pub use state::{Api, Node};
