//! The hardening of the application's shared place: what it would do, and doing it.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission,
    api::{HardeningReport, Run},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, auth::OnPlatform, problem::ApiResult, runs};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(plan, start))
}

/// Show what `apply` would do to the application's shared place
#[utoipa::path(
    get, path = "/v1/hardening", tag = "hardening", operation_id = "hardening.plan",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses(
        (status = 200, description = "The plan", body = HardeningReport),
        (status = 409, description = "There is no database yet"),
    ),
)]
async fn plan(State(state): State<AppState>) -> ApiResult<Json<HardeningReport>> {
    Ok(Json(runs::apply::plan(&state).await?.report()))
}

/// Start `apply`
///
/// The run goes on by itself; ask for it by its id.
#[utoipa::path(
    post, path = "/v1/hardening", tag = "hardening", operation_id = "run.apply",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses(
        (status = 202, description = "The run", body = Run),
        (status = 409, description = "A run is going, or something must be decided first"),
    ),
)]
async fn start(State(state): State<AppState>, OnPlatform(permit): OnPlatform) -> ApiResult<(StatusCode, Json<Run>)> {
    Ok((StatusCode::ACCEPTED, Json(runs::apply::start(&state, &permit).await?)))
}
