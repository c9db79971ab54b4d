//! What the API gateway runs on: routes, upstreams and the roles that every tenant has. Declared in `guardian.toml`; routes and
//! roles also over the API, whose word goes before the declared one.

mod check;
mod overrides;
mod route;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use check::{Conflict, check_path};
pub use overrides::{HttpOverride, Merged};
pub use route::{HttpMethod, HttpRoute};
pub use upstream::{Health, Upstream};

use crate::{HostName, PermissionName, RoleName, UpstreamName, rbac, snapshot::Secret, tenant_access::BuiltIn};

/// Routes that there may be.
pub const ROUTES_MAX: usize = 20_000;
/// Roles that every tenant has.
pub const ROLES_MAX: usize = 500;

/// A role that every tenant has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRole {
    /// What it grants (`ticket.read`).
    pub permissions: BTreeSet<PermissionName>,
    /// Whether a tenant's administrator cannot give it, nor what only such roles grant.
    #[serde(default)]
    pub reserved: bool,
}

/// The signed identity that requests carry to the application, in the header `Guardian-Identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// The claim `aud`.
    pub audience: String,
    /// Seconds it is good for, 10 to 3600. It is a bearer token: until then, whoever has it can use it.
    pub seconds: u32,
}

impl Default for Identity {
    fn default() -> Self {
        Self { audience: "guardian".to_owned(), seconds: 60 }
    }
}

/// What the API gateway runs on, but for its own sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotHttp {
    /// The routes.
    pub routes: Vec<HttpRoute>,
    /// Where requests go, by name.
    pub upstreams: BTreeMap<UpstreamName, Upstream>,
    /// The roles that every tenant has.
    pub roles: BTreeMap<RoleName, HttpRole>,
    /// The ending of host names whose first label names the tenant.
    pub host_suffix: Option<HostName>,
    /// Whether a route's path may name the tenant, as `{tenant}`.
    pub tenant_path: bool,
    /// The header that names the tenant, in lower case.
    pub tenant_header: Option<String>,
    /// The signed identity.
    pub identity: Identity,
}

impl SnapshotHttp {
    /// Every permission that a route asks for.
    pub fn catalogue(&self) -> rbac::Catalogue {
        rbac::Catalogue::new(self.routes.iter().filter_map(|route| route.permission.clone()))
    }

    /// The roles that every tenant has, as the rules about tenants' own see them.
    pub fn built_in(&self) -> BuiltIn {
        let reserved = self.roles.iter().filter(|(_, role)| role.reserved).map(|(name, _)| name.clone());
        BuiltIn {
            roles: self.roles.iter().map(|(name, role)| (name.clone(), role.permissions.clone())).collect(),
            reserved: reserved.collect(),
        }
    }
}

/// The keys that sign identities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotIdentityKeys {
    /// The claim `iss`.
    pub issuer: String,
    /// The key that signs now.
    pub current: Option<IdentityKey>,
    /// Every key that verifies, as a JSON Web Key Set: also the next one, before it signs, and the last one, until what it
    /// signed is over.
    pub published: String,
}

/// An Ed25519 key that signs identities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityKey {
    /// Its id in the key set, and in the header of what it signs.
    pub kid: String,
    /// The private key: PKCS #8 (version 2), in hexadecimal.
    pub secret: Secret,
}
