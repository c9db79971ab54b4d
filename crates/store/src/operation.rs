//! Operations as they are read: one, or a page of them. Who changes them: `begin`, `claim`, `intervene`.

use guardian_model::{
    Operation, OperationId, OperationKind, OperationState, Plan, TenantId, TenantState, api::Page, operation::StepRecord,
};
use sqlx::{AssertSqlSafe, types::Json};
use uuid::Uuid;

use crate::{
    Store,
    error::{Doing, ListError, StoreError, parse, word},
    page,
    tenant::row_limit,
    timestamp::Stamp,
};

/// The columns of [`OperationRow`], of the tables `o` and `t`.
pub(crate) const COLUMNS: &str = "o.id AS operation, o.kind, o.tenant, t.slug AS tenant_slug, o.state AS operation_state, o.undoing, \
     o.tenant_state_before, o.plan, o.steps_done, o.durations, o.attempts, o.error, o.requested_by, o.fence, \
     o.created_at AS requested_at, o.finished_at";

#[derive(sqlx::FromRow)]
pub(crate) struct OperationRow {
    pub(crate) operation: Uuid,
    pub(crate) kind: String,
    pub(crate) tenant: Uuid,
    pub(crate) tenant_slug: String,
    pub(crate) operation_state: String,
    pub(crate) undoing: bool,
    pub(crate) tenant_state_before: String,
    pub(crate) plan: Json<Plan>,
    pub(crate) steps_done: i32,
    pub(crate) durations: Vec<Option<i64>>,
    pub(crate) attempts: i32,
    pub(crate) error: Option<String>,
    pub(crate) requested_by: String,
    pub(crate) fence: i64,
    pub(crate) requested_at: Stamp,
    pub(crate) finished_at: Option<Stamp>,
}

impl OperationRow {
    pub(crate) fn kind(&self) -> Result<OperationKind, StoreError> {
        word("operation kind", &self.kind, OperationKind::from_word)
    }

    pub(crate) fn state(&self) -> Result<OperationState, StoreError> {
        word("operation state", &self.operation_state, OperationState::from_word)
    }

    pub(crate) fn tenant_state_before(&self) -> Result<TenantState, StoreError> {
        word("tenant state", &self.tenant_state_before, TenantState::from_word)
    }

    pub(crate) fn steps_done(&self) -> usize {
        usize::try_from(self.steps_done).unwrap_or_default()
    }

    pub(crate) fn attempts(&self) -> u32 {
        u32::try_from(self.attempts).unwrap_or_default()
    }
}

/// Every step with its time.
pub(crate) fn step_records(plan: &Plan, durations: &[Option<i64>]) -> Vec<StepRecord> {
    let duration = |at: usize| durations.get(at).copied().flatten().and_then(|us| u64::try_from(us).ok());
    let records = plan.steps.iter().enumerate();
    records.map(|(at, step)| StepRecord { name: step.name().to_owned(), duration_us: duration(at) }).collect()
}

impl TryFrom<OperationRow> for Operation {
    type Error = StoreError;

    fn try_from(row: OperationRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: OperationId::from_uuid(row.operation),
            kind: row.kind()?,
            tenant: TenantId::from_uuid(row.tenant),
            state: row.state()?,
            steps_done: row.steps_done(),
            steps: step_records(&row.plan.0, &row.durations),
            attempts: row.attempts(),
            slug: parse("slug", row.tenant_slug)?,
            error: row.error,
            requested_by: row.requested_by,
            created_at: row.requested_at.0,
            finished_at: row.finished_at.map(|stamp| stamp.0),
        })
    }
}

/// Which operations to list.
#[derive(Debug, Clone, Default)]
pub struct OperationFilter {
    /// On this tenant.
    pub tenant: Option<TenantId>,
    /// In this state.
    pub state: Option<OperationState>,
    /// Of this kind.
    pub kind: Option<OperationKind>,
}

impl Store {
    /// One operation.
    pub async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM operation o JOIN tenant t ON t.id = o.tenant WHERE o.id = $1");
        let row: Option<OperationRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(id.uuid())
            .fetch_optional(&self.pool)
            .await
            .doing("read an operation")?;
        row.map(Operation::try_from).transpose()
    }

    /// The operation at work on a tenant, if there is one.
    pub async fn live_operation(&self, tenant: TenantId) -> Result<Option<Operation>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM operation o JOIN tenant t ON t.id = o.tenant
             WHERE o.tenant = $1 AND o.state IN ('running', 'undoing', 'stuck')"
        );
        let row: Option<OperationRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(tenant.uuid())
            .fetch_optional(&self.pool)
            .await
            .doing("read a tenant's operation")?;
        row.map(Operation::try_from).transpose()
    }

    /// A page of operations, the newest first.
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<Operation>, ListError> {
        let limit = page::limit(limit)?;
        let before: Option<Uuid> = page::position(b'o', cursor)?;
        let mut conditions = vec!["o.id < $1".to_owned()];
        conditions.extend(filter.state.map(|state| format!("o.state = '{}'", state.as_str())));
        conditions.extend(filter.kind.map(|kind| format!("o.kind = '{}'", kind.as_str())));
        conditions.extend(filter.tenant.map(|_| "o.tenant = $3".to_owned()));
        let sql = format!(
            "SELECT {COLUMNS} FROM operation o JOIN tenant t ON t.id = o.tenant WHERE {} ORDER BY o.id DESC LIMIT $2",
            conditions.join(" AND ")
        );
        let query =
            sqlx::query_as(AssertSqlSafe(sql)).persistent(false).bind(before.unwrap_or(Uuid::max())).bind(row_limit(limit));
        let query = if let Some(tenant) = filter.tenant { query.bind(tenant.uuid()) } else { query };
        let rows: Vec<OperationRow> = query.fetch_all(&self.pool).await.doing("list operations")?;
        let operations = rows.into_iter().map(Operation::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(page::page(b'o', operations, limit, |operation| operation.id.uuid()))
    }
}
