//! The state of the control plane at a glance.

use std::time::Duration;

use axum::{Json, extract::State};
use futures_util::future::join_all;
use guardian_model::{
    ClusterName, Permission, Place,
    api::{ClusterStatus, Status, WarmDatabases},
};
use guardian_postgres::registry;
use guardian_provision::MAINTENANCE_DATABASE;
use sqlx::Connection as _;
use tokio::time::timeout;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    problem::{ApiResult, chain},
};

/// How long a cluster may take to answer before it counts as unreachable.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(status))
}

/// The state of the control plane and its clusters
#[utoipa::path(
    get, path = "/v1/status", tag = "status", operation_id = "status.read",
    extensions(("x-guardian-permission" = json!(Permission::PlatformRead))),
    responses((status = 200, description = "As of now", body = Status)),
)]
async fn status(State(state): State<AppState>) -> ApiResult<Json<Status>> {
    let config = state.config.current()?;
    let counts = state.store.counts().await?;
    let doors = state.store.doors().await?.into_iter().map(|opened| opened.door).collect();
    let probes = state.clusters.names().cloned().map(|name| {
        let cluster = config.clusters.get(&name);
        let reserved_for = cluster.and_then(|cluster| cluster.reserved_for.as_ref());
        probe(&state, name, reserved_for.map(ToString::to_string), cluster.and_then(|cluster| cluster.warm_databases))
    });
    let shared = config.shared_place();
    let (clusters, mechanism) = tokio::join!(join_all(probes), mechanism(&state, &shared));
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        application: config.application.name.clone(),
        tenants: counts.tenants,
        operations_live: counts.operations_live,
        incidents_open: counts.incidents_open,
        mechanism,
        doors,
        clusters,
    }))
}

async fn probe(state: &AppState, name: ClusterName, reserved_for: Option<String>, warm: Option<u8>) -> ClusterStatus {
    let (server_version, error) = match timeout(PROBE_TIMEOUT, version(state, &name)).await {
        Ok(Ok(version)) => (Some(version), None),
        Ok(Err(error)) => (None, Some(error)),
        Err(_) => (None, Some(format!("no answer within {} s", PROBE_TIMEOUT.as_secs()))),
    };
    let warm_databases = match warm {
        Some(wanted) => Some(WarmDatabases { ready: stock(state, &name).await, wanted }),
        None => None,
    };
    ClusterStatus { name: name.to_string(), reachable: error.is_none(), server_version, error, reserved_for, warm_databases }
}

/// How many prepared databases there are; why there are not enough stands in the log.
async fn stock(state: &AppState, name: &ClusterName) -> Option<usize> {
    timeout(PROBE_TIMEOUT, state.lifecycle.stock(name)).await.ok()?.ok()
}

async fn version(state: &AppState, name: &ClusterName) -> Result<String, String> {
    let mut connection = state.clusters.connect(name, MAINTENANCE_DATABASE).await.map_err(|error| error.to_string())?;
    let version = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await;
    let _ = connection.close().await;
    version.map_err(|error| chain(&error))
}

/// How the tenant context is kept; `None` before `apply`, and while its cluster does not answer (which `clusters` says).
async fn mechanism(state: &AppState, shared: &Place) -> Option<String> {
    let look = async {
        let mut connection = state.clusters.connect(&shared.cluster, &shared.database).await.ok()?;
        let mechanism = registry::mechanism(&mut connection).await;
        let _ = connection.close().await;
        mechanism.ok().flatten().map(|mechanism| mechanism.as_str().to_owned())
    };
    timeout(PROBE_TIMEOUT, look).await.ok().flatten()
}
