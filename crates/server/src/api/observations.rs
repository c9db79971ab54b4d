//! What gateways see of an application that is being adopted: statements that would fare otherwise once everything is enforced.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission,
    access::Permit,
    api::Page,
    observation::{DirectSessions, Observation, ObservationReceipt, ObservationReport, ObservationSummary},
    placement::ApplicationRoles,
    query::ObservationQuery,
};
use guardian_postgres::activity::sessions_past;
use guardian_store::ReportError;
use sqlx::Connection as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    auth::OnPlatform,
    extract::{JsonBody, QueryOf},
    problem::{ApiError, ApiResult},
};

/// How long the look for sessions past the gateway may take.
const LOOK_MAX: Duration = Duration::from_secs(2);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, report, clear)).routes(routes!(summary))
}

/// List statements that would fare otherwise once everything is enforced, newest first
///
/// Without literals and parameters. Those that could not be looked at only when asked for.
#[utoipa::path(
    get, path = "/v1/adoption/observations", tag = "adoption", operation_id = "observation.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(ObservationQuery),
    responses((status = 200, description = "A page", body = Page<Observation>)),
)]
async fn list(
    State(state): State<AppState>,
    QueryOf(query): QueryOf<ObservationQuery>,
) -> ApiResult<Json<Page<Observation>>> {
    Ok(Json(state.store.observations(!query.all, query.cursor.as_deref(), query.limit).await?))
}

/// What was observed, in sum and by table
#[utoipa::path(
    get, path = "/v1/adoption/observations/summary", tag = "adoption", operation_id = "observation.summary",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    responses((status = 200, description = "The sum", body = ObservationSummary)),
)]
async fn summary(State(state): State<AppState>) -> ApiResult<Json<ObservationSummary>> {
    Ok(Json(state.store.observation_summary().await?))
}

/// Report what a gateway saw since its last report
///
/// A report with another generation than the present one is not taken; the answer says which one that is.
#[utoipa::path(
    post, path = "/v1/adoption/observations", tag = "adoption", operation_id = "observation.report",
    extensions(("x-guardian-permission" = json!(Permission::SnapshotRead))),
    request_body(content = ObservationReport, example = json!({
        "generation": 1, "observations": [], "statements": 120, "looked_at": 8, "overlooked": 0
    })),
    responses((status = 200, description = "Whether it was taken", body = ObservationReceipt)),
)]
async fn report(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<ObservationReport>,
) -> ApiResult<Json<ObservationReceipt>> {
    Ok(Json(take(&state, &permit, &body).await?))
}

/// The same for the gateway of this process.
pub(crate) async fn take(state: &AppState, permit: &Permit, report: &ObservationReport) -> ApiResult<ObservationReceipt> {
    let direct = if state.is_time_to_look_past() { sessions_past_the_gateway(state).await } else { Vec::new() };
    state.store.report_observations(permit, report, &direct).await.map_err(|error| match error {
        ReportError::Malformed(_) => ApiError::invalid(error.to_string()),
        ReportError::Store(error) => error.into(),
    })
}

/// Who uses the application's old role without going through a gateway. Cannot be told while the server does not answer.
async fn sessions_past_the_gateway(state: &AppState) -> Vec<DirectSessions> {
    let config = state.config.started_with();
    let look = async {
        let place = config.shared_place();
        let mut connection = state.clusters.connect(&place.cluster, &place.database).await.ok()?;
        let found = sessions_past(&mut connection, &ApplicationRoles::of(&config.application.name)).await;
        let _ = connection.close().await;
        found.ok()
    };
    tokio::time::timeout(LOOK_MAX, look).await.ok().flatten().unwrap_or_default()
}

/// Forget everything that was observed
///
/// Gateways look at every statement anew: after a fix.
#[utoipa::path(
    delete, path = "/v1/adoption/observations", tag = "adoption", operation_id = "observation.clear",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses((status = 204, description = "Nothing is known any more")),
)]
async fn clear(State(state): State<AppState>, OnPlatform(permit): OnPlatform) -> ApiResult<StatusCode> {
    state.store.clear_observations(&permit).await?;
    Ok(StatusCode::NO_CONTENT)
}
