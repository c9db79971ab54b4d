//! Policies, rules, functions, default privileges, publications, and what the application reaches outside its place.

use sqlx::{PgConnection, postgres::types::Oid as SqlOid};

use super::{
    DefaultPrivilege, FunctionFacts, Oid, PolicyFacts, ReachableRelation, RuleFacts, SystemFunction,
    collect::{CollectError, Scope, rows},
    server::grants,
};

pub(super) async fn policies(connection: &mut PgConnection, place: &[SqlOid]) -> Result<Vec<PolicyFacts>, CollectError> {
    let sql = "SELECT p.polrelid::int8 AS \"table\", p.polname AS name, p.polpermissive AS permissive, p.polcmd AS command, \
           p.polroles = '{0}' AS to_public, \
           ARRAY(SELECT r.rolname::text COLLATE \"C\" FROM pg_roles AS r WHERE r.oid = ANY (p.polroles) ORDER BY 1) AS roles, \
           pg_get_expr(p.polqual, p.polrelid) AS using, \
           pg_get_expr(p.polwithcheck, p.polrelid) AS check \
         FROM pg_policy AS p WHERE p.polrelid = ANY ($1::oid[]) ORDER BY p.polrelid, p.polname";
    rows(connection, "the policies", sql, |query| query.bind(place)).await
}

pub(super) async fn rules(connection: &mut PgConnection, place: &[SqlOid]) -> Result<Vec<RuleFacts>, CollectError> {
    let sql = "SELECT r.ev_class::int8 AS \"table\", r.rulename AS name FROM pg_rewrite AS r \
         WHERE r.ev_class = ANY ($1::oid[]) AND r.rulename <> '_RETURN' ORDER BY r.ev_class, r.rulename";
    rows(connection, "the rules", sql, |query| query.bind(place)).await
}

#[derive(serde::Deserialize)]
struct Filled {
    table: Oid,
}

pub(super) async fn fill_triggers(connection: &mut PgConnection, place: &[SqlOid]) -> Result<Vec<Oid>, CollectError> {
    let sql = "SELECT t.tgrelid::int8 AS \"table\" FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid \
         WHERE t.tgrelid = ANY ($1::oid[]) AND t.tgname = 'guardian_fill' AND NOT c.relispartition ORDER BY 1";
    let found: Vec<Filled> = rows(connection, "the filling triggers", sql, |query| query.bind(place)).await?;
    Ok(found.into_iter().map(|filled| filled.table).collect())
}

/// `$1` roles, `$2` schema.
const FUNCTIONS: &str = "
  SELECT n.nspname AS schema, p.proname AS name, oidvectortypes(p.proargtypes) AS arguments, p.prokind AS kind,
    o.rolname AS owner, o.rolsuper OR o.rolbypassrls AS owner_bypasses_rls, p.prosecdef AS definer,
    p.proleakproof AND l.lanname NOT IN ('internal', 'c') AS leakproof, p.provolatile AS volatility,
    coalesce(p.proconfig, '{}') AS settings, p.prosrc LIKE '%current_setting%' AS reads_settings,
    CASE WHEN n.nspname = 'guardian' THEN p.prosrc END AS body,
    GRANTS
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_roles AS o ON o.oid = p.proowner
    JOIN pg_language AS l ON l.oid = p.prolang
  WHERE NOT EXISTS (SELECT FROM pg_depend AS d
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')";

/// Those of the declared schema and of Guardian's. Of other schemas, only SECURITY DEFINER functions that the application may call.
pub(super) async fn functions(connection: &mut PgConnection, scope: &Scope<'_>) -> Result<Vec<FunctionFacts>, CollectError> {
    let all = FUNCTIONS.replace("GRANTS", &grants("p.proacl", 'f', "p.proowner"));
    let sql = format!(
        "SELECT * FROM ({all} AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
           AND (n.nspname IN ($2, 'guardian') OR p.prosecdef AND has_schema_privilege('public', n.oid, 'USAGE'))) AS f \
         WHERE f.schema IN ($2, 'guardian') OR f.grants::text <> '[]' ORDER BY f.schema, f.name, f.arguments"
    );
    rows(connection, "the functions", &sql, |query| query.bind(&scope.roles).bind(&scope.declaration.schema)).await
}

