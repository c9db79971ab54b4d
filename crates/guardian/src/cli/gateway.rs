//! `guardian gateway`: the data plane alone.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use guardian_gateway::sql::{Gateway as SqlGateway, takeover};
use guardian_model::{Config, config};
use serde::Serialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Global;
use crate::{
    boot::{Stop, metrics_listener},
    data_plane::{DataPlane, Keep, Kept, Source, Start},
    logging::{self, LogFormat},
    output::{Failure, Mark, Output},
    state_folder::StateFolder,
};

/// The snapshot, sealed.
const KEPT: &str = "gateway.sealed";
/// Where the gateway that runs hands over its listening sockets.
const TAKEOVER: &str = "gateway.sock";
/// Where it listens.
const ADDRESS: &str = "gateway.addr";
/// How long a successor may take to start.
const SUCCESSOR_MAX: Duration = Duration::from_mins(1);

/// Run the SQL gateway alone, beside as many others as wanted
///
/// It reads tenants and logins from the control plane, and goes on with what it knows while that is down, also across its own
/// restart. A second one started on the same state folder takes over the listening sockets, and the first one drains: no
/// connection is refused in between.
#[derive(Debug, clap::Args)]
#[command(after_help = "[gateway] is read from the configuration, if there is one; the rest of that file is not looked at.

Examples:
  guardian token create edge-1 --role gateway
  guardian gateway --control-url https://guardian.internal --token-file gateway.token
  guardian gateway --control-url http://127.0.0.1:7117 --listen 127.0.0.1:6433")]
pub(crate) struct Gateway {
    /// The control plane's address; plain http:// only to this machine
    #[arg(long, value_name = "URL", env = "GUARDIAN_CONTROL_URL", hide_env_values = true)]
    control_url: Option<String>,
    /// Where to listen, in place of [gateway] listen
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The form of the log on standard error; `GUARDIAN_LOG` filters it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// What `--json` prints once it serves.
#[derive(Debug, Serialize)]
struct Started {
    sql: Option<SocketAddr>,
    took_over: bool,
    control_plane: bool,
    took_ms: u128,
}

impl Gateway {
    pub(crate) async fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        logging::start(self.log_format)?;
        let begun = Instant::now();
        let mut config = read_config(&global.config)?;
        if let Some(listen) = self.listen {
            config.listen = listen;
            config.check().map_err(|(_, problem)| Failure::usage(format!("--listen: {problem}")))?;
        }
        let (client, token) = global.client_with_token(self.control_url.as_deref())?;
        if !client.is_protected() {
            let problem = format!(
                "{} is neither this machine nor https://, and every tenant's secrets would cross the network in clear",
                client.server()
            );
            return Err(Failure::usage(problem).advise("put TLS in front of the control plane, or a tunnel").into());
        }
        let state = StateFolder::at(std::path::absolute(global.state_folder())?);
        state.create()?;
        let keep = Keep::under_token(state.path().join(KEPT), &token)?;
        let mut stop = Stop::on_signals()?;
        let source = Source::There(client);
        let (kept, is_fresh) = first_snapshot(&source, &keep).await?;
        let predecessor = Predecessor::find(&state.path().join(TAKEOVER));
        let adopted = predecessor.as_ref().map(Predecessor::sockets).transpose()?.unwrap_or_default();
        let folder = global.config.parent().map_or_else(PathBuf::new, Path::to_owned);
        // A predecessor holds that address until it is told to stop.
        let metrics = if predecessor.is_none() { metrics_listener(&config).await? } else { None };
        let metrics_later = config.metrics_listen.clone().filter(|_| predecessor.is_some());
        let start = Start { config, folder, snapshot: kept.snapshot, keys: kept.keys, adopted };
        let data_plane = DataPlane::start(start).await?;
        let address = data_plane.address();
        let gateway = Arc::clone(&data_plane.gateway);
        let work = TaskTracker::new();
        if let Some(listener) = metrics {
            data_plane.spawn_metrics(listener, &work, &stop.token);
        }
        if let Some(address) = metrics_later {
            data_plane.spawn_metrics_later(address, &work, &stop.token);
        }
        data_plane.spawn(source, Some(keep), &work, &stop.token);
        let took_over = predecessor.is_some();
        if let Some(predecessor) = predecessor {
            predecessor.release();
        }
        hand_over_when_asked(&state.path().join(TAKEOVER), gateway, stop.token.clone())?;
        if let Some(address) = address {
            state.write(ADDRESS, &address.to_string())?;
        }
        let started = Started { sql: address, took_over, control_plane: is_fresh, took_ms: begun.elapsed().as_millis() };
        output.result(&started, |started| {
            let listens = started.sql.map_or_else(|| "a unix socket".to_owned(), |address| address.to_string());
            let from = if started.took_over { ", taken over from the gateway before" } else { "" };
            output.marked(Mark::Good, format!("ready after {:.1} s: {listens}{from}", begun.elapsed().as_secs_f64()))?;
            if !started.control_plane {
                output.remark("  the control plane does not answer: serving what was known when it last did");
            }
            Ok(())
        })?;
        let taken_over = stop.token.clone();
        tokio::select! {
            () = stop.next() => {}
            () = taken_over.cancelled() => {}
        }
        stop.token.cancel();
        work.close();
        tracing::info!("stopping; transactions come to an end first");
        tokio::select! {
            () = work.wait() => tracing::info!("stopped"),
            () = stop.next() => tracing::warn!("stopped at once"),
        }
        Ok(())
    }
}

