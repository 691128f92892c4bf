//! The renter: its state, contracts, hosts.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::extract::State;
use axum::response::Response;
use samara_protocol::units::{Amount, Millis};
use samara_renter::contract::{Allowance, LineRates};
use samara_renter::garbage::GarbageReport;
use samara_renter::journal::JournalError;
use samara_renter::repair::HealthReport;
use samara_renter::rows::{AllowanceReport, ContractRow, HostRow, RenterState, RenterStatus};
use samara_renter::transfer::Redundancy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failed;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::openapi::{Lines, answers, says};
use crate::api::state::Api;
use crate::api::stream::WithoutClient;

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route("/v1/renter", get_with(status, says("The renter at a glance")))
        .api_route("/v1/renter/start", post_with(start, says("Starts with new words")))
        .api_route("/v1/health", get_with(health, says("The health of slabs, and their repair")))
        .api_route("/v1/hosts", get_with(hosts, says("Hosts as the renter scores them")))
        .api_route("/v1/contracts", get_with(contracts, says("The renter's contracts")))
        .api_route(
            "/v1/garbage",
            get_with(garbage, says("What was freed at hosts and what waits to be"))
                .post_with(collect, says("Frees what can be freed now")),
        )
        .api_route(
            "/v1/allowance",
            get_with(allowance, says("The allowance, if one is set")).post_with(
                set_allowance,
                answers::<200, Lines<AllowanceAnswer>>(
                    "Sets the allowance, or says what it would do",
                ),
            ),
        )
        .api_route(
            "/v1/limits",
            get_with(limits, says("How fast transfers may be"))
                .post_with(set_limits, says("Sets how fast transfers may be")),
        )
}

/// An allowance to set. What is not given stays as it is, or becomes what suits the network.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AllowanceRequest {
    /// Hosts to have contracts with.
    pub hosts: Option<u16>,
    /// Coins for all contracts of one term, as in `2.5`.
    #[schemars(with = "Option<samara_renter::schema::Coins>")]
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

/// Limits to set. What is not given stays as it is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsRequest {
    /// Bytes of sectors sent to hosts in a second; 0 for no limit.
    pub upload: Option<u64>,
    /// Bytes of sectors fetched from hosts in a second; 0 for no limit.
    pub download: Option<u64>,
    /// Go back to those of the configuration first.
    pub reset: bool,
}

