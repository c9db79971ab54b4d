//! The application's migrations in every place: what is missing, what it would do, running it, and where places differ.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission,
    api::{FleetDrift, MigrationPlan, Run, StartMigration},
    query::DriftQuery,
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
    OpenApiRouter::new().routes(routes!(plan, start)).routes(routes!(advise)).routes(routes!(drift))
}

/// Show what migrations each place lacks
#[utoipa::path(
    get, path = "/v1/migrations", tag = "migrations", operation_id = "migration.plan",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses((status = 200, description = "Every place, without advice", body = MigrationPlan)),
)]
async fn plan(State(state): State<AppState>) -> ApiResult<Json<MigrationPlan>> {
    Ok(Json(runs::migrate::plan(&state).await?))
}

/// Show what migrations each place lacks, and what they would lock
///
/// The missing files run in a scratch database on the shared place's cluster, which is dropped again.
#[utoipa::path(
    post, path = "/v1/migrations/advice", tag = "migrations", operation_id = "migration.advise",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses((status = 200, description = "Every place, and what the missing files do to tables", body = MigrationPlan)),
)]
async fn advise(State(state): State<AppState>, OnPlatform(permit): OnPlatform) -> ApiResult<Json<MigrationPlan>> {
    Ok(Json(runs::migrate::advise(&state, &permit).await?))
}

/// Show where places differ from the files and from each other
#[utoipa::path(
    get, path = "/v1/migrations/drift", tag = "migrations", operation_id = "migration.drift",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    params(DriftQuery),
    responses((status = 200, description = "A page of places", body = FleetDrift)),
)]
async fn drift(State(state): State<AppState>, QueryOf(query): QueryOf<DriftQuery>) -> ApiResult<Json<FleetDrift>> {
    Ok(Json(runs::migrate::drift(&state, &query).await?))
}

/// Start migrating every place
///
/// The run goes on by itself; ask for it by its id.
#[utoipa::path(
    post, path = "/v1/migrations", tag = "migrations", operation_id = "run.migrate",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    request_body(content = StartMigration, example = json!({ "parallel": 4, "ring": "rest" })),
    responses(
        (status = 202, description = "The run", body = Run),
        (status = 409, description = "A run is going"),
    ),
)]
async fn start(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<StartMigration>,
) -> ApiResult<(StatusCode, Json<Run>)> {
    Ok((StatusCode::ACCEPTED, Json(runs::migrate::start(&state, &permit, &body).await?)))
}
