//! Tenants: their life, their tier, and the ways to their data.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use guardian_model::{
    LimitOverrides, Permission, Tenant,
    api::{Connection, CreateTenant, DeleteTenant, Page, SetTier, TenantChange, TicketGrant},
    query::TenantQuery,
};
use guardian_store::{Idempotency, TenantFilter};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::status_of;
use crate::{
    AppState,
    auth::{OnPlatform, OnTenant},
    extract::{JsonBody, QueryOf},
    problem::{ApiError, ApiResult, Kind},
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_LEN_MAX: usize = 255;
const SLUG_LEN_MAX: usize = 63;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, delete))
        .routes(routes!(suspend))
        .routes(routes!(resume))
        .routes(routes!(set_tier))
        .routes(routes!(set_limits))
        .routes(routes!(issue_ticket))
        .routes(routes!(connection))
}

/// List tenants, in the order of their creation
#[utoipa::path(
    get, path = "/v1/tenants", tag = "tenants", operation_id = "tenant.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(TenantQuery),
    responses((status = 200, description = "A page", body = Page<Tenant>)),
)]
async fn list(State(state): State<AppState>, QueryOf(query): QueryOf<TenantQuery>) -> ApiResult<Json<Page<Tenant>>> {
    if query.slug_prefix.as_ref().is_some_and(|prefix| prefix.len() > SLUG_LEN_MAX) {
        return Err(ApiError::invalid(format!("`slug_prefix` may have {SLUG_LEN_MAX} characters")));
    }
    let filter =
        TenantFilter { state: query.state, tier: query.tier, isolation: query.isolation, slug_prefix: query.slug_prefix };
    Ok(Json(state.store.tenants(&filter, query.cursor.as_deref(), query.limit).await?))
}

/// Create a tenant
///
/// `row` tenants are active when the answer arrives, and so are those that get a prepared database; the others are provisioned
/// meanwhile, and the operation says how far.
#[utoipa::path(
    post, path = "/v1/tenants", tag = "tenants", operation_id = "tenant.create",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params((
        "Idempotency-Key" = Option<String>, Header, max_length = 255,
        description = "Asking again with the same key gives the same tenant and operation, never a second tenant",
    )),
    request_body(content = CreateTenant, example = json!({ "slug": "acme", "tier": "pro" })),
    responses(
        (status = 201, description = "It is active", body = TenantChange, headers(("Location" = String, description = "The tenant"))),
        (status = 202, description = "It is being provisioned", body = TenantChange, headers(("Location" = String, description = "The tenant"))),
        (status = 409, description = "Slug or key are taken"),
    ),
)]
async fn create(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    headers: HeaderMap,
    JsonBody(body): JsonBody<CreateTenant>,
) -> ApiResult<Response> {
    let idempotency = idempotency(&headers, &body)?;
    let change = state.lifecycle.create(&permit, body, idempotency).await?;
    let location = format!("/v1/tenants/{}", change.tenant.id);
    Ok((status_of(&change, StatusCode::CREATED), [(header::LOCATION, location)], Json(change)).into_response())
}

fn idempotency(headers: &HeaderMap, body: &CreateTenant) -> ApiResult<Option<Idempotency>> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=IDEMPOTENCY_KEY_LEN_MAX).contains(&key.len()));
    let (Some(key), None) = (key, keys.next()) else {
        let detail =
            format!("`Idempotency-Key` must stand once, with 1 to {IDEMPOTENCY_KEY_LEN_MAX} printable ASCII characters");
        return Err(ApiError::new(Kind::Malformed, detail));
    };
    // The body as it was understood, so that white space and the order of fields make no difference.
    let canonical = serde_json::to_vec(body).map_err(ApiError::internal)?;
    Ok(Some(Idempotency { key: key.to_owned(), request_hash: sha256(&canonical) }))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

/// Show a tenant
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}", tag = "tenants", operation_id = "tenant.read",
    extensions(("x-guardian-permission" = json!(Permission::TenantRead))),
    params(("tenant" = String, Path, description = "Slug or id", example = "acme")),
    responses((status = 200, description = "The tenant", body = Tenant)),
)]
async fn show(OnTenant(tenant, _): OnTenant) -> ApiResult<Json<Tenant>> {
    Ok(Json(tenant))
}

