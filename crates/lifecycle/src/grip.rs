//! A worker's hold on its operation, and on what the operation changes.
//!
//! The lease says whose an operation is, but a worker that was paused may come back to life in the middle of a statement. So a
//! step takes the tenant's lock in the database where it acts, and only then makes sure that the operation is still its own:
//! whoever takes over waits at the lock until this worker's session is gone.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use guardian_model::{Capability, ClusterName, Place};
use guardian_postgres::connect::{Clusters, ConnectError};
use guardian_provision::lock;
use guardian_store::{Claim, ClaimError, Lease, Store};
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::step::StepError;

/// The hold of a worker on its operation.
pub(crate) struct Grip<'a> {
    pub(crate) store: &'a Store,
    pub(crate) clusters: &'a Clusters,
    pub(crate) lease: &'a Lease,
    pub(crate) claim: &'a Claim,
    /// When the lease was last known to be ours.
    pub(crate) confirmed_at: Instant,
    /// The tenant's capability when it was made just now, which spares reading it back.
    pub(crate) capability: Option<&'a Capability>,
    pub(crate) hands: &'a Hands,
}

impl<'a> Grip<'a> {
    /// A connection that holds the tenant's lock, for an operation that is still ours.
    pub(crate) async fn seize(&self, cluster: &ClusterName, database: &str) -> Result<Hand<'a>, StepError> {
        // One in hand has kept everybody else out since it was confirmed.
        let connection = if let Some(connection) = self.hands.take(cluster, database) {
            connection
        } else {
            let mut connection = self.clusters.connect(cluster, database).await?;
            lock::hold(&mut connection, &self.claim.tenant.id.to_string()).await?;
            self.confirm().await?;
            connection
        };
        let (cluster, database) = (cluster.clone(), database.to_owned());
        Ok(Hand { connection: Some(connection), cluster, database, hands: self.hands })
    }

    /// The same in the place's database, unless there is no such database: then nothing of the tenant is in it.
    pub(crate) async fn seize_if_there(&self, place: &Place) -> Result<Option<Hand<'a>>, StepError> {
        match self.seize(&place.cluster, &place.database).await {
            Err(StepError::Connect(error)) if is_absent(&error) => Ok(None),
            seized => seized.map(Some),
        }
    }

    /// Fails when the operation is in other hands, for a step of one short statement, which need not ask while the lease
    /// is young.
    pub(crate) async fn confirm_when_old(&self) -> Result<(), StepError> {
        if self.confirmed_at.elapsed() < self.lease.duration / 2 { Ok(()) } else { self.confirm().await }
    }

    async fn confirm(&self) -> Result<(), StepError> {
        self.store.renew(self.claim, self.lease).await.map_err(|error| match error {
            ClaimError::Store(error) => StepError::Store(error),
            error => StepError::Lost(error),
        })
    }
}

/// Connections that hold the tenant's lock, kept for the steps to come: connecting costs more than most steps.
#[derive(Default)]
pub(crate) struct Hands(Mutex<Vec<(ClusterName, String, PgConnection)>>);

impl Hands {
    fn take(&self, cluster: &ClusterName, database: &str) -> Option<PgConnection> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = held.iter().position(|(at, name, _)| at == cluster && name == database)?;
        Some(held.swap_remove(index).2)
    }

    /// Closes the connection to a database that is about to be dropped.
    pub(crate) fn release(&self, cluster: &ClusterName, database: &str) {
        drop(self.take(cluster, database));
    }

    /// Closes all, after a failure: their sessions may be in any state.
    pub(crate) fn release_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection out of [`Hands`], which goes back there with the value.
pub(crate) struct Hand<'a> {
    /// `None` only while it is being dropped.
    connection: Option<PgConnection>,
    cluster: ClusterName,
    database: String,
    hands: &'a Hands,
}

impl Deref for Hand<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("a hand holds its connection until it is dropped")
    }
}

impl DerefMut for Hand<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("a hand holds its connection until it is dropped")
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let entry = (self.cluster.clone(), std::mem::take(&mut self.database), connection);
            self.hands.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        }
    }
}

/// Whether the server is there but the database is not.
fn is_absent(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Refused { source, .. }
        if source.as_database_error().is_some_and(|error| error.code().as_deref() == Some("3D000")))
}
