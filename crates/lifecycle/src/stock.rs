//! Keeps prepared databases in stock on every cluster that `guardian.toml` wants some on.
//!
//! Of all processes on one control database one at a time does so for a cluster; what there is, the cluster itself says.

use std::time::Duration;

use guardian_model::ClusterName;
use guardian_provision::{MAINTENANCE_DATABASE, Warm, warm::Restocked};
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    Lifecycle, LifecycleError,
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
                    Ok(Restocked { made: 0, dropped: 0, .. }) => {}
                    Ok(Restocked { made, dropped, .. }) => {
                        tracing::info!(cluster.name = %cluster, made, dropped, "prepared databases restocked");
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

    /// Looks once after the prepared databases of a cluster.
    pub async fn restock(&self, cluster: &ClusterName, wanted: usize) -> Result<Restocked, LifecycleError> {
        let steps = &self.engine.steps;
        let migrations = steps.read_migrations().await.map_err(StepError::from)?;
        let warm = Warm::new(&steps.config.application.name, &migrations);
        Ok(warm.restock(&steps.clusters, cluster, &migrations, wanted).await.map_err(StepError::from)?)
    }

    /// How many prepared databases of the present version a cluster has.
    pub async fn stock(&self, cluster: &ClusterName) -> Result<usize, LifecycleError> {
        let steps = &self.engine.steps;
        let mut connection = steps.clusters.connect(cluster, MAINTENANCE_DATABASE).await.map_err(StepError::from)?;
        let counted = steps.warm().await?.count(&mut connection).await;
        connection.close().await.ok();
        Ok(counted.map_err(StepError::from)?)
    }
}

impl Steps {
    /// Makes a tenant's database, out of the stock where the cluster has one.
    pub(crate) async fn ensure_database(
        &self,
        maintenance: &mut PgConnection,
        cluster: &ClusterName,
        database: &str,
    ) -> Result<(), StepError> {
        let has_stock = self.config.clusters.get(cluster).is_some_and(|cluster| cluster.warm_databases.is_some());
        if !has_stock {
            return Ok(guardian_provision::database::ensure(maintenance, database).await?);
        }
        self.warm().await?.ensure(maintenance, database).await?;
        self.taken.notify_one();
        Ok(())
    }

    async fn warm(&self) -> Result<Warm, StepError> {
        Ok(Warm::new(&self.config.application.name, &self.read_migrations().await?))
    }
}
