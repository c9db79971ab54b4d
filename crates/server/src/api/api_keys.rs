//! API keys of tenants' programs.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    ApiKey, ApiKeyId, Permission,
    access_api::{CreateApiKey, NewApiKey, RotateApiKey},
};
use guardian_store::ApiKeyError;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{access::Told as _, shown};
use crate::{
    AppState,
    auth::OnTenant,
    extract::{JsonBody, PathRest},
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(rotate)).routes(routes!(revoke))
}

/// List a tenant's API keys, the newest first
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/api-keys", tag = "access", operation_id = "api_key.list",
    extensions(("x-guardian-permission" = json!(Permission::AccessRead))),
    params(("tenant" = String, Path, description = "Its slug or id", example = "acme")),
    responses((status = 200, description = "The keys, without their secrets; revoked ones, too", body = Vec<ApiKey>)),
)]
async fn list(State(state): State<AppState>, OnTenant(tenant, _): OnTenant) -> ApiResult<Json<Vec<ApiKey>>> {
    Ok(Json(state.store.api_keys(tenant.id).await?))
}

/// Make an API key
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/api-keys", tag = "access", operation_id = "api_key.create",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(("tenant" = String, Path, description = "Its slug or id", example = "acme")),
    request_body(content = CreateApiKey, example = json!({
        "name": "nightly export", "roles": ["reader"], "permissions": ["ticket.read"], "lives_seconds": 7_776_000
    })),
    responses(
        (status = 201, description = "The key; its secret is shown this once", body = NewApiKey),
        (status = 409, description = "The tenant has as many keys as it may have"),
    ),
)]
async fn create(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    JsonBody(body): JsonBody<CreateApiKey>,
) -> ApiResult<(StatusCode, Json<NewApiKey>)> {
    let built_in = state.built_in_roles().await?;
    let made = state.store.create_api_key(&permit, tenant.id, &built_in, &body).await;
    if let Err(ApiKeyError::Access(error)) = &made {
        error.told(&state, &permit, "api_key.create").await;
    }
    Ok((StatusCode::CREATED, Json(made?)))
}

/// Give an API key another secret
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/api-keys/{api_key}/rotate", tag = "access", operation_id = "api_key.rotate",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("api_key" = String, Path, description = "Its id"),
    ),
    request_body(content = RotateApiKey, example = json!({ "grace_seconds": 3600 })),
    responses(
        (status = 200, description = "The key; its secret is shown this once", body = NewApiKey),
        (status = 409, description = "It is revoked or over"),
    ),
)]
async fn rotate(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(key): PathRest,
    JsonBody(body): JsonBody<RotateApiKey>,
) -> ApiResult<Json<NewApiKey>> {
    Ok(Json(state.store.rotate_api_key(&permit, tenant.id, id(&key)?, body.grace_seconds).await?))
}

/// Revoke an API key, at once and for ever
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/api-keys/{api_key}", tag = "access", operation_id = "api_key.revoke",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("api_key" = String, Path, description = "Its id"),
    ),
    responses((status = 204, description = "It opens nothing any more")),
)]
async fn revoke(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(key): PathRest,
) -> ApiResult<StatusCode> {
    state.store.revoke_api_key(&permit, tenant.id, id(&key)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn id(text: &str) -> ApiResult<ApiKeyId> {
    text.parse().map_err(|_| ApiError::not_found(format!("there is no API key `{}`", shown(text))))
}
