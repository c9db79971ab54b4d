//! The master key: which one seals, and changing it; new secrets for tenants.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission,
    api::{MasterKeys, RotateSecrets, Run},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, auth::OnPlatform, extract::JsonBody, problem::ApiResult, runs};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(rotate)).routes(routes!(renew))
}

/// Show which master key seals, and which control planes have which
#[utoipa::path(
    get, path = "/v1/master-keys", tag = "keys", operation_id = "key.read",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    responses((status = 200, description = "The keys, by their ids", body = MasterKeys)),
)]
async fn show(State(state): State<AppState>) -> ApiResult<Json<MasterKeys>> {
    Ok(Json(state.store.master_keys().await?))
}

/// Seal every secret under the new master key
///
/// Every control plane must have been started with the new key and the old one. The run goes on by itself; ask for it by
/// its id.
#[utoipa::path(
    post, path = "/v1/master-keys/rotation", tag = "keys", operation_id = "run.rotate_key",
    extensions(("x-guardian-permission" = json!(Permission::TokenWrite))),
    responses(
        (status = 202, description = "The run", body = Run),
        (status = 409, description = "There is no new key, a control plane does not have it, or a run is going"),
    ),
)]
async fn rotate(State(state): State<AppState>, OnPlatform(permit): OnPlatform) -> ApiResult<(StatusCode, Json<Run>)> {
    Ok((StatusCode::ACCEPTED, Json(runs::rotate::start(&state, &permit).await?)))
}

/// Give tenants new capabilities, or their roles new passwords
///
/// While they are served: gateways are told first, and no request fails. Afterwards the old ones open nothing. The run goes on
/// by itself; ask for it by its id.
#[utoipa::path(
    post, path = "/v1/secrets/rotation", tag = "keys", operation_id = "run.rotate_secrets",
    extensions(("x-guardian-permission" = json!(Permission::TokenWrite))),
    request_body(content = RotateSecrets, example = json!({ "what": "capabilities", "tenant": "acme" })),
    responses(
        (status = 202, description = "The run", body = Run),
        (status = 404, description = "There is no such tenant"),
        (status = 409, description = "Such a run is going"),
    ),
)]
async fn renew(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<RotateSecrets>,
) -> ApiResult<(StatusCode, Json<Run>)> {
    Ok((StatusCode::ACCEPTED, Json(runs::renew::start(&state, &permit, &body).await?)))
}
