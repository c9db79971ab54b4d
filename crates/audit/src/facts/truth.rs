//! Which policy predicates may be tried, and what came of it.
//!
//! A predicate is run with the collector's rights, and whoever owns a table writes its policies. So only expressions are run that
//! are made of node types, types and system functions on the lists below, each of them looked at: they read nothing but their
//! arguments and settings, and call nothing of a user's. Everything else is undecided. How they are tried is in `trial`.

use serde::{Deserialize, Serialize};

use super::Oid;

/// Which predicate of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredicateKind {
    /// A policy's USING.
    #[default]
    Using,
    /// A policy's WITH CHECK.
    Check,
}

/// For how many of the rows tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Rows {
    #[default]
    None,
    Some,
    All,
}

/// A setting and a value of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// The setting.
    pub setting: String,
    /// The value.
    pub value: String,
}

/// The verdict on one predicate. With `undecided`, nothing but `settings` and `by_role` says anything.
///
/// It was tried on made-up rows of two tenants, of none (nulls) and of an empty one, whose other columns vary (booleans both ways,
/// times past and future, every constant that the predicate has), and in these contexts: its settings unset, empty, set to the
/// first tenant in every spelling, and each of them set to usual flag values and to the predicate's constants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent observations")]
pub struct Truth {
    /// The policy.
    pub policy: Oid,
    /// Which predicate of it.
    pub predicate: PredicateKind,
    /// True on every row, in every context.
    pub always_true: bool,
    /// True on rows of the second tenant while the first is set.
    pub other_tenant: Rows,
    /// True on rows of a tenant while none is set.
    pub without_context: Rows,
    /// True on a row of the first tenant while it is set: what the settings were given reaches the predicate.
    pub own_tenant: bool,
    /// True on a row whose keys are null, while a tenant is set.
    pub true_on_null: bool,
    /// True on a row whose text keys are empty, while the context is empty.
    pub true_on_empty: bool,
    /// Raises on every row while the settings are empty, and does not while they are unset.
    pub raises_when_empty: bool,
    /// What makes it true for a row of the second tenant on which it is not otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub opened_by: Vec<Flag>,
    /// The settings that it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// It asks which role it runs as.
    pub by_role: bool,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undecided: Option<String>,
}

impl Truth {
    /// Shown to be true for every row.
    pub fn is_open(&self) -> bool {
        self.undecided.is_none() && self.always_true
    }

    /// Shown to be true for no row of another tenant: in no context tried, flags included.
    pub fn holds_back(&self) -> bool {
        self.undecided.is_none()
            && self.other_tenant == Rows::None
            && self.without_context == Rows::None
            && self.opened_by.is_empty()
    }
}

/// A predicate of a policy.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Predicate {
    pub(super) policy: Oid,
    #[serde(rename = "predicate")]
    pub(super) kind: PredicateKind,
    pub(super) expression: String,
    /// Why it must not be evaluated.
    pub(super) refused: Option<String>,
    /// It asks for the current role.
    pub(super) by_role: bool,
    /// The settings that it reads by a name that is written out.
    pub(super) settings: Vec<String>,
    /// String constants in it; also those that name settings and keys.
    pub(super) texts: Vec<String>,
    /// Whole numbers in it.
    pub(super) numbers: Vec<String>,
    /// Keys that it takes a JSON object by (`->`), and a text (`->>`).
    pub(super) object_keys: Vec<String>,
    pub(super) text_keys: Vec<String>,
    /// The columns that it uses.
    pub(super) columns: Vec<PredicateColumn>,
    /// The table's name, quoted where it must be.
    pub(super) alias: String,
}

/// A column as a predicate sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct PredicateColumn {
    pub(super) name: String,
    /// Its type below any domain, without a length.
    #[serde(rename = "type")]
    pub(super) written_type: String,
    pub(super) type_oid: Oid,
    /// The element type of an array.
    pub(super) element: Oid,
    /// Labels of an enumeration: the first and the last.
    pub(super) labels: Vec<String>,
}

