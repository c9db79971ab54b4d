//! Who calls, and whether they may: the guard in front of every endpoint, and the proof that handlers take as an argument.
//! The proof stands before the body in a handler's arguments, so that nobody's body is read who may not send it.
//!
//! A tenant's administrator gets one and the same answer for another tenant and for one that does not exist.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::Response,
};
use guardian_model::{
    Operation, OperationId, Permission, Role, Tenant, TenantId,
    access::{Actor, Permit},
};
use serde_json::json;

use crate::{
    AppState,
    api::shown,
    endpoint::Endpoint,
    extract::{PathName, PathTenant},
    listen::Peer,
    problem::{ApiError, ApiResult, Kind},
};

/// A request's actor, with what the endpoint asks for.
#[derive(Clone)]
struct Caller {
    actor: Actor,
    permission: Permission,
    action: String,
    peer: Option<SocketAddr>,
    state: AppState,
}

/// Lets a request through to a public endpoint, or with a known token of a sufficient role.
pub(crate) async fn guard(
    State(state): State<AppState>,
    route: MatchedPath,
    mut request: Request,
    next: Next,
) -> ApiResult<Response> {
    let Some(Endpoint { action, permission, is_about_a_tenant }) =
        state.endpoints().get(request.method(), route.as_str()).cloned()
    else {
        return Err(ApiError::internal(format!("{} {} names no permission", request.method(), route.as_str())));
    };
    let Some(permission) = permission else { return Ok(next.run(request).await) };
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(address))| *address);
    let actor = match authenticate(&state, request.headers()).await? {
        Ok(actor) => actor,
        Err(reason) => {
            state.refusals().record(None, &action, None, json!({ "reason": reason, "peer": peer })).await;
            let detail = "send `Authorization: Bearer …` with a token that is not revoked";
            return Err(ApiError::new(Kind::Unauthenticated, detail));
        }
    };
    let caller = Caller { actor, permission, action, peer, state };
    // Whoever is bound to a tenant is told nothing before the handler knows which one it is about.
    if !(is_about_a_tenant && caller.actor.role == Role::TenantAdmin) {
        caller.may_at_all(is_about_a_tenant).await?;
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// The actor, or why there is none.
async fn authenticate(state: &AppState, headers: &HeaderMap) -> ApiResult<Result<Actor, &'static str>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Ok(Err("no token, or several"));
    };
    let secret = value.to_str().ok().and_then(|text| text.split_once(' ')).and_then(|(scheme, secret)| {
        (scheme.eq_ignore_ascii_case("bearer") && !secret.trim().is_empty()).then(|| secret.trim())
    });
    let Some(secret) = secret else { return Ok(Err("no bearer token")) };
    Ok(state.store.authenticate(secret).await?.map(|(_, actor)| actor).ok_or("unknown or revoked token"))
}

impl Caller {
    /// The proof for an endpoint about the platform as a whole.
    async fn platform(&self) -> ApiResult<Permit> {
        match self.actor.permit(self.permission, None) {
            Ok(permit) => Ok(permit),
            Err(refused) => Err(self.forbid(None, &refused).await),
        }
    }

    /// The tenant of this slug or id, with the proof for it.
    async fn tenant(&self, reference: &str) -> ApiResult<(Tenant, Permit)> {
        let tenant = match reference.parse() {
            Ok(reference) => self.state.store.tenant(&reference).await?,
            Err(_) => None,
        };
        match tenant {
            Some(tenant) if self.sees(tenant.id) => {
                let permit = self.permit(tenant.id).await?;
                Ok((tenant, permit))
            }
            unseen => Err(self.hide("tenant", reference, unseen.map(|tenant| tenant.id)).await),
        }
    }

    /// The operation of this id, with the proof for its tenant.
    async fn operation(&self, reference: &str) -> ApiResult<(Operation, Permit)> {
        let operation = match reference.parse::<OperationId>() {
            Ok(id) => self.state.store.operation(id).await?,
            Err(_) => None,
        };
        match operation {
            Some(operation) if self.sees(operation.tenant) => {
                let permit = self.permit(operation.tenant).await?;
                Ok((operation, permit))
            }
            unseen => Err(self.hide("operation", reference, unseen.map(|operation| operation.tenant)).await),
        }
    }

    /// Whether the caller may know that the tenant exists.
    fn sees(&self, tenant: TenantId) -> bool {
        self.actor.may(Permission::TenantRead, Some(tenant))
    }

    async fn permit(&self, tenant: TenantId) -> ApiResult<Permit> {
        match self.actor.permit(self.permission, Some(tenant)) {
            Ok(permit) => Ok(permit),
            Err(refused) => Err(self.forbid(Some(tenant), &refused).await),
        }
    }

    /// What can be said before the tenant is known.
    async fn may_at_all(&self, is_about_a_tenant: bool) -> ApiResult<()> {
        if is_about_a_tenant && self.actor.role.grants(self.permission) {
            return Ok(());
        }
        self.platform().await.map(drop)
    }

    async fn forbid(&self, tenant: Option<TenantId>, refused: &guardian_model::access::Refused) -> ApiError {
        let detail = json!({ "role": refused.role, "permission": refused.permission, "peer": self.peer });
        self.state.refusals().record(Some(&self.actor), &self.action, tenant, detail).await;
        ApiError::new(Kind::Forbidden, refused.to_string())
    }

    /// The answer for what is not there, or not there for this caller.
    async fn hide(&self, kind: &str, reference: &str, tenant: Option<TenantId>) -> ApiError {
        if self.actor.role == Role::TenantAdmin {
            let detail = json!({ "role": self.actor.role, "permission": self.permission, "peer": self.peer });
            self.state.refusals().record(Some(&self.actor), &self.action, tenant, detail).await;
        }
        ApiError::not_found(format!("there is no {kind} `{}`", shown(reference)))
    }
}

/// Authorised on the platform as a whole.
pub(crate) struct OnPlatform(pub(crate) Permit);

/// Authorised on the tenant that the path names.
pub(crate) struct OnTenant(pub(crate) Tenant, pub(crate) Permit);

/// Authorised on the tenant of the operation that the path names.
pub(crate) struct OnOperation(pub(crate) Operation, pub(crate) Permit);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::internal("an endpoint without the guard in front of it"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OnPlatform {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.platform().await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OnTenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let PathTenant(name) = PathTenant::from_request_parts(parts, state).await?;
        let (tenant, permit) = caller.tenant(&name).await?;
        Ok(Self(tenant, permit))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OnOperation {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let PathName(name) = PathName::from_request_parts(parts, state).await?;
        let (operation, permit) = caller.operation(&name).await?;
        Ok(Self(operation, permit))
    }
}
