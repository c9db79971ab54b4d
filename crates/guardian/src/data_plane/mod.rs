//! The data plane in this process: the SQL gateway, and what keeps its view of the world up to date.

mod keep;
mod keys;
mod metrics;
mod observations;
mod source;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use guardian_gateway::{
    Directory,
    identity::Verifier,
    sql::{Event, Gateway, GatewayError, Options},
};
use guardian_model::{Snapshot, config};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    keep::{Keep, Kept},
    source::Source,
};

/// How often names and certificate files are looked at again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// Events that wait to be told to the control plane; more are dropped, and happen again if they matter.
const EVENTS_MAX: usize = 256;

/// A running data plane.
pub(crate) struct DataPlane {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) directory: Arc<Directory>,
    identities: Arc<Verifier>,
    /// Key sets by issuer that were there at the start.
    kept_keys: keys::KeySets,
    events: mpsc::Receiver<Event>,
}

/// What it is started with.
pub(crate) struct Start {
    pub(crate) config: config::Gateway,
    pub(crate) folder: PathBuf,
    pub(crate) snapshot: Snapshot,
    pub(crate) keys: keys::KeySets,
    pub(crate) adopted: Vec<std::os::fd::OwnedFd>,
}

impl DataPlane {
    /// Listens and serves from here on.
    pub(crate) async fn start(start: Start) -> Result<Self, GatewayError> {
        let Start { config, folder, snapshot, keys, adopted } = start;
        let directory = Arc::new(Directory::new(snapshot));
        let identities = Arc::new(Verifier::default());
        identities.believe(keys::believed(&directory.view().installation.issuers, &keys));
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let events_of_workers = Box::new(move |event| drop(sender.try_send(event)));
        let options = Options { config, folder, adopted, events: events_of_workers };
        let (of_gateway, verifier) = (Arc::clone(&directory), Arc::clone(&identities));
        // Names are resolved and files are read: not on a thread of the runtime.
        let started = tokio::task::spawn_blocking(move || Gateway::start(options, of_gateway, verifier)).await;
        let gateway = started.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(Self { gateway: Arc::new(gateway), directory, identities, kept_keys: keys, events })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.gateway.address()
    }

    /// Keeps everything up to date until told to stop, then drains. With `keep`, what is known is kept across restarts.
    pub(crate) fn spawn(self, source: Source, keep: Option<Keep>, work: &TaskTracker, stop: &CancellationToken) {
        let Self { gateway, directory, identities, kept_keys, events } = self;
        let sets = Arc::new(keys::Sets::new(kept_keys));
        let changed = Arc::new(Notify::new());
        work.spawn(source.clone().tell(events, stop.clone()));
        work.spawn(source.clone().tell_observations(Arc::clone(&gateway), stop.clone()));
        work.spawn({
            let (directory, gateway, changed, stop) =
                (Arc::clone(&directory), Arc::clone(&gateway), Arc::clone(&changed), stop.clone());
            async move { source.follow(&directory, &gateway, &changed, &stop).await }
        });
        work.spawn({
            let (directory, identities, sets) = (Arc::clone(&directory), Arc::clone(&identities), Arc::clone(&sets));
            let (changed, stop) = (Arc::clone(&changed), stop.clone());
            async move { sets.follow(&directory, &identities, &changed, &stop).await }
        });
        if let Some(keep) = keep {
            let (directory, changed, stop) = (Arc::clone(&directory), Arc::clone(&changed), stop.clone());
            work.spawn(async move { keep.follow(&directory, &sets, &changed, &stop).await });
        }
        let stop = stop.clone();
        work.spawn(async move {
            while !stop.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(REFRESH_INTERVAL) => {
                        let gateway = Arc::clone(&gateway);
                        let _ = tokio::task::spawn_blocking(move || gateway.refresh()).await;
                    }
                    () = stop.cancelled() => {}
                }
            }
            let draining = Arc::clone(&gateway);
            let _ = tokio::task::spawn_blocking(move || draining.drain()).await;
        });
    }

    /// Serves metrics until told to stop.
    pub(crate) fn spawn_metrics(&self, listener: tokio::net::TcpListener, work: &TaskTracker, stop: &CancellationToken) {
        work.spawn(metrics::serve(listener, Arc::clone(&self.gateway), stop.clone()));
    }

    /// The same as soon as the gateway before has let go of the address.
    pub(crate) fn spawn_metrics_later(&self, address: String, work: &TaskTracker, stop: &CancellationToken) {
        work.spawn(metrics::serve_later(address, Arc::clone(&self.gateway), stop.clone()));
    }
}
