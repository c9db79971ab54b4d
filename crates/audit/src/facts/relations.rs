//! Tables, views and everything else with columns, and the policies on them.

use serde::{Deserialize, Serialize};

use super::{Acl, Oid};

/// The kind of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum RelationKind {
    #[serde(rename = "r")]
    Table,
    #[serde(rename = "p")]
    Partitioned,
    #[serde(rename = "v")]
    View,
    #[serde(rename = "m")]
    MaterializedView,
    #[serde(rename = "f")]
    ForeignTable,
    #[serde(rename = "S")]
    Sequence,
}

impl RelationKind {
    /// A plain or partitioned table: what row-level security can be put on.
    pub const fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Partitioned)
    }
}

/// A relation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of the catalog")]
pub struct Relation {
    /// Its OID.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: RelationKind,
    /// Its owner.
    pub owner: Oid,
    /// Its privileges.
    pub acl: Acl,
    /// `ENABLE ROW LEVEL SECURITY`
    pub rls: bool,
    /// `FORCE ROW LEVEL SECURITY`
    pub rls_forced: bool,
    /// A partition of something.
    pub partition: bool,
    /// What it inherits from or is a partition of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Oid>,
    /// The extension it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Oid>,
    /// Storage options: `security_invoker=true`, `security_barrier=true` …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Bits of `pg_relation_is_updatable` of a view: 4 UPDATE, 8 INSERT, 16 DELETE.
    pub updatable: i32,
    /// A view's query as PostgreSQL writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// A view's query has a WHERE clause, or one below it has.
    #[serde(default)]
    pub filters: bool,
    /// The foreign server of a foreign table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_server: Option<Oid>,
    /// Rows by the last ANALYZE; negative: never analysed.
    pub rows_estimated: f64,
    /// Pages, likewise.
    pub pages: i64,
    /// Unlogged or temporary: `u`, `t`; `p` is the usual.
    pub persistence: char,
    /// `REPLICA IDENTITY`: `d`, `n`, `f` or `i`.
    pub replica_identity: char,
}

impl Relation {
    /// Whether a boolean storage option is on.
    pub fn option(&self, name: &str) -> bool {
        self.options.iter().filter_map(|option| option.split_once('=')).any(|(key, value)| {
            // The server keeps the text as it was written; these are its spellings of true, and any prefix of them.
            key == name && ["true", "yes", "on", "1"].iter().any(|word| matches(word, value))
        })
    }

    /// A view whose query runs with its caller's rights (15+).
    pub fn is_invoker_view(&self) -> bool {
        self.option("security_invoker")
    }
}

/// The server takes any unambiguous prefix of a word; `o` alone is ambiguous.
fn matches(word: &str, value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    !value.is_empty() && value != "o" && word.starts_with(&value)
}

/// A column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its relation.
    pub relation: Oid,
    /// `attnum`
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type as written, qualified unless a system type.
    pub written_type: String,
    /// The OID of the type below any domain.
    pub base_type: Oid,
    /// NOT NULL, by itself or by its domain.
    pub not_null: bool,
    /// Its default or generation expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// A generated column: `s` stored, `v` virtual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<char>,
    /// An identity column: `a` always, `d` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<char>,
    /// Privileges on the column alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acl: Acl,
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Its OID.
    pub oid: Oid,
    /// The table it belongs to, and the column's number.
    pub owned_by: Option<(Oid, i16)>,
    /// Behind an identity column, which needs no privilege on it.
    pub identity: bool,
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Command {
    #[serde(rename = "*")]
    All,
    #[serde(rename = "r")]
    Select,
    #[serde(rename = "a")]
    Insert,
    #[serde(rename = "w")]
    Update,
    #[serde(rename = "d")]
    Delete,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its OID: the dependent in `pg_depend`.
    pub oid: Oid,
    /// Its table.
    pub table: Oid,
    /// Its name.
    pub name: String,
    /// PERMISSIVE
    pub permissive: bool,
    /// What it is for.
    pub command: Command,
    /// The roles it is for; [`super::PUBLIC`] is all.
    pub roles: Vec<Oid>,
    /// USING
    pub using: Option<String>,
    /// WITH CHECK
    pub check: Option<String>,
    /// Either predicate has an OR in it.
    #[serde(default)]
    pub alternatives: bool,
}

