//! A worker's side of operations: take one up, record each step, end it.
//!
//! Every write checks the fence and the worker in its `WHERE`, so that a worker whose lease was lost to another one
//! changes nothing any more. What a step does to the world is `lifecycle`'s.

use guardian_model::{OperationId, OperationKind, OperationState, Plan, Tenant, TenantState};
use sqlx::AssertSqlSafe;
use std::time::Duration;

use crate::{
    Store,
    begin::{Lease, STATE_AT_BIRTH},
    error::{Doing, StoreError},
    operation::{self, OperationRow},
    tenant::{self, TenantRow},
};

/// An operation in the hands of one worker.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The operation.
    pub id: OperationId,
    /// What it changes.
    pub kind: OperationKind,
    /// The tenant as it was when the claim was made.
    pub tenant: Tenant,
    /// Its steps.
    pub plan: Plan,
    /// `Running`: the next step to apply is `plan.steps[steps_done]`. `Undoing`: the next one to undo is
    /// `plan.steps[steps_done - 1]`.
    pub state: OperationState,
    /// How many steps are done, or may have begun and are not undone yet.
    pub steps_done: usize,
    /// How often the current step has been tried, this time included.
    pub attempts: u32,
    /// Grows with every claim.
    pub fence: i64,
    pub(crate) worker: String,
    pub(crate) state_before: TenantState,
    pub(crate) durations: Vec<Option<i64>>,
}

/// Why a worker's write was not made. It has to let go of the operation.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another worker has it, or it is over.
    #[error("the operation {0} is in other hands")]
    Fenced(OperationId),
    /// It was cancelled meanwhile: claim it again to undo it.
    #[error("the operation {0} was cancelled meanwhile")]
    TurnedBack(OperationId),
    /// It cannot end yet.
    #[error("the operation {0} has steps left")]
    StepsLeft(OperationId),
    /// There is no way back from here.
    #[error("the operation {0} has begun a step that cannot be undone")]
    Irreversible(OperationId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(sqlx::FromRow)]
struct ClaimRow {
    #[sqlx(flatten)]
    operation: OperationRow,
    #[sqlx(flatten)]
    tenant: TenantRow,
}

pub(crate) const FENCED: &str = "id = $1 AND fence = $2 AND lease_owner = $3 AND state IN ('running', 'undoing')";

impl Claim {
    pub(crate) fn begun(
        id: OperationId,
        kind: OperationKind,
        tenant: Tenant,
        state_before: TenantState,
        plan: Plan,
        lease: &Lease,
    ) -> Self {
        let durations = vec![None; plan.steps.len()];
        let worker = lease.worker.clone();
        let state = STATE_AT_BIRTH;
        Self { id, kind, tenant, plan, state, steps_done: 0, attempts: 1, fence: 1, worker, state_before, durations }
    }

    fn from_row(row: ClaimRow, worker: &str) -> Result<Self, StoreError> {
        let operation = row.operation;
        Ok(Self {
            id: OperationId::from_uuid(operation.operation),
            kind: operation.kind()?,
            state: operation.state()?,
            steps_done: operation.steps_done(),
            attempts: operation.attempts(),
            fence: operation.fence,
            state_before: operation.tenant_state_before()?,
            tenant: row.tenant.try_into()?,
            plan: operation.plan.0,
            durations: operation.durations,
            worker: worker.to_owned(),
        })
    }
}

pub(crate) fn count(steps: usize) -> i32 {
    i32::try_from(steps).unwrap_or(i32::MAX)
}

pub(crate) fn micros(duration_us: u64) -> i64 {
    i64::try_from(duration_us).unwrap_or(i64::MAX)
}