/// Node types of an expression tree, before and since 16. SUBLINK and QUERY only as `(SELECT expression)`: a query that reads a
/// table has a range table, whose entries are not here.
const NODES: &str = "BOOLEXPR|OPEXPR|DISTINCTEXPR|NULLIFEXPR|SCALARARRAYOPEXPR|FUNCEXPR|CONST|VAR|RELABELTYPE|COERCEVIAIO|\
    COERCETODOMAIN|COERCETODOMAINVALUE|COALESCE|COALESCEEXPR|CASE|CASEEXPR|WHEN|CASEWHEN|CASETESTEXPR|NULLTEST|BOOLEANTEST|ARRAY|\
    ARRAYEXPR|MINMAX|MINMAXEXPR|SQLVALUEFUNCTION|ARRAYCOERCEEXPR|COLLATE|COLLATEEXPR|SUBLINK|QUERY|FROMEXPR|TARGETENTRY";

/// System functions besides comparisons and casts. None reads a table, a file or the clock of another session; none has an effect.
const FUNCTIONS: &str = "current_setting textcat textanycat anytextcat lower upper btrim ltrim rtrim length char_length \
    character_length octet_length substring substr left right replace split_part strpos position concat concat_ws md5 starts_with \
    textlike textnlike texticlike texticnlike like notlike textregexeq textregexne texticregexeq texticregexne string_to_array \
    array_to_string array_position array_length cardinality arraycontains arraycontained arrayoverlap array_append array_prepend \
    array_cat jsonb_object_field jsonb_object_field_text jsonb_extract_path jsonb_extract_path_text jsonb_array_element \
    jsonb_array_element_text jsonb_exists jsonb_exists_any jsonb_exists_all jsonb_contains jsonb_contained jsonb_typeof \
    json_object_field json_object_field_text json_extract_path json_extract_path_text int4pl int4mi int4mul int8pl int8mi int8mul \
    int2pl int2mi numeric_add numeric_sub int4mod int8mod int4abs int8abs abs mod now transaction_timestamp statement_timestamp \
    timestamptz_pl_interval timestamptz_mi_interval timestamp_pl_interval timestamp_mi_interval date_pli date_mii date_part \
    extract date_trunc interval_mul uuid_in textin";

/// Those whose answer depends on the role that asks.
const ROLE_FUNCTIONS: &str =
    "current_user getpgusername pg_has_role has_table_privilege has_schema_privilege has_column_privilege";