pub(super) fn relations() -> String {
    // Of the system's relations (and their columns), only those whose privileges were changed since the cluster was made.
    format!(
        "SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relowner::int8 AS owner, \
           {} AS acl, c.relrowsecurity AS rls, c.relforcerowsecurity AS rls_forced, c.relispartition AS partition, \
           coalesce(i.parents, '{{}}') AS parents, e.refobjid::int8 AS extension, coalesce(c.reloptions, '{{}}') AS options, \
           CASE c.relkind WHEN 'v' THEN pg_relation_is_updatable(c.oid, true) ELSE 0 END AS updatable, \
           CASE WHEN c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
             THEN pg_get_viewdef(c.oid) END AS definition, coalesce(w.filters, false) AS filters, \
           f.ftserver::int8 AS foreign_server, c.reltuples AS rows_estimated, c.relpages AS pages, \
           c.relpersistence AS persistence, c.relreplident AS replica_identity \
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
           LEFT JOIN (SELECT inhrelid, array_agg(inhparent::int8 ORDER BY inhseqno) AS parents FROM pg_inherits GROUP BY 1) \
             AS i ON i.inhrelid = c.oid \
           LEFT JOIN pg_depend AS e ON e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.objsubid = 0 \
             AND e.deptype = 'e' AND e.refclassid = 'pg_extension'::regclass \
           LEFT JOIN pg_foreign_table AS f ON f.ftrelid = c.oid \
           LEFT JOIN (SELECT ev_class, bool_or(ev_action::text ~ '\\) :quals \\{{') AS filters FROM pg_rewrite \
             WHERE rulename = '_RETURN' AND ev_class >= 16384 GROUP BY 1) AS w ON w.ev_class = c.oid \
           LEFT JOIN pg_init_privs AS p ON p.classoid = 'pg_class'::regclass AND p.objoid = c.oid AND p.objsubid = 0 \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_(toast|temp)' \
           AND (n.nspname NOT IN ('pg_catalog', 'information_schema') \
             OR c.relacl IS NOT NULL AND p.initprivs IS DISTINCT FROM c.relacl \
            OR c.oid IN (SELECT a.attrelid FROM pg_attribute AS a LEFT JOIN pg_init_privs AS q ON q.classoid = 'pg_class'::regclass \
              AND q.objoid = a.attrelid AND q.objsubid = a.attnum WHERE a.attrelid < 16384 AND a.attacl IS NOT NULL \
              AND q.initprivs IS DISTINCT FROM a.attacl)) ORDER BY c.oid",
        super::collect::acl("c.relacl", "r", "c.relowner")
    )
}

pub(super) fn columns() -> String {
    format!(
        "SELECT a.attrelid::int8 AS relation, a.attnum AS number, a.attname AS name, \
           format_type(a.atttypid, a.atttypmod) AS written_type, \
           CASE WHEN t.typtype = 'd' THEN (WITH RECURSIVE b AS (SELECT t.typbasetype AS oid UNION ALL \
               SELECT x.typbasetype FROM b JOIN pg_type AS x ON x.oid = b.oid WHERE x.typtype = 'd') \
             SELECT b.oid FROM b JOIN pg_type AS x ON x.oid = b.oid WHERE x.typtype <> 'd') ELSE t.oid END::int8 AS base_type, \
           a.attnotnull OR t.typnotnull AS not_null, pg_get_expr(d.adbin, d.adrelid) AS default, nullif(a.attgenerated, '') AS generated, \
           nullif(a.attidentity, '') AS identity, {} AS acl \
         FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
           JOIN pg_type AS t ON t.oid = a.atttypid \
           LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
           LEFT JOIN pg_init_privs AS i ON i.classoid = 'pg_class'::regclass AND i.objoid = a.attrelid AND i.objsubid = a.attnum \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
           AND n.nspname !~ '^pg_(toast|temp)' AND (n.nspname NOT IN ('pg_catalog', 'information_schema') \
             OR a.attacl IS NOT NULL AND i.initprivs IS DISTINCT FROM a.attacl) \
         ORDER BY a.attrelid, a.attnum",
        super::collect::acl("a.attacl", "c", "c.relowner")
    )
}

pub(super) const SEQUENCES: &str = "SELECT c.oid::int8 AS oid, \
    CASE WHEN d.refobjid IS NOT NULL THEN json_build_array(d.refobjid::int8, d.refobjsubid) END AS owned_by, \
    coalesce(d.deptype = 'i', false) AS identity FROM pg_class AS c LEFT JOIN pg_depend AS d \
      ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') \
    WHERE c.relkind = 'S' ORDER BY c.oid";

pub(super) const POLICIES: &str = "SELECT oid::int8 AS oid, polrelid::int8 AS table, polname AS name, \
    polpermissive AS permissive, polcmd AS command, polroles::int8[] AS roles, pg_get_expr(polqual, polrelid) AS using, \
    pg_get_expr(polwithcheck, polrelid) AS check, \
    coalesce(polqual::text ~ ':boolop or ', false) OR coalesce(polwithcheck::text ~ ':boolop or ', false) AS alternatives FROM pg_policy ORDER BY polrelid, polname";

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn spellings_of_true_are_the_servers() {
        assert!(
            ["true", "T", "on", "ON", "1", "yes", "y"]
                .iter()
                .all(|v| ["true", "yes", "on", "1"].iter().any(|w| matches(w, v)))
        );
        assert!(
            !["false", "off", "0", "o", "", "n"].iter().any(|v| ["true", "yes", "on", "1"].iter().any(|w| matches(w, v)))
        );
    }
}
