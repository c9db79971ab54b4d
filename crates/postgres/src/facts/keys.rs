//! Unique and foreign keys, and the indexes that row-level security makes unusable.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, postgres::types::Oid as SqlOid};

use super::{
    Oid,
    collect::{CollectError, Scope, rows},
};

/// A unique index, a unique or primary key, or an exclusion constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of pg_index and pg_constraint")]
pub struct KeyFacts {
    /// The index's OID.
    pub oid: Oid,
    /// Its table.
    pub table: Oid,
    /// The constraint's name, or the index's.
    pub name: String,
    /// `p` primary key, `u` unique, `x` exclusion; `None`: an index alone.
    pub constraint: Option<char>,
    /// Key columns in order; `None` for an expression.
    pub columns: Vec<Option<String>>,
    /// `btree (a, b) INCLUDE (c) WHERE …`: the index's definition after `USING`.
    pub definition: String,
    /// The constraint's `INCLUDE` columns.
    pub included: Vec<String>,
    /// Has a WHERE clause.
    pub partial: bool,
    /// NULLS NOT DISTINCT (15+)
    pub nulls_not_distinct: bool,
    /// Usable.
    pub valid: bool,
    /// DEFERRABLE
    pub deferrable: bool,
    /// INITIALLY DEFERRED
    pub deferred: bool,
    /// Views that would have to go with the constraint (they group by the key).
    pub dependent_views: Vec<String>,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of pg_constraint")]
pub struct ForeignKeyFacts {
    /// The constraint's name.
    pub name: String,
    /// The referencing table.
    pub table: Oid,
    /// The referenced table.
    pub referenced: Oid,
    /// The referenced table in words, also when it lies outside the place.
    pub referenced_name: String,
    /// The index behind the referenced key.
    pub referenced_index: Oid,
    /// Referencing columns.
    pub columns: Vec<String>,
    /// All of them are NOT NULL.
    pub not_null: bool,
    /// Referenced columns, in the same order.
    pub referenced_columns: Vec<String>,
    /// `a` no action, `r` restrict, `c` cascade, `n` set null, `d` set default.
    pub on_delete: char,
    /// The same for updates.
    pub on_update: char,
    /// The columns that ON DELETE sets (15+); empty: all.
    pub on_delete_columns: Vec<String>,
    /// MATCH FULL
    pub match_full: bool,
    /// DEFERRABLE
    pub deferrable: bool,
    /// INITIALLY DEFERRED
    pub deferred: bool,
    /// Validated.
    pub validated: bool,
}

/// An index of which row-level security makes some columns unusable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakyIndex {
    /// Its table.
    pub table: Oid,
    /// Its name.
    pub name: String,
    /// The columns, each with its operator class: `custom (jsonb_path_ops)`.
    pub columns: Vec<String>,
}

