//! A tenant out of the stock: its database and its role are there, and all that is left is to record it and to open the door.
//!
//! The transaction on the cluster that hands the database out is open when the control database records the tenant as active,
//! in one commit, and is committed right after that. A process killed before leaves nothing behind; one killed between the two
//! commits leaves a tenant whose database is still marked, and the next look after the stock finishes the hand-out.

use std::time::Duration;

use guardian_model::{
    ClusterName, Isolation, Placement, Tenant, TenantId, TenantKey, TenantState, Tier,
    access::Permit,
    api::{CreateTenant, TenantChange},
};
use guardian_postgres::{connect::ConnectError, scram};
use guardian_provision::{MAINTENANCE_DATABASE, Warm, role::Bounds, warm::Ready};
use guardian_store::{BeginError, Created, Idempotency, NewTenant, Secrets, TenantRef};
use sqlx::{Connection as _, PgConnection, Postgres, pool::PoolConnection};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use crate::{
    Lifecycle, LifecycleError, operations, secret,
    step::{StepError, Steps},
    stock::foreseen_key,
};

/// How many are tried when others take the same ones at the same time.
const TRIES: i64 = 8;
/// A cluster that does not answer by then is the ordinary creation's to wait for.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// What somebody wants created, and may.
pub(crate) struct Order {
    pub(crate) permit: Permit,
    pub(crate) request: CreateTenant,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) tier: Tier,
    pub(crate) cluster: ClusterName,
}

impl Lifecycle {
    /// Creates a tenant out of the stock, active when this returns; `None` when there is nothing to be had.
    pub(crate) async fn hand_out(&self, order: Order) -> Result<Option<TenantChange>, LifecycleError> {
        let begun = Instant::now();
        let found = match timeout(LOOK_TIMEOUT, self.look(&order.cluster)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(cluster.name = %order.cluster, %error, "cannot look for prepared databases");
                return Ok(None);
            }
            Err(_) => return Ok(None),
        };
        let (warm, mut connection, found) = found;
        for ready in found {
            match self.try_hand_out(&warm, &mut connection, ready, &order, begun).await {
                Ok(None) | Err(LifecycleError::Begin(BeginError::IdTaken(_))) => {}
                Err(error @ LifecycleError::Cluster { .. }) => {
                    tracing::warn!(cluster.name = %order.cluster, %error, "cannot hand out a prepared database");
                    return Ok(None);
                }
                ended => return ended,
            }
        }
        Ok(None)
    }

    async fn look(&self, cluster: &ClusterName) -> Result<(Warm, PoolConnection<Postgres>, Vec<Ready>), StepError> {
        let steps = &self.engine.steps;
        let warm = steps.warm(&steps.read_migrations().await?);
        let mut connection = steps.maintenance(cluster).await?;
        let found = warm.look(&mut connection, TRIES).await?;
        Ok((warm, connection, found))
    }

    async fn try_hand_out(
        &self,
        warm: &Warm,
        connection: &mut PgConnection,
        ready: Ready,
        order: &Order,
        begun: Instant,
    ) -> Result<Option<TenantChange>, LifecycleError> {
        let (steps, store) = (&self.engine.steps, &self.engine.store);
        let id = ready.id;
        let CreateTenant { slug, tier, key } = order.request.clone();
        let placement = self.placement(order.tier.isolation, id, &slug)?;
        let failed = cannot(&order.cluster);
        let mut transaction = connection.begin().await.map_err(&failed)?;
        if !warm.reserve(&mut transaction, &ready).await.map_err(StepError::from)? {
            return Ok(None);
        }
        let key = self.new_key(id, &slug, key.as_deref()).await?;
        if Some(&key) != foreseen_key(steps.config.application.tenant_key, id).as_ref() {
            // Such a database fits nobody else afterwards: not for a request that is going to be refused.
            if store.tenant(&TenantRef::Slug(slug.clone())).await?.is_some() {
                return Ok(None);
            }
            steps.fit(warm, &placement, id, &key).await?;
        }
        let (password, verifier) = match store.open_password(id, &ready.sealed) {
            Some(password) => (password, None),
            // It was sealed under a master key that is gone.
            None => new_password().await,
        };
        let bounds = Bounds { limits: &order.tier.limits, schema: &placement.place.schema };
        warm.hand_out(&mut transaction, id, verifier.as_deref(), bounds).await.map_err(StepError::from)?;
        let plan = operations::create::plan(&placement, &key.to_string(), true);
        let secrets = Secrets { capability: None, password: Some(password) };
        let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let new = NewTenant { id, slug, key, tier, placement };
        let created = store.create_active(&order.permit, new, &secrets, &plan, took_us, order.idempotency.as_ref());
        let (tenant, operation) = match created.await? {
            Created::New(created) => *created,
            Created::Replayed(tenant, operation) => return self.change(tenant, operation).await.map(Some),
        };
        if let Err(error) = transaction.commit().await {
            tracing::warn!(tenant.id = %id, %error, "a hand-out was cut off; finishing it");
            if let Err(error) = self.finish_hand_out(&order.cluster, id).await {
                tracing::warn!(tenant.id = %id, %error, "the next look after the stock finishes the hand-out");
            }
        }
        store.announce_creation();
        steps.taken.notify_one();
        tracing::info!(operation.id = %operation.id, tenant.id = %id, took_us, "a prepared database was handed out");
        Ok(Some(TenantChange { tenant, operation }))
    }

    /// Hands out the database of a tenant that is active and whose database still bears a mark; says whether it did.
    pub(crate) async fn finish_hand_out(&self, cluster: &ClusterName, id: TenantId) -> Result<bool, LifecycleError> {
        let (steps, store) = (&self.engine.steps, &self.engine.store);
        let mut connection = steps.maintenance(cluster).await?;
        let mut transaction = connection.begin().await.map_err(cannot(cluster))?;
        let migrations = steps.read_migrations().await.map_err(StepError::from)?;
        let warm = steps.warm(&migrations);
        if !warm.reserve_any(&mut transaction, id).await.map_err(StepError::from)? {
            return Ok(false);
        }
        // Under the tenant's lock: nobody suspends or deletes it meanwhile.
        let tenant = store.tenant(&id.into()).await?;
        let Some(tenant) = tenant.filter(|tenant| is_for(tenant, cluster)) else { return Ok(false) };
        let password = store.secrets(id).await?.password.ok_or(StepError::SecretMissing("password"))?;
        let limits = steps.limits(&tenant).await?;
        let Placement { place, role, .. } = &tenant.placement;
        let mut inside = steps.clusters.connect(cluster, &place.database).await.map_err(StepError::from)?;
        steps.migrate_with(&mut inside, place, &migrations).await?;
        steps.grant(&mut inside, place, role, &steps.key(&tenant.key).map_err(StepError::from)?).await?;
        inside.close().await.ok();
        let bounds = Bounds { limits: &limits, schema: &place.schema };
        let handed = warm.hand_out(&mut transaction, id, Some(&scram::verifier(&password)), bounds).await;
        handed.map_err(StepError::from)?;
        transaction.commit().await.map_err(cannot(cluster))?;
        store.announce_creation();
        tracing::info!(tenant.id = %id, "a hand-out that was cut off is finished");
        Ok(true)
    }
}

