//! What gateways see and the control plane has to put right.

use axum::{extract::State, http::StatusCode};
use guardian_model::{Permission, access::Permit, api::GatewayEvent};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::shown;
use crate::{
    AppState,
    auth::OnPlatform,
    extract::JsonBody,
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(report))
}

/// Report a role that has to be put right
///
/// A role that gateways connect as gets the password that Guardian keeps.
#[utoipa::path(
    post, path = "/v1/gateway-events", tag = "snapshot", operation_id = "gateway_event.report",
    extensions(("x-guardian-permission" = json!(Permission::SnapshotRead))),
    request_body(content = GatewayEvent, example = json!({ "kind": "password_refused", "cluster": "main", "role": "helpdesk_app" })),
    responses(
        (status = 204, description = "The role is as Guardian wants it"),
        (status = 404, description = "No gateway connects as this role"),
    ),
)]
async fn report(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(event): JsonBody<GatewayEvent>,
) -> ApiResult<StatusCode> {
    put_right(&state, &permit, &event).await
}

/// The same for the gateway of this process.
pub(crate) async fn put_right(state: &AppState, permit: &Permit, event: &GatewayEvent) -> ApiResult<StatusCode> {
    let (cluster, role, tenant) = match event {
        GatewayEvent::RoleAltered { cluster, role, tenant } => (cluster, role, *tenant),
        GatewayEvent::PasswordRefused { cluster, role } => (cluster, role, None),
    };
    if state.lifecycle.restore_role(permit, cluster, role, tenant).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found(format!("no gateway connects as a role `{}` of `{cluster}`", shown(role))))
    }
}
