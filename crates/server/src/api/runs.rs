//! Runs: passes of `apply` and `migrate`, while they go and afterwards.

use axum::{Json, extract::State};
use guardian_model::{
    Permission, RunId,
    api::{Page, Run},
    query::RunQuery,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    extract::{PathName, QueryOf},
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// List runs, newest first
#[utoipa::path(
    get, path = "/v1/runs", tag = "runs", operation_id = "run.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(RunQuery),
    responses((status = 200, description = "A page, without the runs' items", body = Page<Run>)),
)]
async fn list(State(state): State<AppState>, QueryOf(query): QueryOf<RunQuery>) -> ApiResult<Json<Page<Run>>> {
    Ok(Json(state.store.runs(query.cursor.as_deref(), query.limit).await?))
}

/// Show a run with every item
#[utoipa::path(
    get, path = "/v1/runs/{run}", tag = "runs", operation_id = "run.read",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(("run" = RunId, Path, description = "Its id")),
    responses((status = 200, description = "The run", body = Run)),
)]
async fn show(State(state): State<AppState>, PathName(run): PathName) -> ApiResult<Json<Run>> {
    let id = run.parse::<RunId>().map_err(|error| ApiError::not_found(error.to_string()))?;
    state.store.run(id).await?.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no run `{id}`")))
}
