//! Tiers. Those declared in `guardian.toml` are written at start and read-only over the API.

use std::collections::BTreeMap;

use guardian_model::{
    Isolation, Limits, Permission, Pooling, Tier, TierName,
    access::{Actor, Permit},
    api::PutTier,
    tier::WEIGHT_DEFAULT,
};
use sqlx::{PgConnection, PgExecutor, types::Json};

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, broken_constraint, covers, parse, word},
};

/// How many tiers there may be.
pub const TIERS_MAX: i64 = 1000;

#[derive(sqlx::FromRow)]
struct TierRow {
    name: String,
    isolation: String,
    weight: i32,
    limits: Json<Limits>,
    pooling: String,
    features: Json<BTreeMap<String, bool>>,
    declared: bool,
}

impl TryFrom<TierRow> for Tier {
    type Error = StoreError;

    fn try_from(row: TierRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: parse("tier", row.name)?,
            isolation: word("isolation", &row.isolation, Isolation::from_word)?,
            weight: u16::try_from(row.weight)
                .map_err(|_| StoreError::Unreadable { what: "weight", value: row.weight.to_string() })?,
            limits: row.limits.0,
            pooling: word("pooling", &row.pooling, Pooling::from_word)?,
            features: row.features.0,
            declared: row.declared,
        })
    }
}

/// Why a tier was not changed.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// No such tier.
    #[error("there is no tier `{0}`")]
    NotFound(TierName),
    /// It stands in `guardian.toml`.
    #[error("the tier `{0}` is declared in guardian.toml; change it there and start guardian again")]
    Declared(TierName),
    /// Tenants hold it in place.
    #[error(
        "the tier `{0}` has tenants, so it cannot be deleted, nor its isolation be changed; move them to another tier first"
    )]
    InUse(TierName),
    /// Outside 1 to 1000.
    #[error("the weight is {0}; it has to be 1 to {max}", max = guardian_model::tier::WEIGHT_MAX)]
    Weight(u16),
    /// Too many.
    #[error("there are {TIERS_MAX} tiers, which is the limit")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const READ: &str = "SELECT name, isolation, weight, limits, pooling, features, declared FROM tier
     WHERE $1::text IS NULL OR name = $1 ORDER BY name";
const UPSERT: &str = "INSERT INTO tier (name, isolation, weight, limits, pooling, features, declared)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (name) DO UPDATE SET isolation = excluded.isolation, weight = excluded.weight, limits = excluded.limits,
         pooling = excluded.pooling, features = excluded.features, declared = excluded.declared";

impl Store {
    /// Every tier, by name.
    pub async fn tiers(&self) -> Result<Vec<Tier>, StoreError> {
        read_all(&self.pool).await
    }

    /// One tier.
    pub async fn tier(&self, name: &TierName) -> Result<Option<Tier>, StoreError> {
        let row: Option<TierRow> =
            sqlx::query_as(READ).bind(name.as_str()).fetch_optional(&self.pool).await.doing("read a tier")?;
        row.map(Tier::try_from).transpose()
    }

    /// Creates or replaces a tier.
    pub async fn put_tier(&self, permit: &Permit, name: &TierName, put: PutTier) -> Result<Tier, TierError> {
        const DOING: &str = "write a tier";
        covers(permit, Permission::TierWrite, None)?;
        let tier = Tier {
            name: name.clone(),
            isolation: put.isolation,
            weight: put.weight.unwrap_or(WEIGHT_DEFAULT),
            limits: put.limits,
            pooling: put.pooling,
            features: put.features,
            declared: false,
        };
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        refuse_declared(&mut transaction, name).await?;
        upsert(&mut transaction, &tier).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM tier").fetch_one(&mut *transaction).await.doing(DOING)?;
        if count > TIERS_MAX {
            return Err(TierError::Full);
        }
        let record = AuditRecord::of(permit, "tier.put", None, Outcome::Done).with(serde_json::json!({ "tier": tier }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(tier)
    }

    /// Deletes a tier that has no tenants.
    pub async fn delete_tier(&self, permit: &Permit, name: &TierName) -> Result<(), TierError> {
        const DOING: &str = "delete a tier";
        covers(permit, Permission::TierWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        refuse_declared(&mut transaction, name).await?;
        let deleted = sqlx::query("DELETE FROM tier WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(|error| in_use(error, name, DOING))?;
        if deleted.rows_affected() == 0 {
            return Err(TierError::NotFound(name.clone()));
        }
        let record = AuditRecord::of(permit, "tier.delete", None, Outcome::Done).with(serde_json::json!({ "tier": name }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(())
    }

    /// Makes the store agree with `guardian.toml`. A tier that stands there no longer stays, for its tenants' sake, and
    /// can from then on be changed over the API. What already agrees leaves no trace in the audit log.
    pub async fn declare_tiers(&self, tiers: &[Tier]) -> Result<(), TierError> {
        const DOING: &str = "write the declared tiers";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let before = read_all(&mut *transaction).await?;
        let actor = Actor::system("boot");
        for tier in tiers {
            let declared = Tier { declared: true, ..tier.clone() };
            if !before.contains(&declared) {
                upsert(&mut transaction, &declared).await?;
                let record =
                    AuditRecord::by(&actor, "tier.put", None, Outcome::Done).with(serde_json::json!({ "tier": declared }));
                insert_entry(&mut *transaction, &record).await.doing(DOING)?;
            }
        }
        for gone in before.iter().filter(|old| old.declared && tiers.iter().all(|tier| tier.name != old.name)) {
            let released = Tier { declared: false, ..gone.clone() };
            upsert(&mut transaction, &released).await?;
            let record =
                AuditRecord::by(&actor, "tier.put", None, Outcome::Done).with(serde_json::json!({ "tier": released }));
            insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        }
        transaction.commit().await.doing(DOING)?;
        Ok(())
    }
}

/// Every tier, by name.
pub(crate) async fn read_all(executor: impl PgExecutor<'_>) -> Result<Vec<Tier>, StoreError> {
    let rows: Vec<TierRow> = sqlx::query_as(READ).bind(None::<&str>).fetch_all(executor).await.doing("list tiers")?;
    rows.into_iter().map(Tier::try_from).collect()
}

async fn refuse_declared(connection: &mut PgConnection, name: &TierName) -> Result<(), TierError> {
    let declared: Option<bool> = sqlx::query_scalar("SELECT declared FROM tier WHERE name = $1 FOR UPDATE")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
        .doing("read a tier")?;
    if declared == Some(true) { Err(TierError::Declared(name.clone())) } else { Ok(()) }
}

async fn upsert(connection: &mut PgConnection, tier: &Tier) -> Result<(), TierError> {
    if !(1..=guardian_model::tier::WEIGHT_MAX).contains(&tier.weight) {
        return Err(TierError::Weight(tier.weight));
    }
    sqlx::query(UPSERT)
        .bind(tier.name.as_str())
        .bind(tier.isolation.as_str())
        .bind(i32::from(tier.weight))
        .bind(Json(tier.limits))
        .bind(tier.pooling.as_str())
        .bind(Json(&tier.features))
        .bind(tier.declared)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| in_use(error, &tier.name, "write a tier"))
}

fn in_use(error: sqlx::Error, name: &TierName, doing: &'static str) -> TierError {
    match broken_constraint(&error) {
        Some("tenant_tier") => TierError::InUse(name.clone()),
        _ => StoreError::Database { doing, source: error }.into(),
    }
}
