//! Roles that live for one session: `guardian psql` logs in as one, and it is dropped when it has expired.

use std::time::Duration;

use guardian_model::{ClusterName, TicketId};
use guardian_postgres::{
    connect::Clusters,
    quote::{ident, literal},
};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    error::{ProvisionError, execute, failed},
    role::{self, Bounds},
};

/// A ticket to be made.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Names its role.
    pub ticket: TicketId,
    /// The role whose rights it has.
    pub parent: &'a str,
    /// Its password, as a verifier.
    pub verifier: &'a str,
    /// How long the password works.
    pub valid: Duration,
    /// What its session is held to.
    pub bounds: Bounds<'a>,
}

/// Makes a login role for one session, whose password stops working at the instant returned.
///
/// The instant is the server's own, so that a clock that is off here opens or shuts nothing.
pub async fn create(connection: &mut PgConnection, terms: &Terms<'_>) -> Result<Timestamp, ProvisionError> {
    let role = terms.ticket.to_string();
    let (until, until_us): (String, i64) = sqlx::query_as(
        "SELECT until::text, (pg_catalog.date_part('epoch', until) * 1000000)::bigint \
         FROM (SELECT pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $1) AS until) AS clock",
    )
    .bind(terms.valid.as_secs_f64())
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("read the clock for ticket", role.clone()))?;
    let name = ident(&role);
    let sql = format!(
        "CREATE ROLE {name} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
         PASSWORD {} VALID UNTIL {} IN ROLE {}; {}; ALTER ROLE {name} CONNECTION LIMIT 1",
        literal(terms.verifier),
        literal(&until),
        ident(terms.parent),
        role::settings(&name, terms.bounds),
    );
    let sql = sql + role::adopt(connection, &name).await?.as_str();
    execute(connection, "create ticket", &role, sql).await?;
    Ok(Timestamp::from_microsecond(until_us).unwrap_or(Timestamp::MAX))
}

/// Ends the ticket's session, if any, and drops it with whatever its session left behind: a role may always make default
/// privileges of its own, and those would keep it from being dropped. No such ticket is fine.
pub async fn end(
    clusters: &Clusters,
    cluster: &ClusterName,
    connection: &mut PgConnection,
    ticket: &str,
) -> Result<(), ProvisionError> {
    role::remove(clusters, cluster, connection, ticket).await
}

/// Drops an expired ticket unless its session still runs; says whether it is gone.
pub async fn reap(
    clusters: &Clusters,
    cluster: &ClusterName,
    connection: &mut PgConnection,
    ticket: &str,
) -> Result<bool, ProvisionError> {
    let in_use: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE usename = $1)")
        .bind(ticket)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("look for sessions of ticket", ticket))?;
    if !in_use {
        end(clusters, cluster, connection, ticket).await?;
    }
    Ok(!in_use)
}
