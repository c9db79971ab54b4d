//! Tenants: reading, listing, re-tiering, and their sealed secrets. Creation and every other change of state belong to
//! operations (`begin`, `claim`).

use std::{fmt, str::FromStr};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use guardian_model::{
    Capability, Isolation, LimitOverrides, Permission, Place, Placement, Slug, Tenant, TenantId, TenantState, TierName,
    access::Permit, api::Page, id::IdError, slug::SlugError, tier::WEIGHT_MAX,
};
use sqlx::{AssertSqlSafe, types::Json};
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, ListError, StoreError, broken_constraint, covers, parse, word},
    page,
    timestamp::Stamp,
};

/// The columns of [`TenantRow`], of the table `t`.
pub(crate) const COLUMNS: &str = "t.id, t.slug, t.key, t.tier, t.state, t.isolation, t.cluster, t.database, t.schema, t.role, \
     t.limits, t.created_at, t.changed_at";

#[derive(sqlx::FromRow)]
pub(crate) struct TenantRow {
    id: Uuid,
    slug: String,
    key: String,
    tier: String,
    state: String,
    isolation: String,
    cluster: String,
    database: String,
    schema: String,
    role: String,
    limits: Json<LimitOverrides>,
    created_at: Stamp,
    changed_at: Stamp,
}

impl TryFrom<TenantRow> for Tenant {
    type Error = StoreError;

    fn try_from(row: TenantRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: TenantId::from_uuid(row.id),
            slug: parse("slug", row.slug)?,
            key: row.key,
            tier: parse("tier", row.tier)?,
            state: word("tenant state", &row.state, TenantState::from_word)?,
            placement: Placement {
                isolation: word("isolation", &row.isolation, Isolation::from_word)?,
                place: Place { cluster: parse("cluster", row.cluster)?, database: row.database, schema: row.schema },
                role: row.role,
            },
            limits: row.limits.0,
            created_at: row.created_at.0,
            changed_at: row.changed_at.0,
        })
    }
}

/// Names a tenant: by its id (also a deleted one), or by its slug (the one that bears it now).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantRef {
    /// `ten_…`
    Id(TenantId),
    /// `acme`
    Slug(Slug),
}

/// Why a text names no tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantRefError {
    /// Starts as an id does, but is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Neither id nor slug.
    #[error(transparent)]
    Slug(#[from] SlugError),
}

impl FromStr for TenantRef {
    type Err = TenantRefError;

    fn from_str(text: &str) -> Result<Self, TenantRefError> {
        // A slug has no underscore, so the two cannot be taken for each other.
        if text.starts_with("ten_") { Ok(Self::Id(text.parse()?)) } else { Ok(Self::Slug(text.parse()?)) }
    }
}

impl From<TenantId> for TenantRef {
    fn from(id: TenantId) -> Self {
        Self::Id(id)
    }
}

/// Which tenants to list. Deleted ones come only when the state asks for them.
#[derive(Debug, Clone, Default)]
pub struct TenantFilter {
    /// In this state.
    pub state: Option<TenantState>,
    /// Of this tier.
    pub tier: Option<TierName>,
    /// In this isolation model.
    pub isolation: Option<Isolation>,
    /// Whose slug starts so. The list is then in the order of slugs, otherwise in the order of creation.
    pub slug_prefix: Option<String>,
}

/// What opens a tenant's placement.
#[derive(Clone, Default)]
pub struct Secrets {
    /// For `row` tenants.
    pub capability: Option<Capability>,
    /// Of the tenant's own role, for the others.
    pub password: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(…)")
    }
}

/// [`Secrets`] as they are stored.
#[derive(Default, sqlx::FromRow)]
pub(crate) struct Sealed {
    #[sqlx(rename = "sealed_capability")]
    pub(crate) capability: Option<Vec<u8>>,
    #[sqlx(rename = "sealed_password")]
    pub(crate) password: Option<Vec<u8>>,
}

