//! The renter: its state, contracts, hosts.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use samara_protocol::units::{Amount, Millis};
use samara_renter::contract::Allowance;
use samara_renter::rows::{AllowanceReport, ContractRow, HostRow, RenterStatus};
use samara_renter::transfer::Redundancy;
use serde::{Deserialize, Serialize};

use super::failed;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::server::Api;
use crate::api::stream::{self, WithoutClient};

pub(in crate::api) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/renter", get(status))
        .route("/v1/renter/start", post(start))
        .route("/v1/hosts", get(hosts))
        .route("/v1/contracts", get(contracts))
        .route("/v1/allowance", get(allowance).post(set_allowance))
}

/// An allowance to set. What is not given stays as it is, or becomes what suits the network.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AllowanceRequest {
    /// Hosts to have contracts with.
    pub hosts: Option<u16>,
    /// Coins for all contracts of one term, as in `2.5`.
    pub funds: Option<Amount>,
    /// Length of a proof period in seconds.
    pub period: Option<u64>,
    /// Proof periods of a contract.
    pub periods: Option<u32>,
    /// k, n and margin of slabs.
    pub redundancy: Option<Redundancy>,
    /// Only say what would be set.
    pub dry_run: bool,
}

/// What came of an allowance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AllowanceAnswer {
    /// What is set, or would be.
    pub allowance: Allowance,
    /// What was done about contracts, or would be.
    pub report: AllowanceReport,
    /// Whether nothing was set because that was asked.
    pub dry_run: bool,
}

impl AllowanceRequest {
    /// Whether it names nothing to set, and would set it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.dry_run
            && self.hosts.is_none()
            && self.funds.is_none()
            && self.period.is_none()
            && self.periods.is_none()
            && self.redundancy.is_none()
    }

    /// The allowance that is meant.
    fn over(&self, mut allowance: Allowance) -> Allowance {
        allowance.funds = self.funds.unwrap_or(allowance.funds);
        allowance.periods = self.periods.unwrap_or(allowance.periods);
        if let Some(seconds) = self.period {
            allowance.period = Millis(seconds.saturating_mul(1_000));
            allowance.window = Millis(allowance.window.0.min(allowance.period.0));
        }
        if let Some(redundancy) = self.redundancy {
            allowance.redundancy = redundancy;
            allowance.hosts = allowance.hosts.max(u16::from(redundancy.total));
        }
        allowance.hosts = self.hosts.unwrap_or(allowance.hosts);
        allowance
    }
}

async fn status(State(api): State<Api>) -> Result<Json<RenterStatus>, ApiError> {
    Ok(Json(api.renter()?.status()))
}

async fn start(State(api): State<Api>) -> Result<Json<RenterStatus>, ApiError> {
    let renter = api.renter()?;
    renter.start_fresh().await.map_err(failed)?;
    Ok(Json(renter.status()))
}

async fn hosts(State(api): State<Api>) -> Result<Json<Vec<HostRow>>, ApiError> {
    Ok(Json(api.renter()?.hosts()))
}

async fn contracts(State(api): State<Api>) -> Result<Json<Vec<ContractRow>>, ApiError> {
    Ok(Json(api.renter()?.contracts()))
}

/// Coins for one term when the owner names none.
const FUNDS: Amount = Amount::coins(1_000);

async fn allowance(State(api): State<Api>) -> Result<Json<Option<Allowance>>, ApiError> {
    Ok(Json(api.renter()?.allowance()))
}

async fn set_allowance(
    State(api): State<Api>,
    Json(request): Json<AllowanceRequest>,
) -> Result<Response, ApiError> {
    let renter = api.renter()?.clone();
    let before = match renter.allowance().or_else(|| renter.remembered_allowance()) {
        Some(allowance) => allowance,
        None => renter.suggest_allowance(request.funds.unwrap_or(FUNDS)).await.map_err(failed)?,
    };
    let allowance = request.over(before);
    Ok(stream::respond(WithoutClient::GoesOn, move |_progress| async move {
        let dry_run = request.dry_run;
        let report = match dry_run {
            true => renter.preview_allowance(allowance).await,
            false => renter.set_allowance(allowance).await,
        };
        Ok(AllowanceAnswer { allowance, report: report.map_err(failed)?, dry_run })
    }))
}
