//! Incidents: what waits for a person.

use axum::{Json, extract::State};
use guardian_model::{
    Permission,
    api::{Incident, Page},
    query::IncidentQuery,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, extract::QueryOf, problem::ApiResult};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// List incidents, newest first; those that are over only when asked for
#[utoipa::path(
    get, path = "/v1/incidents", tag = "incidents", operation_id = "incident.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(IncidentQuery),
    responses((status = 200, description = "A page", body = Page<Incident>)),
)]
async fn list(State(state): State<AppState>, QueryOf(query): QueryOf<IncidentQuery>) -> ApiResult<Json<Page<Incident>>> {
    Ok(Json(state.store.incidents(!query.closed, query.cursor.as_deref(), query.limit).await?))
}
