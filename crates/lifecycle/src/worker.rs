//! The workers of one process: they take up operations that are due, whoever began them.
//!
//! `LISTEN` wakes them at once, and polling finds what no notification tells: leases that ended, retries and waits that are
//! over. Beside them runs the removal of expired tickets, doors, logins of migration tools and idempotency keys.

use std::{collections::HashMap, sync::Arc, time::Duration};

use guardian_model::ClusterName;
use guardian_provision::{MAINTENANCE_DATABASE, ticket};
use guardian_store::{IssuedTicket, StoreError, Wakeups};
use sqlx::PgConnection;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::Lifecycle;

/// Operations of one process at once.
const OPERATIONS_MAX: usize = 8;
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a ticket whose session still runs is left alone.
const TICKET_POSTPONED_S: u32 = 60;

impl Lifecycle {
    /// Works until told to stop, and then until every operation at hand has ended its step and was given back.
    pub async fn work(self, stop: CancellationToken) {
        // Inline work of requests stops with the workers.
        let halt = self.engine.stop.clone();
        tokio::join!(self.take_up(&stop), self.housekeep(&stop), self.keep_stock(&stop), async {
            stop.cancelled().await;
            halt.cancel();
        });
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn take_up(&self, stop: &CancellationToken) {
        let free = Arc::new(Semaphore::new(OPERATIONS_MAX));
        let mut wakeups = None;
        while !stop.is_cancelled() {
            let slot = tokio::select! {
                slot = Arc::clone(&free).acquire_owned() => slot.expect("the semaphore is never closed"),
                () = stop.cancelled() => return,
            };
            let claimed_at = Instant::now();
            match self.engine.store.claim_next(&self.engine.lease).await {
                Ok(Some(claim)) => {
                    let lifecycle = self.clone();
                    self.tasks.spawn(async move {
                        lifecycle.run(claim, claimed_at, None).await;
                        drop(slot);
                    });
                }
                Ok(None) => {
                    drop(slot);
                    self.wait(&mut wakeups, stop).await;
                }
                Err(error) => {
                    drop(slot);
                    tracing::warn!(%error, "cannot look for operations; trying again");
                    wakeups = None;
                    pause(POLL_INTERVAL, stop).await;
                }
            }
        }
    }

    /// Waits for a notification, the next poll or the end.
    async fn wait(&self, wakeups: &mut Option<Wakeups>, stop: &CancellationToken) {
        if wakeups.is_none() {
            *wakeups = self.engine.store.wakeups().await.ok();
        }
        let heard = async {
            match wakeups.as_mut() {
                Some(wakeups) => wakeups.next().await,
                None => std::future::pending().await,
            }
        };
        let lost = tokio::select! {
            heard = heard => heard.is_err(),
            () = pause(POLL_INTERVAL, stop) => false,
        };
        if lost {
            *wakeups = None;
        }
    }

    async fn housekeep(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.reap_tickets().await {
                tracing::warn!(%error, "cannot remove expired tickets; trying again");
            }
            if let Err(error) = self.shut_doors().await {
                tracing::warn!(%error, "cannot look after open doors; trying again");
            }
            if let Err(error) = self.reap_tool_logins().await {
                tracing::warn!(%error, "cannot look after logins of migration tools; trying again");
            }
            if let Err(error) = self.engine.store.forget_expired().await {
                tracing::warn!(%error, "cannot forget old idempotency keys; trying again");
            }
            pause(HOUSEKEEPING_INTERVAL, stop).await;
        }
    }

    /// Drops the roles of tickets that have expired and are not in use.
    async fn reap_tickets(&self) -> Result<(), StoreError> {
        // `None` for a cluster that has just failed: its other tickets need not wait for it as well.
        let mut connections: HashMap<ClusterName, Option<PgConnection>> = HashMap::new();
        for IssuedTicket { id, cluster, role, .. } in self.engine.store.expired_tickets().await? {
            if !connections.contains_key(&cluster) {
                let connected = self.engine.steps.clusters.connect(&cluster, MAINTENANCE_DATABASE).await;
                let connection =
                    connected.inspect_err(|error| tracing::warn!(%error, "cannot drop expired tickets yet")).ok();
                connections.insert(cluster.clone(), connection);
            }
            let connection = connections.get_mut(&cluster).and_then(Option::as_mut);
            let reaped = match connection {
                Some(connection) => ticket::reap(&self.engine.steps.clusters, &cluster, connection, &role).await,
                None => Ok(false),
            };
            let gone = reaped.unwrap_or_else(|error| {
                tracing::warn!(ticket.id = %id, %error, "cannot drop an expired ticket yet");
                connections.insert(cluster, None);
                false
            });
            if gone {
                self.engine.store.forget_ticket(id).await?;
            } else {
                self.engine.store.postpone_ticket(id, TICKET_POSTPONED_S).await?;
            }
        }
        Ok(())
    }
}

async fn pause(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}
