//! Tickets that were issued: which login roles have to be dropped, and when. The ticket's secret and the role's password
//! are never here.

use guardian_model::{ClusterName, Permission, TenantId, TicketId, access::Permit};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers, parse},
    timestamp::Stamp,
};

/// A ticket whose role may have to be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedTicket {
    /// Its id.
    pub id: TicketId,
    /// Whose context it opens.
    pub tenant: TenantId,
    /// Where the role is.
    pub cluster: ClusterName,
    /// The login role made for it.
    pub role: String,
}

impl Store {
    /// Notes a ticket that is about to be issued: before its role exists, so that no role is ever forgotten.
    pub async fn record_ticket(
        &self,
        permit: &Permit,
        id: TicketId,
        tenant: TenantId,
        cluster: &ClusterName,
        role: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        const DOING: &str = "note a ticket";
        covers(permit, Permission::TenantEnter, Some(tenant))?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        sqlx::query("INSERT INTO ticket (id, tenant, cluster, role, expires_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(id.uuid())
            .bind(tenant.uuid())
            .bind(cluster.as_str())
            .bind(role)
            .bind(Stamp(expires_at))
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        let record = AuditRecord::of(permit, "ticket.issue", Some(tenant), Outcome::Allowed)
            .with(serde_json::json!({ "ticket": id, "expires_at": expires_at }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)
    }

    /// Tickets past their time, the oldest first; a hundred at most.
    pub async fn expired_tickets(&self) -> Result<Vec<IssuedTicket>, StoreError> {
        let rows: Vec<(Uuid, Uuid, String, String)> = sqlx::query_as(
            "SELECT id, tenant, cluster, role FROM ticket WHERE expires_at < now() ORDER BY expires_at LIMIT 100",
        )
        .fetch_all(&self.pool)
        .await
        .doing("list expired tickets")?;
        rows.into_iter().map(issued).collect()
    }

    /// A tenant's tickets, expired or not: their roles have to go before the tenant's own.
    pub async fn tenant_tickets(&self, tenant: TenantId) -> Result<Vec<IssuedTicket>, StoreError> {
        let rows: Vec<(Uuid, Uuid, String, String)> =
            sqlx::query_as("SELECT id, tenant, cluster, role FROM ticket WHERE tenant = $1 ORDER BY expires_at")
                .bind(tenant.uuid())
                .fetch_all(&self.pool)
                .await
                .doing("list a tenant's tickets")?;
        rows.into_iter().map(issued).collect()
    }

    /// Looks at a ticket again later, because its role cannot be dropped yet.
    pub async fn postpone_ticket(&self, id: TicketId, seconds: u32) -> Result<(), StoreError> {
        sqlx::query("UPDATE ticket SET expires_at = now() + make_interval(secs => $2) WHERE id = $1")
            .bind(id.uuid())
            .bind(f64::from(seconds))
            .execute(&self.pool)
            .await
            .doing("put off a ticket")
            .map(drop)
    }

    /// Forgets a ticket whose role is gone.
    pub async fn forget_ticket(&self, id: TicketId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM ticket WHERE id = $1")
            .bind(id.uuid())
            .execute(&self.pool)
            .await
            .doing("forget a ticket")
            .map(drop)
    }
}

fn issued((id, tenant, cluster, role): (Uuid, Uuid, String, String)) -> Result<IssuedTicket, StoreError> {
    let cluster = parse("cluster", cluster)?;
    Ok(IssuedTicket { id: TicketId::from_uuid(id), tenant: TenantId::from_uuid(tenant), cluster, role })
}
