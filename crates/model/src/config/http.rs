//! `[http]`: where the API gateway listens, what it lets in, and where requests go.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::{
    HostName, RoleName, UpstreamName,
    http::{HttpRole, HttpRoute, Identity, SnapshotHttp, Upstream},
};

/// Headers that a tenant cannot be named by: they mean something else.
const TAKEN_HEADERS: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "origin",
    "proxy-authorization",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The API gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Whether `guardian up` runs an API gateway.
    pub enabled: bool,
    /// Where it listens for HTTP requests.
    pub listen: String,
    /// Threads that serve requests; 0: one a core.
    pub workers: u16,
    /// TLS for clients; left out: none, which is for loopback addresses only, unless `in_clear` says otherwise.
    pub tls: Option<HttpTls>,
    /// Whether to listen without TLS on an address that others can reach, because something in front ends TLS.
    pub in_clear: bool,
    /// The ending of host names whose first label names the tenant (`app.example.com`: `acme.app.example.com`).
    pub host_suffix: Option<HostName>,
    /// Whether a route's path may name the tenant, as `{tenant}` (`/api/{tenant}/tickets`).
    pub tenant_path: bool,
    /// A header that names the tenant (`x-tenant`). Left out: none does.
    pub tenant_header: Option<String>,
    /// Bytes of a request's headers.
    pub header_bytes_max: u32,
    /// Headers of a request.
    pub headers_max: u16,
    /// Bytes of a request's body.
    pub body_bytes_max: u64,
    /// Seconds a client has to send a request's headers, and to shake hands for TLS.
    pub request_seconds_max: u16,
    /// Seconds a connection may be silent, between requests and in the middle of a body.
    pub idle_seconds_max: u16,
    /// Seconds requests get to end when the gateway stops.
    pub drain_seconds: u16,
    /// Connections at once, of all tenants.
    pub connections_max: u32,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Proxies (addresses or networks: `10.0.0.0/8`) whose `X-Forwarded-For` is believed. Left out: none's; such headers are
    /// taken away, and set anew.
    pub trusted_proxies: Vec<String>,
    /// Where Prometheus metrics are served, as `/metrics`. Left out: nowhere.
    pub metrics_listen: Option<String>,
    /// How many tenants have series of their own in the metrics; the rest are `other`.
    pub metrics_tenants_max: u16,
    /// The signed identity that requests carry to the application.
    pub identity: Identity,
    /// Where requests go, by a name of your choice.
    pub upstreams: BTreeMap<UpstreamName, Upstream>,
    /// Which requests go where, and what they need. A request that fits none is refused.
    pub routes: Vec<HttpRoute>,
    /// Roles that every tenant has, by name.
    pub roles: BTreeMap<RoleName, HttpRole>,
}

/// TLS for clients. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTls {
    /// The certificate chain (PEM), relative to `guardian.toml`.
    pub certificate_file: String,
    /// Its private key (PEM), relative to `guardian.toml`.
    pub key_file: String,
    /// Authorities of client certificates (PEM): clients that show one are checked against it.
    #[serde(default)]
    pub client_authorities_file: Option<String>,
    /// Whether clients have to show a certificate.
    #[serde(default)]
    pub client_certificate_required: bool,
    /// Certificates for other names, by TLS SNI.
    #[serde(default)]
    pub certificates: Vec<NamedCertificate>,
}

/// A certificate for some names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedCertificate {
    /// The names: `support.acme.com`, or `*.app.example.com`.
    pub names: Vec<String>,
    /// The certificate chain (PEM), relative to `guardian.toml`.
    pub certificate_file: String,
    /// Its private key (PEM), relative to `guardian.toml`.
    pub key_file: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: "127.0.0.1:8080".to_owned(),
            workers: 0,
            tls: None,
            in_clear: false,
            host_suffix: None,
            tenant_path: false,
            tenant_header: None,
            header_bytes_max: 32 * 1024,
            headers_max: 100,
            body_bytes_max: 64 * 1024 * 1024,
            request_seconds_max: 10,
            idle_seconds_max: 60,
            drain_seconds: 20,
            connections_max: 20_000,
            http2_streams_max: 100,
            trusted_proxies: Vec::new(),
            metrics_listen: None,
            metrics_tenants_max: 50,
            identity: Identity::default(),
            upstreams: BTreeMap::new(),
            routes: Vec::new(),
            roles: BTreeMap::new(),
        }
    }
}

