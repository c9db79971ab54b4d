//! Routes of the API gateway, and roles that every tenant has: declared in `guardian.toml`, or here.

use axum::{Json, extract::State};
use guardian_model::{
    Permission, RoleName, RouteName,
    access::Permit,
    access_api::{DeclaredIn, DeclaredRole, DeclaredRoute, HttpDeclaration, PutRoute, VersionQuery},
    http::{HttpOverride, HttpRole, SnapshotHttp},
    name::NameError,
};
use guardian_store::HttpChange;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::shown;
use crate::{
    AppState,
    auth::OnPlatform,
    extract::{JsonBody, PathName, QueryOf},
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(put_route, delete_route))
        .routes(routes!(put_role, delete_role))
}

/// Show the routes of the API gateway, and the roles that every tenant has
#[utoipa::path(
    get, path = "/v1/http", tag = "http", operation_id = "http.read",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    responses((status = 200, description = "All that is declared", body = HttpDeclaration)),
)]
async fn show(State(state): State<AppState>) -> ApiResult<Json<HttpDeclaration>> {
    declaration(&state).await.map(Json)
}

/// Create or replace a route
///
/// It goes before one of the same name in `guardian.toml`, and is in force on every gateway at once.
#[utoipa::path(
    put, path = "/v1/http/routes/{route}", tag = "http", operation_id = "route.put",
    extensions(("x-guardian-permission" = json!(Permission::RouteWrite))),
    params(("route" = String, Path, description = "Its name"), VersionQuery),
    request_body(content = PutRoute, example = json!({ "path": "/tickets/{id}", "methods": ["GET"], "upstream": "app", "permission": "ticket.read" })),
    responses(
        (status = 200, description = "All that is declared by now", body = HttpDeclaration),
        (status = 409, description = "Another version is in force by now, or no API gateway is declared"),
    ),
)]
async fn put_route(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(name): PathName,
    QueryOf(query): QueryOf<VersionQuery>,
    JsonBody(body): JsonBody<PutRoute>,
) -> ApiResult<Json<HttpDeclaration>> {
    let name: RouteName = name.parse().map_err(|error: NameError| ApiError::invalid(error.to_string()))?;
    change(&state, &permit, query.version, HttpChange::PutRoute(Box::new(body.named(name)))).await
}

/// Delete a route that was declared here; one of `guardian.toml` with its name is in force again
#[utoipa::path(
    delete, path = "/v1/http/routes/{route}", tag = "http", operation_id = "route.delete",
    extensions(("x-guardian-permission" = json!(Permission::RouteWrite))),
    params(("route" = String, Path, description = "Its name"), VersionQuery),
    responses(
        (status = 200, description = "All that is declared by now", body = HttpDeclaration),
        (status = 409, description = "Another version is in force by now, or no API gateway is declared"),
    ),
)]
async fn delete_route(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(name): PathName,
    QueryOf(query): QueryOf<VersionQuery>,
) -> ApiResult<Json<HttpDeclaration>> {
    let missing = |_| ApiError::not_found(format!("there is no route `{}`", shown(&name)));
    let name: RouteName = name.parse().map_err(missing)?;
    change(&state, &permit, query.version, HttpChange::DeleteRoute(name)).await
}

/// Create or replace a role that every tenant has
///
/// It goes before one of the same name in `guardian.toml`, and is in force on every gateway at once.
#[utoipa::path(
    put, path = "/v1/http/roles/{role}", tag = "http", operation_id = "role.put",
    extensions(("x-guardian-permission" = json!(Permission::RouteWrite))),
    params(("role" = String, Path, description = "Its name"), VersionQuery),
    request_body(content = HttpRole, example = json!({ "permissions": ["ticket.read"] })),
    responses(
        (status = 200, description = "All that is declared by now", body = HttpDeclaration),
        (status = 409, description = "Another version is in force by now, or no API gateway is declared"),
    ),
)]
async fn put_role(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(name): PathName,
    QueryOf(query): QueryOf<VersionQuery>,
    JsonBody(body): JsonBody<HttpRole>,
) -> ApiResult<Json<HttpDeclaration>> {
    let name: RoleName = name.parse().map_err(|error: NameError| ApiError::invalid(error.to_string()))?;
    change(&state, &permit, query.version, HttpChange::PutRole(name, body)).await
}

/// Delete a role that was declared here; one of `guardian.toml` with its name is in force again
#[utoipa::path(
    delete, path = "/v1/http/roles/{role}", tag = "http", operation_id = "role.delete",
    extensions(("x-guardian-permission" = json!(Permission::RouteWrite))),
    params(("role" = String, Path, description = "Its name"), VersionQuery),
    responses(
        (status = 200, description = "All that is declared by now", body = HttpDeclaration),
        (status = 409, description = "Another version is in force by now, or no API gateway is declared"),
    ),
)]
async fn delete_role(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    PathName(name): PathName,
    QueryOf(query): QueryOf<VersionQuery>,
) -> ApiResult<Json<HttpDeclaration>> {
    let missing = |_| ApiError::not_found(format!("there is no role `{}`", shown(&name)));
    let name: RoleName = name.parse().map_err(missing)?;
    change(&state, &permit, query.version, HttpChange::DeleteRole(name)).await
}

async fn change(
    state: &AppState,
    permit: &Permit,
    version: Option<u64>,
    change: HttpChange,
) -> ApiResult<Json<HttpDeclaration>> {
    let declared = state.publisher().declared_http().await?;
    state.store.change_http(permit, declared, version, change).await?;
    declaration(state).await.map(Json)
}

async fn declaration(state: &AppState) -> ApiResult<HttpDeclaration> {
    let declared = state.publisher().declared_http().await?.cloned().unwrap_or_default();
    let (version, over) = state.store.http_override().await?;
    Ok(described(version, &declared, &over))
}

fn described(version: u64, declared: &SnapshotHttp, over: &HttpOverride) -> HttpDeclaration {
    let left_out = over.onto_leniently(declared).left_out;
    let of_file = declared.routes.iter().filter(|route| !over.routes.contains_key(&route.name));
    let routes = of_file.map(|route| (route, DeclaredIn::File));
    let routes = routes.chain(over.routes.values().map(|route| (route, DeclaredIn::Api)));
    let mut routes: Vec<DeclaredRoute> = routes
        .map(|(route, declared_in)| DeclaredRoute {
            route: route.clone(),
            declared_in,
            left_out: left_out.iter().find(|(name, _)| *name == route.name).map(|(_, conflict)| conflict.to_string()),
        })
        .collect();
    routes.sort_by(|one, other| one.route.name.cmp(&other.route.name));
    let of_file = declared.roles.iter().filter(|(name, _)| !over.roles.contains_key(*name));
    let roles = of_file.map(|(name, role)| (name, role, DeclaredIn::File));
    let roles = roles.chain(over.roles.iter().map(|(name, role)| (name, role, DeclaredIn::Api)));
    let mut roles: Vec<DeclaredRole> = roles
        .map(|(name, role, declared_in)| DeclaredRole { name: name.clone(), role: role.clone(), declared_in })
        .collect();
    roles.sort_by(|one, other| one.name.cmp(&other.name));
    HttpDeclaration { version, routes, roles }
}
