//! Who may do what in a tenant, and the host names that are its own.

use guardian_model::{
    HostName, Permission, TenantAccess, TenantId,
    access::Permit,
    access_api::Domain,
    tenant_access::{AccessChange, AccessError, BuiltIn, SnapshotAccess},
};
use serde_json::json;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Store,
    api_key::giver,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers, parse},
    timestamp::Stamp,
};

/// Tenants of one page of the whole.
pub const ACCESS_PAGE: i64 = 1_000;
/// Host names that one tenant may have.
pub const DOMAINS_MAX: i64 = 50;

/// Why a tenant's roles, groups, users or host names were not changed.
#[derive(Debug, thiserror::Error)]
pub enum TenantAccessError {
    /// It cannot be declared.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The tenant is not there any more.
    #[error("there is no tenant {0}")]
    NoTenant(TenantId),
    /// It is an address, or has no dot.
    #[error("`{0}` is no name that a tenant can have; give a full one, such as `support.acme.com`")]
    NoDomain(HostName),
    /// It names a tenant already, by its first label.
    #[error("`{host}` is below `{suffix}` (http.host_suffix in guardian.toml), where the first label names the tenant")]
    WithinSuffix {
        /// The host name.
        host: HostName,
        /// The suffix.
        suffix: HostName,
    },
    /// Another tenant has it, or this one. Which, is for nobody to know.
    #[error("`{0}` is taken")]
    Taken(HostName),
    /// The tenant does not have it.
    #[error("the tenant has no host name `{0}`")]
    NoHost(HostName),
    /// Too many.
    #[error("the tenant has {DOMAINS_MAX} host names, which is the limit")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a change is in the audit log.
fn told(change: &AccessChange) -> (&'static str, serde_json::Value) {
    match change {
        AccessChange::PutRole(role) => ("access_role.put", json!({ "role": role.name, "permissions": role.permissions })),
        AccessChange::DeleteRole(name) => ("access_role.delete", json!({ "role": name })),
        AccessChange::PutGroup(group) => ("access_group.put", json!({ "group": group.name, "roles": group.roles })),
        AccessChange::DeleteGroup(name) => ("access_group.delete", json!({ "group": name })),
        AccessChange::PutUser(user) => {
            ("access_user.put", json!({ "subject": user.subject, "roles": user.roles, "groups": user.groups }))
        }
        AccessChange::DeleteUser(subject) => ("access_user.delete", json!({ "subject": subject })),
    }
}

impl Store {
    /// Who may do what in a tenant.
    pub async fn tenant_access(&self, tenant: TenantId) -> Result<TenantAccess, StoreError> {
        let access: Option<Json<TenantAccess>> = sqlx::query_scalar("SELECT access FROM tenant_access WHERE tenant = $1")
            .bind(tenant.uuid())
            .fetch_optional(&self.pool)
            .await
            .doing("read who may do what in a tenant")?;
        Ok(access.map(|Json(access)| access).unwrap_or_default())
    }

    /// Changes who may do what in a tenant. A role that an API key has is not taken away.
    pub async fn change_access(
        &self,
        permit: &Permit,
        tenant: TenantId,
        built_in: &BuiltIn,
        change: AccessChange,
    ) -> Result<TenantAccess, TenantAccessError> {
        const DOING: &str = "change who may do what in a tenant";
        covers(permit, Permission::AccessWrite, Some(tenant))?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let mut access = read_for_update(&mut transaction, tenant).await?.ok_or(TenantAccessError::NoTenant(tenant))?;
        if let AccessChange::DeleteRole(name) = &change {
            refuse_held(&mut transaction, tenant, name.as_str()).await?;
        }
        let (action, detail) = told(&change);
        access.change(built_in, giver(permit), change)?;
        sqlx::query(
            "INSERT INTO tenant_access (tenant, access) VALUES ($1, $2)
             ON CONFLICT (tenant) DO UPDATE SET access = excluded.access",
        )
        .bind(tenant.uuid())
        .bind(Json(&access))
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        let record = AuditRecord::of(permit, action, Some(tenant), Outcome::Done).with(detail);
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(access)
    }

    /// The host names of a tenant.
    pub async fn domains(&self, tenant: TenantId) -> Result<Vec<Domain>, StoreError> {
        let rows: Vec<(String, Stamp)> =
            sqlx::query_as("SELECT host, created_at FROM tenant_domain WHERE tenant = $1 ORDER BY host")
                .bind(tenant.uuid())
                .fetch_all(&self.pool)
                .await
                .doing("list a tenant's host names")?;
        let domain = |(host, created_at): (String, Stamp)| {
            Ok(Domain { host: parse("host name", host)?, tenant, created_at: created_at.0 })
        };
        rows.into_iter().map(domain).collect()
    }

