//! Login roles that live for one session, whatever it is for.

use std::time::Duration;

use guardian_postgres::quote::{ident, literal};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    error::{ProvisionError, execute, failed},
    role,
};

/// A role to be made.
pub(crate) struct SessionRole<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// The role whose rights it has.
    pub(crate) parent: &'a str,
    /// Its password, as a verifier.
    pub(crate) verifier: &'a str,
    /// How long the password works.
    pub(crate) valid: Duration,
    /// Statements about its settings.
    pub(crate) settings: String,
}

/// Makes the role, whose password stops working at the instant returned.
///
/// The instant is the server's own, so that a clock that is off here opens or shuts nothing.
pub(crate) async fn create(connection: &mut PgConnection, role: SessionRole<'_>) -> Result<Timestamp, ProvisionError> {
    let SessionRole { name: role, parent, verifier, valid, settings } = role;
    let (until, until_us): (String, i64) = sqlx::query_as(
        "SELECT until::text, (pg_catalog.date_part('epoch', until) * 1000000)::bigint \
         FROM (SELECT pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $1) AS until) AS clock",
    )
    .bind(valid.as_secs_f64())
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("read the clock for role", role))?;
    let name = ident(role);
    // The settings may name a limit of their own.
    let sql = format!(
        "CREATE ROLE {name} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
         PASSWORD {} VALID UNTIL {} IN ROLE {}; {settings}; ALTER ROLE {name} CONNECTION LIMIT 1",
        literal(verifier),
        literal(&until),
        ident(parent)
    );
    let sql = sql + role::adopt(connection, &name).await?.as_str();
    execute(connection, "create role", role, sql).await?;
    Ok(Timestamp::from_microsecond(until_us).unwrap_or(Timestamp::MAX))
}

/// Whether its session runs.
pub(crate) async fn is_in_use(connection: &mut PgConnection, role: &str) -> Result<bool, ProvisionError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE usename = $1)")
        .bind(role)
        .fetch_one(connection)
        .await
        .map_err(failed("look for sessions of role", role))
}
