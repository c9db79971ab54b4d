//! Code in the database: functions, triggers, event triggers and rewrite rules.

use serde::{Deserialize, Serialize};

use super::{Acl, Oid};

/// What a function promises the planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Volatility {
    #[serde(rename = "i")]
    Immutable,
    #[serde(rename = "s")]
    Stable,
    #[serde(rename = "v")]
    Volatile,
}

/// A function, procedure, aggregate or window function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of the catalog")]
pub struct Function {
    /// Its OID.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its argument types, as `ALTER FUNCTION` wants them.
    pub arguments: String,
    /// `f` function, `p` procedure, `a` aggregate, `w` window.
    pub kind: char,
    /// Its owner.
    pub owner: Oid,
    /// Its privileges; PUBLIC's built-in EXECUTE is written out.
    pub acl: Acl,
    /// SECURITY DEFINER
    pub definer: bool,
    /// LEAKPROOF
    pub leakproof: bool,
    /// Its volatility.
    pub volatility: Volatility,
    /// Its `SET` clauses, `name=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// `sql`, `plpgsql`, `c` …
    pub language: String,
    /// Only a superuser may make functions in this language.
    pub language_untrusted: bool,
    /// The type that it returns, as written: `trigger`, `event_trigger` …
    pub returns: String,
    /// A body in the standard's form (14+), whose names were looked up when it was made and whose references `pg_depend` has.
    #[serde(default)]
    pub parsed: bool,
    /// Its text; `None` for C and internal functions, and system ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The extension it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Oid>,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Its OID.
    pub oid: Oid,
    /// Its table or view.
    pub table: Oid,
    /// Its name.
    pub name: String,
    /// What it calls.
    pub function: Oid,
    /// `O` enabled, `D` disabled, `R` replica, `A` always.
    pub enabled: char,
    /// The bits of `tgtype`.
    pub bits: i16,
}

/// An event trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTrigger {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// `ddl_command_end` …
    pub event: String,
    /// Its owner.
    pub owner: Oid,
    /// What it calls.
    pub function: Oid,
    /// `O` enabled, `D` disabled, `R` replica, `A` always.
    pub enabled: char,
}

/// A rewrite rule other than one that makes a view. Its action runs with the rights of the relation's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteRule {
    /// Its OID.
    pub oid: Oid,
    /// Its table or view.
    pub relation: Oid,
    /// Its name.
    pub name: String,
    /// `2` UPDATE, `3` INSERT, `4` DELETE.
    pub event: char,
    /// The whole of it as PostgreSQL writes it.
    pub definition: String,
}

/// System functions that matter even when nobody changed their privileges: they reach files, other servers, other sessions
/// or large objects.
const DANGEROUS: &str = "'lo_import', 'lo_export', 'lo_create', 'lo_creat', 'lo_from_bytea', 'lo_put', 'lo_get', 'lo_open', \
    'lo_unlink', 'loread', 'lowrite', 'lo_truncate', 'lo_truncate64', 'pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', \
    'pg_stat_file', 'pg_ls_logdir', 'pg_ls_waldir', 'pg_ls_tmpdir', 'pg_ls_archive_statusdir', 'pg_terminate_backend', \
    'pg_cancel_backend', 'pg_reload_conf', 'pg_rotate_logfile', 'pg_switch_wal', 'pg_create_restore_point', \
    'pg_stat_get_backend_activity', 'pg_create_logical_replication_slot', 'pg_create_physical_replication_slot', 'pg_logical_slot_get_changes', \
    'pg_logical_slot_peek_changes', 'pg_logical_emit_message', 'pg_drop_replication_slot', 'pg_promote', 'pg_stat_get_activity', \
    'pg_log_backend_memory_contexts', 'pg_current_logfile', 'query_to_xml', 'query_to_xml_and_xmlschema', 'table_to_xml', \
    'cursor_to_xml', 'database_to_xml', 'schema_to_xml', 'ts_stat', 'pg_notify', 'pg_export_snapshot', 'pg_advisory_lock', \
    'set_config', 'pg_stat_get_wal_senders', 'pg_hba_file_rules', 'pg_show_all_file_settings', 'pg_backup_start', \
    'pg_start_backup', 'pg_replication_origin_create', 'pg_stat_reset', 'pg_prepared_xact'";