    /// Gives a tenant a host name of its own, below none of `suffix`.
    pub async fn add_domain(
        &self,
        permit: &Permit,
        tenant: TenantId,
        host: &HostName,
        suffix: Option<&HostName>,
    ) -> Result<Domain, TenantAccessError> {
        const DOING: &str = "give a tenant a host name";
        covers(permit, Permission::TenantWrite, Some(tenant))?;
        if host.is_address() || !host.as_str().contains('.') {
            return Err(TenantAccessError::NoDomain(host.clone()));
        }
        if let Some(suffix) = suffix.filter(|suffix| host.is_within(suffix)) {
            return Err(TenantAccessError::WithinSuffix { host: host.clone(), suffix: suffix.clone() });
        }
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        lock(&mut transaction, tenant).await?.ok_or(TenantAccessError::NoTenant(tenant))?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM tenant_domain WHERE tenant = $1")
            .bind(tenant.uuid())
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        if count >= DOMAINS_MAX {
            return Err(TenantAccessError::Full);
        }
        let created_at: Option<Stamp> = sqlx::query_scalar(
            "INSERT INTO tenant_domain (host, tenant) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING created_at",
        )
        .bind(host.as_str())
        .bind(tenant.uuid())
        .fetch_optional(&mut *transaction)
        .await
        .doing(DOING)?;
        let created_at = created_at.ok_or_else(|| TenantAccessError::Taken(host.clone()))?.0;
        let record = AuditRecord::of(permit, "domain.add", Some(tenant), Outcome::Done).with(json!({ "host": host }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(Domain { host: host.clone(), tenant, created_at })
    }

    /// Takes a host name away from a tenant.
    pub async fn remove_domain(&self, permit: &Permit, tenant: TenantId, host: &HostName) -> Result<(), TenantAccessError> {
        const DOING: &str = "take a host name away";
        covers(permit, Permission::TenantWrite, Some(tenant))?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let removed = sqlx::query("DELETE FROM tenant_domain WHERE host = $1 AND tenant = $2")
            .bind(host.as_str())
            .bind(tenant.uuid())
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        if removed.rows_affected() == 0 {
            return Err(TenantAccessError::NoHost(host.clone()));
        }
        let record = AuditRecord::of(permit, "domain.remove", Some(tenant), Outcome::Done).with(json!({ "host": host }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(())
    }

    /// A page of the tenants that say who may do what, by id, after `after`; at most [`ACCESS_PAGE`].
    pub async fn feed_access(&self, after: Option<TenantId>) -> Result<Vec<SnapshotAccess>, StoreError> {
        let rows: Vec<(Uuid, Json<TenantAccess>)> =
            sqlx::query_as("SELECT tenant, access FROM tenant_access WHERE tenant > $1 ORDER BY tenant LIMIT $2")
                .bind(after.map_or(Uuid::nil(), TenantId::uuid))
                .bind(ACCESS_PAGE)
                .fetch_all(&self.pool)
                .await
                .doing("read who may do what")?;
        Ok(rows.into_iter().map(snapshot).collect())
    }
}

fn snapshot((tenant, Json(access)): (Uuid, Json<TenantAccess>)) -> SnapshotAccess {
    SnapshotAccess { tenant: TenantId::from_uuid(tenant), access }
}

/// What these tenants say now; nothing, for those that say nothing any more.
pub(crate) async fn read_changed(
    connection: &mut PgConnection,
    tenants: &[Uuid],
) -> Result<Vec<SnapshotAccess>, StoreError> {
    let rows: Vec<(Uuid, Option<Json<TenantAccess>>)> = sqlx::query_as(
        "SELECT asked.tenant, a.access FROM unnest($1) AS asked (tenant) LEFT JOIN tenant_access a USING (tenant)",
    )
    .bind(tenants)
    .fetch_all(connection)
    .await
    .doing("read what changed")?;
    Ok(rows.into_iter().map(|(tenant, access)| snapshot((tenant, access.unwrap_or_default()))).collect())
}

/// Locks a tenant that is not deleted against a deletion that ends meanwhile, and against others that count.
async fn lock(connection: &mut PgConnection, tenant: TenantId) -> Result<Option<Uuid>, StoreError> {
    sqlx::query_scalar("SELECT id FROM tenant WHERE id = $1 AND state <> 'deleted' FOR NO KEY UPDATE")
        .bind(tenant.uuid())
        .fetch_optional(connection)
        .await
        .doing("look up a tenant")
}

/// Who may do what in a tenant, which is locked; `None` for one that is not there any more.
pub(crate) async fn read_for_update(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<Option<TenantAccess>, StoreError> {
    if lock(connection, tenant).await?.is_none() {
        return Ok(None);
    }
    let access: Option<Json<TenantAccess>> = sqlx::query_scalar("SELECT access FROM tenant_access WHERE tenant = $1")
        .bind(tenant.uuid())
        .fetch_optional(connection)
        .await
        .doing("read who may do what in a tenant")?;
    Ok(Some(access.map(|Json(access)| access).unwrap_or_default()))
}

async fn refuse_held(connection: &mut PgConnection, tenant: TenantId, role: &str) -> Result<(), TenantAccessError> {
    let key: Option<Uuid> = sqlx::query_scalar(
        "SELECT id FROM api_key WHERE tenant = $1 AND $2 = ANY (roles) AND revoked_at IS NULL
             AND (expires_at IS NULL OR expires_at > now()) LIMIT 1",
    )
    .bind(tenant.uuid())
    .bind(role)
    .fetch_optional(connection)
    .await
    .doing("look for the keys with a role")?;
    match key.map(guardian_model::ApiKeyId::from_uuid) {
        Some(key) => Err(AccessError::InUse { name: role.to_owned(), held_by: format!("the API key {key}") }.into()),
        None => Ok(()),
    }
}
