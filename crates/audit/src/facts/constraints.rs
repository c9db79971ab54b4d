//! Constraints and indexes: what orders, joins and can be probed.

use serde::{Deserialize, Serialize};

use super::Oid;

/// The kind of a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum ConstraintKind {
    #[serde(rename = "p")]
    Primary,
    #[serde(rename = "u")]
    Unique,
    #[serde(rename = "x")]
    Exclusion,
    #[serde(rename = "f")]
    Foreign,
    #[serde(rename = "c")]
    Check,
    #[serde(rename = "n")]
    NotNull,
    #[serde(rename = "t")]
    Trigger,
}

/// A constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// Its OID.
    pub oid: Oid,
    /// Its table.
    pub table: Oid,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: ConstraintKind,
    /// The columns, by number, in order; an expression has none.
    pub columns: Vec<i16>,
    /// What a foreign key refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Oid>,
    /// The columns there, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_columns: Vec<i16>,
    /// A foreign key's actions: `a` none, `r` restrict, `c` cascade, `n` set null, `d` set default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<char>,
    /// The same ON UPDATE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_update: Option<char>,
    /// The index behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Oid>,
    /// Old rows are known to satisfy it.
    pub validated: bool,
    /// Inherited from the partitioned parent's.
    pub inherited: bool,
    /// The whole of it as PostgreSQL writes it.
    pub definition: String,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of pg_index")]
pub struct Index {
    /// Its OID.
    pub oid: Oid,
    /// Its table.
    pub table: Oid,
    /// Its name.
    pub name: String,
    /// Unique.
    pub unique: bool,
    /// Of the primary key.
    pub primary: bool,
    /// Of an exclusion constraint.
    pub exclusion: bool,
    /// Whether queries use it.
    pub valid: bool,
    /// Has a WHERE clause.
    pub partial: bool,
    /// The key's columns by number; 0 is an expression.
    pub columns: Vec<i16>,
    /// The access method: `btree`, `gin` …
    pub method: String,
    /// Attached to the index of the partitioned parent.
    pub inherited: bool,
    /// Every operator of its classes is leakproof, so that row-level security does not keep the planner from it. Of B-trees only
    /// those count that compare two values of the column's own type.
    pub leakproof: bool,
    /// Of a unique index with no constraint: its definition from the first key column on, such as `lower(email)) WHERE live`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_definition: Option<String>,
}

pub(super) const CONSTRAINTS: &str = "SELECT k.oid::int8 AS oid, k.conrelid::int8 AS table, k.conname AS name, k.contype AS kind, \
    coalesce(k.conkey, '{}') AS columns, nullif(k.confrelid, 0)::int8 AS target, coalesce(k.confkey, '{}') AS target_columns, \
    CASE WHEN k.contype = 'f' THEN k.confdeltype END AS on_delete, CASE WHEN k.contype = 'f' THEN k.confupdtype END AS on_update, \
    nullif(k.conindid, 0)::int8 AS index, k.convalidated AS validated, k.conparentid <> 0 AS inherited, \
    pg_get_constraintdef(k.oid) AS definition \
  FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace \
  WHERE k.conrelid <> 0 AND k.contype IN ('p', 'u', 'x', 'f', 'c') \
    AND n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY k.conrelid, k.oid";

pub(super) const INDEXES: &str = "WITH leaky AS MATERIALIZED (SELECT DISTINCT a.amopfamily, a.amoplefttype FROM pg_amop AS a \
      JOIN pg_operator AS o ON o.oid = a.amopopr JOIN pg_proc AS p ON p.oid = o.oprcode WHERE NOT p.proleakproof \
        AND (a.amoplefttype = a.amoprighttype OR a.amopmethod <> (SELECT oid FROM pg_am WHERE amname = 'btree'))), \
    class AS MATERIALIZED (SELECT c.oid, l.amopfamily IS NULL AS leakproof FROM pg_opclass AS c \
      LEFT JOIN leaky AS l ON l.amopfamily = c.opcfamily AND l.amoplefttype = c.opcintype) \
  SELECT i.indexrelid::int8 AS oid, i.indrelid::int8 AS table, c.relname AS name, i.indisunique AS unique, \
    i.indisprimary AS primary, i.indisexclusion AS exclusion, i.indisvalid AS valid, i.indpred IS NOT NULL AS partial, \
    (SELECT array_agg(k ORDER BY n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (k, n) WHERE n <= i.indnkeyatts) AS columns, \
    m.amname AS method, c.relispartition AS inherited, \
    (SELECT bool_and(o.leakproof) FROM unnest(i.indclass::oid[]) AS u JOIN class AS o ON o.oid = u) AS leakproof, \
    CASE WHEN i.indisunique AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u')) \
      THEN substr(pg_get_indexdef(i.indexrelid), 1 + length(format('CREATE UNIQUE INDEX %I ON %s%I.%I USING %I (', c.relname, \
        CASE WHEN t.relkind = 'p' THEN 'ONLY ' ELSE '' END, s.nspname, t.relname, m.amname))) END AS key_definition \
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam \
    JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_class AS t ON t.oid = i.indrelid \
    JOIN pg_namespace AS s ON s.oid = t.relnamespace \
  WHERE n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
  ORDER BY i.indrelid, i.indexrelid";