/// System functions behind operators that people call leakproof to get their indexes back, and that are not: their errors or
/// their running time tell of the values that they were given.
pub const LEAKY: [&str; 24] = [
    "textlike",
    "textnlike",
    "texticlike",
    "texticnlike",
    "bpcharlike",
    "namelike",
    "textregexeq",
    "texticregexeq",
    "jsonb_contains",
    "jsonb_contained",
    "jsonb_exists",
    "jsonb_exists_any",
    "jsonb_exists_all",
    "jsonb_path_match_opr",
    "jsonb_path_exists_opr",
    "ts_match_vq",
    "ts_match_qv",
    "arraycontains",
    "arraycontained",
    "arrayoverlap",
    "int4div",
    "int8div",
    "range_contains",
    "range_overlaps",
];

pub(super) fn functions() -> String {
    format!(
        "SELECT p.oid::int8 AS oid, n.nspname AS schema, p.proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments, \
           p.prokind AS kind, p.proowner::int8 AS owner, {} AS acl, p.prosecdef AS definer, p.proleakproof AS leakproof, \
           p.provolatile AS volatility, coalesce(p.proconfig, '{{}}') AS settings, l.lanname AS language, \
           NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'c') AS language_untrusted, format_type(p.prorettype, NULL) AS returns, \
           CASE WHEN l.lanname NOT IN ('internal', 'c') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
             THEN {body} END AS body, {parsed} AS parsed, e.refobjid::int8 AS extension \
         FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_language AS l ON l.oid = p.prolang \
           LEFT JOIN pg_depend AS e ON e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e' \
             AND e.refclassid = 'pg_extension'::regclass \
           LEFT JOIN pg_init_privs AS i ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid \
         WHERE n.nspname !~ '^pg_(toast|temp)' AND (n.nspname NOT IN ('pg_catalog', 'information_schema') \
           OR i.initprivs IS DISTINCT FROM p.proacl OR p.proname IN ({DANGEROUS}) OR p.prosecdef \
           OR p.proleakproof AND p.proname IN ({leaky})) ORDER BY p.oid",
        super::collect::acl_or_default("p.proacl", "f", "p.proowner"),
        // A body in the standard's form (14+) is kept as a tree, with no text of its own.
        body = "coalesce(nullif(p.prosrc, ''), pg_get_function_sqlbody(p.oid))",
        leaky = LEAKY.map(|name| format!("'{name}'")).join(", "),
        parsed = "p.prosqlbody IS NOT NULL",
    )
}

/// For servers without bodies in the standard's form.
pub(super) fn functions_before_14() -> String {
    functions().replace("pg_get_function_sqlbody(p.oid)", "''").replace("p.prosqlbody IS NOT NULL", "false")
}

pub(super) const TRIGGERS: &str = "SELECT oid::int8 AS oid, tgrelid::int8 AS table, tgname AS name, tgfoid::int8 AS function, \
    tgenabled AS enabled, tgtype AS bits FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgrelid, oid";

pub(super) const EVENT_TRIGGERS: &str = "SELECT oid::int8 AS oid, evtname AS name, evtevent AS event, evtowner::int8 AS owner, \
    evtfoid::int8 AS function, evtenabled AS enabled FROM pg_event_trigger ORDER BY oid";

pub(super) const REWRITE_RULES: &str = "SELECT r.oid::int8 AS oid, r.ev_class::int8 AS relation, r.rulename AS name, \
    r.ev_type AS event, pg_get_ruledef(r.oid) AS definition FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class \
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE r.rulename <> '_RETURN' \
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY r.ev_class, r.oid";
