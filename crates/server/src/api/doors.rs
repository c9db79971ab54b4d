//! The door across tenants. What is open stands in `/v1/status`.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission,
    door::{DoorGrant, OpenDoor},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::checked_words;
use crate::{AppState, auth::OnPlatform, extract::JsonBody, problem::ApiResult};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(open))
}

/// Open the door across tenants for one session
///
/// The answer's password opens one session within a minute. It reaches the rows of every tenant in the shared tables, reads
/// only unless `write` is asked, and is ended when its time is over. The audit log holds who, why, and when it was over.
#[utoipa::path(
    post, path = "/v1/doors", tag = "tenants", operation_id = "door.open",
    extensions(("x-guardian-permission" = json!(Permission::DoorOpen))),
    request_body(content = OpenDoor, example = json!({ "reason": "monthly report", "minutes": 30 })),
    responses(
        (status = 201, description = "The way in", body = DoorGrant),
        (status = 409, description = "`guardian apply` has not made the door"),
    ),
)]
async fn open(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<OpenDoor>,
) -> ApiResult<(StatusCode, Json<DoorGrant>)> {
    checked_words("reason", &body.reason)?;
    Ok((StatusCode::CREATED, Json(state.lifecycle.open_door(&permit, &body).await?)))
}
