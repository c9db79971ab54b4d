//! How a worker's operation ends: done, undone, or stuck until a person helps.
//!
//! The end of a creation is one statement, and so one round trip: it is what a sign-up page waits for.

use guardian_model::{IncidentId, Operation, OperationState, TenantState};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    Store,
    claim::{Claim, ClaimError, FENCED, count, micros},
    error::{Doing, StoreError},
    operation::step_records,
    timestamp::Stamp,
};

#[derive(sqlx::FromRow)]
struct EndRow {
    error: Option<String>,
    requested_by: String,
    attempts: i32,
    created_at: Stamp,
    finished_at: Stamp,
}

impl Claim {
    /// The tenant's state once the operation has ended the way it is going.
    fn state_at_end(&self) -> TenantState {
        match self.state {
            OperationState::Undoing => self.kind.state_when_undone(self.state_before),
            _ => self.kind.state_when_done(),
        }
    }
}

impl Store {
    /// Ends the operation the way it goes: the last step (when its time is given), `done` or `undone`, the tenant's new
    /// state and the audit entry in one statement. The tenant's secrets go when the tenant does, and so do its tokens.
    pub async fn finish(&self, claim: &Claim, last_step_us: Option<u64>) -> Result<Operation, ClaimError> {
        // By the ids themselves rather than joins: a plan made while the tables were small stays in use as they grow, and
        // for a join it would read them whole.
        const FINISH: &str = "
WITH ended AS (
    UPDATE operation
    SET state = $4, steps_done = $5, durations = $6, error = CASE WHEN $4 = 'done' THEN NULL ELSE error END,
        lease_owner = NULL, finished_at = now()
    WHERE id = $1 AND fence = $2 AND lease_owner = $3 AND state = $7
    RETURNING id, kind, tenant, error, requested_by, attempts, created_at, finished_at
), changed AS (
    UPDATE tenant SET state = $8, changed_at = now(),
        sealed_capability = CASE WHEN $8 = 'deleted' THEN NULL ELSE sealed_capability END,
        sealed_password = CASE WHEN $8 = 'deleted' THEN NULL ELSE sealed_password END,
        sealed_next_capability = CASE WHEN $8 = 'deleted' THEN NULL ELSE sealed_next_capability END,
        sealed_next_password = CASE WHEN $8 = 'deleted' THEN NULL ELSE sealed_next_password END
    WHERE id = $10 AND EXISTS (SELECT FROM ended)
), revoked AS (
    UPDATE token SET revoked_at = now()
    WHERE $8 = 'deleted' AND tenant = $10 AND revoked_at IS NULL AND EXISTS (SELECT FROM ended)
), closed AS (
    UPDATE incident SET closed_at = now() WHERE operation = $1 AND closed_at IS NULL AND EXISTS (SELECT FROM ended)
), entry AS (
    INSERT INTO audit_entry (actor, action, tenant, outcome, detail)
    SELECT 'system:lifecycle', 'operation.' || kind, tenant, $4, $9::text::json FROM ended
)
SELECT error, requested_by, attempts, created_at, finished_at FROM ended";
        let undoing = claim.state == OperationState::Undoing;
        let last = usize::from(last_step_us.is_some());
        let mut durations = claim.durations.clone();
        let (state, steps_done) = if undoing {
            (OperationState::Undone, claim.steps_done.saturating_sub(last))
        } else {
            if let (Some(us), Some(duration)) = (last_step_us, durations.get_mut(claim.steps_done)) {
                *duration = Some(micros(us));
            }
            (OperationState::Done, claim.steps_done + last)
        };
        if steps_done != if undoing { 0 } else { claim.plan.steps.len() } {
            return Err(ClaimError::StepsLeft(claim.id));
        }
        let detail = serde_json::json!({ "operation": claim.id, "slug": claim.tenant.slug }).to_string();
        let row: Option<EndRow> = sqlx::query_as(FINISH)
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .bind(state.as_str())
            .bind(count(steps_done))
            .bind(&durations)
            .bind(claim.state.as_str())
            .bind(claim.state_at_end().as_str())
            .bind(detail)
            .bind(claim.tenant.id.uuid())
            .fetch_optional(&self.pool)
            .await
            .doing("end an operation")?;
        let Some(row) = row else { return Err(self.why_not_ended(claim).await?) };
        // The end of a creation announces itself to nobody else (migration 0006).
        self.changed.notify_one();
        Ok(Operation {
            id: claim.id,
            kind: claim.kind,
            tenant: claim.tenant.id,
            slug: claim.tenant.slug.clone(),
            state,
            steps_done,
            steps: step_records(&claim.plan, &durations),
            attempts: u32::try_from(row.attempts).unwrap_or_default(),
            error: row.error,
            requested_by: row.requested_by,
            created_at: row.created_at.0,
            finished_at: Some(row.finished_at.0),
        })
    }

    async fn why_not_ended(&self, claim: &Claim) -> Result<ClaimError, StoreError> {
        let sql = format!("SELECT id FROM operation WHERE {FENCED}");
        let held: Option<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .fetch_optional(&self.pool)
            .await
            .doing("read an operation")?;
        Ok(if held.is_some() { ClaimError::TurnedBack(claim.id) } else { ClaimError::Fenced(claim.id) })
    }

    /// Leaves the operation to a person: `stuck`, with an open incident. The tenant stays barred to other operations.
    pub async fn stick(&self, claim: &Claim, error: &str) -> Result<IncidentId, ClaimError> {
        let incident = IncidentId::from_uuid(Uuid::now_v7());
        let sql = format!(
            "WITH stuck AS (
                 UPDATE operation SET state = 'stuck', lease_owner = NULL, error = $4 WHERE {FENCED} RETURNING id, kind, tenant
             ), opened AS (
                 INSERT INTO incident (id, operation, tenant, summary) SELECT $5, id, tenant, $6 FROM stuck
             ), entry AS (
                 INSERT INTO audit_entry (actor, action, tenant, outcome, detail)
                 SELECT 'system:lifecycle', 'operation.' || kind, tenant, 'failed', $7::text::json FROM stuck
             )
             SELECT id FROM stuck"
        );
        let summary = format!(
            "{} of tenant {} is stuck: {error}. Mend the cause, then: guardian operation retry {}",
            claim.kind.as_str(),
            claim.tenant.slug,
            claim.id
        );
        let detail = serde_json::json!({ "operation": claim.id, "incident": incident, "error": error, "now": "stuck" });
        let row: Option<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .bind(error)
            .bind(incident.uuid())
            .bind(summary)
            .bind(detail.to_string())
            .fetch_optional(&self.pool)
            .await
            .doing("mark an operation stuck")?;
        row.map(|_| incident).ok_or(ClaimError::Fenced(claim.id))
    }
}
