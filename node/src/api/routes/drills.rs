//! Drills.

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use axum::extract::State;
use axum::response::Response;
use samara_renter::backup::Trigger;

use super::{changed, failed, known};
use crate::api::error::ApiError;
use crate::api::extract::{Json, Path};
use crate::api::openapi::{Lines, answers, says};
use crate::api::state::Api;
use crate::api::stream::WithoutClient;
use crate::drill::{DrillOptions, DrillReport, DrillRow, DrillSchedule, DrillScheduleRow, Drills};

pub(in crate::api) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/v1/drills",
            get_with(list, says("Lists drills"))
                .post_with(run, answers::<200, Lines<DrillReport>>("Makes a drill")),
        )
        .api_route("/v1/drills/{id}", get_with(show, says("What a drill has found")))
        .api_route(
            "/v1/drill-schedule",
            get_with(schedule, says("When drills are made by themselves"))
                .put_with(set_schedule, says("Sets when drills are made by themselves")),
        )
}

fn drills(api: &Api) -> Result<&Drills, ApiError> {
    api.node().drills.as_ref().ok_or_else(|| ApiError::no_role("renter"))
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<DrillRow>>, ApiError> {
    Ok(Json(drills(&api)?.list()))
}

/// Makes a drill and streams how far it is. It goes on without its client: there is a report at its end.
async fn run(
    State(api): State<Api>,
    Json(options): Json<DrillOptions>,
) -> Result<Response, ApiError> {
    let drills = drills(&api)?.clone();
    Ok(api.operations().respond(WithoutClient::GoesOn, move |progress| async move {
        drills.run(options, Trigger::Manual, progress.as_ref()).await.map_err(failed)
    }))
}

async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<DrillReport>, ApiError> {
    drills(&api)?.report(&id).map(Json).map_err(failed)
}

async fn schedule(State(api): State<Api>) -> Result<Json<DrillScheduleRow>, ApiError> {
    known(&api)?;
    drills(&api)?.schedule().map(Json).map_err(failed)
}

async fn set_schedule(
    State(api): State<Api>,
    Json(wanted): Json<DrillSchedule>,
) -> Result<Json<DrillScheduleRow>, ApiError> {
    let renter = known(&api)?;
    let drills = drills(&api)?;
    changed(renter, drills.set_schedule(wanted).await).await?;
    drills.schedule().map(Json).map_err(failed)
}
