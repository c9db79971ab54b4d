//! What needs no token: probes, and the description of the API itself.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    endpoint::PUBLIC,
    problem::{ApiError, ApiResult},
};

const READY_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(description))
}

/// Whether the process is alive
#[utoipa::path(
    get, path = "/healthz", tag = "health", operation_id = "health.live",
    extensions(("x-guardian-permission" = json!(PUBLIC))),
    responses((status = 200, description = "It is", body = String, content_type = "text/plain")),
)]
async fn live() -> &'static str {
    "ok\n"
}

/// Whether the control database answers
#[utoipa::path(
    get, path = "/readyz", tag = "health", operation_id = "health.ready",
    extensions(("x-guardian-permission" = json!(PUBLIC))),
    responses(
        (status = 200, description = "It does", body = String, content_type = "text/plain"),
        (status = 503, description = "It does not"),
    ),
)]
async fn ready(State(state): State<AppState>) -> ApiResult<&'static str> {
    // A probe gives up before the pool does.
    match timeout(READY_TIMEOUT, state.store.ping()).await {
        Ok(answer) => answer?,
        Err(silence) => return Err(ApiError::unavailable("the control database does not answer", silence)),
    }
    Ok("ready\n")
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "health", operation_id = "api.describe",
    extensions(("x-guardian-permission" = json!(PUBLIC))),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
)]
async fn description(State(state): State<AppState>) -> Response {
    Json(state.description()).into_response()
}
