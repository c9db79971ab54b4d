//! Bearer tokens. No idempotency key on creation: the secret is kept nowhere, so a replay could not show it again.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission, TokenId,
    api::{CreateToken, NewToken, Token},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{checked_words, named_tenant};
use crate::{
    AppState,
    auth::OnPlatform,
    extract::{JsonBody, PathName},
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// List the tokens, without secrets
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", operation_id = "token.list",
    extensions(("x-guardian-permission" = json!(Permission::TokenWrite))),
    responses((status = 200, description = "Every token", body = Vec<Token>)),
)]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<Token>>> {
    Ok(Json(state.store.tokens().await?))
}

/// Make a token; its secret is shown this once
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", operation_id = "token.create",
    extensions(("x-guardian-permission" = json!(Permission::TokenWrite))),
    request_body(content = CreateToken, example = json!({ "name": "acme's own", "role": "tenant_admin", "tenant": "acme" })),
    responses((status = 201, description = "The token with its secret", body = NewToken)),
)]
async fn create(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<CreateToken>,
) -> ApiResult<(StatusCode, Json<NewToken>)> {
    checked_words("name", &body.name)?;
    let tenant = named_tenant(&state, body.tenant.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(state.store.create_token(&permit, &body.name, body.role, tenant).await?)))
}

/// Revoke a token, at once and for ever
#[utoipa::path(
    delete, path = "/v1/tokens/{token}", tag = "tokens", operation_id = "token.revoke",
    extensions(("x-guardian-permission" = json!(Permission::TokenWrite))),
    params(("token" = TokenId, Path, description = "Its id")),
    responses((status = 204, description = "It opens nothing any more")),
)]
async fn revoke(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(token): PathName,
) -> ApiResult<StatusCode> {
    let id = token.parse::<TokenId>().map_err(|error| ApiError::not_found(error.to_string()))?;
    state.store.revoke_token(&permit, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
