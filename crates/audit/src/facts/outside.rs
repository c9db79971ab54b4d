//! What reaches beyond the tables: other servers, extensions, replication, large objects.

use serde::{Deserialize, Serialize};

use super::{Acl, Oid};

/// A foreign server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignServer {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// Its privileges.
    pub acl: Acl,
    /// `postgres_fdw`, `file_fdw`, `dblink_fdw` …
    pub wrapper: String,
}

/// A user mapping; its options may hold a password and are not collected, only whether one is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserMapping {
    /// Its server.
    pub server: Oid,
    /// For whom; [`super::PUBLIC`] is everybody.
    pub user: Oid,
    /// Whether it holds a password; `None`: the collector may not see it.
    #[serde(default)]
    pub password: Option<bool>,
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its schema.
    pub schema: String,
    /// Its owner.
    pub owner: Oid,
}

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// FOR ALL TABLES
    pub all_tables: bool,
    /// Every table that it publishes.
    pub tables: Vec<Oid>,
}

/// A subscription of this database; its connection string is not collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// Whether it runs.
    pub enabled: bool,
}

/// A logical replication slot of this database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicationSlot {
    /// Its name.
    pub name: String,
    /// Its output plugin.
    pub plugin: String,
    /// Whether somebody reads from it.
    pub active: bool,
}

/// Large objects of one owner with the same privileges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LargeObjects {
    /// Their owner.
    pub owner: Oid,
    /// Their privileges.
    pub acl: Acl,
    /// How many.
    pub count: i64,
}

pub(super) fn foreign_servers() -> String {
    format!(
        "SELECT s.oid::int8 AS oid, s.srvname AS name, s.srvowner::int8 AS owner, w.fdwname AS wrapper, {} AS acl \
         FROM pg_foreign_server AS s JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw ORDER BY s.oid",
        super::collect::acl("s.srvacl", "S", "s.srvowner")
    )
}

/// `pg_user_mappings` shows everybody who has a mapping, and hides only the options from others.
pub(super) const USER_MAPPINGS: &str = "SELECT srvid::int8 AS server, umuser::int8 AS user, CASE WHEN umoptions IS NOT NULL THEN EXISTS (SELECT FROM unnest(umoptions) \
       AS o WHERE o ~* '^[a-z_]*(password|secret|token|key)[a-z_]*=') END AS password FROM pg_user_mappings ORDER BY srvid, umuser";

pub(super) const EXTENSIONS: &str = "SELECT e.oid::int8 AS oid, e.extname AS name, e.extversion AS version, n.nspname AS schema, \
    e.extowner::int8 AS owner FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace ORDER BY e.oid";

pub(super) const PUBLICATIONS: &str = "SELECT p.oid::int8 AS oid, p.pubname AS name, p.pubowner::int8 AS owner, \
    p.puballtables AS all_tables, coalesce((SELECT array_agg(DISTINCT c.oid::int8) FROM pg_publication_tables AS t \
      JOIN pg_namespace AS n ON n.nspname = t.schemaname JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tablename \
      WHERE t.pubname = p.pubname), '{}') AS tables FROM pg_publication AS p ORDER BY p.oid";

pub(super) const SUBSCRIPTIONS: &str = "SELECT oid::int8 AS oid, subname AS name, subowner::int8 AS owner, subenabled AS enabled \
    FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY oid";

pub(super) const SLOTS: &str = "SELECT slot_name AS name, plugin, active FROM pg_replication_slots \
    WHERE slot_type = 'logical' AND database = current_database() ORDER BY slot_name COLLATE \"C\"";

pub(super) fn large_objects() -> String {
    format!(
        "SELECT m.lomowner::int8 AS owner, {} AS acl, m.count FROM (SELECT lomowner, lomacl, count(*) AS count \
           FROM pg_largeobject_metadata GROUP BY lomowner, lomacl) AS m ORDER BY m.lomowner",
        super::collect::acl("m.lomacl", "L", "m.lomowner")
    )
}
