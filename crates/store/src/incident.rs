//! Incidents: what waits for a person. `stick` opens them; a retry, a cancellation or the operation's end closes them.

use guardian_model::{
    IncidentId, OperationId, TenantId,
    api::{Incident, Page},
};
use uuid::Uuid;

use crate::{
    Store,
    error::{Doing, ListError},
    page,
    tenant::row_limit,
    timestamp::Stamp,
};

#[derive(sqlx::FromRow)]
struct IncidentRow {
    id: Uuid,
    operation: Option<Uuid>,
    tenant: Option<Uuid>,
    summary: String,
    opened_at: Stamp,
    closed_at: Option<Stamp>,
}

impl From<IncidentRow> for Incident {
    fn from(row: IncidentRow) -> Self {
        Self {
            id: IncidentId::from_uuid(row.id),
            operation: row.operation.map(OperationId::from_uuid),
            tenant: row.tenant.map(TenantId::from_uuid),
            summary: row.summary,
            opened_at: row.opened_at.0,
            closed_at: row.closed_at.map(|stamp| stamp.0),
        }
    }
}

impl Store {
    /// A page of incidents, the newest first.
    pub async fn incidents(
        &self,
        open_only: bool,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<Incident>, ListError> {
        let limit = page::limit(limit)?;
        let before: Option<Uuid> = page::position(b'i', cursor)?;
        let sql = if open_only {
            "SELECT id, operation, tenant, summary, opened_at, closed_at FROM incident
             WHERE id < $1 AND closed_at IS NULL ORDER BY id DESC LIMIT $2"
        } else {
            "SELECT id, operation, tenant, summary, opened_at, closed_at FROM incident WHERE id < $1 ORDER BY id DESC LIMIT $2"
        };
        let rows: Vec<IncidentRow> = sqlx::query_as(sql)
            .bind(before.unwrap_or(Uuid::max()))
            .bind(row_limit(limit))
            .fetch_all(&self.pool)
            .await
            .doing("list incidents")?;
        let incidents = rows.into_iter().map(Incident::from).collect();
        Ok(page::page(b'i', incidents, limit, |incident: &Incident| incident.id.uuid()))
    }
}
