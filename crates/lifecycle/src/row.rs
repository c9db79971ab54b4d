//! The steps of `row` tenants: the registry of capabilities, and their rows in the shared tables.

use guardian_model::{Capability, Place, TenantKey};
use guardian_postgres::registry;
use guardian_provision::rows::{self, SharedTables};
use sqlx::{Connection as _, PgConnection};

use crate::{
    grip::Grip,
    step::{StepError, Steps},
};

impl Steps {
    /// One short statement on a pooled connection, because it is all that the creation of such a tenant waits for.
    pub(crate) async fn admit(&self, place: &Place, key: &str, grip: &Grip<'_>) -> Result<(), StepError> {
        let (key, capability) = (self.key(key)?, capability(grip).await?);
        let pool = self.clusters.pool(&place.cluster, &place.database).await?;
        let mut connection = pool.acquire().await.map_err(failed(place))?;
        grip.confirm_when_old().await?;
        Ok(registry::admit(&mut connection, &key, &capability).await?)
    }

    /// Admits the tenant again, after whatever a predecessor was doing to the opposite effect.
    pub(crate) async fn readmit(&self, place: &Place, key: &str, grip: &Grip<'_>) -> Result<(), StepError> {
        let key = self.key(key)?;
        let mut connection = grip.seize(&place.cluster, &place.database).await?;
        let mut transaction = connection.begin().await.map_err(failed(place))?;
        // Behind the lock: one that is being replaced is either read before and replaced afterwards, or read as the new one.
        registry::keep_others_out(&mut transaction).await?;
        let capability = capability(grip).await?;
        registry::admit(&mut transaction, &key, &capability).await?;
        transaction.commit().await.map_err(failed(place))
    }

    /// Shuts the tenant: no capability, no tickets, no sessions of tickets. Sessions of the application that are in the
    /// tenant's context are the application's to end.
    pub(crate) async fn revoke(&self, place: &Place, key: &str, grip: &Grip<'_>) -> Result<(), StepError> {
        let Some(mut connection) = grip.seize_if_there(place).await? else { return Ok(()) };
        revoke(&mut connection, place, &self.key(key)?).await?;
        self.end_tickets(&mut connection, grip).await
    }

    pub(crate) async fn delete_rows(&self, place: &Place, key: &str, grip: &Grip<'_>) -> Result<(), StepError> {
        let Some(mut connection) = grip.seize_if_there(place).await? else { return Ok(()) };
        let key = self.key(key)?;
        // Somebody may have admitted it by hand meanwhile; rows must not be written while they are being deleted.
        revoke(&mut connection, place, &key).await?;
        self.end_tickets(&mut connection, grip).await?;
        let application = &self.config.application;
        let global: Vec<String> = application.global.keys().cloned().collect();
        let shared = SharedTables { schema: &place.schema, column: &application.tenant_column, global: &global };
        let removed = rows::remove(&mut connection, &shared, &key).await?;
        tracing::info!(tenant.id = %grip.claim.tenant.id, rows = removed, "rows deleted");
        Ok(())
    }
}

async fn capability(grip: &Grip<'_>) -> Result<Capability, StepError> {
    if let Some(capability) = grip.capability {
        return Ok(capability.clone());
    }
    let secrets = grip.store.secrets(grip.claim.tenant.id).await?;
    secrets.capability.ok_or(StepError::SecretMissing("capability"))
}

/// Nothing of a tenant is in a registry that is not there.
async fn revoke(connection: &mut PgConnection, place: &Place, key: &TenantKey) -> Result<(), StepError> {
    if registry::mechanism(connection).await?.is_none() {
        return Ok(());
    }
    let mut transaction = connection.begin().await.map_err(failed(place))?;
    registry::keep_others_out(&mut transaction).await?;
    registry::revoke(&mut transaction, key).await?;
    transaction.commit().await.map_err(failed(place))
}

fn failed(place: &Place) -> impl FnOnce(sqlx::Error) -> StepError {
    move |source| StepError::Registry { place: place.to_string(), source }
}
