//! Host names of tenants' own, at the API gateway.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{HostName, Permission, access_api::Domain};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::shown;
use crate::{
    AppState,
    auth::OnTenant,
    extract::PathRest,
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(add, remove))
}

/// List a tenant's host names
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/domains", tag = "access", operation_id = "domain.list",
    extensions(("x-guardian-permission" = json!(Permission::TenantRead))),
    params(("tenant" = String, Path, description = "Its slug or id", example = "acme")),
    responses((status = 200, description = "The host names", body = Vec<Domain>)),
)]
async fn list(State(state): State<AppState>, OnTenant(tenant, _): OnTenant) -> ApiResult<Json<Vec<Domain>>> {
    Ok(Json(state.store.domains(tenant.id).await?))
}

/// Give a tenant a host name
///
/// Whoever runs the installation has made sure that the name is the tenant's: requests for it are the tenant's from now on.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/domains/{host}", tag = "access", operation_id = "domain.add",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("host" = String, Path, description = "The name, in lower case and as punycode", example = "support.acme.com"),
    ),
    responses(
        (status = 200, description = "The host name", body = Domain),
        (status = 409, description = "It is taken, or the tenant has as many as it may have"),
        (status = 422, description = "It is no full name, or below `http.host_suffix`"),
    ),
)]
async fn add(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(host): PathRest,
) -> ApiResult<Json<Domain>> {
    let host: HostName =
        host.parse().map_err(|error: guardian_model::word::WordError| ApiError::invalid(error.to_string()))?;
    let suffix = state.config.started_with().http.host_suffix.as_ref();
    Ok(Json(state.store.add_domain(&permit, tenant.id, &host, suffix).await?))
}

/// Take a host name away from a tenant
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/domains/{host}", tag = "access", operation_id = "domain.remove",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("host" = String, Path, description = "The name", example = "support.acme.com"),
    ),
    responses((status = 204, description = "It is nobody's")),
)]
async fn remove(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(host): PathRest,
) -> ApiResult<StatusCode> {
    let missing = |_| ApiError::not_found(format!("the tenant has no host name `{}`", shown(&host)));
    let host: HostName = host.parse().map_err(missing)?;
    state.store.remove_domain(&permit, tenant.id, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}
