//! Wires the parts of a running Guardian together: refuses what is wrong before anything is open, starts what the
//! configuration asks for, and takes it down in reverse when told to stop.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use guardian_lifecycle::Lifecycle;
use guardian_model::{
    ClusterName,
    config::{self, LOCAL},
};
use guardian_postgres::{
    connect::Clusters,
    local::{LocalCluster, StateLock},
};
use guardian_provision::database;
use guardian_server::{AppState, ConfigSource};
use guardian_store::{Lease, RotationError, Store, StoreError, Vault};
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config_file::ConfigFile,
    data_plane::{DataPlane, Source, Start},
    master_key,
    state_folder::StateFolder,
};

/// Guardian's own database on the local cluster.
const CONTROL_DATABASE: &str = "guardian";
const SEAL_INTERVAL: Duration = Duration::from_secs(10);
/// How long work at hand may go on after the signal to stop; what is cut off then is finished by the next start.
const DRAIN_MAX: Duration = Duration::from_secs(25);

/// A Guardian that serves.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Where the API listens.
    pub(crate) address: SocketAddr,
    /// Where the SQL gateway listens, if it runs.
    pub(crate) sql: Option<SocketAddr>,
    /// How long the start took.
    pub(crate) took: Duration,
}

/// Runs Guardian until SIGTERM or SIGINT; `ready` is told once the API answers.
pub(crate) async fn run(
    file: ConfigFile,
    state: StateFolder,
    new_admin_token: bool,
    ready: impl FnOnce(&Ready) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let external = external_clusters(&file)?;
    let control = file.config.control.database_url.as_deref();
    let control = control.map(|url| parse_url("control.database_url", url)).transpose()?;
    state.create()?;
    let lock = Arc::new(StateLock::acquire(state.path())?);
    // Of a process that was killed; nobody answers there now.
    state.forget_addresses();
    let vault = master_key::load(&file, &state)?;
    let stop = Stop::on_signals()?;

    let local = if file.config.needs_local_cluster() { Some(start_local(&lock).await?) } else { None };
    let parts = Parts { file, state, begun, vault, external, control, new_admin_token };
    let served = parts.serve(local.as_ref(), stop, ready).await;
    if let Some(local) = local {
        // Also after an error: whatever went wrong, the cluster is ours to stop.
        let stopped = tokio::task::spawn_blocking(move || local.stop()).await?;
        served.and(stopped.context("cannot stop the local cluster"))
    } else {
        served
    }
}

/// What is known to be sound before anything starts.
struct Parts {
    file: ConfigFile,
    state: StateFolder,
    begun: Instant,
    vault: Vault,
    external: BTreeMap<ClusterName, PgConnectOptions>,
    control: Option<PgConnectOptions>,
    new_admin_token: bool,
}

