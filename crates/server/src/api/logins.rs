//! Logins of the SQL gateway. No idempotency key on creation: the password is kept nowhere, so a replay could not show it
//! again.

use axum::{Json, extract::State, http::StatusCode};
use guardian_model::{
    Login, LoginName, LoginProof, LoginScope, Permission,
    api::{AskedScope, CreateLogin, NewLogin},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{named_tenant, shown};
use crate::{
    AppState,
    auth::OnPlatform,
    extract::{JsonBody, PathName},
    problem::{ApiError, ApiResult},
};

/// The database whose commands operate the gateway.
const ADMIN_DATABASE: &str = "guardian";
/// Stands in a user's name for the slug of a tenant.
const ANY_TENANT: &str = "TENANT";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(rotate)).routes(routes!(delete))
}

/// List the logins of the SQL gateway
#[utoipa::path(
    get, path = "/v1/logins", tag = "logins", operation_id = "login.list",
    extensions(("x-guardian-permission" = json!(Permission::LoginRead))),
    responses((status = 200, description = "Every login, without passwords", body = Vec<Login>)),
)]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<Login>>> {
    Ok(Json(state.store.logins().await?))
}

/// Make a login; its password is shown this once
#[utoipa::path(
    post, path = "/v1/logins", tag = "logins", operation_id = "login.create",
    extensions(("x-guardian-permission" = json!(Permission::LoginWrite))),
    request_body(content = CreateLogin, example = json!({
        "name": "app", "scope": { "kind": "any_tenant", "switch": "identity" }
    })),
    responses(
        (status = 201, description = "The login with its password", body = NewLogin),
        (status = 409, description = "The name is taken"),
    ),
)]
async fn create(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    JsonBody(body): JsonBody<CreateLogin>,
) -> ApiResult<(StatusCode, Json<NewLogin>)> {
    let scope = match &body.scope {
        AskedScope::Tenant { tenant } => match named_tenant(&state, Some(tenant)).await? {
            Some(tenant) => LoginScope::Tenant { tenant },
            None => return Err(ApiError::invalid("`tenant` names no tenant")),
        },
        AskedScope::AnyTenant { switch } => LoginScope::AnyTenant { switch: *switch },
        AskedScope::Admin {} => LoginScope::Admin,
    };
    let (login, password) = match body.proof {
        LoginProof::Password => {
            let (login, password) = state.lifecycle.create_login(&permit, &body.name, scope).await?;
            (login, Some(password))
        }
        LoginProof::Certificate => (state.store.create_login(&permit, &body.name, scope, None).await?, None),
    };
    Ok((StatusCode::CREATED, Json(with_address(&state, login, password).await?)))
}

/// Give a login another password, shown this once; the old one opens nothing any more
#[utoipa::path(
    post, path = "/v1/logins/{login}/rotate", tag = "logins", operation_id = "login.rotate",
    extensions(("x-guardian-permission" = json!(Permission::LoginWrite))),
    params(("login" = String, Path, description = "Its name", example = "app")),
    responses(
        (status = 200, description = "The login with its new password", body = NewLogin),
        (status = 409, description = "It proves itself by a certificate"),
    ),
)]
async fn rotate(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(login): PathName,
) -> ApiResult<Json<NewLogin>> {
    let (login, password) = state.lifecycle.rotate_login(&permit, &named(&login)?).await?;
    Ok(Json(with_address(&state, login, Some(password)).await?))
}

/// Delete a login
#[utoipa::path(
    delete, path = "/v1/logins/{login}", tag = "logins", operation_id = "login.delete",
    extensions(("x-guardian-permission" = json!(Permission::LoginWrite))),
    params(("login" = String, Path, description = "Its name", example = "app")),
    responses((status = 204, description = "It opens nothing any more")),
)]
async fn delete(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(login): PathName,
) -> ApiResult<StatusCode> {
    state.store.delete_login(&permit, &named(&login)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(login: &str) -> ApiResult<LoginName> {
    login.parse().map_err(|_| ApiError::not_found(format!("there is no login `{}`", shown(login))))
}

/// With all that a client needs to connect.
async fn with_address(state: &AppState, login: Login, password: Option<String>) -> ApiResult<NewLogin> {
    let config = state.config.started_with();
    let user = match login.scope {
        LoginScope::Tenant { tenant } => {
            let slug = state.store.tenant(&tenant.into()).await?.map(|tenant| tenant.slug);
            slug.map_or_else(|| login.name.to_string(), |slug| format!("{}.{slug}", login.name))
        }
        LoginScope::AnyTenant { .. } => format!("{}.{ANY_TENANT}", login.name),
        LoginScope::Admin => login.name.to_string(),
    };
    let database = match login.scope {
        LoginScope::Admin => ADMIN_DATABASE.to_owned(),
        LoginScope::Tenant { .. } | LoginScope::AnyTenant { .. } => config.shared_place().database,
    };
    Ok(NewLogin { login, password, user, address: state.sql_address(), database })
}