/// Delete a tenant
///
/// It serves nobody from now on; its data goes when the grace period ends, and until then the operation can be cancelled.
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}", tag = "tenants", operation_id = "tenant.delete",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(("tenant" = String, Path, description = "Slug or id", example = "acme"), DeleteTenant),
    responses(
        (status = 200, description = "It is gone", body = TenantChange),
        (status = 202, description = "It will be gone", body = TenantChange),
        (status = 409, description = "Another operation is at work on it"),
        (status = 422, description = "`confirm` is not its slug"),
    ),
)]
async fn delete(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    QueryOf(query): QueryOf<DeleteTenant>,
) -> ApiResult<Response> {
    if query.confirm != tenant.slug.as_str() {
        return Err(ApiError::invalid(format!(
            "`confirm` must be the tenant's slug, `{}`; nothing was deleted",
            tenant.slug
        )));
    }
    let change = state.lifecycle.delete(&permit, tenant.id, query.now).await?;
    Ok((status_of(&change, StatusCode::OK), Json(change)).into_response())
}

/// Suspend a tenant: stop serving it, keep its data
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/suspend", tag = "tenants", operation_id = "tenant.suspend",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(("tenant" = String, Path, description = "Slug or id", example = "acme")),
    responses(
        (status = 200, description = "It is suspended", body = TenantChange),
        (status = 202, description = "It will be", body = TenantChange),
        (status = 409, description = "It is not active"),
    ),
)]
async fn suspend(State(state): State<AppState>, OnTenant(tenant, permit): OnTenant) -> ApiResult<Response> {
    let change = state.lifecycle.suspend(&permit, tenant.id).await?;
    Ok((status_of(&change, StatusCode::OK), Json(change)).into_response())
}

/// Resume a tenant: serve it again
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/resume", tag = "tenants", operation_id = "tenant.resume",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(("tenant" = String, Path, description = "Slug or id", example = "acme")),
    responses(
        (status = 200, description = "It is active", body = TenantChange),
        (status = 202, description = "It will be", body = TenantChange),
        (status = 409, description = "It is not suspended"),
    ),
)]
async fn resume(State(state): State<AppState>, OnTenant(tenant, permit): OnTenant) -> ApiResult<Response> {
    let change = state.lifecycle.resume(&permit, tenant.id).await?;
    Ok((status_of(&change, StatusCode::OK), Json(change)).into_response())
}

/// Move a tenant to another tier of the same isolation
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/set-tier", tag = "tenants", operation_id = "tenant.set_tier",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(("tenant" = String, Path, description = "Slug or id", example = "acme")),
    request_body(content = SetTier, example = json!({ "tier": "pro" })),
    responses((status = 200, description = "The tenant", body = Tenant)),
)]
async fn set_tier(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    JsonBody(body): JsonBody<SetTier>,
) -> ApiResult<Json<Tenant>> {
    Ok(Json(state.lifecycle.set_tier(&permit, tenant.id, &body.tier).await?))
}

/// Set what a tenant has otherwise than its tier, as a whole
///
/// An empty object takes it back to its tier's limits.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/limits", tag = "tenants", operation_id = "tenant.set_limits",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    params(("tenant" = String, Path, description = "Slug or id", example = "acme")),
    request_body(content = LimitOverrides, example = json!({ "queue_len_max": 50, "weight": 200 })),
    responses((status = 200, description = "The tenant", body = Tenant)),
)]
async fn set_limits(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    JsonBody(body): JsonBody<LimitOverrides>,
) -> ApiResult<Json<Tenant>> {
    Ok(Json(state.lifecycle.set_limits(&permit, tenant.id, body).await?))
}

/// Open the door to one session bound to the tenant
///
/// The answer's password and ticket open one session within a minute, and nothing afterwards.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/tickets", tag = "tenants", operation_id = "ticket.issue",
    extensions(("x-guardian-permission" = json!(Permission::TenantEnter))),
    params(("tenant" = String, Path, description = "Slug or id", example = "acme")),
    responses(
        (status = 201, description = "The ticket", body = TicketGrant),
        (status = 409, description = "The tenant serves nobody now"),
    ),
)]
async fn issue_ticket(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
) -> ApiResult<(StatusCode, Json<TicketGrant>)> {
    Ok((StatusCode::CREATED, Json(state.lifecycle.issue_ticket(&permit, &tenant).await?)))
}

/// Read the credentials of the tenant's placement
///
/// Each reading is in the audit log.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/connection", tag = "tenants", operation_id = "secret.read",
    extensions(("x-guardian-permission" = json!(Permission::SecretRead))),
    params(("tenant" = String, Path, description = "Slug or id", example = "acme")),
    responses(
        (status = 200, description = "The credentials", body = Connection),
        (status = 409, description = "The tenant has none now"),
    ),
)]
async fn connection(State(state): State<AppState>, OnTenant(tenant, permit): OnTenant) -> ApiResult<Json<Connection>> {
    Ok(Json(state.lifecycle.connection(&permit, &tenant).await?))
}
