//! The server, the database, its schemas and roles.

use sqlx::PgConnection;

use super::{
    DatabaseFacts, Membership, RoleFacts, RoleSetting, SchemaFacts, ServerFacts,
    collect::{CollectError, Scope, rows},
};

/// A `grants` column: what PUBLIC and the roles in `$1` hold by an access list.
pub(super) fn grants(acl: &str, kind: char, owner: &str) -> String {
    format!(
        "(SELECT coalesce(json_agg(json_build_object('grantee', r.rolname, 'privilege', a.privilege_type, \
           'grantable', a.is_grantable) ORDER BY r.rolname NULLS FIRST, a.privilege_type), '[]') \
         FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee \
         WHERE (a.grantee = 0 OR r.rolname = ANY ($1::text[])) AND a.grantee <> {owner}) AS grants"
    )
}

pub(super) async fn server(connection: &mut PgConnection) -> Result<ServerFacts, CollectError> {
    let version: Vec<(i32,)> = sqlx::query_as("SELECT current_setting('server_version_num')::int")
        .fetch_all(&mut *connection)
        .await
        .map_err(|source| CollectError::Query { what: "the server's version", source })?;
    let has_parameter_grants = version.first().is_some_and(|row| row.0 >= 150_000);
    let register = if has_parameter_grants {
        "has_parameter_privilege('backtrace_functions', 'SET WITH GRANT OPTION') AS may_grant_register, \
         (SELECT coalesce(json_agg(r.rolname), '[]') FROM pg_parameter_acl AS p, aclexplode(p.paracl) AS a \
            LEFT JOIN pg_roles AS r ON r.oid = a.grantee \
          WHERE p.parname = 'backtrace_functions' AND a.privilege_type = 'SET') AS register_grantees"
    } else {
        "false AS may_grant_register, '[]'::json AS register_grantees"
    };
    let sql = format!(
        "SELECT current_setting('server_version_num')::int AS version, current_user AS admin, \
           (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser, {register}, \
           current_setting('max_prepared_transactions')::int AS max_prepared_transactions"
    );
    let mut found = rows(connection, "the server", &sql, |query| query).await?;
    found.pop().ok_or(CollectError::Query { what: "the server", source: sqlx::Error::RowNotFound })
}

pub(super) async fn database(connection: &mut PgConnection, scope: &Scope<'_>) -> Result<DatabaseFacts, CollectError> {
    let sql = format!(
        "SELECT d.datname AS name, {} FROM pg_database AS d WHERE d.datname = current_database()",
        grants("d.datacl", 'd', "d.datdba")
    );
    let mut found = rows(connection, "the database", &sql, |query| query.bind(&scope.roles)).await?;
    found.pop().ok_or(CollectError::Query { what: "the database", source: sqlx::Error::RowNotFound })
}

pub(super) async fn schemas(connection: &mut PgConnection, scope: &Scope<'_>) -> Result<Vec<SchemaFacts>, CollectError> {
    // Only schemas that matter: with schema isolation there are thousands that nobody but their tenant may use.
    let sql = format!(
        "SELECT * FROM (SELECT n.nspname AS name, pg_get_userbyid(n.nspowner) AS owner, {} FROM pg_namespace AS n \
           WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema') AS s \
         WHERE s.name IN ($2, 'guardian') OR s.grants::text <> '[]' ORDER BY s.name",
        grants("n.nspacl", 'n', "n.nspowner")
    );
    rows(connection, "the schemas", &sql, |query| query.bind(&scope.roles).bind(&scope.declaration.schema)).await
}

/// The declared schema.
pub(super) async fn schema(connection: &mut PgConnection, scope: &Scope<'_>) -> Result<SchemaFacts, CollectError> {
    let sql = format!(
        "SELECT n.nspname AS name, pg_get_userbyid(n.nspowner) AS owner, {} FROM pg_namespace AS n WHERE n.nspname = $2",
        grants("n.nspacl", 'n', "n.nspowner")
    );
    let mut found =
        rows(connection, "the schema", &sql, |query| query.bind(&scope.roles).bind(&scope.declaration.schema)).await?;
    found.pop().ok_or(CollectError::Query { what: "the schema", source: sqlx::Error::RowNotFound })
}

