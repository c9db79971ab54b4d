//! What the handlers work with.

use std::sync::Arc;

use guardian_lifecycle::Lifecycle;
use guardian_postgres::connect::Clusters;
use guardian_store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::openapi::OpenApi;

use crate::{config::ConfigSource, endpoint::Endpoints, openapi::openapi, refusals::Refusals};

/// Everything that a handler reaches. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Guardian's own database.
    pub store: Store,
    /// What changes tenants.
    pub lifecycle: Lifecycle,
    /// The users' servers.
    pub clusters: Clusters,
    /// `guardian.toml`.
    pub config: ConfigSource,
    shared: Arc<Shared>,
}

struct Shared {
    description: OpenApi,
    endpoints: Endpoints,
    refusals: Refusals,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl AppState {
    /// `stop` ends the server; runs then end where they can be taken up again.
    pub fn new(
        store: Store,
        lifecycle: Lifecycle,
        clusters: Clusters,
        config: ConfigSource,
        stop: CancellationToken,
    ) -> Self {
        let description = openapi();
        let shared = Shared {
            endpoints: Endpoints::of(&description),
            description,
            refusals: Refusals::new(store.clone()),
            tasks: TaskTracker::new(),
            stop,
        };
        Self { store, lifecycle, clusters, config, shared: Arc::new(shared) }
    }

    pub(crate) fn description(&self) -> &OpenApi {
        &self.shared.description
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.shared.endpoints
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.shared.refusals
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }
}