pub(super) fn predicates() -> String {
    format!(
        "WITH amop AS MATERIALIZED (SELECT a.amopopr FROM pg_amop AS a JOIN pg_am AS m ON m.oid = a.amopmethod \
            WHERE a.oid < 16384 AND m.amname IN ('btree', 'hash')), \
          fine AS MATERIALIZED (SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384 \
            AND p.provolatile <> 'v' AND p.prokind = 'f' AND p.prorettype <> 'xml'::regtype AND (p.proname = ANY ({functions}) \
              OR p.oid IN (SELECT castfunc FROM pg_cast WHERE oid < 16384) \
              OR p.oid IN (SELECT o.oprcode FROM pg_operator AS o WHERE o.oid < 16384 \
                AND (o.oid IN (SELECT amopopr FROM amop) OR o.oprnegate IN (SELECT amopopr FROM amop))))), \
          tree AS MATERIALIZED (SELECT p.oid, e.predicate, p.polrelid AS relation, e.tree, e.tree::text AS text FROM pg_policy AS p, \
              LATERAL (VALUES ('using', p.polqual), ('check', p.polwithcheck)) AS e (predicate, tree) WHERE e.tree IS NOT NULL \
            UNION ALL SELECT k.contypid, 'domain', 0, k.conbin, k.conbin::text FROM pg_constraint AS k \
              WHERE k.contypid <> 0 AND k.contype = 'c'), \
          called AS MATERIALIZED (SELECT t.oid, t.predicate, coalesce(x.oid::regprocedure::text, 'a function that is gone') AS name \
            FROM tree AS t, LATERAL (SELECT DISTINCT CASE m[1] WHEN 'opno' THEN (SELECT o.oprcode FROM pg_operator AS o \
                WHERE o.oid = m[2]::oid) ELSE m[2]::oid END AS id \
              FROM regexp_matches(t.text, ':(funcid|opfuncid|hashfuncid|negfuncid|opno) ([0-9]+)', 'g') AS m) AS f \
              LEFT JOIN pg_proc AS x ON x.oid = f.id WHERE f.id <> 0 AND f.id NOT IN (SELECT oid FROM fine)), \
          node AS MATERIALIZED (SELECT DISTINCT t.oid, t.predicate, m[1] AS name FROM tree AS t, \
            LATERAL regexp_matches(t.text, '\\{{([A-Z_0-9]+) ', 'g') AS m WHERE m[1] !~ '^({NODES})$'), \
          domain AS MATERIALIZED (SELECT d.oid FROM pg_type AS d WHERE d.typtype = 'd' AND d.typbasetype < 16384 \
            AND d.oid NOT IN (SELECT oid FROM called WHERE predicate = 'domain') \
            AND d.oid NOT IN (SELECT oid FROM node WHERE predicate = 'domain') \
            AND d.oid NOT IN (SELECT oid FROM tree WHERE predicate = 'domain' AND text ~ '\\{{COERCETODOMAIN ')), \
          odd AS MATERIALIZED (SELECT DISTINCT t.oid, t.predicate, format_type(y.oid, NULL) AS name FROM tree AS t, \
            LATERAL regexp_matches(t.text, ':(?:consttype|resulttype|casetype|coalescetype|minmaxtype|array_typeid|element_typeid|\
opresulttype|funcresulttype|typeId) ([0-9]+)', 'g') AS m LEFT JOIN pg_type AS y ON y.oid = m[1]::oid \
            LEFT JOIN pg_type AS el ON el.oid = y.typelem AND y.typcategory = 'A' \
            WHERE m[1] <> '0' AND NOT coalesce(y.oid < 16384 AND y.oid <> 'xml'::regtype OR y.typtype = 'e' OR el.typtype = 'e' \
              OR y.oid IN (SELECT oid FROM domain), false)) \
        SELECT t.oid::int8 AS policy, t.predicate, x.expression, \
          CASE WHEN n.names ~ 'RANGETBL|RTE' THEN 'it has a query that reads a table' \
            WHEN n.names IS NOT NULL THEN 'it has a part that is not tried: ' || n.names \
            WHEN c.names IS NOT NULL THEN 'it calls ' || c.names WHEN o.names IS NOT NULL THEN 'it has values of the type ' || o.names \
            WHEN t.text ~ '\\{{VAR [^{{}}]*:varattno (-|0 )' THEN 'it uses a system column or the whole row' \
            WHEN t.text ~ '\\{{SQLVALUEFUNCTION :op 12' THEN 'it depends on session_user' \
            WHEN (SELECT count(*) FROM regexp_matches(t.text, ':funcid (2077|3294) ', 'g')) > cardinality(s.all_reads) \
              THEN 'it reads a setting whose name is not written out' END AS refused, \
          t.text ~ '\\{{SQLVALUEFUNCTION :op (9|10|11) ' OR EXISTS (SELECT FROM regexp_matches(t.text, ':funcid ([0-9]+)', 'g') AS m \
            JOIN pg_proc AS p ON p.oid = m[1]::oid WHERE p.oid < 16384 AND p.proname = ANY ({role_functions})) AS by_role, \
          s.settings, k.texts, k.numbers, k.object_keys, k.text_keys, coalesce(v.columns, '[]') AS columns, \
          quote_ident(r.relname) AS alias \
        FROM tree AS t JOIN pg_class AS r ON r.oid = t.relation \
          LEFT JOIN (SELECT oid, predicate, string_agg(name, ', ' ORDER BY name) AS names FROM node GROUP BY 1, 2) AS n \
            ON n.oid = t.oid AND n.predicate = t.predicate \
          LEFT JOIN (SELECT oid, predicate, string_agg(name, ', ' ORDER BY name) AS names FROM called GROUP BY 1, 2) AS c \
            ON c.oid = t.oid AND c.predicate = t.predicate \
          LEFT JOIN (SELECT oid, predicate, string_agg(name, ', ' ORDER BY name) AS names FROM odd GROUP BY 1, 2) AS o \
            ON o.oid = t.oid AND o.predicate = t.predicate, \
          LATERAL (SELECT pg_get_expr(t.tree, t.relation) AS expression OFFSET 0) AS x, \
          LATERAL (SELECT coalesce(array_agg(DISTINCT replace(m[1], '''''', '''')), '{{}}') AS settings, \
              coalesce(array_agg(m[1]), '{{}}') AS all_reads \
            FROM regexp_matches(x.expression, 'current_setting\\(''((?:[^''\\\\]|'''')+)''::text', 'g') AS m) AS s, \
          LATERAL (SELECT \
            ARRAY(SELECT DISTINCT replace(m[1], '''''', '''') FROM regexp_matches(x.expression, '''((?:[^'']|'''')*)''', 'g') AS m) AS texts, \
            ARRAY(SELECT DISTINCT m[1] FROM regexp_matches(x.expression, '[ (]''?(-?[0-9]{{1,9}})(?=[ ),'']|$)', 'g') AS m) AS numbers, \
            ARRAY(SELECT DISTINCT m[1] FROM regexp_matches(x.expression, '-> ''([^'']+)''::text', 'g') AS m) AS object_keys, \
            ARRAY(SELECT DISTINCT m[1] FROM regexp_matches(x.expression, '->> ''([^'']+)''::text', 'g') AS m) AS text_keys) AS k, \
          LATERAL (SELECT json_agg(json_build_object('name', a.attname, 'type', format_type(b.oid, NULL), 'type_oid', b.oid::int8, \
              'element', CASE WHEN b.typcategory = 'A' THEN b.typelem ELSE 0 END::int8, 'labels', \
              ARRAY(SELECT e.enumlabel FROM pg_enum AS e WHERE e.enumtypid = b.oid AND (e.enumsortorder = \
                (SELECT min(enumsortorder) FROM pg_enum WHERE enumtypid = b.oid) OR e.enumsortorder = \
                (SELECT max(enumsortorder) FROM pg_enum WHERE enumtypid = b.oid)) ORDER BY e.enumsortorder)) ORDER BY a.attnum) AS columns \
            FROM pg_attribute AS a, LATERAL (WITH RECURSIVE b AS (SELECT y.oid, y.typtype, y.typbasetype FROM pg_type AS y \
                WHERE y.oid = a.atttypid UNION ALL SELECT y.oid, y.typtype, y.typbasetype FROM b JOIN pg_type AS y \
                ON b.typtype = 'd' AND y.oid = b.typbasetype) SELECT y.oid, y.typcategory, y.typelem FROM b JOIN pg_type AS y \
                ON y.oid = b.oid WHERE b.typtype <> 'd') AS b \
            WHERE a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attnum IN (SELECT m[1]::int \
              FROM regexp_matches(t.text, ':varattno ([0-9]+)', 'g') AS m)) AS v \
        WHERE t.predicate <> 'domain' ORDER BY t.oid, t.predicate DESC",
        functions = list(&format!("{FUNCTIONS} {ROLE_FUNCTIONS}")),
        role_functions = list(ROLE_FUNCTIONS),
    )
}

/// Words as an array in SQL.
fn list(words: &str) -> String {
    let words: Vec<String> = words.split_whitespace().map(guardian_postgres::quote::literal).collect();
    format!("ARRAY[{}]", words.join(", "))
}
