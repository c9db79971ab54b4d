//! Roles of the cross-tenant door: each lives for one session, and is dropped with it.

use std::time::Duration;

use guardian_model::{ClusterName, DoorId};
use guardian_postgres::{
    connect::Clusters,
    quote::{ident, literal},
};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    error::{ProvisionError, execute, failed},
    role,
};

/// How long a transaction may stand still: it keeps the server from cleaning up behind every tenant.
const IDLE_IN_TRANSACTION: Duration = Duration::from_mins(10);
/// How long a statement waits for a lock: whoever waits longer makes tenants wait behind it.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A door's role to be made.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Names it.
    pub door: DoorId,
    /// `…_door` or `…_door_write`, whose rights it has.
    pub parent: &'a str,
    /// Its password, as a verifier.
    pub verifier: &'a str,
    /// How long the password works.
    pub valid: Duration,
    /// How long the session may last.
    pub lasts: Duration,
    /// Whether it may write.
    pub write: bool,
    /// What unqualified names mean.
    pub schema: &'a str,
}

/// Whether `apply` has made the role that those of the door are members of.
pub async fn has_parent(connection: &mut PgConnection, parent: &str) -> Result<bool, ProvisionError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)")
        .bind(parent)
        .fetch_one(connection)
        .await
        .map_err(failed("look for role", parent))
}

/// Makes a login role for one session. Returns when its password stops working and when the session is to be ended, by the
/// server's clock.
///
/// Read-only is what its rights say; the setting only makes for better errors. The limits on time stop mistakes: a session may
/// change them, and Guardian ends it in any case.
pub async fn create(connection: &mut PgConnection, terms: &Terms<'_>) -> Result<Timestamp, ProvisionError> {
    let role = terms.door.to_string();
    let (until, until_us): (String, i64) = sqlx::query_as(
        "SELECT until::text, (pg_catalog.date_part('epoch', until) * 1000000)::bigint \
         FROM (SELECT pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $1) AS until) AS clock",
    )
    .bind(terms.valid.as_secs_f64())
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("read the clock for door", role.clone()))?;
    let name = ident(&role);
    let mut statements = vec![
        format!(
            "CREATE ROLE {name} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
             CONNECTION LIMIT 1 PASSWORD {} VALID UNTIL {} IN ROLE {}",
            literal(terms.verifier),
            literal(&until),
            ident(terms.parent)
        ),
        format!("ALTER ROLE {name} SET search_path = {}, pg_temp", ident(terms.schema)),
        format!("ALTER ROLE {name} SET statement_timeout = {}", terms.lasts.as_millis()),
        format!("ALTER ROLE {name} SET idle_in_transaction_session_timeout = {}", IDLE_IN_TRANSACTION.as_millis()),
        format!("ALTER ROLE {name} SET lock_timeout = {}", LOCK_WAIT.as_millis()),
    ];
    if !terms.write {
        statements.push(format!("ALTER ROLE {name} SET default_transaction_read_only = on"));
    }
    let sql = statements.join("; ") + role::adopt(connection, &name).await?.as_str();
    execute(connection, "create door", &role, sql).await?;
    Ok(Timestamp::from_microsecond(until_us).unwrap_or(Timestamp::MAX))
}

/// Whether a session of the door runs.
pub async fn is_in_use(connection: &mut PgConnection, door: DoorId) -> Result<bool, ProvisionError> {
    let role = door.to_string();
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE usename = $1)")
        .bind(&role)
        .fetch_one(connection)
        .await
        .map_err(failed("look for sessions of door", role))
}

/// Ends the door's session, if any, and drops its role. No such role is fine.
pub async fn shut(
    clusters: &Clusters,
    cluster: &ClusterName,
    connection: &mut PgConnection,
    door: DoorId,
) -> Result<(), ProvisionError> {
    role::remove(clusters, cluster, connection, &door.to_string()).await
}
