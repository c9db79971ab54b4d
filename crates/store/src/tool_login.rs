//! Logins for a user's own migration tool: which roles have to be dropped, and when. A login is noted before its role exists, and
//! forgotten by nobody before the role is gone. Passwords are never here.

use std::time::Duration;

use guardian_model::{Permission, Place, TenantId, ToolLoginId, access::Permit};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, insert_entry},
    error::{Doing, StoreError, covers, parse},
    timestamp::Stamp,
};

/// A login whose role has to be dropped in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToolLogin {
    /// Its id, which its role bears as a name.
    pub id: ToolLoginId,
    /// Whose place it opens; none: the shared one.
    pub tenant: Option<TenantId>,
    /// The place.
    pub place: Place,
    /// Who asked for it.
    pub opened_by: String,
    /// When it is over, unless it is renewed before.
    pub expires_at: Timestamp,
    /// Whether it is over.
    pub is_over: bool,
}

#[derive(sqlx::FromRow)]
struct ToolLoginRow {
    id: Uuid,
    tenant: Option<Uuid>,
    cluster: String,
    database: String,
    schema: String,
    opened_by: String,
    expires_at: Stamp,
    is_over: bool,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant, cluster, database, schema, opened_by, expires_at, expires_at <= now() AS is_over FROM tool_login ",
            $rest
        )
    };
}

impl Store {
    /// Notes a login before its role is made. False when the place has one already; nothing is noted then.
    pub async fn record_tool_login(
        &self,
        permit: &Permit,
        id: ToolLoginId,
        tenant: Option<TenantId>,
        place: &Place,
        lasts: Duration,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "note a login of a migration tool";
        covers(permit, Permission::SchemaWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let noted = sqlx::query(
            "INSERT INTO tool_login (id, tenant, cluster, database, schema, opened_by, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)) ON CONFLICT DO NOTHING",
        )
        .bind(id.uuid())
        .bind(tenant.map(TenantId::uuid))
        .bind(place.cluster.as_str())
        .bind(&place.database)
        .bind(&place.schema)
        .bind(&permit.actor().name)
        .bind(lasts.as_secs_f64())
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        if noted.rows_affected() == 0 {
            return Ok(false);
        }
        let detail = serde_json::json!({ "login": id, "place": place.to_string(), "lasts_s": lasts.as_secs() });
        let record = AuditRecord::of(permit, "migration.open", tenant, crate::Outcome::Allowed).with(detail);
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(true)
    }

    /// Lets a login last for so long from now on. False when it is over, or there is none.
    pub async fn renew_tool_login(&self, permit: &Permit, id: ToolLoginId, lasts: Duration) -> Result<bool, StoreError> {
        const DOING: &str = "renew a login of a migration tool";
        covers(permit, Permission::SchemaWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let renewed: Option<Option<Uuid>> = sqlx::query_scalar(
            "UPDATE tool_login SET expires_at = now() + make_interval(secs => $2)
             WHERE id = $1 AND expires_at > now() RETURNING tenant",
        )
        .bind(id.uuid())
        .bind(lasts.as_secs_f64())
        .fetch_optional(&mut *transaction)
        .await
        .doing(DOING)?;
        let Some(tenant) = renewed else { return Ok(false) };
        let detail = serde_json::json!({ "login": id, "lasts_s": lasts.as_secs() });
        let tenant = tenant.map(TenantId::from_uuid);
        let record = AuditRecord::of(permit, "migration.renew", tenant, crate::Outcome::Allowed).with(detail);
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(true)
    }

    /// One login.
    pub async fn tool_login(&self, id: ToolLoginId) -> Result<Option<IssuedToolLogin>, StoreError> {
        let row: Option<ToolLoginRow> = sqlx::query_as(select!("WHERE id = $1"))
            .bind(id.uuid())
            .fetch_optional(&self.pool)
            .await
            .doing("read a login of a migration tool")?;
        row.map(IssuedToolLogin::try_from).transpose()
    }

    /// The login that a place has.
    pub async fn tool_login_at(&self, place: &Place) -> Result<Option<IssuedToolLogin>, StoreError> {
        let row: Option<ToolLoginRow> = sqlx::query_as(select!("WHERE cluster = $1 AND database = $2 AND schema = $3"))
            .bind(place.cluster.as_str())
            .bind(&place.database)
            .bind(&place.schema)
            .fetch_optional(&self.pool)
            .await
            .doing("read a place's login of a migration tool")?;
        row.map(IssuedToolLogin::try_from).transpose()
    }

    /// Those that are over and whose role is due to be dropped, the oldest first; a hundred at most.
    pub async fn expired_tool_logins(&self) -> Result<Vec<IssuedToolLogin>, StoreError> {
        let rows: Vec<ToolLoginRow> =
            sqlx::query_as(select!("WHERE expires_at <= now() AND drop_at <= now() ORDER BY expires_at LIMIT 100"))
                .fetch_all(&self.pool)
                .await
                .doing("list expired logins of migration tools")?;
        rows.into_iter().map(IssuedToolLogin::try_from).collect()
    }

    /// Those of a tenant's place, over or not: their roles have to go before the place does.
    pub async fn tenant_tool_logins(&self, tenant: TenantId) -> Result<Vec<IssuedToolLogin>, StoreError> {
        let rows: Vec<ToolLoginRow> = sqlx::query_as(select!("WHERE tenant = $1"))
            .bind(tenant.uuid())
            .fetch_all(&self.pool)
            .await
            .doing("list a tenant's logins of migration tools")?;
        rows.into_iter().map(IssuedToolLogin::try_from).collect()
    }

    /// Tries an expired login again later, because its role cannot be dropped yet.
    pub async fn postpone_tool_login(&self, id: ToolLoginId, pause: Duration) -> Result<(), StoreError> {
        sqlx::query("UPDATE tool_login SET drop_at = now() + make_interval(secs => $2) WHERE id = $1")
            .bind(id.uuid())
            .bind(pause.as_secs_f64())
            .execute(&self.pool)
            .await
            .doing("put off a login of a migration tool")
            .map(drop)
    }

    /// Forgets a login whose role is gone, and notes how it ended. The record is written once, however many end it.
    pub async fn end_tool_login(&self, id: ToolLoginId, record: &AuditRecord) -> Result<(), StoreError> {
        const DOING: &str = "note the end of a login of a migration tool";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let ended = sqlx::query("DELETE FROM tool_login WHERE id = $1").bind(id.uuid()).execute(&mut *transaction).await;
        if ended.doing(DOING)?.rows_affected() == 1 {
            insert_entry(&mut *transaction, record).await.doing(DOING)?;
        }
        transaction.commit().await.doing(DOING)
    }
}

impl TryFrom<ToolLoginRow> for IssuedToolLogin {
    type Error = StoreError;

    fn try_from(row: ToolLoginRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ToolLoginId::from_uuid(row.id),
            tenant: row.tenant.map(TenantId::from_uuid),
            place: Place { cluster: parse("cluster", row.cluster)?, database: row.database, schema: row.schema },
            opened_by: row.opened_by,
            expires_at: row.expires_at.0,
            is_over: row.is_over,
        })
    }
}