impl Parts {
    async fn serve(
        self,
        local: Option<&LocalCluster>,
        stop: Stop,
        ready: impl FnOnce(&Ready) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Self { file, state, begun, vault, external, control, new_admin_token } = self;
        let mut administrators = external;
        let control = match (control, local) {
            (Some(control), _) => control,
            (None, Some(local)) => control_database(local).await?,
            (None, None) => unreachable!("without a URL the control database is the local cluster's"),
        };
        if let Some(local) = local {
            let names = file.config.clusters.iter().filter(|(_, cluster)| cluster.url == LOCAL);
            administrators.extend(names.map(|(name, _)| (name.clone(), local.options())));
        }
        let store = Store::open(control, vault).await?;
        store.declare_tiers(&file.config.declared_tiers()).await?;
        let clusters = Clusters::new(administrators);
        let config = Arc::new(file.config.clone());
        let lifecycle = Lifecycle::new(store.clone(), clusters.clone(), config, file.migrations(), worker_name());
        // Refuses a key that is not the one that seals by now; nothing has been sealed yet.
        store.beat(lifecycle.lease()).await?;
        let listen = &file.config.control.listen;
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {listen} (control.listen in guardian.toml)"))?;
        let address = listener.local_addr()?;
        let may_replace = file.config.control.database_url.is_none() || new_admin_token;
        keep_admin_token(&store, &state, may_replace).await?;

        let (folder, gateway) = (file.folder().to_owned(), file.config.gateway.clone());
        let source = ConfigSource::new(file.config.clone(), folder.clone(), move || file.read_again());
        let app = AppState::new(store.clone(), lifecycle.clone(), clusters, source, stop.token.clone());
        let work = TaskTracker::new();
        let lease = lifecycle.lease().clone();
        work.spawn(beat(store.clone(), lease.clone(), stop.token.clone()));
        work.spawn(lifecycle.work(stop.token.clone()));
        work.spawn(seal_audit_log(store.clone(), stop.token.clone()));
        let sql = if gateway.enabled { start_gateway(gateway, folder, &app, &work, &stop.token).await? } else { None };
        if let Some(sql) = sql {
            app.set_sql_address(sql);
            state.keep_sql_address(&sql.to_string())?;
        }
        let server = work.spawn(guardian_server::serve(listener, app));
        work.close();
        state.keep_api_address(&address.to_string())?;
        let told = ready(&Ready { address, sql, took: begun.elapsed() });

        let ended = stop.while_running(server, &work).await;
        state.forget_addresses();
        // Says so itself, so that nobody waits for what it might still seal.
        if let Err(error) = store.leave(&lease).await {
            tracing::warn!(%error, "cannot say that this control plane stops");
        }
        store.close().await;
        told.and(ended)
    }
}

/// The SQL gateway of this process, on the control plane of this process.
async fn start_gateway(
    config: config::Gateway,
    folder: PathBuf,
    app: &AppState,
    work: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    let metrics = metrics_listener(&config).await?;
    let source = Source::Here(app.clone());
    let snapshot = source.snapshot().await.context("cannot read what the SQL gateway runs on")?;
    let start = Start { config, folder, snapshot, keys: BTreeMap::new(), adopted: Vec::new() };
    let data_plane = DataPlane::start(start).await?;
    let address = data_plane.address();
    if let Some(listener) = metrics {
        data_plane.spawn_metrics(listener, work, stop);
    }
    data_plane.spawn(source, None, work, stop);
    Ok(address)
}

/// Where the gateway's metrics are served, if anywhere.
pub(crate) async fn metrics_listener(config: &config::Gateway) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = &config.metrics_listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    Ok(Some(listener.with_context(|| format!("cannot listen on {address} (gateway.metrics_listen in guardian.toml)"))?))
}

/// The signals that end the process: the first asks everything to come to an end, the second does not wait for it.
pub(crate) struct Stop {
    pub(crate) token: CancellationToken,
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn on_signals() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { token: CancellationToken::new(), terminate, interrupt })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Until a signal comes or the server ends by itself; then lets all work end, within bounds.
    async fn while_running(
        mut self,
        mut server: tokio::task::JoinHandle<io::Result<()>>,
        work: &TaskTracker,
    ) -> anyhow::Result<()> {
        let ended = tokio::select! {
            ended = &mut server => Some(ended),
            () = self.next() => None,
        };
        self.token.cancel();
        if let Some(ended) = ended {
            ended.context("the server stopped")?.context("the server failed")?;
        }
        tracing::info!("stopping; what is at work comes to an end first");
        tokio::select! {
            () = work.wait() => tracing::info!("stopped"),
            () = tokio::time::sleep(DRAIN_MAX) => tracing::warn!("stopped in the middle of work; the next start goes on with it"),
            () = self.next() => tracing::warn!("stopped at once; the next start goes on with what was at work"),
        }
        Ok(())
    }
}

