//! Roles, who is a member of what, and what is set for them.

use serde::{Deserialize, Serialize};

use super::{Acl, Oid};

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are the columns of pg_roles")]
pub struct Role {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// SUPERUSER
    pub superuser: bool,
    /// INHERIT
    pub inherits: bool,
    /// CREATEROLE
    pub creates_roles: bool,
    /// CREATEDB
    pub creates_databases: bool,
    /// LOGIN
    pub logs_in: bool,
    /// REPLICATION
    pub replicates: bool,
    /// BYPASSRLS
    pub bypasses_rls: bool,
    /// CONNECTION LIMIT; -1 is none.
    pub connections_max: i32,
    /// VALID UNTIL, as PostgreSQL writes it.
    pub valid_until: Option<String>,
    /// How its password is kept (`scram-sha-256`, `md5`, `none`); `None`: the collector may not see it.
    pub password: Option<String>,
}

/// A membership. Before 16, `inherit` is the member's own INHERIT and `set` always true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Who holds it.
    pub member: Oid,
    /// The role that is passed on.
    pub role: Oid,
    /// WITH ADMIN OPTION
    pub admin: bool,
    /// Privileges pass on by themselves.
    pub inherit: bool,
    /// SET ROLE is allowed.
    pub set: bool,
}

/// `ALTER ROLE … [IN DATABASE …] SET …` or `ALTER DATABASE … SET …`, as far as this database is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSetting {
    /// The role; 0: all.
    pub role: Oid,
    /// Only in this database.
    pub this_database: bool,
    /// The setting's name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Privileges on a configuration parameter (15+).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGrant {
    /// The parameter.
    pub parameter: String,
    /// Who may do what.
    pub acl: Acl,
}

pub(super) const ROLES: &str = "SELECT oid::int8 AS oid, rolname AS name, rolsuper AS superuser, rolinherit AS inherits, \
    rolcreaterole AS creates_roles, rolcreatedb AS creates_databases, rolcanlogin AS logs_in, rolreplication AS replicates, \
    rolbypassrls AS bypasses_rls, rolconnlimit AS connections_max, rolvaliduntil::text AS valid_until, \
    NULL::text AS password FROM pg_roles ORDER BY oid";

/// How passwords are kept; only a superuser may read it.
pub(super) const PASSWORDS: &str = "SELECT oid::int8 AS oid, CASE WHEN rolpassword IS NULL THEN 'none' \
    WHEN rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram-sha-256' WHEN rolpassword LIKE 'md5%' THEN 'md5' \
    ELSE 'other' END AS password FROM pg_authid ORDER BY oid";

#[derive(Deserialize)]
pub(super) struct Password {
    pub(super) oid: Oid,
    pub(super) password: String,
}

pub(super) fn memberships(version: i32) -> String {
    let options = if version >= 160_000 {
        "bool_or(a.inherit_option) AS inherit, bool_or(a.set_option) AS set"
    } else {
        "bool_or(m.rolinherit) AS inherit, true AS set"
    };
    // From 16 on there is a row a grantor; what counts is what all of them give together.
    format!(
        "SELECT a.member::int8 AS member, a.roleid::int8 AS role, bool_or(a.admin_option) AS admin, {options} \
         FROM pg_auth_members AS a JOIN pg_roles AS m ON m.oid = a.member GROUP BY a.member, a.roleid ORDER BY a.member, a.roleid"
    )
}

pub(super) const ROLE_SETTINGS: &str = "SELECT s.setrole::int8 AS role, s.setdatabase <> 0 AS this_database, \
    split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value \
    FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c \
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY 1, 2, 3";

pub(super) fn parameter_grants() -> String {
    format!(
        "SELECT p.parname AS parameter, {} AS acl FROM pg_parameter_acl AS p ORDER BY 1",
        super::collect::acl("p.paracl", "p", "10")
    )
}
