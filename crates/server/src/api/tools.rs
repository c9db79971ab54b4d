//! A user's own migration tool: the places that it is run in, and a login for each run. The tool itself runs where the command line
//! does; no command of it is ever seen here.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Permission, ToolLoginId,
    query::CloseToolLogin,
    tool::{Fleet, OpenToolLogin, ToolLogin},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{named_tenant, shown};
use crate::{
    AppState,
    auth::OnPlatform,
    extract::{JsonBody, PathName, QueryOf},
    problem::{ApiError, ApiResult},
    runs,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(places)).routes(routes!(open)).routes(routes!(renew)).routes(routes!(close))
}

/// List every place, ring after ring
#[utoipa::path(
    get, path = "/v1/migrations/places", tag = "migrations", operation_id = "migration.places",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    responses((status = 200, description = "The places, and how a run goes through them", body = Fleet)),
)]
async fn places(State(state): State<AppState>) -> ApiResult<Json<Fleet>> {
    Ok(Json(runs::migrate::fleet(&state).await?))
}

/// Make a login for one run of a migration tool in one place
///
/// Its sessions act as the role that owns the place's tables, and reach no other place. What the administrator owns in the
/// place is given to that role first. Unless it is renewed, the login is over after `lasts_seconds`: its sessions are ended,
/// and its role is dropped. A place has one at a time.
#[utoipa::path(
    post, path = "/v1/migrations/logins", tag = "migrations", operation_id = "migration.open",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    request_body(content = OpenToolLogin, example = json!({ "tenant": "acme" })),
    responses(
        (status = 201, description = "The way in", body = ToolLogin),
        (status = 409, description = "A tool is at work in the place, or the place cannot be migrated as it is"),
    ),
)]
async fn open(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<OpenToolLogin>,
) -> ApiResult<(StatusCode, Json<ToolLogin>)> {
    let tenant = match named_tenant(&state, body.tenant.as_deref()).await? {
        Some(id) => state.store.tenant(&id.into()).await?,
        None => None,
    };
    if body.tenant.is_some() && tenant.is_none() {
        // Without this, a tenant that has just gone would open the shared place.
        return Err(ApiError::not_found("the tenant is gone"));
    }
    Ok((StatusCode::CREATED, Json(state.lifecycle.open_for_tool(&permit, tenant).await?)))
}

/// Let the login of a migration tool last on
#[utoipa::path(
    post, path = "/v1/migrations/logins/{tool_login}/renew", tag = "migrations", operation_id = "migration.renew",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    params(("tool_login" = ToolLoginId, Path, description = "Its id")),
    responses((status = 204, description = "It lasts `lasts_seconds` from now")),
)]
async fn renew(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(login): PathName,
) -> ApiResult<StatusCode> {
    state.lifecycle.renew_for_tool(&permit, named(&login)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End the login of a migration tool
///
/// Its sessions are ended. In a place of a tenant's own, the tenant's role is granted what is new there; the shared place waits
/// for `apply`.
#[utoipa::path(
    delete, path = "/v1/migrations/logins/{tool_login}", tag = "migrations", operation_id = "migration.close",
    extensions(("x-guardian-permission" = json!(Permission::SchemaWrite))),
    params(("tool_login" = ToolLoginId, Path, description = "Its id"), CloseToolLogin),
    responses((status = 204, description = "It opens nothing any more")),
)]
async fn close(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(login): PathName,
    QueryOf(query): QueryOf<CloseToolLogin>,
) -> ApiResult<StatusCode> {
    state.lifecycle.close_for_tool(&permit, named(&login)?, query.exit_status).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(login: &str) -> ApiResult<ToolLoginId> {
    login.parse().map_err(|_| ApiError::not_found(format!("there is no login `{}`", shown(login))))
}
