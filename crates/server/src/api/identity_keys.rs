//! The keys that sign identities: where each stands, changing them, and the public half for everybody.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use guardian_model::{
    Permission,
    access_api::{IdentityKeyState, RotateIdentityKey},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, auth::OnPlatform, endpoint::PUBLIC, extract::JsonBody, problem::ApiResult};

/// Less than the time for which a key is published before it signs.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(rotate)).routes(routes!(published))
}

/// Show where each key that signs identities stands
#[utoipa::path(
    get, path = "/v1/identity-keys", tag = "keys", operation_id = "identity_key.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    responses((status = 200, description = "The keys, without their secrets", body = Vec<IdentityKeyState>)),
)]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<IdentityKeyState>>> {
    Ok(Json(state.store.identity_key_states().await?))
}

/// Let another key sign identities
///
/// It is published at once and signs after a while, so that whoever verifies has it in time. With `now`, the present keys end at
/// once, and identities that they signed are refused.
#[utoipa::path(
    post, path = "/v1/identity-keys/rotation", tag = "keys", operation_id = "identity_key.rotate",
    extensions(("x-guardian-permission" = json!(Permission::TokenWrite))),
    request_body(content = RotateIdentityKey, example = json!({ "now": false })),
    responses(
        (status = 200, description = "The keys by now", body = Vec<IdentityKeyState>),
        (status = 409, description = "The next key is published already"),
    ),
)]
async fn rotate(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<RotateIdentityKey>,
) -> ApiResult<Json<Vec<IdentityKeyState>>> {
    Ok(Json(state.store.rotate_identity_key(&permit, body.now).await?))
}

/// The JSON Web Key Set that identities are verified with
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "keys", operation_id = "identity_key.published",
    extensions(("x-guardian-permission" = json!(PUBLIC))),
    responses((status = 200, description = "The public keys", body = serde_json::Value)),
)]
async fn published(State(state): State<AppState>) -> ApiResult<Response> {
    let set = state.store.identity_key_set().await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json")), (header::CACHE_CONTROL, KEPT)], set)
        .into_response())
}
