//! The bodies of the control plane's API about the API gateway: keys, roles, host names, routes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ApiKey, GroupName, HostName, PermissionName, RoleName, RouteName, Subject, TenantId,
    http::{HttpRole, HttpRoute},
    tenant_access::{AccessGroup, AccessUser, BuiltIn, TenantAccess},
};

/// Asks for an API key.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// What it is for, in words.
    pub name: String,
    /// Its roles.
    pub roles: BTreeSet<RoleName>,
    /// What it may do of that; left out: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeSet<PermissionName>>,
    /// Requests a minute of this key, within its tenant's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute_max: Option<u32>,
    /// Seconds until it ends; left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lives_seconds: Option<u32>,
}

/// An API key with its secret, which is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewApiKey {
    /// The key.
    pub key: ApiKey,
    /// `grdk_` and 64 hexadecimal digits; send it as `Authorization: Bearer …` or `X-API-Key`.
    pub secret: String,
}

/// Asks for another secret for an API key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RotateApiKey {
    /// Seconds for which the old secret goes on, up to a week; left out: none.
    pub grace_seconds: u32,
}

/// Says what a role grants.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAccessRole {
    /// What it grants.
    pub permissions: BTreeSet<PermissionName>,
}

/// Says which roles a group gives.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAccessGroup {
    /// The roles that its members have.
    pub roles: BTreeSet<RoleName>,
}

/// Says what a user is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PutAccessUser {
    /// Its roles.
    pub roles: BTreeSet<RoleName>,
    /// Its groups.
    pub groups: BTreeSet<GroupName>,
}

/// Asks why somebody may do something.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// Who: a user of the tenant, or the id of one of its API keys.
    #[param(value_type = String)]
    pub subject: Subject,
    /// What.
    #[param(value_type = String)]
    pub permission: PermissionName,
}

/// A role that a tenant's users and keys can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KnownRole {
    /// Its name.
    pub name: RoleName,
    /// What it grants.
    pub permissions: BTreeSet<PermissionName>,
    /// Whether every tenant has it.
    pub is_built_in: bool,
    /// Whether a tenant's administrator cannot give it.
    pub reserved: bool,
}

/// Who may do what in a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccessState {
    /// The roles there are, by name: those that every tenant has, and its own.
    pub roles: Vec<KnownRole>,
    /// Its groups.
    pub groups: Vec<AccessGroup>,
    /// Its users.
    pub users: Vec<AccessUser>,
}

impl AccessState {
    /// What a tenant declares, with the roles that every tenant has.
    pub fn new(built_in: &BuiltIn, access: TenantAccess) -> Self {
        let of_all = built_in.roles.iter().map(|(name, permissions)| KnownRole {
            name: name.clone(),
            permissions: permissions.clone(),
            is_built_in: true,
            reserved: built_in.reserved.contains(name),
        });
        let own = access.roles.into_iter().filter(|role| !built_in.roles.contains_key(&role.name)).map(|role| KnownRole {
            reserved: role.permissions.iter().any(|permission| built_in.is_reserved(permission)),
            name: role.name,
            permissions: role.permissions,
            is_built_in: false,
        });
        let mut roles: Vec<KnownRole> = of_all.chain(own).collect();
        roles.sort_by(|one, other| one.name.cmp(&other.name));
        Self { roles, groups: access.groups, users: access.users }
    }
}

/// A host name of a tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Domain {
    /// The name.
    pub host: HostName,
    /// Whose it is.
    pub tenant: TenantId,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// What the API gateway runs on, and where each part was declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HttpDeclaration {
    /// Counts changes over the API; pass it as `version` to change only what you have seen.
    pub version: u64,
    /// The routes, by name.
    pub routes: Vec<DeclaredRoute>,
    /// The roles that every tenant has, by name.
    pub roles: Vec<DeclaredRole>,
}

/// Where something was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeclaredIn {
    /// In `guardian.toml`.
    File,
    /// Over the API, whose word goes before the file's.
    Api,
}

impl DeclaredIn {
    /// The word in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "API",
        }
    }
}

/// A route, and where it was declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeclaredRoute {
    /// The route.
    #[serde(flatten)]
    pub route: HttpRoute,
    /// Where it was declared.
    pub declared_in: DeclaredIn,
    /// Why it is not in force: it no longer fits the file. Requests that it would take are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// A role that every tenant has, and where it was declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeclaredRole {
    /// Its name.
    pub name: RoleName,
    /// What it is.
    #[serde(flatten)]
    pub role: HttpRole,
    /// Where it was declared.
    pub declared_in: DeclaredIn,
}

/// Says what a route is; its name stands in the path.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutRoute {
    /// The hosts it is for; none: all.
    #[serde(default)]
    pub hosts: BTreeSet<HostName>,
    /// The path: `/tickets/{id}`, `/files/{*rest}`.
    pub path: String,
    /// The methods; none: all.
    #[serde(default)]
    pub methods: BTreeSet<crate::http::HttpMethod>,
    /// Where its requests go: an upstream of `guardian.toml`.
    pub upstream: crate::UpstreamName,
    /// What somebody needs to be allowed; either this or `public`.
    #[serde(default)]
    pub permission: Option<PermissionName>,
    /// Whether anybody may.
    #[serde(default)]
    pub public: bool,
    /// Requests a minute of one tenant on this route.
    #[serde(default)]
    pub requests_per_minute_max: Option<u32>,
    /// Seconds until the answer has to begin.
    #[serde(default)]
    pub response_seconds_max: Option<u32>,
}

impl PutRoute {
    /// The route of this name.
    pub fn named(self, name: RouteName) -> HttpRoute {
        let Self { hosts, path, methods, upstream, permission, public, requests_per_minute_max, response_seconds_max } =
            self;
        HttpRoute { name, hosts, path, methods, upstream, permission, public, requests_per_minute_max, response_seconds_max }
    }
}

/// Which version is to be changed.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VersionQuery {
    /// The `version` that was read; another one by now is refused. Left out: whatever there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A key that signs identities, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IdentityKeyState {
    /// Its id in the published key set.
    pub kid: String,
    /// Where it stands.
    pub state: IdentityKeyStage,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When that ends.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
}

/// Where a key that signs identities stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdentityKeyStage {
    /// Published, so that everybody has it before it signs.
    Next,
    /// Signs.
    Signing,
    /// Signs no more, and is published until what it signed is over.
    Retired,
}

impl IdentityKeyStage {
    /// Every stage.
    pub const ALL: [Self; 3] = [Self::Next, Self::Signing, Self::Retired];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Signing => "signing",
            Self::Retired => "retired",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }
}

/// Asks for another key that signs identities.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RotateIdentityKey {
    /// Whether the present keys end at once, because somebody else may have one: identities that they signed are refused.
    pub now: bool,
}
