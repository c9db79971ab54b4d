//! Where a tenant's data lives, and the names of everything Guardian makes for it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterName, TenantId};

/// The isolation model of a tenant (DESIGN §5).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Shared tables under row-level security (pool).
    Row,
    /// A schema of its own in the application's database (bridge).
    Schema,
    /// A database of its own (silo).
    Database,
    /// A database of its own on a server reserved for the tenant (silo).
    Cluster,
}

impl Isolation {
    /// Every model, from the most shared to the least.
    pub const ALL: [Self; 4] = [Self::Row, Self::Schema, Self::Database, Self::Cluster];

    /// The word in configuration, in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Schema => "schema",
            Self::Database => "database",
            Self::Cluster => "cluster",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isolation| isolation.as_str() == word)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A place for tables: one schema of one database of one cluster. The shared tables of all `row` tenants are one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Place {
    /// The server, by its name in `guardian.toml`.
    pub cluster: ClusterName,
    /// The database on it.
    pub database: String,
    /// The schema that holds the application's tables.
    pub schema: String,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.cluster, self.database, self.schema)
    }
}

/// Where one tenant's data lives and the role that reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Placement {
    /// The isolation model.
    pub isolation: Isolation,
    /// The place of the tables.
    pub place: Place,
    /// The login role: the application's own for `row`, one of the tenant's for the others.
    pub role: String,
}

impl Placement {
    /// The placement of a tenant, with every name derived from its id.
    ///
    /// `shared` is the application's own place, where `row` tenants live and beside which `schema` tenants do; `cluster` is
    /// the server for `database` and `cluster` tenants.
    pub fn derive(isolation: Isolation, tenant: TenantId, application: &str, shared: &Place, cluster: &ClusterName) -> Self {
        let name = tenant.to_string();
        let place = match isolation {
            Isolation::Row => shared.clone(),
            Isolation::Schema => Place { schema: name.clone(), ..shared.clone() },
            Isolation::Database | Isolation::Cluster => {
                Place { cluster: cluster.clone(), database: name.clone(), schema: "public".to_owned() }
            }
        };
        let role = match isolation {
            Isolation::Row => ApplicationRoles::of(application).app,
            Isolation::Schema | Isolation::Database | Isolation::Cluster => name,
        };
        Self { isolation, place, role }
    }
}

/// The role that owns the tables of a place once a migration tool of the user's own changes them: of the application's name for
/// the shared place, of the tenant's role for one of its own.
pub fn migrator_of(name: &str) -> String {
    format!("{name}_migrator")
}

/// The roles that hardening makes once for an application, on each cluster. None of them owns a table or bypasses
/// row-level security.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationRoles {
    /// LOGIN: what the application (and later the SQL gateway) connects as for `row` tenants.
    pub app: String,
    /// NOLOGIN: owns the application's SECURITY DEFINER functions, so that they run under the same policies.
    pub definer: String,
    /// NOLOGIN: owns `guardian.enter` and holds the right to set the register; reads the registry, owns nothing else.
    pub enter: String,
    /// NOLOGIN: owns the registry of capabilities.
    pub registry: String,
    /// LOGIN while an application is being adopted: a member of the role it uses today and of `app`, so that policies apply to
    /// it on a table from the moment they are forced. Otherwise there is no such role, or it cannot log in.
    pub adopt: String,
    /// NOLOGIN: reads the rows of every tenant; who may come through the door is a member for one session.
    pub door: String,
    /// NOLOGIN: the same, and writes.
    pub door_write: String,
    /// NOLOGIN: owns the shared tables once a migration tool of the user's own changes them.
    pub migrator: String,
}

impl ApplicationRoles {
    /// The roles of the application of this name.
    pub fn of(application: &str) -> Self {
        Self {
            app: format!("{application}_app"),
            definer: format!("{application}_definer"),
            enter: format!("{application}_enter"),
            registry: format!("{application}_registry"),
            adopt: format!("{application}_adopt"),
            door: format!("{application}_door"),
            door_write: format!("{application}_door_write"),
            migrator: migrator_of(application),
        }
    }
}
