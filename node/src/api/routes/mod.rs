//! One file for each group of routes.

mod backups;
mod contents;
mod drills;
mod links;
mod monitor;
mod node;
mod notifications;
mod notify_settings;
mod objects;
mod policies;
mod recovery;
mod recovery_scan;
mod renter;
mod restores;
mod tokens;
mod users;
mod validators;
mod vaults;
mod wallet;

pub(super) use self::node::routes as node;
pub(super) use self::recovery::routes as recovery;
pub(super) use backups::routes as backups;
pub(super) use contents::routes as contents;
pub(super) use drills::routes as drills;
pub(super) use links::{downloads, routes as links};
pub(super) use monitor::routes as monitor;
pub(super) use notifications::routes as notifications;
pub(super) use objects::routes as objects;
pub(super) use policies::routes as policies;
pub(super) use recovery_scan::routes as recovery_scan;
pub(super) use renter::routes as renter;
pub(super) use restores::routes as restores;
pub(super) use tokens::routes as tokens;
pub(super) use users::routes as users;
pub(super) use validators::routes as validators;
pub(super) use vaults::routes as vaults;
pub(super) use wallet::routes as wallet;

pub use backups::{BackupLimit, PinRequest};
pub use links::LinkRequest;
pub use monitor::{Condition, HealthAnswer};
pub use node::{AnnouncedHost, ChainStatus, NodeStatus};
pub use notifications::{DeliveryRow, NoticeRow};
pub use notify_settings::{
    MailAnswer, MailRequest, NotifyAnswer, NotifyRequest, WebhookAnswer, WebhookRequest,
};
pub use policies::PreviewRequest;
pub use recovery::RecoveryAnswer;
pub use renter::{AllowanceAnswer, AllowanceRequest, LimitsRequest};
pub use restores::{GoOn, ImportAsk};
pub use tokens::LoginRequest;
pub use validators::{AcceptClock, SignedChange, ValidatorRow, ValidatorsAnswer};
pub use vaults::{Changed, Done, MoveRequest, NameRequest, RemoveRequest, VersionGivenUp};
pub use wallet::{FaucetRequest, Included, SendRequest, Wallet};

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use samara_renter::Renter;
use samara_renter::error::Coded;

use super::error::ApiError;
use super::state::Api;

/// The renter, once it is known what its words own.
fn known(api: &Api) -> Result<&Renter, ApiError> {
    let renter = api.renter()?;
    renter.check_known().map_err(failed)?;
    Ok(renter)
}

/// What came of a change. The epoch that stops this node may be the one that its own recovery has claimed:
/// then no other node is to blame.
async fn changed<T>(
    renter: &Renter,
    outcome: Result<T, impl Coded + 'static>,
) -> Result<T, ApiError> {
    let error = match outcome {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if error.code() == "fenced" && renter.waits_for_own_recovery().await.unwrap_or_default() {
        let unfinished = "a recovery here is not finished: `samara recover start` goes on";
        return Err(ApiError::new("recovering", unfinished));
    }
    Err(failed(error))
}

/// An answer with a secret: no cache is to keep it.
fn uncached(answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An error of the renter as the API shows it.
fn failed(error: impl Coded + 'static) -> ApiError {
    ApiError::from_coded(error)
}
