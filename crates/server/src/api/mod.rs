//! The endpoints: one file a resource. A handler turns a request into one call of the store or the lifecycle, and its answer
//! into JSON; what is allowed was declared beside it and is enforced by the guard.
//!
//! No endpoint takes a command, a path or SQL to execute.

mod access;
mod adoption;
mod api_keys;
mod audit_log;
mod audits;
mod domains;
mod doors;
pub(crate) mod gateway_events;
mod hardening;
mod health;
mod http;
mod identity_keys;
mod imports;
mod incidents;
mod keys;
mod logins;
mod migrations;
pub(crate) mod observations;
mod operations;
mod runs;
mod snapshot;
mod status;
mod tenants;
mod tiers;
mod tokens;
mod tools;

use axum::http::StatusCode;
use guardian_model::{OperationState, TenantId, api::TenantChange};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    AppState,
    problem::{ApiError, ApiResult},
};

/// Every route, in the order of the documentation.
pub(crate) fn routes(router: OpenApiRouter<AppState>) -> OpenApiRouter<AppState> {
    router
        .merge(status::routes())
        .merge(tenants::routes())
        .merge(imports::routes())
        .merge(doors::routes())
        .merge(tiers::routes())
        .merge(operations::routes())
        .merge(incidents::routes())
        .merge(audits::routes())
        .merge(hardening::routes())
        .merge(adoption::routes())
        .merge(migrations::routes())
        .merge(tools::routes())
        .merge(runs::routes())
        .merge(keys::routes())
        .merge(tokens::routes())
        .merge(logins::routes())
        .merge(api_keys::routes())
        .merge(access::routes())
        .merge(domains::routes())
        .merge(http::routes())
        .merge(identity_keys::routes())
        .merge(snapshot::routes())
        .merge(gateway_events::routes())
        .merge(observations::routes())
        .merge(audit_log::routes())
        .merge(health::routes())
}

/// `when_done` for an operation that has ended already, 202 for one that goes on.
fn status_of(change: &TenantChange, when_done: StatusCode) -> StatusCode {
    if change.operation.state == OperationState::Done { when_done } else { StatusCode::ACCEPTED }
}

/// A text that people read, from a request: not empty, not endless, on one line.
fn checked_words(field: &str, text: &str) -> ApiResult<()> {
    if text.trim().is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!("`{field}` must have 1 to 200 characters, none of them control characters")));
    }
    Ok(())
}

/// The tenant that a query or a body names by slug or id.
async fn named_tenant(state: &AppState, reference: Option<&str>) -> ApiResult<Option<TenantId>> {
    let Some(reference) = reference else { return Ok(None) };
    let tenant = match reference.parse() {
        Ok(reference) => state.store.tenant(&reference).await?,
        Err(_) => None,
    };
    match tenant {
        Some(tenant) => Ok(Some(tenant.id)),
        None => Err(ApiError::invalid(format!("`tenant`: there is no tenant `{}`", shown(reference)))),
    }
}

/// What a caller named, short enough to stand in an answer.
pub(crate) fn shown(name: &str) -> String {
    // Long enough for every slug, id and name.
    name.chars().take(80).collect()
}
