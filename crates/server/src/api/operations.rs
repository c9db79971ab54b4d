//! Operations: what is being done to tenants.

use axum::{Json, extract::State};
use guardian_model::{Operation, Permission, api::Page, query::OperationQuery};
use guardian_store::OperationFilter;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::named_tenant;
use crate::{AppState, auth::OnOperation, extract::QueryOf, problem::ApiResult};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(retry)).routes(routes!(cancel))
}

/// List operations, newest first
#[utoipa::path(
    get, path = "/v1/operations", tag = "operations", operation_id = "operation.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(OperationQuery),
    responses((status = 200, description = "A page", body = Page<Operation>)),
)]
async fn list(State(state): State<AppState>, QueryOf(query): QueryOf<OperationQuery>) -> ApiResult<Json<Page<Operation>>> {
    let tenant = named_tenant(&state, query.tenant.as_deref()).await?;
    let filter = OperationFilter { tenant, state: query.state, kind: query.kind };
    Ok(Json(state.store.operations(&filter, query.cursor.as_deref(), query.limit).await?))
}

/// Show an operation
#[utoipa::path(
    get, path = "/v1/operations/{operation}", tag = "operations", operation_id = "operation.read",
    extensions(("x-guardian-permission" = json!(Permission::TenantRead))),
    params(("operation" = guardian_model::OperationId, Path, description = "Its id")),
    responses((status = 200, description = "The operation", body = Operation)),
)]
async fn show(OnOperation(operation, _): OnOperation) -> ApiResult<Json<Operation>> {
    Ok(Json(operation))
}

/// Set a stuck operation going again
#[utoipa::path(
    post, path = "/v1/operations/{operation}/retry", tag = "operations", operation_id = "operation.retry",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(("operation" = guardian_model::OperationId, Path, description = "Its id")),
    responses(
        (status = 200, description = "The operation", body = Operation),
        (status = 409, description = "It is over"),
    ),
)]
async fn retry(State(state): State<AppState>, OnOperation(operation, permit): OnOperation) -> ApiResult<Json<Operation>> {
    Ok(Json(state.lifecycle.retry(&permit, operation.id).await?))
}

/// Take an operation back, as long as there is a way back
#[utoipa::path(
    post, path = "/v1/operations/{operation}/cancel", tag = "operations", operation_id = "operation.cancel",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(("operation" = guardian_model::OperationId, Path, description = "Its id")),
    responses(
        (status = 200, description = "The operation", body = Operation),
        (status = 409, description = "It is over, or there is no way back"),
    ),
)]
async fn cancel(State(state): State<AppState>, OnOperation(operation, permit): OnOperation) -> ApiResult<Json<Operation>> {
    Ok(Json(state.lifecycle.cancel(&permit, operation.id).await?))
}
