//! Who may do what in a tenant: its roles, groups and users.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use guardian_model::{
    ApiKeyId, Permission, Tenant,
    access::Permit,
    access_api::{AccessState, ExplainQuery, PutAccessGroup, PutAccessRole, PutAccessUser},
    name::NameError,
    rbac::{self, AccessExplanation},
    tenant_access::{AccessChange, AccessError, AccessGroup, AccessRole, AccessUser, BuiltIn},
    word::WordError,
};
use guardian_store::TenantAccessError;
use serde_json::json;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::shown;
use crate::{
    AppState,
    auth::OnTenant,
    extract::{JsonBody, PathRest, QueryOf},
    problem::{ApiError, ApiResult},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(explain))
        .routes(routes!(put_role, delete_role))
        .routes(routes!(put_group, delete_group))
        .routes(routes!(put_user, delete_user))
}

/// What is refused although the token may change such things in general has to be in the audit log, too.
pub(super) trait Told {
    async fn told(&self, state: &AppState, permit: &Permit, action: &str);
}

impl Told for AccessError {
    async fn told(&self, state: &AppState, permit: &Permit, action: &str) {
        if let Self::Reserved(what) = self {
            let detail = json!({ "reserved": what });
            state.refusals().record(Some(permit.actor()), action, permit.tenant(), detail).await;
        }
    }
}

impl AppState {
    /// The roles that every tenant has.
    pub(super) async fn built_in_roles(&self) -> ApiResult<BuiltIn> {
        Ok(self.publisher().http().await?.map(|http| http.built_in()).unwrap_or_default())
    }
}

/// Show who may do what in a tenant
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/access", tag = "access", operation_id = "access.read",
    extensions(("x-guardian-permission" = json!(Permission::AccessRead))),
    params(("tenant" = String, Path, description = "Its slug or id", example = "acme")),
    responses((status = 200, description = "Its roles, groups and users", body = AccessState)),
)]
async fn show(State(state): State<AppState>, OnTenant(tenant, _): OnTenant) -> ApiResult<Json<AccessState>> {
    let access = state.store.tenant_access(tenant.id).await?;
    Ok(Json(AccessState::new(&state.built_in_roles().await?, access)))
}

/// Explain why somebody may do something, or may not
///
/// Roles that a token brings along in a claim are not known here.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/access/explain", tag = "access", operation_id = "access.explain",
    extensions(("x-guardian-permission" = json!(Permission::AccessRead))),
    params(("tenant" = String, Path, description = "Its slug or id", example = "acme"), ExplainQuery),
    responses((status = 200, description = "Which roles allow it, and through which groups", body = AccessExplanation)),
)]
async fn explain(
    State(state): State<AppState>,
    OnTenant(tenant, _): OnTenant,
    QueryOf(query): QueryOf<ExplainQuery>,
) -> ApiResult<Json<AccessExplanation>> {
    let ExplainQuery { subject, permission } = query;
    let http = state.publisher().http().await?.unwrap_or_default();
    let mut access = state.store.tenant_access(tenant.id).await?;
    let key = match subject.as_str().parse::<ApiKeyId>() {
        Ok(id) => state.store.api_key(tenant.id, id).await?,
        Err(_) => None,
    };
    // A key is nobody whom the tenant names.
    let is_key = key.is_some();
    let key = key.filter(|key| key.is_in_force(jiff::Timestamp::now()));
    if is_key {
        access.users.retain(|user| user.subject != subject);
    }
    if let Some(key) = &key {
        let user = AccessUser { subject: subject.clone(), roles: key.roles.clone(), groups: BTreeSet::new() };
        access.users.push(user);
    }
    let mut told = rbac::explain(&http.built_in().roles, &access, &subject, &permission);
    if key.and_then(|key| key.permissions).is_some_and(|scope| !scope.contains(&permission)) {
        told.is_narrowed = told.allowed;
        told.allowed = false;
    }
    let routes = http.routes.iter().filter(|route| route.permission.as_ref() == Some(&permission));
    told.routes = routes.map(|route| route.name.to_string()).collect();
    Ok(Json(told))
}

/// Create or replace a role of a tenant's own
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/roles/{role}", tag = "access", operation_id = "access_role.put",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("role" = String, Path, description = "Its name"),
    ),
    request_body(content = PutAccessRole, example = json!({ "permissions": ["ticket.read", "ticket.write"] })),
    responses(
        (status = 200, description = "Who may do what by now", body = AccessState),
        (status = 409, description = "There are as many as there may be, or the name is another's"),
    ),
)]
async fn put_role(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(name): PathRest,
    JsonBody(body): JsonBody<PutAccessRole>,
) -> ApiResult<Json<AccessState>> {
    let name = name.parse().map_err(|error: NameError| ApiError::invalid(error.to_string()))?;
    change(
        &state,
        &tenant,
        &permit,
        "access_role.put",
        AccessChange::PutRole(AccessRole { name, permissions: body.permissions }),
    )
    .await
}

