//! Tiers: the named plans.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{Permission, Tier, TierName, api::PutTier};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{checked_words, shown};
use crate::{
    AppState,
    auth::OnPlatform,
    extract::{JsonBody, PathName},
    problem::{ApiError, ApiResult},
};

/// The most feature flags of a tier.
const FEATURES_MAX: usize = 200;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, put, delete))
}

/// List the tiers
#[utoipa::path(
    get, path = "/v1/tiers", tag = "tiers", operation_id = "tier.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    responses((status = 200, description = "Every tier, by name", body = Vec<Tier>)),
)]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<Tier>>> {
    Ok(Json(state.store.tiers().await?))
}

/// Show a tier
#[utoipa::path(
    get, path = "/v1/tiers/{tier}", tag = "tiers", operation_id = "tier.read",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    params(("tier" = String, Path, description = "Its name", example = "pro")),
    responses((status = 200, description = "The tier", body = Tier)),
)]
async fn show(State(state): State<AppState>, PathName(tier): PathName) -> ApiResult<Json<Tier>> {
    let found = match tier.parse::<TierName>() {
        Ok(name) => state.store.tier(&name).await?,
        Err(_) => None,
    };
    found.map(Json).ok_or_else(|| missing(&tier))
}

/// Create or replace a tier
#[utoipa::path(
    put, path = "/v1/tiers/{tier}", tag = "tiers", operation_id = "tier.put",
    extensions(("x-guardian-permission" = json!(Permission::TierWrite))),
    params(("tier" = String, Path, description = "Its name", example = "pro")),
    request_body(content = PutTier, example = json!({
        "isolation": "row", "weight": 200, "limits": { "server_connections_max": 40 }, "features": { "sso": true }
    })),
    responses(
        (status = 200, description = "The tier", body = Tier),
        (status = 409, description = "It is declared in `guardian.toml`, or has tenants of another isolation"),
    ),
)]
async fn put(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(tier): PathName,
    JsonBody(body): JsonBody<PutTier>,
) -> ApiResult<Json<Tier>> {
    let name = tier.parse::<TierName>().map_err(|error| ApiError::invalid(error.to_string()))?;
    if body.features.len() > FEATURES_MAX {
        return Err(ApiError::invalid(format!("a tier may have {FEATURES_MAX} features")));
    }
    for feature in body.features.keys() {
        checked_words("features", feature)?;
    }
    Ok(Json(state.store.put_tier(&permit, &name, body).await?))
}

/// Delete a tier without tenants
#[utoipa::path(
    delete, path = "/v1/tiers/{tier}", tag = "tiers", operation_id = "tier.delete",
    extensions(("x-guardian-permission" = json!(Permission::TierWrite))),
    params(("tier" = String, Path, description = "Its name", example = "pro")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It is declared in `guardian.toml`, or has tenants"),
    ),
)]
async fn delete(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(tier): PathName,
) -> ApiResult<StatusCode> {
    let name = tier.parse::<TierName>().map_err(|_| missing(&tier))?;
    state.store.delete_tier(&permit, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn missing(tier: &str) -> ApiError {
    ApiError::not_found(format!("there is no tier `{}`", shown(tier)))
}
