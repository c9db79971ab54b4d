//! Keeps prepared databases in stock on every cluster that `guardian.toml` wants some on. Handing them out is in
//! [`crate::hand_out`].
//!
//! Of all processes on one control database one at a time does so for a cluster; what there is, the cluster itself says.

use std::time::Duration;

use guardian_model::{ClusterName, Isolation, KeyType, Placement, TenantId, TenantKey, TenantState};
use guardian_postgres::{Declaration, scram};
use guardian_provision::{
    MAINTENANCE_DATABASE, Migrations, Warm,
    warm::{Ready, Restocked},
};
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Lifecycle, LifecycleError, secret,
    step::{StepError, Steps},
};

/// How long until the next look when nobody takes a database: migrations may have been added to the folder.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// After one was taken: the tenant that got it shall not compete with the copying of the next.
const LOOK_AFTER_TAKEN: Duration = Duration::from_millis(500);
/// After a failure: a migration that does not go through is not tried all the time.
const LOOK_AFTER_FAILURE: Duration = Duration::from_mins(1);

impl Lifecycle {
    /// Keeps the stock until told to stop.
    pub(crate) async fn keep_stock(&self, stop: &CancellationToken) {
        let steps = &self.engine.steps;
        let wanted = steps.config.clusters.iter().filter_map(|(name, cluster)| Some((name, cluster.warm_databases?)));
        let wanted: Vec<_> = wanted.map(|(name, count)| (name.clone(), usize::from(count))).collect();
        if wanted.is_empty() {
            return;
        }
        while !stop.is_cancelled() {
            let mut pause = LOOK_INTERVAL;
            for (cluster, count) in &wanted {
                let restocked = tokio::select! {
                    restocked = self.restock(cluster, *count) => restocked,
                    () = stop.cancelled() => return,
                };
                match restocked {
                    Ok(Restocked { made: 0, dropped: 0, finished: 0, .. }) => {}
                    Ok(Restocked { made, dropped, finished, .. }) => {
                        tracing::info!(cluster.name = %cluster, made, dropped, finished, "prepared databases restocked");
                    }
                    Err(error) => {
                        tracing::warn!(cluster.name = %cluster, %error, "cannot prepare databases; trying again");
                        pause = LOOK_AFTER_FAILURE;
                    }
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = steps.taken.notified() => sleep(LOOK_AFTER_TAKEN).await,
                () = stop.cancelled() => {}
            }
        }
    }

    /// Looks once after the prepared databases of a cluster: finishes hand-outs that were cut off, drops what is half made,
    /// of another version or too much, and makes what is missing.
    pub async fn restock(&self, cluster: &ClusterName, wanted: usize) -> Result<Restocked, LifecycleError> {
        let steps = &self.engine.steps;
        let migrations = steps.read_migrations().await.map_err(StepError::from)?;
        let warm = steps.warm(&migrations);
        let mut connection = steps.clusters.connect(cluster, MAINTENANCE_DATABASE).await.map_err(StepError::from)?;
        if !warm.try_hold(&mut connection).await.map_err(StepError::from)? {
            connection.close().await.ok();
            return Ok(Restocked { is_elsewhere: true, ..Restocked::default() });
        }
        let mut stock = Shelf { lifecycle: self, cluster, warm, connection, restocked: Restocked::default() };
        let ready = stock.clear(wanted).await?;
        stock.fill(&migrations, wanted.saturating_sub(ready)).await?;
        stock.connection.close().await.ok();
        Ok(stock.restocked)
    }

    /// How many prepared databases of the present version a cluster has.
    pub async fn stock(&self, cluster: &ClusterName) -> Result<usize, LifecycleError> {
        let steps = &self.engine.steps;
        let warm = steps.warm(&steps.read_migrations().await.map_err(StepError::from)?);
        let mut connection = steps.maintenance(cluster).await?;
        Ok(warm.count(&mut connection).await.map_err(StepError::from)?)
    }
}

/// A cluster's stock in the hands of the one process that may change it.
struct Shelf<'a> {
    lifecycle: &'a Lifecycle,
    cluster: &'a ClusterName,
    warm: Warm,
    connection: PgConnection,
    restocked: Restocked,
}

