//! What a gateway runs on: tenants, tiers and logins at one moment, with the secrets that open them, and what changed since.
//!
//! The control plane publishes it, a gateway keeps it, sealed, across its own restarts. A [`Delta`] may repeat what is known
//! already; applying it twice is harmless.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    ApiKeyId, ClusterName, HostName, Isolation, LimitOverrides, LoginName, Place, Placement, Slug, TenantId, TenantState,
    Tier, TierName,
    adoption::SnapshotAdoption,
    api_key::SnapshotApiKey,
    config::Issuer,
    http::{SnapshotHttp, SnapshotIdentityKeys},
    login::{LoginProof, LoginScope},
    tenant_access::SnapshotAccess,
};

/// A secret text; `Debug` prints a placeholder.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself: never into SQL, a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Everything, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Changes from here on are in the next delta.
    pub cursor: Cursor,
    /// What the configuration says.
    pub installation: SnapshotInstallation,
    /// Every tier.
    pub tiers: Vec<Tier>,
    /// Every tenant that is not deleted, and those deleted lately.
    pub tenants: Vec<SnapshotTenant>,
    /// Every login.
    pub logins: Vec<SnapshotLogin>,
    /// How far the application's adoption has come; one kept by an older gateway says nothing of it.
    #[serde(default)]
    pub adoption: SnapshotAdoption,
    /// Every API key that is not revoked or over.
    #[serde(default)]
    pub api_keys: Vec<SnapshotApiKey>,
    /// Who may do what in the tenants that say so.
    #[serde(default)]
    pub access: Vec<SnapshotAccess>,
}

/// A position in the feed of changes; only its giver can read it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub u64);

/// What changed since a cursor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Where the next one begins.
    pub cursor: Cursor,
    /// Every tier, when one of them changed.
    pub tiers: Option<Vec<Tier>>,
    /// The tenants that changed, as they are now.
    pub tenants: Vec<SnapshotTenant>,
    /// The logins that were made or changed.
    pub logins: Vec<SnapshotLogin>,
    /// The logins that are gone.
    pub logins_gone: Vec<LoginName>,
    /// The adoption, when it went forward or back.
    #[serde(default)]
    pub adoption: Option<SnapshotAdoption>,
    /// The API keys that were made or changed.
    #[serde(default)]
    pub api_keys: Vec<SnapshotApiKey>,
    /// The API keys that were revoked.
    #[serde(default)]
    pub api_keys_gone: Vec<ApiKeyId>,
    /// Who may do what, in the tenants where it changed.
    #[serde(default)]
    pub access: Vec<SnapshotAccess>,
    /// The routes, upstreams and roles, when one of them changed.
    #[serde(default)]
    pub http: Option<SnapshotHttp>,
    /// The keys that sign identities, when one of them changed.
    #[serde(default)]
    pub identity_keys: Option<SnapshotIdentityKeys>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_none()
            && self.tenants.is_empty()
            && self.logins.is_empty()
            && self.logins_gone.is_empty()
            && self.adoption.is_none()
            && self.api_keys.is_empty()
            && self.api_keys_gone.is_empty()
            && self.access.is_empty()
            && self.http.is_none()
            && self.identity_keys.is_none()
    }
}

/// What `guardian.toml` says and a gateway needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotInstallation {
    /// The application's name.
    pub application: String,
    /// The place of the shared tables.
    pub shared: Place,
    /// The password of the application's own role, which row tenants share; absent before `apply`.
    pub application_password: Option<Secret>,
    /// The servers.
    pub clusters: Vec<SnapshotCluster>,
    /// Whose identities are believed.
    pub issuers: Vec<Issuer>,
    /// Routes, upstreams and roles; absent where no API gateway is declared.
    #[serde(default)]
    pub http: Option<SnapshotHttp>,
    /// The keys that sign the installation's own identities.
    #[serde(default)]
    pub identity_keys: Option<SnapshotIdentityKeys>,
}

/// A PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCluster {
    /// Its name.
    pub name: ClusterName,
    /// Host name, IP address, or the directory of the unix socket.
    pub host: String,
    /// TCP port, also part of the unix socket's name.
    pub port: u16,
    /// How to speak to it.
    pub tls: ServerTls,
}

/// How a gateway protects its connections to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum ServerTls {
    /// In clear: a unix socket, the loopback interface, or asked for by `sslmode=disable`.
    Disable,
    /// TLS, with the certificate checked against the host name.
    VerifyFull {
        /// Certificates of the authorities to believe, as PEM; absent: those of the system.
        authorities: Option<String>,
    },
}

/// A tenant, as a gateway needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTenant {
    /// Its id.
    pub id: TenantId,
    /// Its name in logins; a deleted tenant's may belong to another by now.
    pub slug: Slug,
    /// Its tier.
    pub tier: TierName,
    /// Only `active` is served.
    pub state: TenantState,
    /// Where its data is.
    pub placement: Placement,
    /// What it has otherwise than its tier.
    pub limits: LimitOverrides,
    /// What the register holds while it is entered (`row`).
    pub register: String,
    /// Its own host names at the API gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<HostName>,
    /// The capability in hexadecimal (`row`), or the password of its role; absent unless it is active.
    pub secret: Option<Secret>,
    /// The one that is to come, while it is being changed: from some moment on it is this one that opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_secret: Option<Secret>,
}

impl SnapshotTenant {
    /// Whether it lives in shared tables.
    pub fn is_row(&self) -> bool {
        self.placement.isolation == Isolation::Row
    }
}

/// A login, as a gateway needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLogin {
    /// Its name.
    pub name: LoginName,
    /// Whom it may serve.
    pub scope: LoginScope,
    /// How it proves itself.
    pub proof: LoginProof,
    /// `SCRAM-SHA-256$…`; absent for [`LoginProof::Certificate`].
    pub verifier: Option<Secret>,
}