impl Store {
    /// Takes up an operation that is due and in nobody's hands; `None` when there is none.
    pub async fn claim_next(&self, lease: &Lease) -> Result<Option<Claim>, StoreError> {
        let sql = format!(
            "WITH due AS (
                 SELECT id FROM operation WHERE state IN ('running', 'undoing') AND next_at <= now()
                 ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
             )
             UPDATE operation o
             SET lease_owner = $1, next_at = now() + make_interval(secs => $2), fence = o.fence + 1, attempts = o.attempts + 1
             FROM due, tenant t WHERE o.id = due.id AND t.id = o.tenant
             RETURNING {}, {}",
            operation::COLUMNS,
            tenant::COLUMNS
        );
        let row: Option<ClaimRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(&lease.worker)
            .bind(lease.duration.as_secs_f64())
            .fetch_optional(&self.pool)
            .await
            .doing("claim an operation")?;
        row.map(|row| Claim::from_row(row, &lease.worker)).transpose()
    }

    /// Extends the lease, from now.
    pub async fn renew(&self, claim: &Claim, lease: &Lease) -> Result<(), ClaimError> {
        let sql = format!("UPDATE operation SET next_at = now() + make_interval(secs => $4) WHERE {FENCED}");
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .bind(lease.duration.as_secs_f64())
            .execute(&self.pool)
            .await
            .doing("renew a lease")?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(ClaimError::Fenced(claim.id)) }
    }

    /// Records that the current step was applied (or undone), and goes one step on (or back).
    ///
    /// If the operation was cancelled meanwhile, the claim comes back `Undoing`, with the step just applied still to undo.
    pub async fn record_step(&self, claim: &mut Claim, duration_us: u64) -> Result<(), ClaimError> {
        let mut durations = claim.durations.clone();
        let steps_done = if claim.state == OperationState::Undoing {
            claim.steps_done.saturating_sub(1)
        } else {
            if let Some(duration) = durations.get_mut(claim.steps_done) {
                *duration = Some(micros(duration_us));
            }
            (claim.steps_done + 1).min(claim.plan.steps.len())
        };
        let sql = format!(
            "UPDATE operation
             SET steps_done = CASE state WHEN $4 THEN $5 ELSE steps_done END, durations = $6, attempts = 1,
                 error = CASE state WHEN 'running' THEN NULL ELSE error END
             WHERE {FENCED} RETURNING state, steps_done"
        );
        let row = sqlx::query_as(AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .bind(claim.state.as_str())
            .bind(count(steps_done))
            .bind(&durations)
            .fetch_optional(&self.pool)
            .await
            .doing("record a step")?;
        claim.durations = durations;
        claim.follow(row)
    }

    /// Lets go of the operation until `after` has passed; the error says why the step has to be tried again, when it is not
    /// simply waiting. An operation that was cancelled meanwhile is due at once.
    pub async fn reschedule(&self, claim: &Claim, after: Duration, error: Option<&str>) -> Result<(), ClaimError> {
        let sql = format!(
            "UPDATE operation
             SET lease_owner = NULL, error = coalesce($4, error),
                 next_at = CASE state WHEN $5 THEN now() + make_interval(secs => $6) ELSE now() END
             WHERE {FENCED}"
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .bind(error)
            .bind(claim.state.as_str())
            .bind(after.as_secs_f64())
            .execute(&self.pool)
            .await
            .doing("put off an operation")?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(ClaimError::Fenced(claim.id)) }
    }

    /// Lets go of the operation at once, for another worker: this one is shutting down. The try does not count.
    pub async fn release(&self, claim: &Claim) -> Result<(), ClaimError> {
        let sql = format!(
            "WITH released AS (
                 UPDATE operation SET lease_owner = NULL, next_at = now(), attempts = greatest(attempts - 1, 0)
                 WHERE {FENCED} RETURNING id
             )
             SELECT pg_notify('guardian_operation', '') FROM released"
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .execute(&self.pool)
            .await
            .doing("release an operation")?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(ClaimError::Fenced(claim.id)) }
    }

    /// Turns the operation back after a failure. The step under way counts as done from here on, because it may have begun.
    pub async fn turn_back(&self, claim: &mut Claim, error: &str) -> Result<(), ClaimError> {
        if claim.state == OperationState::Running && !claim.plan.is_reversible_at(claim.steps_done) {
            return Err(ClaimError::Irreversible(claim.id));
        }
        let sql = format!(
            "WITH turned AS (
                 UPDATE operation
                 SET state = 'undoing', undoing = true, attempts = 1, error = $4,
                     steps_done = CASE state WHEN 'running' THEN least(steps_done + 1, cardinality(durations))
                                             ELSE steps_done END
                 WHERE {FENCED} RETURNING state, steps_done, kind, tenant
             ), entry AS (
                 INSERT INTO audit_entry (actor, action, tenant, outcome, detail)
                 SELECT 'system:lifecycle', 'operation.' || kind, tenant, 'failed', $5::text::json FROM turned
             )
             SELECT state, steps_done FROM turned"
        );
        let row = sqlx::query_as(AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .bind(error)
            .bind(serde_json::json!({ "operation": claim.id, "error": error, "now": "undoing" }).to_string())
            .fetch_optional(&self.pool)
            .await
            .doing("turn an operation back")?;
        claim.follow(row)
    }

    /// Forgets the tenant's sealed secrets; harmless when they are gone.
    pub async fn forget_secrets(&self, claim: &Claim) -> Result<(), ClaimError> {
        let sql = format!(
            "UPDATE tenant SET sealed_capability = NULL, sealed_password = NULL,
                 sealed_next_capability = NULL, sealed_next_password = NULL
             WHERE id = (SELECT tenant FROM operation WHERE {FENCED})"
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .execute(&self.pool)
            .await
            .doing("forget a tenant's secrets")?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(ClaimError::Fenced(claim.id)) }
    }
}

impl Claim {
    /// Takes over what the row says now.
    fn follow(&mut self, row: Option<(String, i32)>) -> Result<(), ClaimError> {
        let (state, steps_done) = row.ok_or(ClaimError::Fenced(self.id))?;
        self.state = crate::error::word("operation state", &state, OperationState::from_word)?;
        self.steps_done = usize::try_from(steps_done).unwrap_or_default();
        self.attempts = 1;
        Ok(())
    }
}
