//! What all workers of a gateway share.

use std::{
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use guardian_model::{ClusterName, TenantId, snapshot::SnapshotCluster};
use mio::Token;
use rustls::ClientConfig;

use super::{
    metrics::Measured,
    observe::Observer,
    refusal::Refusal,
    tls::{self, Acceptor},
    worker::Mailbox,
};
use crate::{Directory, identity::Verifier};

/// The waker's token in each worker.
pub(crate) const WAKER: Token = Token(0);

/// What a gateway is told at its start.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) workers: usize,
    pub(crate) shards: u16,
    pub(crate) server_connections: u16,
    pub(crate) server_connections_reserved: u16,
    pub(crate) clients_max: usize,
    pub(crate) login: Duration,
    pub(crate) drain: Duration,
    pub(crate) tls_required: bool,
    pub(crate) server_name_suffix: Option<String>,
}

/// Something that the control plane ought to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session changed its own role: its password or its defaults may be poisoned.
    RoleAltered {
        /// The cluster.
        cluster: ClusterName,
        /// The role.
        role: String,
        /// Whose session it was.
        tenant: Option<TenantId>,
    },
    /// A server refused the password that the snapshot has.
    PasswordRefused {
        /// The cluster.
        cluster: ClusterName,
        /// The role.
        role: String,
    },
}

/// Shared by all workers.
pub(crate) struct Shared {
    pub(crate) options: Settled,
    pub(crate) directory: Arc<Directory>,
    pub(crate) identities: Arc<Verifier>,
    pub(crate) acceptor: Option<Acceptor>,
    pub(crate) mailboxes: Vec<Mailbox>,
    /// Clients of all workers.
    pub(crate) clients: AtomicUsize,
    pub(crate) mock_secret: [u8; 32],
    pub(crate) routes: Routes,
    /// Refusals by their labels.
    pub(crate) refusals: Mutex<BTreeMap<&'static str, u64>>,
    /// What tenants did that no worker remembers.
    pub(crate) retired: Mutex<Measured>,
    pub(crate) events: Box<dyn Fn(Event) + Send + Sync>,
    /// While an application is being adopted.
    pub(crate) observer: Observer,
}

/// Where a cluster is, once its name is resolved.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    Tcp { addresses: Vec<SocketAddr>, host: String, tls: Option<Arc<ClientConfig>> },
    Unix(PathBuf),
}

/// Addresses of the clusters. Names are resolved on a thread of its own, never by a worker.
#[derive(Default)]
pub(crate) struct Routes(Mutex<HashMap<ClusterName, Resolved>>);

/// A cluster as declared, and where it is or why that is not known.
type Resolved = (SnapshotCluster, Result<Route, String>);

impl Routes {
    pub(crate) fn get(&self, cluster: &ClusterName) -> Result<Route, String> {
        let routes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match routes.get(cluster) {
            Some((_, route)) => route.clone(),
            None => Err(format!("cluster `{cluster}` is not declared")),
        }
    }

    /// Resolves every cluster's name; blocks.
    pub(crate) fn resolve(&self, clusters: &[SnapshotCluster]) {
        for cluster in clusters {
            let resolved = resolve(cluster);
            let mut routes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match routes.get(&cluster.name) {
                // A name that does not resolve now may have done so before.
                Some((known, Ok(_))) if known == cluster && resolved.is_err() => {}
                _ => drop(routes.insert(cluster.name.clone(), (cluster.clone(), resolved))),
            }
        }
    }
}

fn resolve(cluster: &SnapshotCluster) -> Result<Route, String> {
    if cluster.host.starts_with('/') {
        return Ok(Route::Unix(PathBuf::from(format!("{}/.s.PGSQL.{}", cluster.host, cluster.port))));
    }
    let tls = tls::connector(&cluster.tls).map_err(|error| error.to_string())?;
    let addresses = (cluster.host.as_str(), cluster.port)
        .to_socket_addrs()
        .map_err(|error| format!("the host name `{}` does not resolve: {error}", cluster.host))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    if addresses.is_empty() {
        return Err(format!("the host name `{}` has no address", cluster.host));
    }
    Ok(Route::Tcp { addresses, host: cluster.host.clone(), tls })
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Shared {
    /// Counts a refusal.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        *self.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(refusal.label()).or_insert(0) += 1;
    }

    /// Keeps the counts of a tenant that a worker forgets.
    pub(crate) fn retire(&self, counts: &Measured) {
        self.retired.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(counts);
    }

    /// The worker that serves a tenant, and the shard of its cluster's connections that it belongs to.
    pub(crate) fn home(&self, cluster: &ClusterName, tenant: Option<TenantId>) -> (usize, u16) {
        let shards = u64::from(self.options.shards);
        // The last bits of a UUIDv7 are random.
        let bits = tenant.map_or(0, |tenant| tenant.uuid().as_u64_pair().1);
        let shard = u16::try_from(bits % shards).unwrap_or(0);
        let of_name = cluster.as_str().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        (of_name.wrapping_add(usize::from(shard)) % self.options.workers, shard)
    }
}
