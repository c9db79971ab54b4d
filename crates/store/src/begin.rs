//! The beginning of operations: the tenant's change, the plan, the lease and the audit entry in one transaction.
//!
//! A creation is one statement, and so one round trip: it is what a sign-up page waits for.

use std::time::Duration;

use guardian_model::{
    LimitOverrides, OperationId, OperationKind, OperationState, Permission, Placement, Plan, Slug, Tenant, TenantId,
    TenantKey, TenantState, TierName, access::Permit,
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    claim::Claim,
    error::{Doing, StoreError, broken_constraint, covers},
    tenant::{self, Secrets, TenantRow},
    timestamp::Stamp,
};

/// How long an idempotency key is remembered.
const IDEMPOTENCY_HOURS: i32 = 24;

/// A worker's hold on an operation: nobody else takes it up before the lease ends.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The worker's name, of its own among all processes on this store.
    pub worker: String,
    /// From now.
    pub duration: Duration,
}

/// A tenant to be.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// A new id.
    pub id: TenantId,
    /// Its name.
    pub slug: Slug,
    /// Its value in the tenant column.
    pub key: TenantKey,
    /// Its tier, of the placement's isolation.
    pub tier: TierName,
    /// Where it will live.
    pub placement: Placement,
}

/// Lets a caller repeat a request without repeating its effect.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The caller's own key, 1 to 255 bytes.
    pub key: String,
    /// SHA-256 of the request: the same key with another request is refused.
    pub request_hash: [u8; 32],
}

impl Idempotency {
    pub(crate) fn is_sound(&self) -> bool {
        !self.key.is_empty() && self.key.len() <= 255 && !self.key.contains(char::is_control)
    }
}

/// What came of a creation.
#[derive(Debug)]
pub enum Begun {
    /// A new operation, leased to the caller.
    New(Box<Claim>),
    /// The same request came before.
    Replayed(TenantId, OperationId),
}

/// Why an operation was not begun. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Another tenant bears the slug.
    #[error("the slug `{0}` is taken; choose another")]
    SlugTaken(Slug),
    /// Another tenant has the key.
    #[error("the key `{0}` belongs to another tenant; give another, or leave it out")]
    KeyTaken(String),
    /// Another tenant has the id.
    #[error("the id {0} belongs to another tenant; take another")]
    IdTaken(TenantId),
    /// The tier is not there, or its isolation is not that of the placement (it changed meanwhile).
    #[error("there is no tier `{0}` of that isolation; see `guardian tier list`")]
    Tier(TierName),
    /// No such tenant.
    #[error("there is no tenant {0}")]
    NotFound(TenantId),
    /// Another operation is at work on the tenant.
    #[error("the operation {0} is at work on the tenant; wait for it, or cancel it")]
    Busy(OperationId),
    /// The tenant's state does not allow it.
    #[error("the tenant is {found}; this needs it to be {}", words(.expected))]
    WrongState {
        /// Its state.
        found: TenantState,
        /// The states that would do.
        expected: Vec<TenantState>,
    },
    /// The key of an idempotent request is too long, empty, or not to be printed.
    #[error("an idempotency key has 1 to 255 bytes, none of them a control character")]
    IdempotencyKey,
    /// The key came before with another request.
    #[error("the idempotency key was used for another request; use a new key")]
    IdempotencyMismatch,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn words(states: &[TenantState]) -> String {
    states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(" or ")
}

const BEGIN_CREATE: &str = "
WITH new_tenant AS (
    INSERT INTO tenant (id, slug, key, tier, state, isolation, cluster, database, schema, role,
                        sealed_capability, sealed_password)
    VALUES ($1, $2, $3, $4, 'creating', $5, $6, $7, $8, $9, $10, $11) RETURNING created_at
), new_operation AS (
    INSERT INTO operation (id, kind, tenant, state, tenant_state_before, plan, durations, requested_by, lease_owner, next_at)
    VALUES ($12, 'create', $1, 'running', 'creating', $13::text::json, array_fill(NULL::bigint, ARRAY[$14::int]), $15, $16,
            now() + make_interval(secs => $17))
), key AS (
    INSERT INTO idempotency (actor, key, request_hash, tenant, operation)
    SELECT $15, $18, $19, $1, $12 WHERE $18::text IS NOT NULL
), entry AS (
    INSERT INTO audit_entry (actor, action, tenant, outcome, detail)
    VALUES ($15, 'tenant.create', $1, 'allowed', $20::text::json)
)
SELECT created_at FROM new_tenant";

