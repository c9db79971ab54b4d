//! `[gateway]`: where the SQL gateway listens, and the size of what it shares between tenants.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The SQL gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Whether `guardian up` runs a gateway.
    pub enabled: bool,
    /// Where it listens for PostgreSQL clients.
    pub listen: String,
    /// The directory of a unix socket to listen on as well; the port names the socket, as PostgreSQL does.
    pub unix_socket_folder: Option<String>,
    /// Threads that serve clients; 0: one a core.
    pub workers: u16,
    /// Server connections to one cluster at once.
    pub server_connections: u16,
    /// How many of them are kept for tenants that hold none, so that long transactions cannot hold every connection.
    pub server_connections_reserved: u16,
    /// Into how many parts a cluster's connections are divided, each served by one worker; a tenant belongs to one part.
    pub shards: u16,
    /// Clients at once, of all tenants.
    pub clients_max: u32,
    /// Seconds a client has to log in.
    pub login_seconds_max: u16,
    /// Seconds clients get to end their transactions when the gateway stops.
    pub drain_seconds: u16,
    /// TLS for clients; left out: none, which is for loopback addresses and unix sockets only.
    pub tls: Option<Tls>,
    /// The ending of host names whose first label names the tenant (`db.example.com`: `acme.db.example.com`), by TLS SNI.
    pub server_name_suffix: Option<String>,
    /// Where Prometheus metrics are served, as `/metrics`. Left out: nowhere.
    pub metrics_listen: Option<String>,
    /// How many tenants have series of their own in the metrics; the rest are `other`.
    pub metrics_tenants_max: u16,
}

/// TLS for clients. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain (PEM), relative to `guardian.toml`.
    pub certificate_file: String,
    /// Its private key (PEM), relative to `guardian.toml`.
    pub key_file: String,
    /// Authorities of client certificates (PEM): clients that show one are checked against it.
    #[serde(default)]
    pub client_authorities_file: Option<String>,
    /// Whether clients without TLS are refused (also on loopback; unix sockets are exempt).
    #[serde(default = "yes")]
    pub required: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: "127.0.0.1:6432".to_owned(),
            unix_socket_folder: None,
            workers: 0,
            server_connections: 20,
            server_connections_reserved: 1,
            shards: 1,
            clients_max: 20_000,
            login_seconds_max: 15,
            drain_seconds: 20,
            tls: None,
            server_name_suffix: None,
            metrics_listen: None,
            metrics_tenants_max: 50,
        }
    }
}

impl Gateway {
    /// What types cannot say. An error names the dotted key it is about.
    pub fn check(&self) -> Result<(), (String, String)> {
        let key = |name: &str| format!("gateway.{name}");
        let listen: SocketAddr =
            self.listen.parse().map_err(|error| (key("listen"), format!("{error}; write `127.0.0.1:6432`")))?;
        if self.tls.is_none() && !listen.ip().is_loopback() {
            let problem =
                "passwords and rows would cross the network in clear: declare [gateway.tls], or listen on 127.0.0.1";
            return Err((key("listen"), problem.to_owned()));
        }
        if let Some(metrics) = &self.metrics_listen {
            let parsed: Result<SocketAddr, _> = metrics.parse();
            parsed.map_err(|error| (key("metrics_listen"), format!("{error}; write `127.0.0.1:9187`")))?;
        }
        let at_least_one = [
            ("server_connections", u32::from(self.server_connections)),
            ("shards", u32::from(self.shards)),
            ("clients_max", self.clients_max),
            ("login_seconds_max", u32::from(self.login_seconds_max)),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err((key(name), "must be 1 or more".to_owned()));
        }
        if self.server_connections < self.shards {
            return Err((
                key("shards"),
                "each part needs a server connection: use `server_connections` or fewer".to_owned(),
            ));
        }
        if self.server_connections_reserved >= self.server_connections / self.shards {
            let problem = "must leave each shard a connection that is not reserved";
            return Err((key("server_connections_reserved"), problem.to_owned()));
        }
        Ok(())
    }
}
