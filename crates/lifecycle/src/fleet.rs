//! The application's migrations, after a tenant was created: in the shared place, and in a place of a tenant's own.
//!
//! One place at a time; which ones, how many at once, and the record of the run are the caller's.

use guardian_model::Tenant;
use guardian_provision::{MAINTENANCE_DATABASE, database, lock, schema};
use sqlx::Connection as _;

use crate::{Lifecycle, LifecycleError, step::StepError};

impl Lifecycle {
    /// Brings the shared place to the newest migration and names the files that ran. Its database and schema are made when
    /// they are missing. What is new in it is out of the application's reach until it is hardened.
    pub async fn migrate_shared(&self) -> Result<Vec<String>, LifecycleError> {
        let steps = &self.engine.steps;
        let place = steps.config.shared_place();
        let mut maintenance = steps.clusters.connect(&place.cluster, MAINTENANCE_DATABASE).await.map_err(StepError::from)?;
        lock::hold(&mut maintenance, &format!("database {}", place.database)).await.map_err(StepError::from)?;
        database::ensure_shared(&mut maintenance, &place.database).await.map_err(StepError::from)?;
        maintenance.close().await.ok();
        let mut connection = steps.clusters.connect(&place.cluster, &place.database).await.map_err(StepError::from)?;
        if place.schema != "public" {
            schema::ensure(&mut connection, &place.schema).await.map_err(StepError::from)?;
        }
        let applied = steps.migrate(&mut connection, &place).await?;
        connection.close().await.ok();
        Ok(applied)
    }

    /// Brings the place of a tenant's own to the newest migration, grants its role what is new, and names the files that
    /// ran. Takes turns with operations on the tenant.
    pub async fn migrate_tenant(&self, tenant: &Tenant) -> Result<Vec<String>, LifecycleError> {
        let (steps, place) = (&self.engine.steps, &tenant.placement.place);
        let mut connection = steps.clusters.connect(&place.cluster, &place.database).await.map_err(StepError::from)?;
        lock::hold(&mut connection, &tenant.id.to_string()).await.map_err(StepError::from)?;
        let applied = steps.migrate(&mut connection, place).await?;
        let key = steps.key(&tenant.key)?;
        steps.grant(&mut connection, place, &tenant.placement.role, &key).await?;
        connection.close().await.ok();
        Ok(applied)
    }
}
