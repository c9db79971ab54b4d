//! The application's migrations in every place: what is missing, and running it.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission,
    api::{MigrationPlan, Run, StartMigration},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    auth::OnPlatform,
    extract::JsonBody,
    problem::{ApiError, ApiResult},
    runs,
};

/// Places migrated at once when nothing is said.
const PARALLEL_DEFAULT: u16 = 4;
/// The most places migrated at once.
const PARALLEL_MAX: u16 = 64;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(plan, start))
}

/// Show what migrations each place lacks
#[utoipa::path(
    get, path = "/v1/migrations", tag = "migrations", operation_id = "migration.plan",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses((status = 200, description = "Every place", body = MigrationPlan)),
)]
async fn plan(State(state): State<AppState>) -> ApiResult<Json<MigrationPlan>> {
    Ok(Json(runs::migrate::plan(&state).await?))
}

/// Start migrating every place
///
/// The run goes on by itself; ask for it by its id.
#[utoipa::path(
    post, path = "/v1/migrations", tag = "migrations", operation_id = "run.migrate",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    request_body(content = StartMigration, example = json!({ "parallel": 4 })),
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
    let parallel = body.parallel.unwrap_or(PARALLEL_DEFAULT);
    if parallel == 0 || parallel > PARALLEL_MAX {
        return Err(ApiError::invalid(format!("`parallel` must be 1 to {PARALLEL_MAX}")));
    }
    Ok((StatusCode::ACCEPTED, Json(runs::migrate::start(&state, &permit, parallel).await?)))
}
