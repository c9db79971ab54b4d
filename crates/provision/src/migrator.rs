//! A place's migrator: the role that owns the place's tables when a tool of the user's own migrates it, and its short-lived logins.
//!
//! The administrator is never lent: a migrator can change one place, and nothing else on the cluster. It logs in nowhere; each run of
//! the tool gets a login that becomes the migrator as its session begins, and can itself do nothing.

use std::time::Duration;

use guardian_model::{ClusterName, Place, ToolLoginId};
use guardian_postgres::{
    connect::{Clusters, ConnectError},
    quote::{ident, literal},
};
use sqlx::{Connection as _, PgConnection};

use crate::{
    MAINTENANCE_DATABASE,
    error::{ProvisionError, execute, failed},
    lock, role,
};

/// Sessions of one login at once: a tool has one or two.
const CONNECTIONS_MAX: u8 = 16;
/// How long a statement waits for a lock: whoever waits longer makes tenants wait behind it.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// What the administrator owns in a schema, as the statements that give it away. Parts of an extension, sequences of a column (they
/// follow their table), and functions with their owner's rights stay: those run as whom hardening says.
/// `$1` schema, `$2` the new owner.
const HAND_OVER: &str = "\
    WITH mine AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user), \
    place AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1), \
    held AS ( \
      SELECT c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass AS class, \
        CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' \
          WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, \
        pg_catalog.format('%I.%I', $1, c.relname) AS object \
      FROM pg_catalog.pg_class AS c, mine, place \
      WHERE c.relnamespace = place.oid AND c.relowner = mine.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE c.relkind = 'S' AND d.objid = c.oid \
          AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')) \
      UNION ALL \
      SELECT p.oid, 'pg_catalog.pg_proc'::pg_catalog.regclass, 'ROUTINE', \
        pg_catalog.format('%I.%I(%s)', $1, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) \
      FROM pg_catalog.pg_proc AS p, mine, place \
      WHERE p.pronamespace = place.oid AND p.proowner = mine.oid AND NOT p.prosecdef \
      UNION ALL \
      SELECT t.oid, 'pg_catalog.pg_type'::pg_catalog.regclass, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, \
        pg_catalog.format('%I.%I', $1, t.typname) \
      FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid, mine, place \
      WHERE t.typnamespace = place.oid AND t.typowner = mine.oid \
        AND (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c')) \
    SELECT pg_catalog.format('ALTER %s %s OWNER TO %I', kind, object, $2) FROM held \
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
      WHERE d.classid = held.class AND d.objid = held.oid AND d.deptype = 'e') \
    ORDER BY kind = 'SEQUENCE', object";

/// A table of the schema that is neither the migrator's nor part of an extension, with its owner.
const NOT_ITS_OWN: &str = "\
    SELECT c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class AS c \
    WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1) \
      AND c.relkind IN ('r', 'p', 'f') AND pg_catalog.pg_get_userbyid(c.relowner) <> $2 \
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
        AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY 1 LIMIT 1";

/// What a migrator has beside its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The rows of every tenant: tables under row-level security would show it none.
    Shared,
    /// One schema.
    Schema,
    /// A database that is the place's alone, in which it may make schemas and trusted extensions.
    Database,
}

/// Makes the migrator of a place, and gives it what the administrator owns there. `connection` is to the place's database.
pub async fn ensure(
    connection: &mut PgConnection,
    migrator: &str,
    place: &Place,
    reach: Reach,
) -> Result<(), ProvisionError> {
    let (name, schema) = (ident(migrator), ident(&place.schema));
    let found: Option<bool> =
        sqlx::query_scalar("SELECT rolcanlogin OR rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = $1")
            .bind(migrator)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("look for role", migrator))?;
    match found {
        Some(false) => {}
        // Somebody else's: it must not be turned into ours.
        Some(true) => return Err(ProvisionError::NotAMigrator { role: migrator.to_owned() }),
        None => {
            let beyond_policies = reach == Reach::Shared && may_give_bypass(connection).await?;
            let bypass = if beyond_policies { "BYPASSRLS" } else { "NOBYPASSRLS" };
            let adopt = role::adopt(connection, &name).await?;
            let sql = format!("CREATE ROLE {name} NOLOGIN {bypass}{adopt}");
            execute(connection, "create role", migrator, sql).await?;
        }
    }
    let mut statements = vec![format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {name}")];
    if reach == Reach::Database {
        statements.push(format!("GRANT CREATE ON DATABASE {} TO {name}", ident(&place.database)));
    }
    let held: Vec<String> = sqlx::query_scalar(HAND_OVER)
        .bind(&place.schema)
        .bind(migrator)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("look for what is to be given to", migrator))?;
    statements.extend(held);
    execute(connection, "give the tables of the place to", migrator, statements.join("; ")).await?;
    let foreign: Option<(String, String)> = sqlx::query_as(NOT_ITS_OWN)
        .bind(&place.schema)
        .bind(migrator)
        .fetch_optional(connection)
        .await
        .map_err(failed("look for tables that do not belong to", migrator))?;
    match foreign {
        None => Ok(()),
        Some((table, owner)) => {
            let table = format!("{schema}.{}", ident(&table));
            Err(ProvisionError::ForeignTable { table, owner, migrator: migrator.to_owned() })
        }
    }
}