/// `$1` the relations. The definition is what `pg_get_indexdef` writes after `USING`, cut at the exact length of what stands
/// before it, so that no name can be mistaken for the keyword.
const KEYS: &str = "
SELECT i.indexrelid::int8 AS oid, i.indrelid::int8 AS \"table\", coalesce(k.conname, c.relname) AS name, k.contype AS constraint,
  (SELECT json_agg(a.attname ORDER BY u.position)
   FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (attnum, position)
     LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum AND u.attnum > 0
   WHERE u.position <= i.indnkeyatts) AS columns,
  (SELECT coalesce(json_agg(a.attname ORDER BY u.position), '[]')
   FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (attnum, position)
     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
   WHERE u.position > i.indnkeyatts) AS included,
  substr(pg_get_indexdef(i.indexrelid), length(format('CREATE %sINDEX %I ON %s%I.%I USING ',
      CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, c.relname,
      CASE WHEN t.relkind = 'p' THEN 'ONLY ' ELSE '' END, n.nspname, t.relname)) + 1) AS definition,
  i.indpred IS NOT NULL AS partial, NULLS_NOT_DISTINCT AS nulls_not_distinct, i.indisvalid AND i.indisready AS valid,
  coalesce(k.condeferrable, false) AS deferrable, coalesce(k.condeferred, false) AS deferred,
  (SELECT coalesce(json_agg(DISTINCT w.ev_class::regclass::text), '[]')
   FROM pg_depend AS d JOIN pg_rewrite AS w ON w.oid = d.objid
   WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_constraint'::regclass AND d.refobjid = k.oid)
    AS dependent_views
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_class AS t ON t.oid = i.indrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace
  LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = ANY ($1::oid[]) AND t.relkind IN ('r', 'p') AND (i.indisunique OR i.indisexclusion)
  AND NOT c.relispartition
ORDER BY n.nspname, t.relname, 3";

pub(super) async fn keys(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    place: &[SqlOid],
) -> Result<Vec<KeyFacts>, CollectError> {
    let nulls_not_distinct = if scope.version >= 150_000 { "i.indnullsnotdistinct" } else { "false" };
    let sql = KEYS.replace("NULLS_NOT_DISTINCT", nulls_not_distinct);
    rows(connection, "the keys", &sql, |query| query.bind(place)).await
}

/// `$1` the relations. Foreign keys that a partition has from its parent are left out.
const FOREIGN_KEYS: &str = "
SELECT k.conname AS name, k.conrelid::int8 AS \"table\", k.confrelid::int8 AS referenced,
  k.confrelid::regclass::text AS referenced_name, k.conindid::int8 AS referenced_index,
  (SELECT json_agg(a.attname ORDER BY u.position) FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, position)
     JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) AS columns,
  (SELECT bool_and(a.attnotnull) FROM pg_attribute AS a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)) AS not_null,
  (SELECT json_agg(a.attname ORDER BY u.position) FROM unnest(k.confkey) WITH ORDINALITY AS u (attnum, position)
     JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.attnum) AS referenced_columns,
  k.confdeltype AS on_delete, k.confupdtype AS on_update, ON_DELETE_COLUMNS AS on_delete_columns,
  k.confmatchtype = 'f' AS match_full, k.condeferrable AS deferrable, k.condeferred AS deferred, k.convalidated AS validated
FROM pg_constraint AS k
WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.conrelid = ANY ($1::oid[]) OR k.confrelid = ANY ($1::oid[]))
ORDER BY k.conrelid::regclass::text, k.conname";

pub(super) async fn foreign_keys(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    place: &[SqlOid],
) -> Result<Vec<ForeignKeyFacts>, CollectError> {
    let columns = if scope.version >= 150_000 {
        "(SELECT coalesce(json_agg(a.attname ORDER BY u.position), '[]')
          FROM unnest(k.confdelsetcols) WITH ORDINALITY AS u (attnum, position)
            JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum)"
    } else {
        "'[]'::json"
    };
    let sql = FOREIGN_KEYS.replace("ON_DELETE_COLUMNS", columns);
    rows(connection, "the foreign keys", &sql, |query| query.bind(place)).await
}

/// `$1` the relations, `$2` the tenant column. A column is leaky when its operator class has no leakproof operator for its own
/// type, when it serves LIKE (`~~` is not leakproof), or when it is an expression (whose functions seldom are).
const LEAKY_INDEXES: &str = "
SELECT i.indrelid::int8 AS \"table\", c.relname AS name,
  json_agg(coalesce(quote_ident(a.attname), pg_get_indexdef(i.indexrelid, u.position::int, false))
           || ' (' || o.opcname || ')' ORDER BY u.position) AS columns
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid
  CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS u (attnum, opclass, position)
  JOIN pg_opclass AS o ON o.oid = u.opclass
  LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum AND u.attnum > 0
WHERE i.indrelid = ANY ($1::oid[]) AND t.relkind IN ('r', 'p') AND NOT c.relispartition AND u.position <= i.indnkeyatts
  AND a.attname IS DISTINCT FROM $2
  AND (u.attnum = 0 OR o.opcname ~ '_pattern_ops$'
    OR NOT EXISTS (SELECT FROM pg_amop AS m JOIN pg_operator AS p ON p.oid = m.amopopr JOIN pg_proc AS f ON f.oid = p.oprcode
                   WHERE m.amopfamily = o.opcfamily AND m.amoplefttype = o.opcintype AND m.amoppurpose = 's' AND f.proleakproof))
GROUP BY i.indrelid, c.relname ORDER BY c.relname";

pub(super) async fn leaky_indexes(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    place: &[SqlOid],
) -> Result<Vec<LeakyIndex>, CollectError> {
    let column = &scope.declaration.tenant_column;
    rows(connection, "the indexes", LEAKY_INDEXES, |query| query.bind(place).bind(column)).await
}
