//! The local HTTP API: what the command line and other programs use.
//!
//! On loopback, behind tokens: those of the data folder, and those of users (`crate::access`). Routes and
//! codes are described in `docs/api.md`; a long operation streams JSON lines ([`stream`]).

pub mod access;
pub mod client;
pub mod codes;
pub mod error;
mod extract;
pub mod idempotency;
mod metrics;
mod openapi;
mod roles;
mod routes;
mod server;
mod state;
pub mod stream;
#[cfg(test)]
mod tests;

pub use error::ApiError;
pub use routes::{
    AcceptClock, AllowanceAnswer, AllowanceRequest, AnnouncedHost, BackupLimit, ChainStatus,
    Changed, Condition, DeliveryRow, Done, FaucetRequest, GoOn, HealthAnswer, ImportAsk, Included,
    LimitsRequest, LinkRequest, LoginRequest, MailAnswer, MailRequest, MoveRequest, NameRequest,
    NodeStatus, NoticeRow, NotifyAnswer, NotifyRequest, PinRequest, PreviewRequest, RecoveryAnswer,
    RemoveRequest, SendRequest, SignedChange, ValidatorRow, ValidatorsAnswer, VersionGivenUp,
    Wallet, WebhookAnswer, WebhookRequest,
};
pub use server::Server;
pub use state::{Api, Node};
