//! A worker's side of runs: take one up, keep it, record its parts, end it.
//!
//! Every write names the fence and the worker, as for operations: a process that lost its lease changes nothing any more.

use guardian_model::{
    RunId,
    access::Actor,
    api::{RunKind, RunState},
};
use uuid::Uuid;

use crate::{
    Store,
    audit::Outcome,
    begin::Lease,
    claim::{count, micros},
    error::{Doing, StoreError, word},
};

/// A run in the hands of one process.
#[derive(Debug, Clone)]
pub struct RunClaim {
    /// The run.
    pub id: RunId,
    /// What it does.
    pub kind: RunKind,
    /// What was asked for, as it was given to [`Store::start_run`].
    pub arguments: serde_json::Value,
    /// How often it was taken up, by whoever began it too.
    pub fence: i64,
    pub(crate) worker: String,
}

/// Why a write was not made.
#[derive(Debug, thiserror::Error)]
pub enum RunClaimError {
    /// Another process has the run, or it is over. Whoever gets this has to let go of the work.
    #[error("the run {0} is in other hands")]
    Fenced(RunId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The run, if it is still the claim's. `FOR SHARE`: nobody takes it up before the write is done.
const HELD: &str =
    "held AS (SELECT id FROM run WHERE id = $1 AND fence = $2 AND lease_owner = $3 AND state = 'running' FOR SHARE)";

impl Store {
    /// Takes up a run whose lease has ended; `None` when there is none. Kinds that only a newer guardian knows are left
    /// to it.
    pub async fn claim_run(&self, lease: &Lease) -> Result<Option<RunClaim>, StoreError> {
        const DOING: &str = "claim a run";
        let row: Option<(Uuid, String, String, i64)> = sqlx::query_as(
            "WITH due AS (
                 SELECT id FROM run WHERE state = 'running' AND lease_until <= now() AND kind = ANY ($3)
                 ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED
             )
             UPDATE run SET lease_owner = $1, lease_until = now() + make_interval(secs => $2), fence = fence + 1
             FROM due WHERE run.id = due.id RETURNING run.id, kind, arguments::text, fence",
        )
        .bind(&lease.worker)
        .bind(lease.duration.as_secs_f64())
        .bind(RunKind::ALL.map(RunKind::as_str).as_slice())
        .fetch_optional(&self.pool)
        .await
        .doing(DOING)?;
        let Some((id, kind, arguments, fence)) = row else { return Ok(None) };
        let kind = word("run kind", &kind, RunKind::from_word)?;
        let arguments = serde_json::from_str(&arguments)
            .map_err(|_| StoreError::Unreadable { what: "arguments of a run", value: arguments })?;
        Ok(Some(RunClaim { id: RunId::from_uuid(id), kind, arguments, fence, worker: lease.worker.clone() }))
    }

    /// Extends the lease, from now.
    pub async fn renew_run(&self, claim: &RunClaim, lease: &Lease) -> Result<(), RunClaimError> {
        self.lease_run(claim, lease.duration.as_secs_f64()).await
    }

    /// Ends the lease, so that another process may take the run up at once.
    pub async fn release_run(&self, claim: &RunClaim) -> Result<(), RunClaimError> {
        self.lease_run(claim, 0.0).await
    }

    async fn lease_run(&self, claim: &RunClaim, seconds: f64) -> Result<(), RunClaimError> {
        let done = sqlx::query(
            "UPDATE run SET lease_until = now() + make_interval(secs => $4)
             WHERE id = $1 AND fence = $2 AND lease_owner = $3 AND state = 'running'",
        )
        .bind(claim.id.uuid())
        .bind(claim.fence)
        .bind(&claim.worker)
        .bind(seconds)
        .execute(&self.pool)
        .await
        .doing("renew the lease of a run")?;
        one(claim, done.rows_affected())
    }

    /// Records where one item stands; a detail replaces the item's.
    pub async fn run_item(
        &self,
        claim: &RunClaim,
        position: usize,
        state: RunState,
        detail: Option<&str>,
        duration_us: Option<u64>,
    ) -> Result<(), RunClaimError> {
        let sql = format!(
            "WITH {HELD}
             UPDATE run_item SET state = $5, detail = coalesce($6, detail), duration_us = coalesce($7, duration_us)
             FROM held WHERE run = held.id AND position = $4"
        );
        let done = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .bind(count(position))
            .bind(state.as_str())
            .bind(detail)
            .bind(duration_us.map(micros))
            .execute(&self.pool)
            .await
            .doing("record a part of a run")?;
        one(claim, done.rows_affected())
    }

    /// Replaces what a run still had to do, after its work was computed anew, and gives the position of the first new
    /// item. What was done stays, unless the new items name it again: then it was taken back.
    pub async fn replan_run(&self, claim: &RunClaim, items: &[(String, String)]) -> Result<usize, RunClaimError> {
        const DOING: &str = "plan a run anew";
        let (names, details): (Vec<&str>, Vec<&str>) =
            items.iter().map(|(name, detail)| (name.as_str(), detail.as_str())).unzip();
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let sql = format!("WITH {HELD} SELECT id FROM held");
        let held: Option<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(claim.id.uuid())
            .bind(claim.fence)
            .bind(&claim.worker)
            .fetch_optional(&mut *transaction)
            .await
            .doing(DOING)?;
        one(claim, held.is_some().into())?;
        sqlx::query(
            "DELETE FROM run_item WHERE run = $1
             AND (state <> 'done' OR (name, detail) IN (SELECT * FROM unnest($2::text[], $3::text[])))",
        )
        .bind(claim.id.uuid())
        .bind(&names)
        .bind(&details)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        let first: i32 = sqlx::query_scalar("SELECT coalesce(max(position) + 1, 0) FROM run_item WHERE run = $1")
            .bind(claim.id.uuid())
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        sqlx::query(
            "INSERT INTO run_item (run, position, name, detail)
             SELECT $1, $2 + position - 1, name, detail
             FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS item (name, detail, position)",
        )
        .bind(claim.id.uuid())
        .bind(first)
        .bind(&names)
        .bind(&details)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(usize::try_from(first).unwrap_or_default())
    }

    /// Ends a run: done, or failed with the reason.
    pub async fn finish_run(&self, claim: &RunClaim, error: Option<&str>) -> Result<(), RunClaimError> {
        let state = if error.is_some() { RunState::Failed } else { RunState::Done };
        self.end_run(claim, state, error).await
    }

    /// Gives a run up for good: what it had left to do is not done.
    pub async fn interrupt_run(&self, claim: &RunClaim, reason: &str) -> Result<(), RunClaimError> {
        self.end_run(claim, RunState::Interrupted, Some(reason)).await
    }

    async fn end_run(&self, claim: &RunClaim, state: RunState, error: Option<&str>) -> Result<(), RunClaimError> {
        let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Done };
        let done = sqlx::query(
            "WITH ended AS (
                 UPDATE run SET state = $4, error = $5, finished_at = now()
                 WHERE id = $1 AND fence = $2 AND lease_owner = $3 AND state = 'running' RETURNING id, kind
             ), items AS (
                 UPDATE run_item SET state = 'interrupted' FROM ended
                 WHERE $4 = 'interrupted' AND run_item.run = ended.id AND run_item.state IN ('waiting', 'running')
             )
             INSERT INTO audit_entry (actor, action, outcome, detail)
             SELECT $6, 'run.' || kind, $7, $8::text::json FROM ended",
        )
        .bind(claim.id.uuid())
        .bind(claim.fence)
        .bind(&claim.worker)
        .bind(state.as_str())
        .bind(error)
        .bind(Actor::system("run").name)
        .bind(outcome.as_str())
        .bind(serde_json::json!({ "run": claim.id, "error": error }).to_string())
        .execute(&self.pool)
        .await
        .doing("end a run")?;
        one(claim, done.rows_affected())
    }
}

fn one(claim: &RunClaim, rows: u64) -> Result<(), RunClaimError> {
    if rows == 1 { Ok(()) } else { Err(RunClaimError::Fenced(claim.id)) }
}