pub(super) async fn roles(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    place: &[sqlx::postgres::types::Oid],
) -> Result<Vec<RoleFacts>, CollectError> {
    // From 16 on, a role's creator is a member that may neither use nor become it.
    let member = if scope.version >= 160_000 {
        "pg_has_role(r.oid, 'USAGE') AND pg_has_role(r.oid, 'SET')"
    } else {
        "pg_has_role(r.oid, 'USAGE')"
    };
    let sql = format!(
        "SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypasses_rls, r.rolcreaterole AS creates_roles, \
           r.rolcreatedb AS creates_databases, r.rolreplication AS replicates, r.rolcanlogin AS logs_in, \
           o.oid IS NOT NULL AS owns_tables, {member} AS admin_is_member \
         FROM pg_roles AS r LEFT JOIN (SELECT DISTINCT relowner AS oid FROM pg_class \
             WHERE oid = ANY ($2::oid[]) AND relkind IN ('r', 'p')) AS o ON o.oid = r.oid \
         WHERE r.rolname = ANY ($1::text[]) OR r.rolname = $3 OR r.rolsuper OR r.rolbypassrls OR r.rolreplication OR o.oid IS NOT NULL \
         ORDER BY r.rolname"
    );
    let existing = scope.declaration.adoption.as_ref().map(|adoption| adoption.existing_role.as_str());
    rows(connection, "the roles", &sql, |query| query.bind(&scope.roles).bind(place).bind(existing)).await
}

pub(super) async fn memberships(connection: &mut PgConnection, scope: &Scope<'_>) -> Result<Vec<Membership>, CollectError> {
    // What the application's roles hold, and who holds those that nobody should. Who holds `…_app` is left out: each session
    // opened by a ticket is a role of its own there. So is each session that came through the door, in the last two.
    let sql = "WITH ours AS (SELECT oid, rolname FROM pg_roles WHERE rolname = ANY ($1::text[])) \
         SELECT DISTINCT g.rolname AS role, m.rolname AS member FROM pg_auth_members AS a \
           JOIN pg_roles AS g ON g.oid = a.roleid JOIN pg_roles AS m ON m.oid = a.member \
         WHERE a.member IN (SELECT oid FROM ours) \
            OR a.roleid IN (SELECT oid FROM ours WHERE rolname <> ($1::text[])[1]) AND m.rolname <> current_user \
              AND NOT (g.rolname = ANY (($1::text[])[5:6]) AND m.rolname ~ '^door_[0-7][0-9a-hjkmnp-tv-z]{25}$') \
         ORDER BY 1, 2";
    rows(connection, "the memberships", sql, |query| query.bind(&scope.roles)).await
}

pub(super) async fn role_settings(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
) -> Result<Vec<RoleSetting>, CollectError> {
    let sql = "SELECT r.rolname AS role, d.datname AS database, setting \
         FROM pg_db_role_setting AS s JOIN pg_roles AS r ON r.oid = s.setrole \
           LEFT JOIN pg_database AS d ON d.oid = s.setdatabase, unnest(s.setconfig) AS setting \
         WHERE r.rolname = ANY ($1::text[]) AND (s.setdatabase = 0 OR d.datname = current_database()) ORDER BY 1, 2, 3";
    rows(connection, "the roles' settings", sql, |query| query.bind(&scope.roles)).await
}

pub(super) async fn owned_by_application(connection: &mut PgConnection, scope: &Scope<'_>) -> Result<i64, CollectError> {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid \
         WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname = ($1::text[])[1] AND d.deptype = 'o' \
           AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))",
    )
    .bind(&scope.roles)
    .fetch_one(connection)
    .await
    .map_err(|source| CollectError::Query { what: "what the application's role owns", source })
}
