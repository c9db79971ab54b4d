//! What the handlers work with.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use guardian_lifecycle::Lifecycle;
use guardian_model::{
    Permission,
    access::Actor,
    api::GatewayEvent,
    observation::{ObservationReceipt, ObservationReport},
};
use guardian_postgres::connect::Clusters;
use guardian_store::Store;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::openapi::OpenApi;

use crate::{config::ConfigSource, endpoint::Endpoints, feed::Publisher, openapi::openapi, refusals::Refusals};

/// Whole snapshots on their way out at once: each is up to a hundred megabytes of reading.
const SNAPSHOTS_MAX: usize = 8;

/// How often somebody looks for sessions past the gateway, however often gateways report.
const LOOK_PAST_INTERVAL: Duration = Duration::from_secs(5);

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
    publisher: Publisher,
    /// Whole snapshots on their way out.
    snapshots: Arc<Semaphore>,
    sql_address: OnceLock<SocketAddr>,
    looked_past: Mutex<Option<Instant>>,
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
            publisher: Publisher::new(
                store.clone(),
                clusters.clone(),
                config.started_with().clone(),
                config.folder().to_owned(),
            ),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            sql_address: OnceLock::new(),
            looked_past: Mutex::new(None),
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

    /// What gateways run on. [`crate::serve`] keeps it up to date.
    pub fn publisher(&self) -> &Publisher {
        &self.shared.publisher
    }

    /// Puts right what the gateway of this process saw.
    pub async fn gateway_event(&self, event: &GatewayEvent) -> Result<(), String> {
        let permit = Actor::system("gateway").permit(Permission::SnapshotRead, None);
        let permit = permit.map_err(|refused| refused.to_string())?;
        let done = crate::api::gateway_events::put_right(self, &permit, event).await;
        done.map(drop).map_err(|error| error.detail().to_owned())
    }

    /// Takes in what the gateway of this process observed.
    pub async fn observed(&self, report: &ObservationReport) -> Result<ObservationReceipt, String> {
        let permit = Actor::system("gateway").permit(Permission::SnapshotRead, None);
        let permit = permit.map_err(|refused| refused.to_string())?;
        let taken = crate::api::observations::take(self, &permit, report).await;
        taken.map_err(|error| error.detail().to_owned())
    }

    /// Whether the last look for sessions past the gateway is long ago; then the caller looks.
    pub(crate) fn is_time_to_look_past(&self) -> bool {
        let mut looked = self.shared.looked_past.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.is_none_or(|at| at.elapsed() >= LOOK_PAST_INTERVAL);
        if is_time {
            *looked = Some(Instant::now());
        }
        is_time
    }

    /// Tells where the SQL gateway of this process listens; it is shown with every new login. Untold: `gateway.listen`.
    pub fn set_sql_address(&self, address: SocketAddr) {
        // Told once, before anybody asks.
        let _ = self.shared.sql_address.set(address);
    }

    pub(crate) fn sql_address(&self) -> String {
        let bound = self.shared.sql_address.get().map(ToString::to_string);
        bound.unwrap_or_else(|| self.config.started_with().gateway.listen.clone())
    }

    pub(crate) fn snapshots(&self) -> &Arc<Semaphore> {
        &self.shared.snapshots
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }
}
