//! Audits of the application's shared place and of tenants' own: what ran, and what was found, with when it was first and last seen.

use axum::{Json, extract::State};
use guardian_model::{
    Permission,
    api::{AuditFinding, AuditRun, Page},
    query::{AuditFindingQuery, AuditRunQuery},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, extract::QueryOf, problem::ApiResult};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(findings))
}

/// List audits, newest first
#[utoipa::path(
    get, path = "/v1/audits", tag = "audits", operation_id = "audit.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(AuditRunQuery),
    responses((status = 200, description = "A page", body = Page<AuditRun>)),
)]
async fn list(State(state): State<AppState>, QueryOf(query): QueryOf<AuditRunQuery>) -> ApiResult<Json<Page<AuditRun>>> {
    Ok(Json(state.store.audits(query.place.as_deref(), query.cursor.as_deref(), query.limit).await?))
}

/// List what audits found, worst first; what is gone only when asked for
#[utoipa::path(
    get, path = "/v1/audits/findings", tag = "audits", operation_id = "audit.findings",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(AuditFindingQuery),
    responses((status = 200, description = "At most 10,000", body = Vec<AuditFinding>)),
)]
async fn findings(
    State(state): State<AppState>,
    QueryOf(query): QueryOf<AuditFindingQuery>,
) -> ApiResult<Json<Vec<AuditFinding>>> {
    Ok(Json(state.store.audit_findings(query.place.as_deref(), query.gone).await?))
}