impl Http {
    /// What a gateway needs of it, but for its sockets. The upstreams' authorities are not read yet.
    pub fn declared(&self) -> SnapshotHttp {
        SnapshotHttp {
            routes: self.routes.clone(),
            upstreams: self.upstreams.clone(),
            roles: self.roles.clone(),
            host_suffix: self.host_suffix.clone(),
            tenant_path: self.tenant_path,
            tenant_header: self.tenant_header.as_ref().map(|name| name.to_ascii_lowercase()),
            identity: self.identity.clone(),
        }
    }

    /// What types cannot say. An error names the dotted key it is about.
    pub fn check(&self) -> Result<(), (String, String)> {
        let key = |name: &str| format!("http.{name}");
        let listen: SocketAddr =
            self.listen.parse().map_err(|error| (key("listen"), format!("{error}; write `127.0.0.1:8080`")))?;
        if self.tls.is_none() && !listen.ip().is_loopback() && !self.in_clear {
            let problem = "API keys would cross the network in clear: declare [http.tls], listen on 127.0.0.1, or say \
                           `in_clear = true` when something in front ends TLS";
            return Err((key("listen"), problem.to_owned()));
        }
        if let Some(metrics) = &self.metrics_listen {
            let parsed: Result<SocketAddr, _> = metrics.parse();
            parsed.map_err(|error| (key("metrics_listen"), format!("{error}; write `127.0.0.1:9188`")))?;
        }
        let at_least = [
            ("header_bytes_max", u64::from(self.header_bytes_max), 1024),
            ("headers_max", u64::from(self.headers_max), 1),
            ("request_seconds_max", u64::from(self.request_seconds_max), 1),
            ("idle_seconds_max", u64::from(self.idle_seconds_max), 1),
            ("connections_max", u64::from(self.connections_max), 1),
            ("http2_streams_max", u64::from(self.http2_streams_max), 1),
        ];
        if let Some((name, _, least)) = at_least.into_iter().find(|(_, value, least)| value < least) {
            return Err((key(name), format!("must be {least} or more")));
        }
        if let Some(header) = &self.tenant_header {
            check_header(header).map_err(|problem| (key("tenant_header"), problem))?;
        }
        if let Some(suffix) = self.host_suffix.as_ref().filter(|suffix| suffix.is_address()) {
            return Err((key("host_suffix"), format!("`{suffix}` could be an address; name a domain")));
        }
        for proxy in &self.trusted_proxies {
            check_network(proxy).map_err(|problem| (key("trusted_proxies"), problem))?;
        }
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        if self.identity.audience.is_empty() || self.identity.audience.chars().any(char::is_control) {
            return Err((key("identity.audience"), "may not be empty".to_owned()));
        }
        if !(10..=3_600).contains(&self.identity.seconds) {
            return Err((key("identity.seconds"), "must be 10 to 3600".to_owned()));
        }
        if self.upstreams.values().any(|upstream| upstream.authorities.is_some()) {
            return Err((key("upstreams"), "unknown key `authorities`; did you mean `authorities_file`?".to_owned()));
        }
        self.declared().check().map_err(|conflict| (key(&conflict.key), conflict.problem))
    }
}

impl HttpTls {
    fn check(&self) -> Result<(), (String, String)> {
        let key = |name: &str| format!("http.tls.{name}");
        if self.client_certificate_required && self.client_authorities_file.is_none() {
            let problem = "needs `client_authorities_file`: who vouches for clients";
            return Err((key("client_certificate_required"), problem.to_owned()));
        }
        for certificate in &self.certificates {
            let is_name = |name: &String| name.strip_prefix("*.").unwrap_or(name).parse::<HostName>().is_ok();
            if certificate.names.is_empty() || !certificate.names.iter().all(is_name) {
                return Err((key("certificates"), "each needs names: `support.acme.com`, `*.app.example.com`".to_owned()));
            }
        }
        Ok(())
    }
}

fn check_header(name: &str) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    if lower.is_empty() || !lower.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("must be a header's name of letters, digits and -, such as `x-tenant`".to_owned());
    }
    let is_taken = TAKEN_HEADERS.contains(&&*lower)
        || ["guardian-", "x-guardian-", "x-forwarded-", "forwarded", "sec-", "proxy-", "if-", "accept"]
            .iter()
            .any(|prefix| lower.starts_with(prefix));
    if is_taken { Err(format!("`{name}` means something else; choose another, such as `x-tenant`")) } else { Ok(()) }
}

fn check_network(text: &str) -> Result<(), String> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let wrong = || format!("`{text}` is no address or network; write `10.0.0.7` or `10.0.0.0/8`");
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    match bits.map(str::parse::<u8>) {
        None => Ok(()),
        Some(Ok(bits)) if (1..=bits_max).contains(&bits) => Ok(()),
        Some(_) => Err(wrong()),
    }
}
