//! Administrators' connections to the users' clusters: pinned settings, bounded pools.
//!
//! Tenants' own connections do not come from here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use guardian_model::ClusterName;
use sqlx::{
    ConnectOptions, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{sync::Mutex, time::timeout};

/// Connections of one pool.
const POOL_CONNECTIONS_MAX: u32 = 8;
/// Pools kept open at once; past it, the one unused for longest is closed.
const POOLS_MAX: usize = 32;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Sent in the start-up packet, which outranks `ALTER ROLE … SET` and `ALTER DATABASE … SET`: a database that a tenant or
/// its owner has set up in some other way behaves the same.
const PINNED: [(&str, &str); 10] = [
    // Compiling a query on the catalogs takes longer than any of them runs.
    ("jit", "off"),
    ("search_path", "pg_catalog"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("default_transaction_read_only", "off"),
    ("row_security", "on"),
    ("client_min_messages", "warning"),
    ("TimeZone", "UTC"),
    ("log_parameter_max_length_on_error", "0"),
];

/// Only a superuser may set this one; capabilities travel as bind parameters, and those must not reach the server's log.
const KEEP_PARAMETERS_OUT_OF_LOGS: &str = "SELECT pg_catalog.set_config('log_parameter_max_length', '0', false) \
     FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper";

/// The clusters of `guardian.toml`, by name. Cheap to clone.
#[derive(Clone)]
pub struct Clusters(Arc<Inner>);

struct Inner {
    administrators: BTreeMap<ClusterName, PgConnectOptions>,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    open: HashMap<(ClusterName, String), (PgPool, u64)>,
    uses: u64,
}

/// Where a client connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name, IP address, or the directory of the unix socket.
    pub host: String,
    /// TCP port, also part of the unix socket's name.
    pub port: u16,
}

/// No connection to a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name stands nowhere in the configuration.
    #[error("there is no cluster `{0}`; declare [clusters.{0}] in guardian.toml")]
    Unknown(ClusterName),
    /// The server refused, or is not there.
    #[error("cannot connect to database `{database}` of cluster `{cluster}`: {source}")]
    Refused {
        /// The cluster.
        cluster: ClusterName,
        /// The database.
        database: String,
        /// What the driver or the server said.
        source: sqlx::Error,
    },
    /// No answer in time.
    #[error("cluster `{cluster}` did not answer within {} s; is it up, and reachable from here?", CONNECT_TIMEOUT.as_secs())]
    Silent {
        /// The cluster.
        cluster: ClusterName,
    },
}

impl Clusters {
    /// The clusters with the administrator's way into each.
    ///
    /// Options with both a socket and the host 127.0.0.1 (the local cluster) use the socket here, and tell clients the host.
    pub fn new(administrators: BTreeMap<ClusterName, PgConnectOptions>) -> Self {
        Self(Arc::new(Inner { administrators, pools: Mutex::default() }))
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &ClusterName> {
        self.0.administrators.keys()
    }

    /// What a client needs to connect; `None` for a cluster that is not declared.
    pub fn address(&self, cluster: &ClusterName) -> Option<Address> {
        self.0.administrators.get(cluster).map(address)
    }

    /// A connection of its own, as the administrator, with an empty search path and a lock timeout.
    pub async fn connect(&self, cluster: &ClusterName, database: &str) -> Result<PgConnection, ConnectError> {
        let options = self.options(cluster, database)?;
        let refused = |source| ConnectError::Refused { cluster: cluster.clone(), database: database.to_owned(), source };
        let connecting = async {
            let mut connection = options.connect().await?;
            sqlx::query(KEEP_PARAMETERS_OUT_OF_LOGS).execute(&mut connection).await?;
            Ok(connection)
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(refused),
            Err(_) => Err(ConnectError::Silent { cluster: cluster.clone() }),
        }
    }

    /// A small pool of such connections, kept for the next call. Connects on first use, not here.
    pub async fn pool(&self, cluster: &ClusterName, database: &str) -> Result<PgPool, ConnectError> {
        let options = self.options(cluster, database)?;
        let mut pools = self.0.pools.lock().await;
        pools.uses += 1;
        let now = pools.uses;
        let key = (cluster.clone(), database.to_owned());
        if let Some((pool, used)) = pools.open.get_mut(&key) {
            *used = now;
            return Ok(pool.clone());
        }
        if pools.open.len() >= POOLS_MAX {
            let oldest = pools.open.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            if let Some((pool, _)) = oldest.and_then(|key| pools.open.remove(&key)) {
                // Dropping lets borrowers finish; idle connections close with the last handle.
                drop(pool);
            }
        }
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::query(KEEP_PARAMETERS_OUT_OF_LOGS).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        pools.open.insert(key, (pool.clone(), now));
        Ok(pool)
    }

    /// Closes the pool of a database that is about to be dropped.
    pub async fn forget(&self, cluster: &ClusterName, database: &str) {
        let pool = self.0.pools.lock().await.open.remove(&(cluster.clone(), database.to_owned()));
        if let Some((pool, _)) = pool {
            pool.close().await;
        }
    }

    fn options(&self, cluster: &ClusterName, database: &str) -> Result<PgConnectOptions, ConnectError> {
        let administrator = self.0.administrators.get(cluster).ok_or_else(|| ConnectError::Unknown(cluster.clone()))?;
        Ok(administrator
            .clone()
            .database(database)
            .application_name("guardian")
            .options(PINNED)
            // The driver logs SQL text; password verifiers are part of some.
            .disable_statement_logging())
    }
}

fn address(options: &PgConnectOptions) -> Address {
    // Of both a socket and this host, the socket is the administrator's alone: see `Clusters::new`.
    let socket = options.get_socket().filter(|_| options.get_host() != "127.0.0.1");
    let host = socket.and_then(|socket| socket.to_str()).unwrap_or_else(|| options.get_host());
    Address { host: host.to_owned(), port: options.get_port() }
}
