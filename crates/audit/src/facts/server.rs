//! The server, its settings, its databases and who may connect.

use serde::{Deserialize, Serialize};

use super::{Acl, Oid};

/// The server, and the standing of the role that collected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `server_version_num`: 150004 and so on.
    pub version: i32,
    /// The full text of `version()`.
    pub version_text: String,
    /// The role that collected.
    pub collector: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// A standby.
    pub in_recovery: bool,
    /// The collecting connection is encrypted; `None`: unknown.
    pub tls: Option<bool>,
    /// Rows of `pg_class`: how large the catalog is.
    pub relations_total: i64,
    /// The server's date when the facts were collected, `2026-01-31`: rules have no clock.
    #[serde(default)]
    pub collected_on: String,
    /// `pg_stats_ext` and `pg_stats_ext_exprs`, as far as PUBLIC may read them and they do not ask who owns the table
    /// (CVE-2024-4317; an update of the server does not change the views of databases that are there).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_statistics: Vec<String>,
}

/// A setting, as the collecting session sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, in its unit.
    pub value: String,
    /// `ms`, `8kB` …
    pub unit: Option<String>,
    /// Who may change it: `user`, `superuser`, `sighup`, `postmaster` …
    pub context: String,
    /// Where the value is from: `default`, `configuration file`, `database`, `user` …
    pub source: String,
    /// The value it would have after RESET.
    pub reset_value: String,
}

/// A line of `pg_hba.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HbaRule {
    /// Its line number.
    pub line: i32,
    /// `local`, `host`, `hostssl` …
    pub kind: String,
    /// Databases, `all` and so on.
    pub databases: Vec<String>,
    /// Roles.
    pub users: Vec<String>,
    /// Client addresses.
    pub address: Option<String>,
    /// Their mask.
    pub netmask: Option<String>,
    /// `scram-sha-256`, `md5`, `trust` …
    pub method: String,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// Its privileges.
    pub acl: Acl,
    /// A template.
    pub template: bool,
    /// Whether it takes connections.
    pub connectable: bool,
}

pub(super) const SERVER: &str = "SELECT current_setting('server_version_num')::int AS version, version() AS version_text, \
    current_user::text AS collector, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser, \
    pg_is_in_recovery() AS in_recovery, NULL::boolean AS tls, \
    (SELECT count(*) FROM pg_class) AS relations_total, to_char(now(), 'YYYY-MM-DD') AS collected_on, \
    (SELECT coalesce(array_agg(c.relname::text ORDER BY c.relname), '{}') FROM pg_class AS c \
      WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname IN ('pg_stats_ext', 'pg_stats_ext_exprs') \
        AND current_setting('server_version_num')::int >= 140000 AND strpos(pg_get_viewdef(c.oid), 'pg_has_role') = 0 \
        AND EXISTS (SELECT FROM aclexplode(c.relacl) AS a WHERE a.grantee = 0 AND a.privilege_type = 'SELECT')) AS open_statistics";

/// Apart from the rest, because a hardened database lets nobody look at sessions.
pub(super) const TLS: &str = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

pub(super) const SETTINGS: &str = "SELECT name, coalesce(setting, '') AS value, unit, context, source, \
    coalesce(reset_val, '') AS reset_value FROM pg_settings ORDER BY name COLLATE \"C\"";

pub(super) const HBA_RULES: &str = "SELECT line_number AS line, type AS kind, database AS databases, user_name AS users, \
    address, netmask, auth_method AS method FROM pg_hba_file_rules WHERE error IS NULL ORDER BY line_number";

pub(super) fn databases() -> String {
    format!(
        "SELECT d.oid::int8 AS oid, d.datname AS name, d.datdba::int8 AS owner, d.datistemplate AS template, \
           d.datallowconn AS connectable, {} AS acl FROM pg_database AS d ORDER BY d.oid",
        super::collect::acl("d.datacl", "d", "d.datdba")
    )
}
