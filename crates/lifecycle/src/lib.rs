//! The life of tenants: created, suspended, resumed, moved between tiers, deleted, entered; and the engine that carries
//! such operations through crashes.
//!
//! A request begins an operation in one transaction of the store and hands it to the engine. From then on the operation
//! goes on by itself, in this process or the next. What a place consists of is `guardian-provision`'s; what a tenant's role
//! may do in it, the hardening's; who may ask is decided before a [`Permit`] exists.

mod door;
mod engine;
mod enter;
mod error;
mod fleet;
mod grip;
mod hand_out;
mod import;
mod login;
pub mod operations;
mod renew;
mod restore;
mod row;
mod secret;
mod step;
mod stock;
mod tool;
mod worker;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use guardian_model::{
    Capability, Config, Isolation, KeyType, LimitOverrides, Operation, OperationId, OperationKind, OperationState,
    Placement, Slug, Tenant, TenantId, TenantKey, TenantState, TierName,
    access::Permit,
    api::{CreateTenant, TenantChange},
};
use guardian_postgres::{connect::Clusters, registry};
use guardian_provision::{MAINTENANCE_DATABASE, lock, role};
use guardian_store::{Begun, Claim, Idempotency, Lease, NewTenant, Secrets, Store, TenantRef};
use jiff::{SignedDuration, Timestamp};
use sqlx::Connection as _;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use error::LifecycleError;
pub use fleet::Fleet;

use crate::{
    engine::{Engine, Outcome},
    hand_out::Order,
    step::Steps,
};

/// Everything that can be done to tenants. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle {
    engine: Engine,
    tasks: TaskTracker,
    /// Set once the shared place was seen hardened. Should that change, the step fails and is undone.
    hardened: Arc<AtomicBool>,
}

impl Lifecycle {
    /// `migrations` is the folder of the application's migrations; `worker` a name of this process's own among all that
    /// share the store.
    pub fn new(
        store: Store,
        clusters: Clusters,
        config: Arc<Config>,
        migrations: Option<PathBuf>,
        worker: impl Into<String>,
    ) -> Self {
        let lease = Lease { worker: worker.into(), duration: Duration::from_secs(u64::from(config.control.lease_seconds)) };
        let steps = Steps { clusters, store: store.clone(), config, migrations, taken: Arc::default() };
        let engine = Engine { store, steps, lease, stop: CancellationToken::new() };
        Self { engine, tasks: TaskTracker::new(), hardened: Arc::default() }
    }

    /// This process's hold on what it works on: its name, and for how long nobody else takes the work up.
    pub const fn lease(&self) -> &Lease {
        &self.engine.lease
    }