/// Whether the administrator can lift a role out of row-level security: before 16, only a superuser can.
async fn may_give_bypass(connection: &mut PgConnection) -> Result<bool, ProvisionError> {
    sqlx::query_scalar(
        "SELECT rolsuper OR rolbypassrls AND pg_catalog.current_setting('server_version_num')::int >= 160000 \
         FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    .fetch_one(connection)
    .await
    .map_err(failed("look at the rights of", "the administrator"))
}

/// Makes a login that becomes the migrator as its session begins. Its password opens sessions until it is renewed no more.
pub async fn open(
    connection: &mut PgConnection,
    login: ToolLoginId,
    migrator: &str,
    verifier: &str,
    lasts: Duration,
    place: &Place,
) -> Result<(), ProvisionError> {
    let (login, migrator) = (login.to_string(), ident(migrator));
    let (name, until) = (ident(&login), until(connection, &login, lasts).await?);
    // NOINHERIT: whoever leaves the migrator's role (RESET ROLE comes back to it) can do nothing, so nothing is ever the login's own.
    let sql = format!(
        "CREATE ROLE {name} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
         CONNECTION LIMIT {CONNECTIONS_MAX} PASSWORD {} VALID UNTIL {} IN ROLE {migrator}; \
         GRANT CONNECT ON DATABASE {} TO {name}; \
         ALTER ROLE {name} SET role = {migrator}; ALTER ROLE {name} SET search_path = {}; \
         ALTER ROLE {name} SET lock_timeout = {}; ALTER ROLE {name} SET statement_timeout = 0",
        literal(verifier),
        literal(&until),
        ident(&place.database),
        ident(&place.schema),
        LOCK_WAIT.as_millis(),
    );
    let sql = sql + role::adopt(connection, &name).await?.as_str();
    execute(connection, "create login", &login, sql).await
}

/// Lets a login's password work for so long from now on.
pub async fn renew(connection: &mut PgConnection, login: ToolLoginId, lasts: Duration) -> Result<(), ProvisionError> {
    let login = login.to_string();
    let until = until(connection, &login, lasts).await?;
    let sql = format!("ALTER ROLE {} VALID UNTIL {}", ident(&login), literal(&until));
    execute(connection, "renew login", &login, sql).await
}

/// By the server's own clock: one that is off here opens or shuts nothing.
async fn until(connection: &mut PgConnection, login: &str, lasts: Duration) -> Result<String, ProvisionError> {
    sqlx::query_scalar("SELECT (pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $1))::text")
        .bind(lasts.as_secs_f64())
        .fetch_one(connection)
        .await
        .map_err(failed("read the clock for login", login))
}

/// Ends the login's sessions, whatever they do, and drops it. No such login is fine, and so is no such database.
pub async fn close(clusters: &Clusters, place: &Place, login: ToolLoginId) -> Result<(), ProvisionError> {
    let mut connection = match clusters.connect(&place.cluster, &place.database).await {
        Ok(mut connection) => {
            // Dropping it takes back its right on the database, which two sessions may not do at once.
            lock::hold(&mut connection, &format!("database {}", place.database)).await?;
            connection
        }
        Err(error) if is_absent(&error) => clusters.connect(&place.cluster, MAINTENANCE_DATABASE).await?,
        Err(error) => return Err(error.into()),
    };
    role::remove(clusters, &place.cluster, &mut connection, &login.to_string()).await?;
    connection.close().await.ok();
    Ok(())
}

/// Drops a migrator, after the place that it belonged to. No such role is fine.
pub async fn remove(
    clusters: &Clusters,
    cluster: &ClusterName,
    connection: &mut PgConnection,
    migrator: &str,
) -> Result<(), ProvisionError> {
    role::remove(clusters, cluster, connection, migrator).await
}

/// Whether the server is there but the database is not.
fn is_absent(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Refused { source, .. }
        if source.as_database_error().is_some_and(|error| error.code().as_deref() == Some("3D000")))
}
