//! Runs: passes of `apply` and `migrate` with their parts, so that a caller can watch one and read it afterwards.
//!
//! Like an operation, a run has a lease and a fence: see [`RunClaim`], which whoever works on it holds.

use guardian_model::{
    RunId,
    access::Permit,
    api::{Page, Run, RunItem, RunKind, RunState},
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    begin::Lease,
    error::{Doing, ListError, StoreError, broken_constraint, covers, word},
    page,
    run_claim::RunClaim,
    tenant::row_limit,
    timestamp::Stamp,
};

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// One of the same kind is at work.
    #[error("the run {0} is at work; wait for it")]
    Busy(RunId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(sqlx::FromRow)]
struct RunRow {
    id: Uuid,
    kind: String,
    state: String,
    error: Option<String>,
    started_at: Stamp,
    finished_at: Option<Stamp>,
}

impl RunRow {
    fn with(self, items: Vec<RunItem>) -> Result<Run, StoreError> {
        Ok(Run {
            id: RunId::from_uuid(self.id),
            kind: word("run kind", &self.kind, RunKind::from_word)?,
            state: word("run state", &self.state, RunState::from_word)?,
            error: self.error,
            items,
            started_at: self.started_at.0,
            finished_at: self.finished_at.map(|stamp| stamp.0),
        })
    }
}

const COLUMNS: &str = "id, kind, state, error, started_at, finished_at";

impl Store {
    /// Starts a run of these items (name, detail), in order, leased to the caller, who is expected to carry it out. The
    /// arguments are what another process needs in order to go on with it.
    pub async fn start_run(
        &self,
        permit: &Permit,
        kind: RunKind,
        arguments: serde_json::Value,
        items: &[(String, String)],
        lease: &Lease,
    ) -> Result<RunClaim, RunError> {
        const DOING: &str = "start a run";
        covers(permit, kind.permission(), None)?;
        let id = RunId::from_uuid(Uuid::now_v7());
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let inserted = sqlx::query(
            "INSERT INTO run (id, kind, requested_by, arguments, lease_owner, lease_until)
             VALUES ($1, $2, $3, $4::text::json, $5, now() + make_interval(secs => $6))",
        )
        .bind(id.uuid())
        .bind(kind.as_str())
        .bind(&permit.actor().name)
        .bind(arguments.to_string())
        .bind(&lease.worker)
        .bind(lease.duration.as_secs_f64())
        .execute(&mut *transaction)
        .await;
        if let Err(error) = inserted {
            drop(transaction);
            return Err(match broken_constraint(&error) {
                Some("run_live") => self.busy(kind, error).await?,
                _ => StoreError::Database { doing: DOING, source: error }.into(),
            });
        }
        let (names, details): (Vec<&str>, Vec<&str>) =
            items.iter().map(|(name, detail)| (name.as_str(), detail.as_str())).unzip();
        sqlx::query(
            "INSERT INTO run_item (run, position, name, detail)
             SELECT $1, position - 1, name, detail
             FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS item (name, detail, position)",
        )
        .bind(id.uuid())
        .bind(names)
        .bind(details)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        let record = AuditRecord::of(permit, &format!("run.{}", kind.as_str()), None, Outcome::Allowed)
            .with(serde_json::json!({ "run": id, "items": items.len() }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(RunClaim { id, kind, arguments, fence: 1, worker: lease.worker.clone() })
    }

    async fn busy(&self, kind: RunKind, error: sqlx::Error) -> Result<RunError, StoreError> {
        const DOING: &str = "start a run";
        let live: Option<Uuid> = sqlx::query_scalar("SELECT id FROM run WHERE kind = $1 AND state = 'running'")
            .bind(kind.as_str())
            .fetch_optional(&self.pool)
            .await
            .doing(DOING)?;
        Ok(live.map_or_else(
            || StoreError::Database { doing: DOING, source: error }.into(),
            |id| RunError::Busy(RunId::from_uuid(id)),
        ))
    }

    /// One run with its items.
    pub async fn run(&self, id: RunId) -> Result<Option<Run>, StoreError> {
        const DOING: &str = "read a run";
        let sql = format!("SELECT {COLUMNS} FROM run WHERE id = $1");
        let row: Option<RunRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(id.uuid()).fetch_optional(&self.pool).await.doing(DOING)?;
        let Some(row) = row else { return Ok(None) };
        let items: Vec<(String, String, String, Option<i64>)> =
            sqlx::query_as("SELECT name, state, detail, duration_us FROM run_item WHERE run = $1 ORDER BY position")
                .bind(id.uuid())
                .fetch_all(&self.pool)
                .await
                .doing(DOING)?;
        let items = items.into_iter().map(|(name, at, detail, us)| {
            let duration_us = us.and_then(|us| u64::try_from(us).ok());
            Ok(RunItem { name, state: word("run state", &at, RunState::from_word)?, detail, duration_us })
        });
        row.with(items.collect::<Result<_, StoreError>>()?).map(Some)
    }

    /// A page of runs without their items, the newest first.
    pub async fn runs(&self, cursor: Option<&str>, limit: Option<u32>) -> Result<Page<Run>, ListError> {
        let limit = page::limit(limit)?;
        let before: Option<Uuid> = page::position(b'r', cursor)?;
        let sql = format!("SELECT {COLUMNS} FROM run WHERE id < $1 ORDER BY id DESC LIMIT $2");
        let rows: Vec<RunRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(before.unwrap_or(Uuid::max()))
            .bind(row_limit(limit))
            .fetch_all(&self.pool)
            .await
            .doing("list runs")?;
        let runs = rows.into_iter().map(|row| row.with(Vec::new())).collect::<Result<_, _>>()?;
        Ok(page::page(b'r', runs, limit, |run: &Run| run.id.uuid()))
    }
}
