//! New capabilities and passwords in force: on the users' servers first, where the old ones open nothing from that moment on,
//! then in Guardian's own database. In between gateways find the old one refused and use the next, which they were told.

use std::collections::BTreeMap;

use guardian_model::{Capability, Place, TenantId, TenantKey, api::SecretKind};
use guardian_postgres::{
    registry::{self, Replacement},
    scram,
};
use guardian_provision::{MAINTENANCE_DATABASE, lock, role};
use guardian_store::{Renewal, Renewed, RunClaim, RunClaimError};
use sqlx::{Connection as _, PgConnection};

use crate::{Lifecycle, LifecycleError, step::StepError};

impl Lifecycle {
    /// Puts the next secrets of these tenants in force and in the place of the present ones; says of how many. To be called
    /// by whoever holds the run, once the gateways know them. Doing it again does no harm.
    pub async fn put_in_force(&self, run: &RunClaim, renewal: Renewal, batch: &[Renewed]) -> Result<u64, LifecycleError> {
        let done = match renewal.kind {
            SecretKind::Capabilities => self.put_capabilities_in_force(run, renewal, batch).await,
            SecretKind::Passwords => self.put_passwords_in_force(run, renewal, batch).await,
        };
        Ok(done?)
    }

    async fn put_capabilities_in_force(
        &self,
        run: &RunClaim,
        renewal: Renewal,
        batch: &[Renewed],
    ) -> Result<u64, StepError> {
        for (place, replacements) in self.by_place(batch, |renewed, key| {
            let (old, new) = (renewed.now.capability.clone()?, renewed.next.capability.clone()?);
            Some(Replacement { key, old, new })
        })? {
            let mut connection = self.connect(&place).await?;
            let mut transaction = connection.begin().await.map_err(failed(&place))?;
            registry::keep_others_out(&mut transaction).await?;
            // A process that was held up for longer than its lease must not put back what another one has replaced since.
            self.confirm(run).await?;
            registry::replace(&mut transaction, &replacements).await?;
            transaction.commit().await.map_err(failed(&place))?;
        }
        let ids: Vec<TenantId> = batch.iter().map(|renewed| renewed.tenant.id).collect();
        Ok(self.engine.store.take_over_secrets(run, renewal, &ids).await?)
    }

    async fn put_passwords_in_force(&self, run: &RunClaim, renewal: Renewal, batch: &[Renewed]) -> Result<u64, StepError> {
        let store = &self.engine.store;
        let mut connections: BTreeMap<_, PgConnection> = BTreeMap::new();
        let mut taken = 0;
        for Renewed { tenant, .. } in batch {
            let cluster = &tenant.placement.place.cluster;
            if !connections.contains_key(cluster) {
                let connected = self.engine.steps.clusters.connect(cluster, MAINTENANCE_DATABASE).await?;
                connections.insert(cluster.clone(), connected);
            }
            let Some(connection) = connections.get_mut(cluster) else { continue };
            // Its lifecycle and whoever puts a role right wait here, and read the password behind it.
            lock::hold(connection, &tenant.id.to_string()).await?;
            self.confirm(run).await?;
            let one = Renewal { only: Some(tenant.id), ..renewal };
            let pending = store.renewed_tenants(one, true, None).await?.pop();
            if let Some(password) = pending.and_then(|renewed| renewed.next.password) {
                // One that is being deleted has no role any more.
                if role::exists(connection, &tenant.placement.role).await? {
                    role::set_password(connection, &tenant.placement.role, &scram::verifier(&password)).await?;
                }
                taken += store.take_over_secrets(run, one, &[tenant.id]).await?;
            }
            lock::release_all(connection).await?;
        }
        Ok(taken)
    }

    /// Makes sure that the capabilities that Guardian keeps, and no others, enter these tenants; says how many did not. An
    /// operation that was under way may have put an old one back.
    pub async fn hold_to_capabilities(&self, run: &RunClaim, batch: &[Renewed]) -> Result<u64, LifecycleError> {
        Ok(self.hold_to(run, batch).await?)
    }

    async fn hold_to(&self, run: &RunClaim, batch: &[Renewed]) -> Result<u64, StepError> {
        let mut mended = 0;
        let by_place = self.by_place(batch, |renewed, key| Some((key, renewed.now.capability.clone()?)))?;
        for (place, _) in by_place {
            let mut connection = self.connect(&place).await?;
            let mut transaction = connection.begin().await.map_err(failed(&place))?;
            registry::keep_others_out(&mut transaction).await?;
            self.confirm(run).await?;
            // Read again behind the lock.
            let mut kept: Vec<(TenantKey, Capability)> = Vec::new();
            for renewed in batch.iter().filter(|renewed| renewed.tenant.placement.place == place) {
                let secrets = self.engine.store.secrets(renewed.tenant.id).await?;
                let key = self.engine.steps.key(&renewed.tenant.key)?;
                kept.extend(secrets.capability.map(|capability| (key, capability)));
            }
            mended += registry::hold_to(&mut transaction, &kept).await?;
            transaction.commit().await.map_err(failed(&place))?;
        }
        Ok(mended)
    }

    async fn confirm(&self, run: &RunClaim) -> Result<(), StepError> {
        self.engine.store.renew_run(run, &self.engine.lease).await.map_err(|error| match error {
            RunClaimError::Store(error) => StepError::Store(error),
            RunClaimError::Fenced(_) => StepError::Replaced,
        })
    }

    async fn connect(&self, place: &Place) -> Result<PgConnection, StepError> {
        Ok(self.engine.steps.clusters.connect(&place.cluster, &place.database).await?)
    }

    fn by_place<T>(
        &self,
        batch: &[Renewed],
        what: impl Fn(&Renewed, TenantKey) -> Option<T>,
    ) -> Result<Vec<(Place, Vec<T>)>, StepError> {
        let mut places: Vec<(Place, Vec<T>)> = Vec::new();
        for renewed in batch {
            let place = &renewed.tenant.placement.place;
            let Some(one) = what(renewed, self.engine.steps.key(&renewed.tenant.key)?) else { continue };
            match places.iter_mut().find(|(known, _)| known == place) {
                Some((_, ones)) => ones.push(one),
                None => places.push((place.clone(), vec![one])),
            }
        }
        Ok(places)
    }
}

fn failed(place: &Place) -> impl FnOnce(sqlx::Error) -> StepError {
    move |source| StepError::Registry { place: place.to_string(), source }
}