impl Shelf<'_> {
    /// Leaves of what is marked only what can be handed out; says how much that is.
    async fn clear(&mut self, wanted: usize) -> Result<usize, LifecycleError> {
        let clusters = &self.lifecycle.engine.steps.clusters;
        let marked = self.warm.marked(&mut self.connection).await.map_err(StepError::from)?;
        let ids: Vec<TenantId> = marked.iter().map(|prepared| prepared.id).collect();
        let states = self.lifecycle.engine.store.tenant_states(&ids).await?;
        let mut ready = 0;
        for prepared in marked {
            match states.get(&prepared.id) {
                None if prepared.is_ready && ready < wanted => ready += 1,
                // The id of a tenant that is gone is never given again.
                None | Some(TenantState::Deleted) => {
                    let dropped = self.warm.discard(clusters, self.cluster, &mut self.connection, prepared.id).await;
                    self.restocked.dropped += usize::from(dropped.map_err(StepError::from)?);
                }
                Some(TenantState::Active) => {
                    match self.lifecycle.finish_hand_out(self.cluster, prepared.id).await {
                        Ok(finished) => self.restocked.finished += usize::from(finished),
                        // The others need not wait for this one.
                        Err(error) => tracing::warn!(tenant.id = %prepared.id, %error, "cannot finish a hand-out yet"),
                    }
                }
                // Whoever is at work on the tenant sees to its database, or the next look does.
                Some(TenantState::Creating | TenantState::Suspended | TenantState::Deleting) => {}
            }
        }
        self.warm.drop_old_templates(&mut self.connection).await.map_err(StepError::from)?;
        Ok(ready)
    }

    async fn fill(&mut self, migrations: &Migrations, missing: usize) -> Result<(), LifecycleError> {
        let clusters = &self.lifecycle.engine.steps.clusters;
        let made = self.warm.ensure_template(clusters, self.cluster, &mut self.connection, migrations).await;
        made.map_err(StepError::from)?;
        for _ in 0..missing {
            self.make(TenantId::from_uuid(Uuid::now_v7())).await?;
            self.restocked.made += 1;
        }
        Ok(())
    }

    async fn make(&mut self, id: TenantId) -> Result<(), StepError> {
        let steps = &self.lifecycle.engine.steps;
        let application = &steps.config.application;
        let shared = steps.config.shared_place();
        let Placement { place, role, .. } =
            Placement::derive(Isolation::Database, id, &application.name, &shared, self.cluster);
        self.warm.begin(&mut self.connection, id).await?;
        // This also writes the database's cache of catalogs, which its first session has to do.
        let mut inside = steps.clusters.connect(self.cluster, &place.database).await?;
        if let Some(key) = foreseen_key(application.tenant_key, id) {
            steps.grant(&mut inside, &place, &role, &key).await?;
        }
        inside.close().await.ok();
        let password = secret::password();
        let ready = Ready { id, sealed: self.lifecycle.engine.store.seal_password(id, &password)? };
        Ok(self.warm.complete(&mut self.connection, &ready, &scram::verifier(&password)).await?)
    }
}

/// The key that the tenant will have unless it is given one. A prepared database holds the grants and the default for it.
pub(crate) const fn foreseen_key(key_type: KeyType, id: TenantId) -> Option<TenantKey> {
    match key_type {
        KeyType::Uuid => Some(TenantKey::Uuid(id.uuid())),
        KeyType::Bigint | KeyType::Text => None,
    }
}

impl Steps {
    /// Makes a tenant's database, from the template where the cluster has one.
    pub(crate) async fn ensure_database(
        &self,
        maintenance: &mut PgConnection,
        cluster: &ClusterName,
        database: &str,
    ) -> Result<(), StepError> {
        if !self.has_stock(cluster) {
            return Ok(guardian_provision::database::ensure(maintenance, database).await?);
        }
        Ok(self.warm(&self.read_migrations().await?).ensure(maintenance, database).await?)
    }

    /// Whether databases are prepared on the cluster.
    pub(crate) fn has_stock(&self, cluster: &ClusterName) -> bool {
        self.config.clusters.get(cluster).is_some_and(|cluster| cluster.warm_databases.is_some())
    }

    pub(crate) fn warm(&self, migrations: &Migrations) -> Warm {
        // The grants depend on the declaration, and on how this Guardian makes them.
        let more = format!("{} {:?}", env!("CARGO_PKG_VERSION"), Declaration::from(self.config.as_ref()));
        Warm::new(&self.config.application.name, migrations, &more)
    }
}
