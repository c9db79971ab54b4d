//! A person's side of operations: retry one that is stuck, cancel one that can still be taken back. And the channel
//! that wakes the workers.

use guardian_model::{Operation, OperationId, OperationState, Permission, TenantId, access::Permit};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgListener};

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers},
    operation::{COLUMNS, OperationRow},
};

/// The channel on which workers hear that an operation is due.
const CHANNEL: &str = "guardian_operation";

/// Why an operation was not retried or cancelled.
#[derive(Debug, thiserror::Error)]
pub enum InterveneError {
    /// No such operation.
    #[error("there is no operation {0}")]
    NotFound(OperationId),
    /// Only a stuck one can be retried.
    #[error("the operation {id} is {}; only a stuck one can be retried", .state.as_str())]
    NotStuck {
        /// The operation.
        id: OperationId,
        /// Where it stands.
        state: OperationState,
    },
    /// It has ended.
    #[error("the operation {id} is {}; there is nothing left to cancel", .state.as_str())]
    Over {
        /// The operation.
        id: OperationId,
        /// How it ended.
        state: OperationState,
    },
    /// A step that cannot be undone may have begun.
    #[error("the operation {0} has begun a step that cannot be undone; it can only go forward")]
    Irreversible(OperationId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tells when an operation may be due. Holds a connection of the pool.
pub struct Wakeups(PgListener);

impl Wakeups {
    /// Waits for the next call. After the connection was lost and found again, it returns at once, because calls may
    /// have been missed.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        self.0.try_recv().await.doing("listen for operations").map(drop)
    }
}

impl Store {
    /// Listens for operations that become due by somebody's hand. Polling has to back it up: time makes them due, too.
    pub async fn wakeups(&self) -> Result<Wakeups, StoreError> {
        const DOING: &str = "listen for operations";
        let mut listener = PgListener::connect_with(&self.pool).await.doing(DOING)?;
        listener.listen(CHANNEL).await.doing(DOING)?;
        Ok(Wakeups(listener))
    }

    /// Lets a stuck operation go on the way it was going, and closes its incident.
    pub async fn retry(&self, permit: &Permit, id: OperationId) -> Result<Operation, InterveneError> {
        const DOING: &str = "retry an operation";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let row = lock(&mut transaction, id).await?;
        let tenant = TenantId::from_uuid(row.tenant);
        covers(permit, Permission::TenantWrite, Some(tenant))?;
        let state = row.state()?;
        if state != OperationState::Stuck {
            return Err(InterveneError::NotStuck { id, state });
        }
        sqlx::query(
            "WITH closed AS (UPDATE incident SET closed_at = now() WHERE operation = $1 AND closed_at IS NULL)
             UPDATE operation SET state = CASE WHEN undoing THEN 'undoing' ELSE 'running' END, attempts = 0, next_at = now()
             WHERE id = $1",
        )
        .bind(id.uuid())
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        let record = AuditRecord::of(permit, "operation.retry", Some(tenant), Outcome::Allowed)
            .with(serde_json::json!({ "operation": id }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        wake(&mut transaction).await.doing(DOING)?;
        let operation = lock(&mut transaction, id).await?.try_into()?;
        transaction.commit().await.doing(DOING)?;
        Ok(operation)
    }

    /// Turns an operation back. A worker that is in the middle of a step ends that step first; the step counts as begun.
    pub async fn cancel(&self, permit: &Permit, id: OperationId) -> Result<Operation, InterveneError> {
        const DOING: &str = "cancel an operation";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let row = lock(&mut transaction, id).await?;
        let tenant = TenantId::from_uuid(row.tenant);
        covers(permit, Permission::TenantWrite, Some(tenant))?;
        let state = row.state()?;
        if !state.is_live() {
            return Err(InterveneError::Over { id, state });
        }
        if !row.undoing && !row.plan.0.is_reversible_at(row.steps_done()) {
            return Err(InterveneError::Irreversible(id));
        }
        sqlx::query(
            "WITH closed AS (UPDATE incident SET closed_at = now() WHERE operation = $1 AND closed_at IS NULL)
             UPDATE operation
             SET state = 'undoing', undoing = true,
                 steps_done = CASE WHEN undoing THEN steps_done ELSE least(steps_done + 1, cardinality(durations)) END,
                 attempts = CASE WHEN undoing AND state = 'undoing' THEN attempts ELSE 0 END,
                 next_at = CASE WHEN lease_owner IS NULL THEN now() ELSE next_at END
             WHERE id = $1",
        )
        .bind(id.uuid())
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        let record = AuditRecord::of(permit, "operation.cancel", Some(tenant), Outcome::Allowed)
            .with(serde_json::json!({ "operation": id }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        wake(&mut transaction).await.doing(DOING)?;
        let operation = lock(&mut transaction, id).await?.try_into()?;
        transaction.commit().await.doing(DOING)?;
        Ok(operation)
    }
}

async fn lock(connection: &mut PgConnection, id: OperationId) -> Result<OperationRow, InterveneError> {
    let sql = format!("SELECT {COLUMNS} FROM operation o JOIN tenant t ON t.id = o.tenant WHERE o.id = $1 FOR UPDATE OF o");
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(id.uuid())
        .fetch_optional(connection)
        .await
        .doing("read an operation")?
        .ok_or(InterveneError::NotFound(id))
}

async fn wake(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(connection).await.map(drop)
}