/// Those that are to come, while they are being changed.
#[derive(Default, sqlx::FromRow)]
pub(crate) struct SealedNext {
    #[sqlx(rename = "sealed_next_capability")]
    capability: Option<Vec<u8>>,
    #[sqlx(rename = "sealed_next_password")]
    password: Option<Vec<u8>>,
}

impl From<SealedNext> for Sealed {
    fn from(next: SealedNext) -> Self {
        Self { capability: next.capability, password: next.password }
    }
}

/// The columns of [`Sealed`] and [`SealedNext`], of a tenant that is called `t`.
pub(crate) const SEALED: &str = "t.sealed_capability, t.sealed_password, t.sealed_next_capability, t.sealed_next_password";

/// Why a tenant's own limits were not set.
#[derive(Debug, thiserror::Error)]
pub enum SetLimitsError {
    /// No such tenant, or deleted.
    #[error("there is no tenant {0}")]
    NotFound(TenantId),
    /// Outside 1 to 1000.
    #[error("the weight is {0}; it has to be 1 to {max}", max = guardian_model::tier::WEIGHT_MAX)]
    Weight(u16),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a tenant was not moved to another tier.
#[derive(Debug, thiserror::Error)]
pub enum SetTierError {
    /// No such tenant, or deleted.
    #[error("there is no tenant {0}")]
    NotFound(TenantId),
    /// No such tier, or one of another isolation model.
    #[error(
        "there is no tier `{tier}` in {isolation} isolation, in which the tenant lives; a change of isolation is a move"
    )]
    Tier {
        /// The tier asked for.
        tier: TierName,
        /// The tenant's isolation.
        isolation: Isolation,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// One tenant.
    pub async fn tenant(&self, tenant: &TenantRef) -> Result<Option<Tenant>, StoreError> {
        let condition = match tenant {
            TenantRef::Id(_) => "t.id = $1",
            TenantRef::Slug(_) => "t.slug = $1 AND t.state <> 'deleted'",
        };
        let sql = AssertSqlSafe(format!("SELECT {COLUMNS} FROM tenant t WHERE {condition}"));
        let query = match tenant {
            TenantRef::Id(id) => sqlx::query_as(sql).bind(id.uuid()),
            TenantRef::Slug(slug) => sqlx::query_as(sql).bind(slug.as_str()),
        };
        let row: Option<TenantRow> = query.fetch_optional(&self.pool).await.doing("read a tenant")?;
        row.map(Tenant::try_from).transpose()
    }

    /// A page of tenants.
    pub async fn tenants(
        &self,
        filter: &TenantFilter,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<Tenant>, ListError> {
        let limit = page::limit(limit)?;
        // The words of closed sets stand in the text, so that the planner knows how rare they are. So may a tier's name,
        // which has no quote in it.
        let mut conditions = vec![match filter.state {
            Some(state) => format!("t.state = '{state}'"),
            None => "t.state <> 'deleted'".to_owned(),
        }];
        conditions.extend(filter.isolation.map(|isolation| format!("t.isolation = '{isolation}'")));
        conditions.extend(filter.tier.as_ref().map(|tier| format!("t.tier = '{tier}'")));
        let select = format!("SELECT {COLUMNS} FROM tenant t WHERE {}", conditions.join(" AND "));
        let rows: Vec<TenantRow> = if let Some(prefix) = &filter.slug_prefix {
            let after: Option<(String, Uuid)> = page::position(b's', cursor)?;
            let (slug, id) = after.unwrap_or_default();
            let prefix = page::without_nul(prefix);
            let sql = format!(
                "{select} AND t.slug ~>=~ $1 AND t.slug ~<~ $2 AND (t.slug <> $3 OR t.id > $4)
                     ORDER BY t.slug USING ~<~, t.id LIMIT $5"
            );
            sqlx::query_as(AssertSqlSafe(sql))
                .persistent(false)
                // The last slug has the prefix, so it is the higher of the two.
                .bind(if slug.is_empty() { &prefix } else { &slug })
                // Above every character that a slug can have.
                .bind(format!("{prefix}~"))
                .bind(&slug)
                .bind(id)
                .bind(row_limit(limit))
                .fetch_all(&self.pool)
                .await
        } else {
            let after: Option<Uuid> = page::position(b't', cursor)?;
            let sql = format!("{select} AND t.id > $1 ORDER BY t.id LIMIT $2");
            sqlx::query_as(AssertSqlSafe(sql))
                .persistent(false)
                .bind(after.unwrap_or_default())
                .bind(row_limit(limit))
                .fetch_all(&self.pool)
                .await
        }
        .doing("list tenants")?;
        let tenants = rows.into_iter().map(Tenant::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(if filter.slug_prefix.is_some() {
            page::page(b's', tenants, limit, |tenant| (tenant.slug.as_str().to_owned(), tenant.id.uuid()))
        } else {
            page::page(b't', tenants, limit, |tenant| tenant.id.uuid())
        })
    }

    /// Moves a tenant to another tier of the same isolation.
    pub async fn set_tier(&self, permit: &Permit, tenant: TenantId, tier: &TierName) -> Result<Tenant, SetTierError> {
        const DOING: &str = "change a tenant's tier";
        covers(permit, Permission::TenantWrite, Some(tenant))?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let sql = format!("SELECT {COLUMNS} FROM tenant t WHERE t.id = $1 AND t.state <> 'deleted' FOR UPDATE");
        let before: Option<TenantRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.uuid()).fetch_optional(&mut *transaction).await.doing(DOING)?;
        let before = Tenant::try_from(before.ok_or(SetTierError::NotFound(tenant))?)?;
        let sql = format!("UPDATE tenant t SET tier = $2 WHERE t.id = $1 RETURNING {COLUMNS}");
        let after: TenantRow = sqlx::query_as(AssertSqlSafe(sql))
            .bind(tenant.uuid())
            .bind(tier.as_str())
            .fetch_one(&mut *transaction)
            .await
            .map_err(|error| match broken_constraint(&error) {
                Some("tenant_tier") => SetTierError::Tier { tier: tier.clone(), isolation: before.placement.isolation },
                _ => StoreError::Database { doing: DOING, source: error }.into(),
            })?;
        let record = AuditRecord::of(permit, "tenant.set_tier", Some(tenant), Outcome::Done)
            .with(serde_json::json!({ "from": before.tier, "to": tier }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(after.try_into()?)
    }

    /// Sets what a tenant has otherwise than its tier, as a whole; nothing given means nothing otherwise.
    pub async fn set_limits(
        &self,
        permit: &Permit,
        tenant: TenantId,
        limits: LimitOverrides,
    ) -> Result<Tenant, SetLimitsError> {
        const DOING: &str = "set a tenant's limits";
        covers(permit, Permission::TenantWrite, Some(tenant))?;
        if let Some(weight) = limits.weight.filter(|weight| !(1..=WEIGHT_MAX).contains(weight)) {
            return Err(SetLimitsError::Weight(weight));
        }
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let sql = format!("UPDATE tenant t SET limits = $2 WHERE t.id = $1 AND t.state <> 'deleted' RETURNING {COLUMNS}");
        let after: Option<TenantRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(tenant.uuid())
            .bind(Json(limits))
            .fetch_optional(&mut *transaction)
            .await
            .doing(DOING)?;
        let after = Tenant::try_from(after.ok_or(SetLimitsError::NotFound(tenant))?)?;
        let record = AuditRecord::of(permit, "tenant.set_limits", Some(tenant), Outcome::Done)
            .with(serde_json::json!({ "limits": limits }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(after)
    }

    /// The next free number for applications whose tenant column is a bigint.
    pub async fn next_key(&self) -> Result<i64, StoreError> {
        const NEXT: &str = "SELECT n, EXISTS (SELECT FROM tenant WHERE key = n::text AND state <> 'deleted')
             FROM nextval('tenant_key') AS n";
        // Past every number that was given by hand; another caller can only push it further.
        const SKIP: &str = "SELECT setval('tenant_key', greatest(max(key::numeric)::bigint, nextval('tenant_key')))
             FROM tenant WHERE key ~ '^[0-9]{1,18}$'";
        let doing = "draw a tenant key";
        let (key, taken): (i64, bool) = sqlx::query_as(NEXT).fetch_one(&self.pool).await.doing(doing)?;
        if !taken {
            return Ok(key);
        }
        sqlx::query(SKIP).execute(&self.pool).await.doing(doing)?;
        sqlx::query_scalar("SELECT nextval('tenant_key')").fetch_one(&self.pool).await.doing(doing)
    }

    /// A tenant's secrets, for the work of an operation on it. Empty for one that is deleted or does not exist.
    pub async fn secrets(&self, tenant: TenantId) -> Result<Secrets, StoreError> {
        let sealed: Option<Sealed> = sqlx::query_as("SELECT sealed_capability, sealed_password FROM tenant WHERE id = $1")
            .bind(tenant.uuid())
            .fetch_optional(&self.pool)
            .await
            .doing("read a tenant's secrets")?;
        self.unseal(tenant, &sealed.unwrap_or_default())
    }

    /// A tenant's secrets for somebody outside: the reading is in the audit log before the secret leaves the store.
    pub async fn reveal_secrets(&self, permit: &Permit, tenant: TenantId) -> Result<Secrets, StoreError> {
        covers(permit, Permission::SecretRead, Some(tenant))?;
        self.record(&AuditRecord::of(permit, "secret.read", Some(tenant), Outcome::Allowed)).await?;
        self.secrets(tenant).await
    }

    /// Seals the password of a tenant to be, for a place outside of the store: base64.
    pub fn seal_password(&self, tenant: TenantId, password: &str) -> Result<String, StoreError> {
        let secrets = Secrets { capability: None, password: Some(password.to_owned()) };
        Ok(BASE64_STANDARD.encode(self.seal_secrets(tenant, &secrets)?.password.unwrap_or_default()))
    }

    /// Opens what [`Store::seal_password`] sealed; `None` when it was for another tenant, or under a key that is gone.
    pub fn open_password(&self, tenant: TenantId, sealed: &str) -> Option<String> {
        let sealed = BASE64_STANDARD.decode(sealed).ok()?;
        self.unseal(tenant, &Sealed { capability: None, password: Some(sealed) }).ok()?.password
    }

    pub(crate) fn seal_secrets(&self, tenant: TenantId, secrets: &Secrets) -> Result<Sealed, StoreError> {
        let seal = |purpose, plain: &[u8]| self.vault.seal(&context(purpose, tenant), plain);
        Ok(Sealed {
            capability: secrets.capability.as_ref().map(|secret| seal("capability", secret.expose())).transpose()?,
            password: secrets.password.as_ref().map(|secret| seal("password", secret.as_bytes())).transpose()?,
        })
    }

    pub(crate) fn unseal(&self, tenant: TenantId, sealed: &Sealed) -> Result<Secrets, StoreError> {
        let open = |purpose, sealed: &[u8]| self.vault.open(&context(purpose, tenant), sealed);
        let unreadable = |what| StoreError::Unreadable { what, value: "…".to_owned() };
        let mut secrets = Secrets::default();
        if let Some(sealed) = &sealed.capability {
            let plain = open("capability", sealed)?;
            let bytes = plain.as_slice().try_into().map_err(|_| unreadable("capability"))?;
            secrets.capability = Some(Capability::from_bytes(bytes));
        }
        if let Some(sealed) = &sealed.password {
            let plain = open("password", sealed)?;
            let text = std::str::from_utf8(&plain).map_err(|_| unreadable("password"))?;
            secrets.password = Some(text.to_owned());
        }
        Ok(secrets)
    }
}

fn context(purpose: &str, tenant: TenantId) -> String {
    format!("{purpose}:{tenant}")
}

/// One more than the page, to know whether there is a next one.
pub(crate) fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit + 1).unwrap_or(i64::MAX)
}