/// Delete a role of a tenant's own, which nobody has any more
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/roles/{role}", tag = "access", operation_id = "access_role.delete",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("role" = String, Path, description = "Its name"),
    ),
    responses(
        (status = 200, description = "Who may do what by now", body = AccessState),
        (status = 409, description = "Somebody still has it"),
    ),
)]
async fn delete_role(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(name): PathRest,
) -> ApiResult<Json<AccessState>> {
    let name = name.parse().map_err(|_| missing("role", &name))?;
    change(&state, &tenant, &permit, "access_role.delete", AccessChange::DeleteRole(name)).await
}

/// Create or replace a group
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/groups/{group}", tag = "access", operation_id = "access_group.put",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("group" = String, Path, description = "Its name"),
    ),
    request_body(content = PutAccessGroup, example = json!({ "roles": ["agent"] })),
    responses(
        (status = 200, description = "Who may do what by now", body = AccessState),
        (status = 409, description = "There are as many as there may be, or the name is another's"),
    ),
)]
async fn put_group(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(name): PathRest,
    JsonBody(body): JsonBody<PutAccessGroup>,
) -> ApiResult<Json<AccessState>> {
    let name = name.parse().map_err(|error: NameError| ApiError::invalid(error.to_string()))?;
    change(&state, &tenant, &permit, "access_group.put", AccessChange::PutGroup(AccessGroup { name, roles: body.roles }))
        .await
}

/// Delete a group, which nobody is in any more
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/groups/{group}", tag = "access", operation_id = "access_group.delete",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("group" = String, Path, description = "Its name"),
    ),
    responses(
        (status = 200, description = "Who may do what by now", body = AccessState),
        (status = 409, description = "Somebody still has it"),
    ),
)]
async fn delete_group(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(name): PathRest,
) -> ApiResult<Json<AccessState>> {
    let name = name.parse().map_err(|_| missing("group", &name))?;
    change(&state, &tenant, &permit, "access_group.delete", AccessChange::DeleteGroup(name)).await
}

/// Say which roles and groups a user has
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/users/{subject}", tag = "access", operation_id = "access_user.put",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("subject" = String, Path, description = "The subject of its tokens"),
    ),
    request_body(content = PutAccessUser, example = json!({ "roles": ["reader"], "groups": ["night-shift"] })),
    responses(
        (status = 200, description = "Who may do what by now", body = AccessState),
        (status = 409, description = "There are as many as there may be, or the name is another's"),
    ),
)]
async fn put_user(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(name): PathRest,
    JsonBody(body): JsonBody<PutAccessUser>,
) -> ApiResult<Json<AccessState>> {
    let name = name.parse().map_err(|error: WordError| ApiError::invalid(error.to_string()))?;
    change(
        &state,
        &tenant,
        &permit,
        "access_user.put",
        AccessChange::PutUser(AccessUser { subject: name, roles: body.roles, groups: body.groups }),
    )
    .await
}

/// Take every role and group from a user
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/users/{subject}", tag = "access", operation_id = "access_user.delete",
    extensions(("x-guardian-permission" = json!(Permission::AccessWrite))),
    params(
        ("tenant" = String, Path, description = "Its slug or id", example = "acme"),
        ("subject" = String, Path, description = "The subject of its tokens"),
    ),
    responses(
        (status = 200, description = "Who may do what by now", body = AccessState),
        (status = 409, description = "Somebody still has it"),
    ),
)]
async fn delete_user(
    State(state): State<AppState>,
    OnTenant(tenant, permit): OnTenant,
    PathRest(name): PathRest,
) -> ApiResult<Json<AccessState>> {
    let name = name.parse().map_err(|_| missing("user", &name))?;
    change(&state, &tenant, &permit, "access_user.delete", AccessChange::DeleteUser(name)).await
}

async fn change(
    state: &AppState,
    tenant: &Tenant,
    permit: &Permit,
    action: &str,
    change: AccessChange,
) -> ApiResult<Json<AccessState>> {
    let built_in = state.built_in_roles().await?;
    let is_deletion = action.ends_with(".delete");
    match state.store.change_access(permit, tenant.id, &built_in, change).await {
        Ok(access) => Ok(Json(AccessState::new(&built_in, access))),
        Err(TenantAccessError::Access(error @ (AccessError::NoRole(_) | AccessError::NoGroup(_)))) if is_deletion => {
            Err(ApiError::not_found(error.to_string()))
        }
        Err(error) => {
            if let TenantAccessError::Access(error) = &error {
                error.told(state, permit, action).await;
            }
            Err(error.into())
        }
    }
}

fn missing(kind: &str, name: &str) -> ApiError {
    ApiError::not_found(format!("there is no {kind} `{}`", shown(name)))
}
