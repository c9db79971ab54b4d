//! Where the API gateway sends requests.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Slug, TierName, UpstreamName};

/// Servers that do the same work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Where they are: `http://127.0.0.1:9000`, `https://app.internal:8443`; without a path.
    pub servers: Vec<String>,
    /// Requests that one gateway sends there at once, to begin with; it goes down when answers become slow, and up again.
    #[serde(default = "connections_max")]
    pub connections_max: u32,
    /// The upstream in whose place it serves the tenants that it is for.
    #[serde(default)]
    pub instead_of: Option<UpstreamName>,
    /// The tiers that it is for; with `instead_of`.
    #[serde(default)]
    pub tiers: BTreeSet<TierName>,
    /// The tenants that it is for; with `instead_of`. They go before `tiers`.
    #[serde(default)]
    pub tenants: BTreeSet<Slug>,
    /// Whether to speak HTTP/2 without asking first (`http://`), as gRPC servers do; over TLS it is agreed on.
    #[serde(default)]
    pub http2: bool,
    /// Authorities of its certificates (PEM), relative to `guardian.toml`; left out: those of the system.
    #[serde(default)]
    pub authorities_file: Option<String>,
    /// What the file holds, for a gateway; not for `guardian.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    #[schema(ignore)]
    pub authorities: Option<String>,
    /// How its servers are asked whether they are well; left out: only by how requests end.
    #[serde(default)]
    pub health: Option<Health>,
    /// Milliseconds to connect.
    #[serde(default = "connect_ms_max")]
    pub connect_ms_max: u32,
    /// Seconds until the answer has to begin.
    #[serde(default = "response_seconds_max")]
    pub response_seconds_max: u32,
    /// Seconds that a connection may be silent in the middle of a body.
    #[serde(default = "idle_seconds_max")]
    pub idle_seconds_max: u32,
    /// How often a request that may be sent twice (GET, HEAD, PUT, DELETE, OPTIONS without a body) is tried again elsewhere.
    #[serde(default = "retries")]
    pub retries: u8,
}

const fn connections_max() -> u32 {
    128
}

const fn connect_ms_max() -> u32 {
    2_000
}

const fn response_seconds_max() -> u32 {
    60
}

const fn idle_seconds_max() -> u32 {
    60
}

const fn retries() -> u8 {
    1
}

/// How servers are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The path to ask for; an answer of 200 to 299 is well.
    pub path: String,
    /// Seconds between two questions.
    #[serde(default = "interval_seconds")]
    pub interval_seconds: u16,
    /// Seconds to answer.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u16,
    /// Bad answers in a row after which a server gets no more requests.
    #[serde(default = "fails")]
    pub fails: u8,
    /// Good answers in a row after which it gets them again.
    #[serde(default = "passes")]
    pub passes: u8,
}

const fn interval_seconds() -> u16 {
    5
}

const fn timeout_seconds() -> u16 {
    2
}

const fn fails() -> u8 {
    3
}

const fn passes() -> u8 {
    2
}