/// What came of an allowance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AllowanceAnswer {
    /// What is set, or would be.
    pub allowance: Allowance,
    /// What was done about contracts, or would be.
    pub report: AllowanceReport,
    /// Least funds with which all contracts take large files, by the prices of this moment.
    #[serde(default)]
    #[schemars(with = "samara_renter::schema::Coins")]
    pub least: Amount,
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

    /// The allowance that is meant, where so many hosts form contracts.
    fn over(&self, mut allowance: Allowance, accepting: u16) -> Allowance {
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
        if let Some(hosts) = self.hosts {
            if self.redundancy.is_none() {
                // Shards for which there are no hosts would keep everything from being stored.
                allowance.redundancy = Redundancy::for_hosts(usize::from(hosts.min(accepting)));
            }
            allowance.hosts = hosts;
        }
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

async fn health(State(api): State<Api>) -> Result<Json<HealthReport>, ApiError> {
    Ok(Json(api.renter()?.health()))
}

async fn contracts(State(api): State<Api>) -> Result<Json<Vec<ContractRow>>, ApiError> {
    Ok(Json(api.renter()?.contracts()))
}

async fn garbage(State(api): State<Api>) -> Result<Json<GarbageReport>, ApiError> {
    Ok(Json(api.renter()?.garbage()))
}

/// Runs a round now.
async fn collect(State(api): State<Api>) -> Result<Json<GarbageReport>, ApiError> {
    let renter = api.renter()?;
    renter.collect().await;
    match renter.state() {
        RenterState::Fenced { by } => {
            let why = format!("nothing is freed here: another node writes since epoch {by}");
            Err(ApiError::new("fenced", why))
        }
        _ => Ok(Json(renter.garbage())),
    }
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
    let named = request.funds.is_some();
    let before = match renter.allowance().or_else(|| renter.remembered_allowance()) {
        Some(allowance) => allowance,
        None => renter.suggest_allowance(request.funds.unwrap_or(FUNDS)).await.map_err(failed)?,
    };
    let accepting = match request.hosts {
        Some(_) => renter.accepting_hosts().await.map_err(failed)?,
        None => 0,
    };
    let allowance = request.over(before, u16::try_from(accepting).unwrap_or(u16::MAX));
    // A chain that does not answer says so when contracts are formed.
    let least = renter.least_funds(&allowance).await.unwrap_or_default();
    let lack = lack(&allowance, least, named);
    let meant = (!named).then(|| not_named(&allowance, least));
    if let Some(lack) = lack.as_ref().filter(|_| !request.dry_run) {
        return Err(ApiError::new("bad_allowance", lack.as_str()));
    }
    Ok(api.operations().respond(WithoutClient::GoesOn, move |_progress| async move {
        let dry_run = request.dry_run;
        let report = match dry_run {
            true => renter.preview_allowance(allowance).await,
            false => renter.set_allowance(allowance).await,
        };
        let mut report = report.map_err(|error| {
            let mut error = failed(error);
            if let Some(meant) = meant.as_ref().filter(|_| error.code == "no_money") {
                error.message = format!("{}; {meant}", error.message);
            }
            error
        })?;
        report.notes.extend(lack.or(meant.filter(|_| dry_run)));
        Ok(AllowanceAnswer { allowance, report, least, dry_run })
    }))
}

/// What to say of funds that are less than the least.
fn lack(allowance: &Allowance, least: Amount, named: bool) -> Option<String> {
    let Allowance { hosts, funds, periods, .. } = allowance;
    let whose = if named { "" } else { ", which are meant where none are named," };
    (*funds < least).then(|| {
        format!(
            "funds of {funds}{whose} are too little for contracts with {hosts} hosts over {periods} periods: at \
             least {least} are needed"
        )
    })
}

/// What to say of funds that the owner did not name.
fn not_named(Allowance { funds, .. }: &Allowance, least: Amount) -> String {
    format!("no funds were named, so {funds} are meant; at least {least} are needed: --funds COINS")
}

async fn limits(State(api): State<Api>) -> Result<Json<LineRates>, ApiError> {
    Ok(Json(api.renter()?.line_rates()))
}

async fn set_limits(
    State(api): State<Api>,
    Json(request): Json<LimitsRequest>,
) -> Result<Json<LineRates>, ApiError> {
    let renter = api.renter()?;
    let kept = |error| failed(JournalError::from(error));
    if request.upload.is_none() && request.download.is_none() {
        if request.reset {
            renter.set_line_rates(None).await.map_err(kept)?;
        }
    } else {
        let now = if request.reset { LineRates::default() } else { renter.line_rates() };
        let upload = request.upload.unwrap_or(now.upload);
        let download = request.download.unwrap_or(now.download);
        renter.set_line_rates(Some(LineRates { upload, download })).await.map_err(kept)?;
    }
    Ok(Json(renter.line_rates()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_money_is_told_with_what_is_needed() {
        let parameters = samara_protocol::chain::ChainParameters::default();
        let allowance = Allowance::for_network(8, Amount::coins(1), &parameters);
        assert_eq!(lack(&allowance, Amount::coins(1), true), None);
        let text = lack(&allowance, Amount::coins(2), true).unwrap();
        assert!(
            text.starts_with("funds of 1 SAM are too little for contracts with 8 hosts"),
            "{text}"
        );
        assert!(text.ends_with("at least 2 SAM are needed"), "{text}");
        let text = not_named(&allowance, Amount::coins(2));
        assert!(text.contains("1 SAM are meant; at least 2 SAM"), "{text}");
    }

    #[test]
    fn redundancy_fits_the_hosts_asked_for_and_those_that_there_are() {
        let parameters = samara_protocol::chain::ChainParameters::default();
        let before = Allowance::for_network(8, FUNDS, &parameters);
        let shape = |request: AllowanceRequest| {
            let allowance = request.over(before, 8);
            (allowance.hosts, allowance.redundancy.data, allowance.redundancy.total)
        };
        let hosts = |hosts| AllowanceRequest { hosts: Some(hosts), ..Default::default() };
        assert_eq!(shape(hosts(4)), (4, 2, 4));
        assert_eq!(shape(hosts(100)), (100, 4, 8));
        assert_eq!(shape(AllowanceRequest::default()), (8, 4, 8));
        let redundancy = Redundancy { data: 2, total: 6, margin: 2 };
        let named = AllowanceRequest { redundancy: Some(redundancy), ..hosts(7) };
        assert_eq!(shape(named), (7, 2, 6));
    }
}
