//! A tenant's role: it owns nothing, logs in only when told so, and lives within its tier's limits.
//!
//! The connection is to any database of the role's cluster; roles belong to all of them. Passwords come as SCRAM
//! verifiers, so that no SQL text holds one.

use std::time::Duration;

use guardian_model::{ClusterName, Limits};
use guardian_postgres::{
    connect::Clusters,
    quote::{ident, literal},
};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use crate::error::{ProvisionError, execute, failed};

/// Powers that a tenant's role must not have.
pub(crate) const POWERLESS: &str = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";
/// How long sessions get to end after they were terminated.
const TERMINATION_WAIT: Duration = Duration::from_secs(10);

/// What a role is held to. Its sessions may tighten or loosen the timeouts: they stop mistakes, not attacks.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// The tier's limits.
    pub limits: &'a Limits,
    /// The schema that unqualified names mean.
    pub schema: &'a str,
}

/// Makes the role, not able to log in, or brings an existing one to the same state.
pub async fn ensure(
    connection: &mut PgConnection,
    role: &str,
    verifier: &str,
    bounds: Bounds<'_>,
) -> Result<(), ProvisionError> {
    let name = ident(role);
    let found: Option<bool> = sqlx::query_scalar(
        "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls \
         FROM pg_catalog.pg_roles WHERE rolname = $1",
    )
    .bind(role)
    .fetch_optional(&mut *connection)
    .await
    .map_err(failed("look for role", role))?;
    let password = literal(verifier);
    let make = match found {
        None => format!("CREATE ROLE {name} NOLOGIN NOINHERIT {POWERLESS} PASSWORD {password}"),
        Some(true) => format!("ALTER ROLE {name} NOLOGIN NOINHERIT {POWERLESS} PASSWORD {password}"),
        // Naming those powers, even to deny them, asks more of the administrator than it may have.
        Some(false) => format!("ALTER ROLE {name} NOLOGIN NOINHERIT PASSWORD {password}"),
    };
    let adopt = adopt(connection, &name).await?;
    execute(connection, "create role", role, format!("{make}; {}{adopt}", settings(&name, bounds))).await
}

/// Holds an existing role to other bounds; its running sessions keep the old ones.
pub async fn bound(connection: &mut PgConnection, role: &str, bounds: Bounds<'_>) -> Result<(), ProvisionError> {
    execute(connection, "set the limits of role", role, settings(&ident(role), bounds)).await
}

/// The statements that hold a role, given as a quoted name, to its bounds.
pub(crate) fn settings(name: &str, bounds: Bounds<'_>) -> String {
    let Limits { server_connections_max, statement_ms_max, idle_in_transaction_ms_max, lock_wait_ms_max, .. } =
        bounds.limits;
    let connections = i32::try_from(*server_connections_max).unwrap_or(i32::MAX);
    // pg_temp last: else a temporary table would hide one of the application's.
    let search_path = format!("{}, pg_temp", ident(bounds.schema));
    [
        format!("ALTER ROLE {name} CONNECTION LIMIT {connections}"),
        format!("ALTER ROLE {name} SET search_path = {search_path}"),
        format!("ALTER ROLE {name} SET statement_timeout = {}", milliseconds(*statement_ms_max)),
        format!("ALTER ROLE {name} SET idle_in_transaction_session_timeout = {}", milliseconds(*idle_in_transaction_ms_max)),
        format!("ALTER ROLE {name} SET lock_timeout = {}", milliseconds(*lock_wait_ms_max)),
    ]
    .join("; ")
}

/// PostgreSQL keeps these in an int.
fn milliseconds(value: u32) -> u32 {
    value.min(i32::MAX.unsigned_abs())
}

/// Gives an existing role its password, as a verifier.
pub async fn set_password(connection: &mut PgConnection, role: &str, verifier: &str) -> Result<(), ProvisionError> {
    let sql = format!("ALTER ROLE {} PASSWORD {}", ident(role), literal(verifier));
    execute(connection, "set the password of role", role, sql).await
}

/// Lets the role log in.
pub async fn allow_login(connection: &mut PgConnection, role: &str) -> Result<(), ProvisionError> {
    execute(connection, "allow the login of role", role, format!("ALTER ROLE {} LOGIN", ident(role))).await
}

/// Forbids the role to log in and ends its sessions. No such role is fine. Tickets made from it are [`crate::ticket`]'s.
pub async fn deny_login(connection: &mut PgConnection, role: &str) -> Result<(), ProvisionError> {
    if !exists(connection, role).await? {
        return Ok(());
    }
    execute(connection, "forbid the login of role", role, format!("ALTER ROLE {} NOLOGIN", ident(role))).await?;
    end_sessions(connection, role).await
}

/// Ends every session of a role that can no longer log in.
pub(crate) async fn end_sessions(connection: &mut PgConnection, role: &str) -> Result<(), ProvisionError> {
    const TERMINATE: &str = "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) \
                             FROM pg_catalog.pg_stat_activity WHERE usename = $1 AND pid <> pg_catalog.pg_backend_pid()";
    let begun = Instant::now();
    // A login that was checked just before it was forbidden shows up in the second look.
    let mut quiet = 0;
    loop {
        let sessions: i64 = sqlx::query_scalar(TERMINATE)
            .bind(role)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("end the sessions of role", role))?;
        quiet = if sessions == 0 { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(());
        }
        if begun.elapsed() > TERMINATION_WAIT {
            return Err(ProvisionError::SessionsRemain {
                role: role.to_owned(),
                sessions,
                waited_s: TERMINATION_WAIT.as_secs(),
            });
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Ends the role's sessions and drops it, with what it was granted or owns in every database of its cluster.
/// `connection` is to any of them.
pub async fn remove(
    clusters: &Clusters,
    cluster: &ClusterName,
    connection: &mut PgConnection,
    role: &str,
) -> Result<(), ProvisionError> {
    if !exists(connection, role).await? {
        return Ok(());
    }
    deny_login(connection, role).await?;
    let databases: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT d.datname::text FROM pg_catalog.pg_shdepend s \
         JOIN pg_catalog.pg_database d ON d.oid = s.dbid AND d.datallowconn AND d.datconnlimit <> -2 \
         WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass \
           AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1) \
           AND d.datname <> pg_catalog.current_database()",
    )
    .bind(role)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed("look for what depends on role", role))?;
    for database in &databases {
        let mut other = clusters.connect(cluster, database).await?;
        disown(&mut other, role).await?;
    }
    disown(connection, role).await?;
    execute(connection, "drop role", role, format!("DROP ROLE IF EXISTS {}", ident(role))).await
}

/// Takes from the role what it has in the connection's database, and its rights on databases. No such role is fine.
pub async fn disown(connection: &mut PgConnection, role: &str) -> Result<(), ProvisionError> {
    if !exists(connection, role).await? {
        return Ok(());
    }
    execute(connection, "take everything from role", role, format!("DROP OWNED BY {} CASCADE", ident(role))).await
}

/// What to append to the making of a role, given as a quoted name: an administrator that is no superuser may end its
/// sessions, and take away what it owns, only as its member.
pub(crate) async fn adopt(connection: &mut PgConnection, name: &str) -> Result<String, ProvisionError> {
    let superuser: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
        .fetch_one(connection)
        .await
        .map_err(failed("look at the rights of", "the administrator"))?;
    Ok(if superuser { String::new() } else { format!("; GRANT {name} TO CURRENT_USER") })
}

/// Whether there is such a role.
pub async fn exists(connection: &mut PgConnection, role: &str) -> Result<bool, ProvisionError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(connection)
        .await
        .map_err(failed("look for role", role))
}
