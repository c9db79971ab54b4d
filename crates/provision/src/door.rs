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
    error::{ProvisionError, failed},
    role,
    session_role::{self, SessionRole},
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

/// Makes a login role for one session, whose password stops working at the instant returned.
///
/// Read-only is what its rights say; the setting only makes for better errors. The role's comment says until when it sees rows:
/// the policies of the tables ask for it, and the session cannot change it. The limits on time stop mistakes: a session may
/// change them, and Guardian ends it in any case.
pub async fn create(connection: &mut PgConnection, terms: &Terms<'_>) -> Result<Timestamp, ProvisionError> {
    let role = terms.door.to_string();
    let name = ident(&role);
    // By the server's own clock, which the policies read again.
    let until: String = sqlx::query_scalar(
        "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $1))::text",
    )
    .bind(terms.lasts.as_secs_f64())
    .fetch_one(&mut *connection)
    .await
    .map_err(failed("read the clock for role", &role))?;
    let mut settings = vec![
        format!("COMMENT ON ROLE {name} IS {}", literal(&until)),
        format!("ALTER ROLE {name} SET search_path = {}, pg_temp", ident(terms.schema)),
        format!("ALTER ROLE {name} SET statement_timeout = {}", terms.lasts.as_millis()),
        format!("ALTER ROLE {name} SET idle_in_transaction_session_timeout = {}", IDLE_IN_TRANSACTION.as_millis()),
        format!("ALTER ROLE {name} SET lock_timeout = {}", LOCK_WAIT.as_millis()),
    ];
    if !terms.write {
        settings.push(format!("ALTER ROLE {name} SET default_transaction_read_only = on"));
    }
    let Terms { parent, verifier, valid, .. } = *terms;
    let settings = settings.join("; ");
    session_role::create(connection, SessionRole { name: &role, parent, verifier, valid, settings }).await
}

/// Whether a session of the door runs.
pub async fn is_in_use(connection: &mut PgConnection, door: DoorId) -> Result<bool, ProvisionError> {
    session_role::is_in_use(connection, &door.to_string()).await
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