impl Store {
    /// Begins the creation of a tenant, leased to the caller, who is expected to carry it out.
    pub async fn begin_create(
        &self,
        permit: &Permit,
        new: NewTenant,
        secrets: Secrets,
        plan: Plan,
        idempotency: Option<&Idempotency>,
        lease: &Lease,
    ) -> Result<Begun, BeginError> {
        const DOING: &str = "begin the creation of a tenant";
        covers(permit, Permission::TenantWrite, Some(new.id))?;
        if !idempotency.is_none_or(Idempotency::is_sound) {
            return Err(BeginError::IdempotencyKey);
        }
        let sealed = self.seal_secrets(new.id, &secrets)?;
        let operation = OperationId::from_uuid(Uuid::now_v7());
        let key = new.key.to_string();
        let actor = &permit.actor().name;
        let detail =
            serde_json::json!({ "operation": operation, "slug": new.slug, "tier": new.tier, "key": key }).to_string();
        let place = &new.placement.place;
        let created: Result<Stamp, sqlx::Error> = sqlx::query_scalar(BEGIN_CREATE)
            .bind(new.id.uuid())
            .bind(new.slug.as_str())
            .bind(&key)
            .bind(new.tier.as_str())
            .bind(new.placement.isolation.as_str())
            .bind(place.cluster.as_str())
            .bind(&place.database)
            .bind(&place.schema)
            .bind(&new.placement.role)
            .bind(sealed.capability)
            .bind(sealed.password)
            .bind(operation.uuid())
            .bind(json(&plan))
            .bind(i32::try_from(plan.steps.len()).unwrap_or(i32::MAX))
            .bind(actor)
            .bind(&lease.worker)
            .bind(lease.duration.as_secs_f64())
            .bind(idempotency.map(|given| given.key.as_str()))
            .bind(idempotency.map(|given| given.request_hash.as_slice()))
            .bind(&detail)
            .fetch_one(&self.pool)
            .await;
        let created_at = match created {
            Ok(stamp) => stamp.0,
            Err(error) => return self.why_not_begun(error, DOING, &new, actor, idempotency).await,
        };
        let tenant = Tenant {
            id: new.id,
            slug: new.slug,
            key,
            tier: new.tier,
            state: TenantState::Creating,
            placement: new.placement,
            limits: LimitOverrides::default(),
            created_at,
            changed_at: created_at,
        };
        Ok(Begun::New(Box::new(Claim::begun(operation, OperationKind::Create, tenant, TenantState::Creating, plan, lease))))
    }

    /// What kept a creation from being begun, or the same request that came before.
    pub(crate) async fn why_not_begun(
        &self,
        error: sqlx::Error,
        doing: &'static str,
        new: &NewTenant,
        actor: &str,
        idempotency: Option<&Idempotency>,
    ) -> Result<Begun, BeginError> {
        let Some(constraint) = broken_constraint(&error) else {
            return Err(StoreError::Database { doing, source: error }.into());
        };
        // A repeated request breaks the slug's constraint as well, and which one is named is left to chance.
        if let Some(given) = idempotency
            && let Some(replayed) = self.replay(actor, given).await?
        {
            return Ok(replayed);
        }
        Err(match constraint {
            "tenant_pkey" => BeginError::IdTaken(new.id),
            "tenant_slug_live" => BeginError::SlugTaken(new.slug.clone()),
            "tenant_key_live" => BeginError::KeyTaken(new.key.to_string()),
            "tenant_tier" => BeginError::Tier(new.tier.clone()),
            _ => StoreError::Database { doing, source: error }.into(),
        })
    }

