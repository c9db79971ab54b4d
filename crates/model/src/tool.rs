//! A user's own migration tool, run once a place by `guardian migrate --exec`: the places, and a login for each run of it.

use serde::{Deserialize, Serialize};

use crate::{ClusterName, Slug, ToolLoginId};

/// The places of a fleet, and how a run goes through them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fleet {
    /// The rings, in the order in which they are migrated.
    pub rings: Vec<String>,
    /// Every place, in the order in which they are migrated.
    pub places: Vec<FleetPlace>,
    /// Places at once.
    pub parallel: u16,
    /// Places at once on one cluster.
    pub parallel_per_cluster: u16,
    /// A run stops when more than this share of a ring's places failed, in percent.
    pub halt_percent: u8,
}

/// A place with the application's tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FleetPlace {
    /// `cluster/database/schema`, and whose it is.
    pub place: String,
    /// The ring it belongs to.
    pub ring: String,
    /// Its server.
    pub cluster: ClusterName,
    /// Whose it is; none: the shared place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Slug>,
}

/// Asks for a login for one run of a migration tool in one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenToolLogin {
    /// Slug or id of a tenant with a place of its own; left out: the shared place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A login for one run of a migration tool in one place. Its sessions own the place's tables, and nothing else.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ToolLogin {
    /// Names it in the audit log.
    pub id: ToolLoginId,
    /// Host name, address, or directory of the unix socket.
    pub host: String,
    /// TCP port, also part of the unix socket's name.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The schema that holds the tables.
    pub schema: String,
    /// The login role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// How long it lasts from now, and from each renewal. Then its sessions are ended and the role is dropped.
    pub lasts_seconds: u16,
}
