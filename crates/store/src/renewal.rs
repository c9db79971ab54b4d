//! New secrets for tenants, while they are served: made and told to the gateways first, then put in force, then put in the
//! place of the old ones. Every write is that of whoever holds the run.

use guardian_model::{Capability, Tenant, TenantId, access::Actor, api::SecretKind};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    Store,
    error::{Doing, StoreError},
    run_claim::RunClaim,
    tenant::{COLUMNS, SEALED, Sealed, SealedNext, Secrets, TenantRow},
    vault::{hex, random},
};

/// Tenants of one page of the work.
pub const RENEWAL_BATCH: usize = 500;
/// Random bytes of a password.
const PASSWORD_BYTES: usize = 24;

/// Whose secrets of which kind.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// Which.
    pub kind: SecretKind,
    /// Of this tenant alone.
    pub only: Option<TenantId>,
}

/// A tenant with the secret that it has, and the one that is to come, if any.
#[derive(Debug)]
pub struct Renewed {
    /// It.
    pub tenant: Tenant,
    /// What opens it until the change.
    pub now: Secrets,
    /// What opens it afterwards; empty when nothing is to come.
    pub next: Secrets,
}

#[derive(sqlx::FromRow)]
struct RenewedRow {
    #[sqlx(flatten)]
    tenant: TenantRow,
    #[sqlx(flatten)]
    now: Sealed,
    #[sqlx(flatten)]
    next: SealedNext,
}

impl Renewal {
    const fn column(self) -> &'static str {
        match self.kind {
            SecretKind::Capabilities => "capability",
            SecretKind::Passwords => "password",
        }
    }

    /// The tenants that it is about.
    fn subjects(self) -> String {
        let column = self.column();
        format!(
            "t.state IN ('active', 'suspended') AND t.isolation {} 'row' AND t.sealed_{column} IS NOT NULL
             AND ($1::uuid IS NULL OR t.id = $1)",
            if self.kind == SecretKind::Capabilities { "=" } else { "<>" }
        )
    }
}

impl Store {
    /// Makes the next secrets of some tenants that have none to come and were not given one since the run began; says how many.
    pub async fn make_next_secrets(&self, run: &RunClaim, renewal: Renewal) -> Result<usize, StoreError> {
        const DOING: &str = "make new secrets";
        let column = renewal.column();
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let select = format!(
            "SELECT t.id FROM tenant t, run r WHERE {} AND r.id = $2 AND r.fence = $3 AND r.state = 'running'
             AND t.sealed_next_{column} IS NULL AND coalesce(t.secret_changed_at, t.created_at) < r.started_at
             ORDER BY t.id LIMIT {RENEWAL_BATCH} FOR UPDATE OF t",
            renewal.subjects()
        );
        let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(select))
            .bind(renewal.only.map(TenantId::uuid))
            .bind(run.id.uuid())
            .bind(run.fence)
            .fetch_all(&mut *transaction)
            .await
            .doing(DOING)?;
        let mut sealed = Vec::with_capacity(ids.len());
        for id in &ids {
            let secrets = match renewal.kind {
                SecretKind::Capabilities => Secrets { capability: Some(Capability::from_bytes(random()?)), password: None },
                SecretKind::Passwords => Secrets { capability: None, password: Some(hex(&random::<PASSWORD_BYTES>()?)) },
            };
            let Sealed { capability, password } = self.seal_secrets(TenantId::from_uuid(*id), &secrets)?;
            sealed.extend(capability.or(password));
        }
        let update = format!(
            "UPDATE tenant AS t SET sealed_next_{column} = made.sealed
             FROM unnest($1::uuid[], $2::bytea[]) AS made (id, sealed) WHERE t.id = made.id"
        );
        sqlx::query(AssertSqlSafe(update)).bind(&ids).bind(sealed).execute(&mut *transaction).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(ids.len())
    }

    /// A page of the tenants by id, after `after`; with `pending`, of those that have a secret to come.
    pub async fn renewed_tenants(
        &self,
        renewal: Renewal,
        pending: bool,
        after: Option<TenantId>,
    ) -> Result<Vec<Renewed>, StoreError> {
        let which = if pending { format!("AND t.sealed_next_{} IS NOT NULL", renewal.column()) } else { String::new() };
        let sql = format!(
            "SELECT {COLUMNS}, {SEALED} FROM tenant t WHERE {} {which} AND t.id > $2 ORDER BY t.id LIMIT {RENEWAL_BATCH}",
            renewal.subjects()
        );
        let rows: Vec<RenewedRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(renewal.only.map(TenantId::uuid))
            .bind(after.map_or(Uuid::nil(), TenantId::uuid))
            .fetch_all(&self.pool)
            .await
            .doing("read the secrets that are being changed")?;
        rows.into_iter()
            .map(|RenewedRow { tenant, now, next }| {
                let tenant = Tenant::try_from(tenant)?;
                let (now, next) = (self.unseal(tenant.id, &now)?, self.unseal(tenant.id, &next.into())?);
                Ok(Renewed { tenant, now, next })
            })
            .collect()
    }

    /// Puts the next secrets in the place of the present ones, which are forgotten. The audit log tells of each tenant.
    pub async fn take_over_secrets(&self, run: &RunClaim, renewal: Renewal, ids: &[TenantId]) -> Result<u64, StoreError> {
        let column = renewal.column();
        let sql = format!(
            "WITH held AS (SELECT id FROM run WHERE id = $1 AND fence = $2 AND state = 'running' FOR SHARE), taken AS (
                 UPDATE tenant AS t SET sealed_{column} = t.sealed_next_{column}, sealed_next_{column} = NULL,
                     secret_changed_at = now()
                 FROM held WHERE t.id = ANY ($3) AND t.sealed_next_{column} IS NOT NULL RETURNING t.id
             )
             INSERT INTO audit_entry (actor, action, tenant, outcome, detail)
             SELECT $4, 'secret.rotate', id, 'done', $5::text::json FROM taken"
        );
        let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        let taken = sqlx::query(AssertSqlSafe(sql))
            .bind(run.id.uuid())
            .bind(run.fence)
            .bind(ids)
            .bind(Actor::system("run").name)
            .bind(serde_json::json!({ "run": run.id, "what": renewal.kind }).to_string())
            .execute(&self.pool)
            .await
            .doing("put new secrets in the place of the old ones")?;
        Ok(taken.rows_affected())
    }
}