fn read_config(path: &Path) -> anyhow::Result<config::Gateway> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Config::parse_gateway(&path.display().to_string(), &text)?.0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(config::Gateway::default()),
        Err(error) => Err(Failure::new(format!("cannot read `{}`: {error}", path.display())).into()),
    }
}

/// From the control plane, or what was kept when it does not answer; true for the former.
async fn first_snapshot(source: &Source, keep: &Keep) -> anyhow::Result<(Kept, bool)> {
    // A kept file that does not open is no reason not to start while the control plane answers.
    let kept = keep.load();
    match source.snapshot().await {
        Ok(snapshot) => {
            let keys = kept.ok().flatten().map_or_else(BTreeMap::new, |kept| kept.keys);
            Ok((Kept { snapshot, keys }, true))
        }
        Err(error) if error.is_refusal() => Err(error.into()),
        Err(error) => match kept? {
            Some(kept) => {
                tracing::warn!(%error, "the control plane does not answer; serving with what was kept");
                Ok((kept, false))
            }
            None => Err(error.into()),
        },
    }
}

/// A gateway that runs on the same state folder.
struct Predecessor(UnixStream);

impl Predecessor {
    fn find(path: &Path) -> Option<Self> {
        UnixStream::connect(path).ok().map(Self)
    }

    fn sockets(&self) -> anyhow::Result<Vec<std::os::fd::OwnedFd>> {
        self.0.set_read_timeout(Some(Duration::from_secs(5)))?;
        takeover::take(&self.0).context("the gateway that runs does not hand over its sockets")
    }

    /// From here on it may stop.
    fn release(mut self) {
        let _ = self.0.write_all(&[1]);
    }
}

/// Hands the listening sockets to a successor, and drains once that serves.
fn hand_over_when_asked(path: &Path, gateway: Arc<SqlGateway>, stop: CancellationToken) -> anyhow::Result<()> {
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on `{}`", path.display()))?;
    let hand_over = move || {
        for successor in listener.incoming() {
            let Ok(mut successor) = successor else { continue };
            if gateway.hand_over(&successor).is_err() {
                continue;
            }
            let _ = successor.set_read_timeout(Some(SUCCESSOR_MAX));
            // One that fails to start leaves everything as it is.
            if successor.read_exact(&mut [0]).is_ok() {
                tracing::info!("another gateway took over");
                gateway.stop_accepting();
                stop.cancel();
                return;
            }
        }
    };
    std::thread::Builder::new().name("takeover".to_owned()).spawn(hand_over)?;
    Ok(())
}