/// Those of the declared schema alone.
pub(super) async fn functions_of(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
) -> Result<Vec<FunctionFacts>, CollectError> {
    let all = FUNCTIONS.replace("GRANTS", &grants("p.proacl", 'f', "p.proowner"));
    let sql = format!("{all} AND n.nspname = $2 ORDER BY name, arguments");
    rows(connection, "the functions", &sql, |query| query.bind(&scope.roles).bind(&scope.declaration.schema)).await
}

pub(super) async fn default_privileges(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
) -> Result<Vec<DefaultPrivilege>, CollectError> {
    // PUBLIC's built-in EXECUTE on functions is not stored here unless somebody changed the list.
    let sql = "SELECT DISTINCT pg_get_userbyid(d.defaclrole) AS owner, n.nspname AS schema, d.defaclobjtype AS kind, \
           r.rolname AS grantee \
         FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace, \
           aclexplode(d.defaclacl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee \
         WHERE d.defaclobjtype IN ('r', 'S', 'f') AND (n.nspname IS NULL OR n.nspname = $2) \
           AND (a.grantee = 0 OR r.rolname = ANY ($1::text[])) \
           AND NOT (d.defaclobjtype = 'f' AND a.grantee = 0 AND n.nspname IS NULL) ORDER BY 1, 2, 3, 4";
    rows(connection, "the default privileges", sql, |query| query.bind(&scope.roles).bind(&scope.declaration.schema)).await
}

pub(super) async fn open_system_functions(connection: &mut PgConnection) -> Result<Vec<SystemFunction>, CollectError> {
    let sql = "SELECT format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)) AS signature, \
           p.proname AS name \
         FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace \
         WHERE (n.nspname = 'pg_catalog' AND (p.proname ~ '^lo_' OR p.proname IN ('loread', 'lowrite', \
                  'pg_terminate_backend', 'pg_cancel_backend', 'pg_stat_get_activity', 'pg_stat_get_backend_activity')) \
                OR p.proname ~ '^(pg_stat_(statements|monitor|kcache)|dblink)' AND has_schema_privilege('public', n.oid, 'USAGE')) \
           AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0) \
         ORDER BY 1";
    rows(connection, "the system's functions", sql, |query| query).await
}

#[derive(serde::Deserialize)]
struct Publication {
    name: String,
}

pub(super) async fn publications(connection: &mut PgConnection, place: &[SqlOid]) -> Result<Vec<String>, CollectError> {
    let sql = "SELECT p.pubname AS name FROM pg_publication AS p WHERE p.puballtables OR EXISTS \
         (SELECT FROM pg_publication_tables AS t JOIN pg_namespace AS n ON n.nspname = t.schemaname \
            JOIN pg_class AS c ON c.relname = t.tablename AND c.relnamespace = n.oid \
          WHERE t.pubname = p.pubname AND c.oid = ANY ($1::oid[])) ORDER BY 1";
    let found: Vec<Publication> = rows(connection, "the publications", sql, |query| query.bind(place)).await?;
    Ok(found.into_iter().map(|publication| publication.name).collect())
}

pub(super) async fn reachable_elsewhere(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    place: &[SqlOid],
) -> Result<Vec<ReachableRelation>, CollectError> {
    // An extension's own relations in the application's schema are in `place`, but nobody's table.
    let sql = "SELECT DISTINCT n.nspname AS schema, c.relname AS name, \
           c.relname ~ '^pg_stat_(statements|monitor|kcache)' AS shows_statements, a.grantee = 0 AS to_public \
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS a \
           LEFT JOIN pg_roles AS r ON r.oid = a.grantee \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
           AND (NOT c.oid = ANY ($2::oid[]) OR c.relname ~ '^pg_stat_(statements|monitor|kcache)') AND a.grantee <> c.relowner \
           AND (a.grantee = 0 AND has_schema_privilege('public', n.oid, 'USAGE') OR r.rolname = ($1::text[])[1]) ORDER BY 1, 2";
    rows(connection, "relations elsewhere", sql, |query| query.bind(&scope.roles).bind(place)).await
}