fn external_clusters(file: &ConfigFile) -> anyhow::Result<BTreeMap<ClusterName, PgConnectOptions>> {
    let declared = file.config.clusters.iter().filter(|(_, cluster)| cluster.url != LOCAL);
    declared.map(|(name, cluster)| Ok((name.clone(), parse_url(&format!("clusters.{name}.url"), &cluster.url)?))).collect()
}

/// Names the key, never the URL: there may be a password in it.
fn parse_url(key: &str, url: &str) -> anyhow::Result<PgConnectOptions> {
    url.parse()
        .map_err(|_| anyhow::anyhow!("`{key}` in guardian.toml is no valid `postgres://user:password@host:port/database`"))
}

async fn start_local(lock: &Arc<StateLock>) -> anyhow::Result<LocalCluster> {
    let lock = Arc::clone(lock);
    let cluster = tokio::task::spawn_blocking(move || LocalCluster::start(&lock, &[])).await??;
    tracing::info!(
        cluster.port = cluster.port(),
        cluster.version = cluster.binaries().version,
        cluster.folder = %cluster.home().display(),
        "{}",
        if cluster.is_adopted() { "found the local PostgreSQL running" } else { "started the local PostgreSQL" }
    );
    Ok(cluster)
}

/// The control database of the local cluster, made at first start.
async fn control_database(local: &LocalCluster) -> anyhow::Result<PgConnectOptions> {
    let options = local.options().disable_statement_logging();
    let mut connection = options.connect().await.context("cannot connect to the local cluster")?;
    // Anybody may connect to these by default, and a tenant's role has no business in them.
    let close = "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC";
    sqlx::raw_sql(close).execute(&mut connection).await.context("cannot close the local cluster's own databases")?;
    // Tenants' roles connect to this cluster, too: it is made closed to them.
    database::ensure(&mut connection, CONTROL_DATABASE).await.context("cannot make the control database")?;
    connection.close().await?;
    Ok(options.database(CONTROL_DATABASE))
}

/// The first administrator's token goes into the state folder. When that file is lost, whoever runs Guardian gets a new one:
/// on request only where other nodes may share the control database, because theirs stops working.
async fn keep_admin_token(store: &Store, state: &StateFolder, may_replace: bool) -> anyhow::Result<()> {
    let secret = match store.bootstrap_token().await? {
        Some(secret) => secret,
        None if state.has_admin_token() => return Ok(()),
        None if !may_replace => {
            tracing::info!(
                "the first administrator's token was made by another node; copy its admin.token into the state folder, or \
                 start once with --new-admin-token when it is lost"
            );
            return Ok(());
        }
        None => {
            tracing::warn!("the first administrator's token was not in the state folder; it is replaced by a new one");
            store.replace_bootstrap_token().await?
        }
    };
    Ok(state.keep_admin_token(&secret)?)
}

/// Says again and again that this control plane runs, and hears which master key seals.
async fn beat(store: Store, lease: Lease, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(lease.duration / 3)).await.is_some() {
        match store.beat(&lease).await {
            Ok(()) => {}
            Err(error @ RotationError::KeyGone) => {
                tracing::error!(%error, "nothing can be sealed any more");
                return;
            }
            Err(error) => tracing::warn!(%error, "cannot hear which master key seals; trying again"),
        }
    }
}

/// Seals the audit log in batches; one process at a time does, and the others find nothing to do.
async fn seal_audit_log(store: Store, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(SEAL_INTERVAL) => {}
            () = stop.cancelled() => {}
        }
        // Once more at the end, so that a stopped Guardian leaves little unsealed.
        if let Err(error) = seal_all(&store).await {
            tracing::warn!(%error, "cannot seal the audit log; trying again");
        }
    }
}

async fn seal_all(store: &Store) -> Result<(), StoreError> {
    while store.seal().await?.is_some() {}
    Ok(())
}

/// Names this process in leases; two on one machine differ, and two machines too.
fn worker_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", std::process::id())
}
