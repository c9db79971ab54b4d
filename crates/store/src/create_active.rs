//! The creation of a tenant whose place is there already: begun and done in one statement, and so one commit.

use std::collections::HashMap;

use guardian_model::{
    LimitOverrides, Operation, OperationId, OperationKind, OperationState, Permission, Plan, Tenant, TenantId, TenantState,
    access::Permit,
};
use uuid::Uuid;

use crate::{
    Store,
    begin::{BeginError, Begun, Idempotency, NewTenant, json},
    claim::micros,
    error::{Doing, StoreError, covers, word},
    operation::step_records,
    tenant::Secrets,
    timestamp::Stamp,
};

const CREATE_ACTIVE: &str = "
WITH new_tenant AS (
    INSERT INTO tenant (id, slug, key, tier, state, isolation, cluster, database, schema, role,
                        sealed_capability, sealed_password)
    VALUES ($1, $2, $3, $4, 'active', $5, $6, $7, $8, $9, $10, $11) RETURNING created_at
), new_operation AS (
    INSERT INTO operation (id, kind, tenant, state, tenant_state_before, plan, steps_done, durations, requested_by, next_at,
                           finished_at)
    VALUES ($12, 'create', $1, 'done', 'creating', $13::text::json, cardinality($14::bigint[]), $14, $15, now(), now())
), key AS (
    INSERT INTO idempotency (actor, key, request_hash, tenant, operation)
    SELECT $15, $16, $17, $1, $12 WHERE $16::text IS NOT NULL
), entry AS (
    INSERT INTO audit_entry (actor, action, tenant, outcome, detail)
    VALUES ($15, 'tenant.create', $1, 'allowed', $18::text::json),
           ('system:lifecycle', 'operation.create', $1, 'done', $19::text::json)
)
SELECT created_at FROM new_tenant";

/// What came of a creation at once.
#[derive(Debug)]
pub enum Created {
    /// An active tenant, and the operation that made it.
    New(Box<(Tenant, Operation)>),
    /// The same request came before.
    Replayed(TenantId, OperationId),
}

impl Store {
    /// Records a tenant as active whose place the caller has made, and will open once this has gone through. All of the
    /// plan counts as done; `took_us` is the time of its last step, the others were carried out ahead.
    pub async fn create_active(
        &self,
        permit: &Permit,
        new: NewTenant,
        secrets: &Secrets,
        plan: &Plan,
        took_us: u64,
        idempotency: Option<&Idempotency>,
    ) -> Result<Created, BeginError> {
        const DOING: &str = "create a tenant";
        covers(permit, Permission::TenantWrite, Some(new.id))?;
        if !idempotency.is_none_or(Idempotency::is_sound) {
            return Err(BeginError::IdempotencyKey);
        }
        let sealed = self.seal_secrets(new.id, secrets)?;
        let operation = OperationId::from_uuid(Uuid::now_v7());
        let key = new.key.to_string();
        let actor = &permit.actor().name;
        let begun = serde_json::json!({ "operation": operation, "slug": new.slug, "tier": new.tier, "key": key });
        let ended = serde_json::json!({ "operation": operation, "slug": new.slug });
        let mut durations = vec![0; plan.steps.len()];
        if let Some(last) = durations.last_mut() {
            *last = micros(took_us);
        }
        let place = &new.placement.place;
        let created: Result<Stamp, sqlx::Error> = sqlx::query_scalar(CREATE_ACTIVE)
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
            .bind(json(plan))
            .bind(&durations)
            .bind(actor)
            .bind(idempotency.map(|given| given.key.as_str()))
            .bind(idempotency.map(|given| given.request_hash.as_slice()))
            .bind(begun.to_string())
            .bind(ended.to_string())
            .fetch_one(&self.pool)
            .await;
        let created_at = match created {
            Ok(stamp) => stamp.0,
            Err(error) => {
                return match self.why_not_begun(error, DOING, &new, actor, idempotency).await? {
                    Begun::Replayed(tenant, operation) => Ok(Created::Replayed(tenant, operation)),
                    Begun::New(_) => unreachable!("an error begins nothing"),
                };
            }
        };
        let durations: Vec<_> = durations.into_iter().map(Some).collect();
        let operation = Operation {
            id: operation,
            kind: OperationKind::Create,
            tenant: new.id,
            slug: new.slug.clone(),
            state: OperationState::Done,
            steps_done: plan.steps.len(),
            steps: step_records(plan, &durations),
            attempts: 1,
            error: None,
            requested_by: actor.clone(),
            created_at,
            finished_at: Some(created_at),
        };
        let tenant = Tenant {
            id: new.id,
            slug: new.slug,
            key,
            tier: new.tier,
            state: TenantState::Active,
            placement: new.placement,
            limits: LimitOverrides::default(),
            created_at,
            changed_at: created_at,
        };
        Ok(Created::New(Box::new((tenant, operation))))
    }

    /// Tells the gateways of this process that a tenant of [`Store::create_active`] can be entered.
    pub fn announce_creation(&self) {
        // A creation announces itself to nobody else (migration 0006).
        self.changed.notify_one();
    }

    /// The states of those of these tenants that there are, or were.
    pub async fn tenant_states(&self, tenants: &[TenantId]) -> Result<HashMap<TenantId, TenantState>, StoreError> {
        let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.uuid()).collect();
        let rows: Vec<(Uuid, String)> = sqlx::query_as("SELECT id, state FROM tenant WHERE id = ANY ($1)")
            .bind(ids)
            .fetch_all(&self.pool)
            .await
            .doing("read the states of tenants")?;
        let states = rows
            .into_iter()
            .map(|(id, state)| Ok((TenantId::from_uuid(id), word("tenant state", &state, TenantState::from_word)?)));
        states.collect()
    }
}
