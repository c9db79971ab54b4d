//! Schemas and what is granted on objects that do not exist yet.

use serde::{Deserialize, Serialize};

use super::{Acl, Oid};

/// A schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// Its privileges.
    pub acl: Acl,
}

/// Privileges that new objects of a role get by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultPrivilege {
    /// Whose new objects.
    pub owner: Oid,
    /// Where; `None`: everywhere.
    pub schema: Option<String>,
    /// `r` tables, `S` sequences, `f` functions, `T` types, `n` schemas, `L` large objects (18).
    pub kind: char,
    /// What is granted. With no schema it replaces the built-in default, in a schema it adds to it.
    pub acl: Acl,
}

pub(super) fn schemas() -> String {
    format!(
        "SELECT n.oid::int8 AS oid, n.nspname AS name, n.nspowner::int8 AS owner, {} AS acl FROM pg_namespace AS n \
         WHERE n.nspname !~ '^pg_(toast|temp)' ORDER BY n.oid",
        super::collect::acl("n.nspacl", "n", "n.nspowner")
    )
}

pub(super) fn default_privileges() -> String {
    format!(
        "SELECT d.defaclrole::int8 AS owner, n.nspname AS schema, d.defaclobjtype AS kind, {} AS acl \
         FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace ORDER BY d.oid",
        super::collect::acl("d.defaclacl", "r", "d.defaclrole")
    )
}
