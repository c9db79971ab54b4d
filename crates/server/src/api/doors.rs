//! The door across tenants.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission,
    door::{Door, DoorGrant, OpenDoor},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{checked_words, shown};
use crate::{
    AppState,
    auth::OnPlatform,
    extract::{JsonBody, PathName},
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, open)).routes(routes!(end))
}

/// List the doors across tenants that are open
#[utoipa::path(
    get, path = "/v1/doors", tag = "tenants", operation_id = "door.list",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    responses((status = 200, description = "Those that are open, the oldest first", body = Vec<Door>)),
)]
async fn list(State(state): State<AppState>, OnPlatform(_permit): OnPlatform) -> ApiResult<Json<Vec<Door>>> {
    Ok(Json(state.store.doors().await?.into_iter().map(|opened| opened.door).collect()))
}

/// End a door across tenants before its time
///
/// Its session is ended in the middle of whatever it does, and its role is dropped. Should its server not answer, that happens
/// as soon as it does.
#[utoipa::path(
    delete, path = "/v1/doors/{door}", tag = "tenants", operation_id = "door.end",
    extensions(("x-guardian-permission" = json!(Permission::DoorOpen))),
    params(("door" = String, Path, description = "Its id", example = "door_01k8z3v0c5f8pbz6r0h2m4n6qs")),
    responses(
        (status = 204, description = "It is shut"),
        (status = 404, description = "No such door is open"),
    ),
)]
async fn end(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(door): PathName,
) -> ApiResult<StatusCode> {
    let id = door.parse().map_err(|_| ApiError::not_found(format!("no door `{}` is open", shown(&door))))?;
    state.lifecycle.end_door(&permit, id).await?;
    Ok(StatusCode::NO_CONTENT)
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