    /// Creates a tenant. A `row` tenant, and one that gets a prepared database, is active when this returns, unless its
    /// cluster has trouble; the others are at work, and [`TenantChange::operation`] tells how far.
    pub async fn create(
        &self,
        permit: &Permit,
        request: CreateTenant,
        idempotency: Option<Idempotency>,
    ) -> Result<TenantChange, LifecycleError> {
        let found = self.engine.store.tier(&request.tier).await?;
        let declared = found.ok_or_else(|| LifecycleError::NoTier(request.tier.clone()))?;
        let isolation = declared.isolation;
        let id = TenantId::from_uuid(Uuid::now_v7());
        let placement = self.placement(isolation, id, &request.slug)?;
        let cluster = placement.place.cluster.clone();
        if matches!(isolation, Isolation::Database | Isolation::Cluster) && self.engine.steps.has_stock(&cluster) {
            let (permit, request, idempotency) = (permit.clone(), request.clone(), idempotency.clone());
            let order = Order { permit, request, idempotency, tier: declared, cluster };
            let lifecycle = self.clone();
            // In a task of its own: a client that goes away does not stop it half-way.
            let handed = self.tasks.spawn(async move { lifecycle.hand_out(order).await }).await;
            if let Some(change) = handed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))? {
                return Ok(change);
            }
        }
        let CreateTenant { slug, tier, key } = request;
        let key = self.new_key(id, &slug, key.as_deref()).await?;
        let reached = isolation == Isolation::Row && self.refuse_unhardened().await?;
        let plan = operations::create::plan(&placement, &key.to_string(), reached);
        let secrets = match isolation {
            Isolation::Row => Secrets { capability: Some(secret::capability()), password: None },
            _ => Secrets { capability: None, password: Some(secret::password()) },
        };
        let capability = secrets.capability.clone();
        let new = NewTenant { id, slug, key, tier, placement };
        let claimed_at = Instant::now();
        let begun =
            self.engine.store.begin_create(permit, new, secrets, plan, idempotency.as_ref(), &self.engine.lease).await?;
        match begun {
            Begun::New(claim) => self.carry_out(*claim, claimed_at, capability, isolation == Isolation::Row).await,
            Begun::Replayed(tenant, operation) => self.change(tenant, operation).await,
        }
    }

    /// Stops serving a tenant and keeps its data.
    pub async fn suspend(&self, permit: &Permit, tenant: TenantId) -> Result<TenantChange, LifecycleError> {
        let tenant = self.tenant(tenant).await?;
        let plan = operations::suspend::plan(&tenant.placement, &tenant.key);
        let claimed_at = Instant::now();
        let expected = [TenantState::Active];
        let begun = self.engine.store.begin(permit, tenant.id, OperationKind::Suspend, plan, &expected, &self.engine.lease);
        self.carry_out(begun.await?, claimed_at, None, true).await
    }

    /// Serves a suspended tenant again.
    pub async fn resume(&self, permit: &Permit, tenant: TenantId) -> Result<TenantChange, LifecycleError> {
        let tenant = self.tenant(tenant).await?;
        let plan = operations::resume::plan(&tenant.placement, &tenant.key);
        let claimed_at = Instant::now();
        let expected = [TenantState::Suspended];
        let begun = self.engine.store.begin(permit, tenant.id, OperationKind::Resume, plan, &expected, &self.engine.lease);
        self.carry_out(begun.await?, claimed_at, None, true).await
    }

    /// Stops serving a tenant, and removes every trace of it when the grace period is over (`now`: at once).
    pub async fn delete(&self, permit: &Permit, tenant: TenantId, now: bool) -> Result<TenantChange, LifecycleError> {
        let tenant = self.tenant(tenant).await?;
        let grace = i64::from(self.engine.steps.config.control.delete_grace_seconds);
        let until = (!now && grace > 0).then(|| Timestamp::now() + SignedDuration::from_secs(grace));
        let plan = operations::delete::plan(&tenant.placement, &tenant.key, tenant.state, until);
        // The plan is for the state just seen; in another one it would be wrong.
        let expected = match tenant.state {
            state @ (TenantState::Active | TenantState::Suspended) => vec![state],
            _ => vec![TenantState::Active, TenantState::Suspended],
        };
        let claimed_at = Instant::now();
        let begun = self.engine.store.begin(permit, tenant.id, OperationKind::Delete, plan, &expected, &self.engine.lease);
        self.carry_out(begun.await?, claimed_at, None, false).await
    }

    /// Moves a tenant to another tier of the same isolation, and its role to that tier's limits.
    pub async fn set_tier(&self, permit: &Permit, tenant: TenantId, tier: &TierName) -> Result<Tenant, LifecycleError> {
        let tenant = self.engine.store.set_tier(permit, tenant, tier).await?;
        self.bound_role(&tenant).await?;
        Ok(tenant)
    }

    /// Sets what a tenant has otherwise than its tier, as a whole, and holds its role to it.
    pub async fn set_limits(
        &self,
        permit: &Permit,
        tenant: TenantId,
        limits: LimitOverrides,
    ) -> Result<Tenant, LifecycleError> {
        let tenant = self.engine.store.set_limits(permit, tenant, limits).await?;
        self.bound_role(&tenant).await?;
        Ok(tenant)
    }

    /// Lets a stuck operation go on.
    pub async fn retry(&self, permit: &Permit, operation: OperationId) -> Result<Operation, LifecycleError> {
        Ok(self.engine.store.retry(permit, operation).await?)
    }

    /// Takes back an operation that has not begun anything irreversible.
    pub async fn cancel(&self, permit: &Permit, operation: OperationId) -> Result<Operation, LifecycleError> {
        Ok(self.engine.store.cancel(permit, operation).await?)
    }

    async fn tenant(&self, id: TenantId) -> Result<Tenant, LifecycleError> {
        self.engine.store.tenant(&TenantRef::Id(id)).await?.ok_or(LifecycleError::NotFound(id))
    }

    fn placement(&self, isolation: Isolation, id: TenantId, slug: &Slug) -> Result<Placement, LifecycleError> {
        let config = &self.engine.steps.config;
        let shared = config.shared_place();
        let cluster = match isolation {
            Isolation::Cluster => {
                config.cluster_reserved_for(slug).ok_or_else(|| LifecycleError::NoReservedCluster(slug.clone()))?
            }
            Isolation::Row | Isolation::Schema | Isolation::Database => &shared.cluster,
        };
        Ok(Placement::derive(isolation, id, &config.application.name, &shared, cluster))
    }

    async fn new_key(&self, id: TenantId, slug: &Slug, given: Option<&str>) -> Result<TenantKey, LifecycleError> {
        let key_type = self.engine.steps.config.application.tenant_key;
        Ok(match (given, key_type) {
            (Some(text), _) => TenantKey::parse(key_type, text)?,
            (None, KeyType::Uuid) => TenantKey::Uuid(id.uuid()),
            (None, KeyType::Bigint) => TenantKey::Bigint(self.engine.store.next_key().await?),
            (None, KeyType::Text) => TenantKey::parse(key_type, slug.as_str())?,
        })
    }

    /// Refuses when the shared place answers and is not hardened. Says whether it answered, now or before: one that does
    /// not is no reason to refuse, because the operation waits for it.
    async fn refuse_unhardened(&self) -> Result<bool, LifecycleError> {
        if self.hardened.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let place = self.engine.steps.config.shared_place();
        let looked = async {
            let mut connection = self.engine.steps.clusters.connect(&place.cluster, &place.database).await.ok()?;
            let found = registry::mechanism(&mut connection).await.ok();
            connection.close().await.ok();
            found
        };
        match looked.await {
            None => Ok(false),
            Some(None) => Err(LifecycleError::NotHardened { place }),
            Some(Some(_)) => {
                self.hardened.store(true, Ordering::Relaxed);
                Ok(true)
            }
        }
    }

    async fn bound_role(&self, tenant: &Tenant) -> Result<(), LifecycleError> {
        let placement = &tenant.placement;
        if placement.isolation == Isolation::Row || !matches!(tenant.state, TenantState::Active | TenantState::Suspended) {
            return Ok(());
        }
        let bounds = |detail: String| LifecycleError::Bounds { detail };
        let tier = self.engine.store.tier(&tenant.tier).await?.ok_or_else(|| LifecycleError::NoTier(tenant.tier.clone()))?;
        let connected = self.engine.steps.clusters.connect(&placement.place.cluster, MAINTENANCE_DATABASE).await;
        let mut connection = connected.map_err(|error| bounds(error.to_string()))?;
        lock::hold(&mut connection, &tenant.id.to_string()).await.map_err(|error| bounds(error.to_string()))?;
        let limits = tier.limits.with(&tenant.limits);
        let within = role::Bounds { limits: &limits, schema: &placement.place.schema };
        role::bound(&mut connection, &placement.role, within).await.map_err(|error| bounds(error.to_string()))
    }

    /// Hands a new operation to the engine, in a task of its own: a client that goes away does not stop it half-way. With
    /// `wait`, comes back when the engine lets go of it.
    async fn carry_out(
        &self,
        claim: Claim,
        claimed_at: Instant,
        capability: Option<Capability>,
        wait: bool,
    ) -> Result<TenantChange, LifecycleError> {
        let (operation, tenant) = (claim.id, claim.tenant.clone());
        let before = claim.tenant.state;
        let lifecycle = self.clone();
        let work = self.tasks.spawn(async move { lifecycle.run(claim, claimed_at, capability).await });
        if wait && let Ok(Some(ended)) = work.await {
            let state = match ended.state {
                OperationState::Done => ended.kind.state_when_done(),
                _ => ended.kind.state_when_undone(before),
            };
            let changed_at = ended.finished_at.unwrap_or(tenant.changed_at);
            return Ok(TenantChange { tenant: Tenant { state, changed_at, ..tenant }, operation: ended });
        }
        self.change(tenant.id, operation).await
    }

    /// Works on a claim, and returns the operation when it is over.
    async fn run(&self, claim: Claim, claimed_at: Instant, capability: Option<Capability>) -> Option<Operation> {
        let (operation, tenant) = (claim.id, claim.tenant.id);
        match self.engine.run(claim, claimed_at, capability).await {
            Ok(Outcome::Ended(ended)) => {
                tracing::info!(operation.id = %operation, tenant.id = %tenant, kind = ended.kind.as_str(),
                    state = ended.state.as_str(), "operation ended");
                Some(*ended)
            }
            Ok(Outcome::Later) => None,
            Err(error) => {
                tracing::warn!(operation.id = %operation, tenant.id = %tenant, %error, "let go of an operation");
                None
            }
        }
    }

    async fn change(&self, tenant: TenantId, operation: OperationId) -> Result<TenantChange, LifecycleError> {
        let tenant = self.tenant(tenant).await?;
        let found = self.engine.store.operation(operation).await?;
        let operation = found.ok_or_else(|| LifecycleError::NotFound(tenant.id))?;
        Ok(TenantChange { tenant, operation })
    }
}
