//! Roles that live for one session: `guardian psql` logs in as one, and it is dropped when it has expired.

use std::time::Duration;

use guardian_model::{ClusterName, TicketId};
use guardian_postgres::{connect::Clusters, quote::ident};
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    error::ProvisionError,
    role::{self, Bounds},
    session_role::{self, SessionRole},
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
pub async fn create(connection: &mut PgConnection, terms: &Terms<'_>) -> Result<Timestamp, ProvisionError> {
    let role = terms.ticket.to_string();
    let settings = role::settings(&ident(&role), terms.bounds);
    let Terms { parent, verifier, valid, .. } = *terms;
    session_role::create(connection, SessionRole { name: &role, parent, verifier, valid, settings }).await
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
    let in_use = session_role::is_in_use(connection, ticket).await?;
    if !in_use {
        end(clusters, cluster, connection, ticket).await?;
    }
    Ok(!in_use)
}
