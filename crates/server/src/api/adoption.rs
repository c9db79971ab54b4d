//! The adoption of an application that runs already: how far it has come, what a step would do, and doing it.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission,
    adoption::{AdoptionPlanQuery, AdoptionStatus, SetObserving, StartAdoption},
    api::{HardeningReport, Run},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    auth::OnPlatform,
    extract::{JsonBody, QueryOf},
    problem::ApiResult,
    runs,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read, start)).routes(routes!(plan)).routes(routes!(observe))
}

/// Show how far the adoption of the application has come
#[utoipa::path(
    get, path = "/v1/adoption", tag = "adoption", operation_id = "adoption.read",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses(
        (status = 200, description = "How far it has come", body = AdoptionStatus),
        (status = 409, description = "There is no database yet"),
    ),
)]
async fn read(State(state): State<AppState>) -> ApiResult<Json<AdoptionStatus>> {
    Ok(Json(runs::adopt::status(&state).await?))
}

/// Show what a step of the adoption would do
#[utoipa::path(
    get, path = "/v1/adoption/plan", tag = "adoption", operation_id = "adoption.plan",
    params(AdoptionPlanQuery),
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses(
        (status = 200, description = "The plan", body = HardeningReport),
        (status = 409, description = "There is no database yet"),
    ),
)]
async fn plan(
    State(state): State<AppState>,
    QueryOf(query): QueryOf<AdoptionPlanQuery>,
) -> ApiResult<Json<HardeningReport>> {
    let tables = query.tables.iter().flat_map(|tables| tables.split(',')).map(str::to_owned).collect::<Vec<_>>();
    Ok(Json(runs::adopt::plan(&state, query.step, &tables).await?.report()))
}

/// Start a step of the adoption
///
/// The run goes on by itself; ask for it by its id.
#[utoipa::path(
    post, path = "/v1/adoption", tag = "adoption", operation_id = "run.adopt",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    request_body = StartAdoption,
    responses(
        (status = 202, description = "The run", body = Run),
        (status = 409, description = "A run is going, the stage is another one, or something must be decided first"),
    ),
)]
async fn start(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<StartAdoption>,
) -> ApiResult<(StatusCode, Json<Run>)> {
    Ok((StatusCode::ACCEPTED, Json(runs::adopt::start(&state, &permit, body).await?)))
}

/// Begin or end the observation
///
/// While it lasts, the SQL gateway serves row tenants as the role that the application uses today: policies apply to those
/// tables only that are enforced already.
#[utoipa::path(
    put, path = "/v1/adoption/observing", tag = "adoption", operation_id = "adoption.observe",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    request_body = SetObserving,
    responses(
        (status = 200, description = "How far the adoption has come", body = AdoptionStatus),
        (status = 409, description = "The stage is another one"),
    ),
)]
async fn observe(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<SetObserving>,
) -> ApiResult<Json<AdoptionStatus>> {
    Ok(Json(runs::adopt::observe(&state, &permit, body.observing).await?))
}