async fn new_password() -> (String, Option<String>) {
    let hashed = spawn_blocking(|| {
        let password = secret::password();
        let verifier = scram::verifier(&password);
        (password, Some(verifier))
    });
    hashed.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Whether the tenant is active in a database of its own on this cluster.
fn is_for(tenant: &Tenant, cluster: &ClusterName) -> bool {
    tenant.state == TenantState::Active
        && matches!(tenant.placement.isolation, Isolation::Database | Isolation::Cluster)
        && tenant.placement.place.cluster == *cluster
}

fn cannot(cluster: &ClusterName) -> impl Fn(sqlx::Error) -> LifecycleError {
    let refused = refused(cluster);
    move |source| StepError::from(refused(source)).into()
}

fn refused(cluster: &ClusterName) -> impl Fn(sqlx::Error) -> ConnectError {
    let cluster = cluster.clone();
    move |source| ConnectError::Refused { cluster: cluster.clone(), database: MAINTENANCE_DATABASE.to_owned(), source }
}

impl Steps {
    /// A connection to the cluster's maintenance database that is kept for a while: connecting takes as long as a hand-out.
    pub(crate) async fn maintenance(&self, cluster: &ClusterName) -> Result<PoolConnection<Postgres>, StepError> {
        let pool = self.clusters.pool(cluster, MAINTENANCE_DATABASE).await?;
        Ok(pool.acquire().await.map_err(refused(cluster))?)
    }

    /// Grants inside a reserved database what a tenant with another key than the foreseen one needs. Until it is handed
    /// out it does not belong to the stock.
    async fn fit(&self, warm: &Warm, placement: &Placement, id: TenantId, key: &TenantKey) -> Result<(), StepError> {
        let Placement { place, role, .. } = placement;
        let mut inside = self.clusters.connect(&place.cluster, &place.database).await?;
        warm.withdraw(&mut inside, id).await?;
        self.grant(&mut inside, place, role, key).await?;
        inside.close().await.ok();
        Ok(())
    }
}
