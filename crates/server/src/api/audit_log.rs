//! The audit log: what was done, refused and read, by whom.

use axum::{Json, extract::State};
use guardian_model::{
    Permission,
    api::{AuditEntry, AuditVerification, Page},
    query::{AuditQuery, VerifyQuery},
};
use guardian_store::{AuditFilter, Outcome};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::named_tenant;
use crate::{
    AppState,
    extract::QueryOf,
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(verify))
}

/// List entries of the audit log, newest first
#[utoipa::path(
    get, path = "/v1/audit-log", tag = "audit log", operation_id = "audit_log.list",
    extensions(("x-guardian-permission" = json!(Permission::AuditRead))),
    params(AuditQuery),
    responses((status = 200, description = "A page", body = Page<AuditEntry>)),
)]
async fn list(State(state): State<AppState>, QueryOf(query): QueryOf<AuditQuery>) -> ApiResult<Json<Page<AuditEntry>>> {
    let tenant = named_tenant(&state, query.tenant.as_deref()).await?;
    let outcome = match &query.outcome {
        Some(word) => Some(Outcome::from_word(word).ok_or_else(|| {
            let known = Outcome::ALL.map(Outcome::as_str).join("`, `");
            ApiError::invalid(format!("`outcome` must be one of `{known}`"))
        })?),
        None => None,
    };
    let filter = AuditFilter { tenant, actor: query.actor, action: query.action, outcome };
    Ok(Json(state.store.audit_entries(&filter, query.cursor.as_deref(), query.limit).await?))
}

/// Check every seal of the audit log
#[utoipa::path(
    get, path = "/v1/audit-log/verify", tag = "audit log", operation_id = "audit_log.verify",
    extensions(("x-guardian-permission" = json!(Permission::AuditRead))),
    params(VerifyQuery),
    responses((status = 200, description = "What was found", body = AuditVerification)),
)]
async fn verify(State(state): State<AppState>, QueryOf(query): QueryOf<VerifyQuery>) -> ApiResult<Json<AuditVerification>> {
    Ok(Json(state.store.verify_audit_log(query.head.as_deref()).await?))
}
