//! Domains: types whose owner decides what is checked when a value becomes one.

use serde::{Deserialize, Serialize};

use super::Oid;

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its OID.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// The tables with columns of it.
    pub tables: Vec<Oid>,
}

pub(super) const DOMAINS: &str = "SELECT t.oid::int8 AS oid, n.nspname AS schema, t.typname AS name, t.typowner::int8 AS owner, \
    coalesce(u.tables, '{}') AS tables FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace \
    LEFT JOIN (SELECT a.atttypid, array_agg(DISTINCT a.attrelid::int8 ORDER BY a.attrelid::int8) AS tables FROM pg_attribute AS a \
      JOIN pg_class AS c ON c.oid = a.attrelid WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped \
        AND a.atttypid >= 16384 GROUP BY 1) AS u ON u.atttypid = t.oid \
    WHERE t.typtype = 'd' AND t.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp)' ORDER BY t.oid";