    /// What the same request did before. A key past its age is forgotten by [`Store::forget_expired`], not here.
    async fn replay(&self, actor: &str, given: &Idempotency) -> Result<Option<Begun>, BeginError> {
        let found: Option<(Vec<u8>, Uuid, Uuid)> =
            sqlx::query_as("SELECT request_hash, tenant, operation FROM idempotency WHERE actor = $1 AND key = $2")
                .bind(actor)
                .bind(&given.key)
                .fetch_optional(&self.pool)
                .await
                .doing("look up an idempotency key")?;
        match found {
            None => Ok(None),
            Some((hash, tenant, operation)) if hash == given.request_hash => {
                Ok(Some(Begun::Replayed(TenantId::from_uuid(tenant), OperationId::from_uuid(operation))))
            }
            Some(_) => Err(BeginError::IdempotencyMismatch),
        }
    }

    /// Begins an operation on a tenant that exists, leased to the caller, who is expected to carry it out.
    pub async fn begin(
        &self,
        permit: &Permit,
        tenant: TenantId,
        kind: OperationKind,
        plan: Plan,
        expected: &[TenantState],
        lease: &Lease,
    ) -> Result<Claim, BeginError> {
        const DOING: &str = "begin an operation";
        covers(permit, Permission::TenantWrite, Some(tenant))?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let sql = format!("SELECT {} FROM tenant t WHERE t.id = $1 FOR UPDATE", tenant::COLUMNS);
        let row: Option<TenantRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.uuid()).fetch_optional(&mut *transaction).await.doing(DOING)?;
        let mut found = Tenant::try_from(row.ok_or(BeginError::NotFound(tenant))?)?;
        let live: Option<Uuid> =
            sqlx::query_scalar("SELECT id FROM operation WHERE tenant = $1 AND state IN ('running', 'undoing', 'stuck')")
                .bind(tenant.uuid())
                .fetch_optional(&mut *transaction)
                .await
                .doing(DOING)?;
        if let Some(live) = live {
            return Err(BeginError::Busy(OperationId::from_uuid(live)));
        }
        if !expected.contains(&found.state) {
            return Err(BeginError::WrongState { found: found.state, expected: expected.to_vec() });
        }
        let before = found.state;
        let operation = OperationId::from_uuid(Uuid::now_v7());
        sqlx::query(
            "INSERT INTO operation (id, kind, tenant, state, tenant_state_before, plan, durations, requested_by,
                                    lease_owner, next_at)
             VALUES ($1, $2, $3, 'running', $4, $5::text::json, array_fill(NULL::bigint, ARRAY[$6::int]), $7, $8,
                     now() + make_interval(secs => $9))",
        )
        .bind(operation.uuid())
        .bind(kind.as_str())
        .bind(tenant.uuid())
        .bind(before.as_str())
        .bind(json(&plan))
        .bind(i32::try_from(plan.steps.len()).unwrap_or(i32::MAX))
        .bind(&permit.actor().name)
        .bind(&lease.worker)
        .bind(lease.duration.as_secs_f64())
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        if kind == OperationKind::Delete {
            let changed_at: Stamp = sqlx::query_scalar(
                "UPDATE tenant SET state = 'deleting', changed_at = now() WHERE id = $1 RETURNING changed_at",
            )
            .bind(tenant.uuid())
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
            found.state = TenantState::Deleting;
            found.changed_at = changed_at.0;
        }
        let record = AuditRecord::of(permit, &format!("tenant.{}", kind.as_str()), Some(tenant), Outcome::Allowed)
            .with(serde_json::json!({ "operation": operation, "slug": found.slug }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(Claim::begun(operation, kind, found, before, plan, lease))
    }

    /// Forgets idempotency keys past their age; a few thousand a call. Returns how many.
    pub async fn forget_expired(&self) -> Result<u64, StoreError> {
        sqlx::query(
            "DELETE FROM idempotency WHERE (actor, key) IN (
                 SELECT actor, key FROM idempotency WHERE created_at < now() - make_interval(hours => $1)
                 ORDER BY created_at LIMIT 5000)",
        )
        .bind(IDEMPOTENCY_HOURS)
        .execute(&self.pool)
        .await
        .doing("forget old idempotency keys")
        .map(|done| done.rows_affected())
    }
}

/// The state that a new operation begins in.
pub(crate) const STATE_AT_BIRTH: OperationState = OperationState::Running;

pub(crate) fn json(plan: &Plan) -> String {
    serde_json::to_string(plan).expect("a plan has string keys and finite numbers only")
}
