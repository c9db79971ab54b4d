//! Logins of the SQL gateway. The password is made by the caller and shown once; here is only its SCRAM verifier, sealed.
//!
//! A login that is bound to a tenant outlives it, so that whoever still uses it is told that the tenant is deleted.

use guardian_model::{
    Login, LoginName, LoginProof, LoginScope, Permission, Switch, TenantId, access::Permit, snapshot::Secret,
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers, parse, word},
    timestamp::Stamp,
};

/// How many logins there may be.
pub const LOGINS_MAX: i64 = 10_000;

/// The columns of [`LoginRow`].
pub(crate) const COLUMNS: &str = "name, scope, tenant, switch, proof, created_at, rotated_at";

#[derive(sqlx::FromRow)]
pub(crate) struct LoginRow {
    name: String,
    scope: String,
    tenant: Option<Uuid>,
    switch: Option<String>,
    proof: String,
    created_at: Stamp,
    rotated_at: Option<Stamp>,
}

impl TryFrom<LoginRow> for Login {
    type Error = StoreError;

    fn try_from(row: LoginRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: parse("login", row.name)?,
            scope: scope(&row.scope, row.tenant, row.switch.as_deref())?,
            proof: word("proof", &row.proof, LoginProof::from_word)?,
            created_at: row.created_at.0,
            rotated_at: row.rotated_at.map(|stamp| stamp.0),
        })
    }
}

fn scope(kind: &str, tenant: Option<Uuid>, switch: Option<&str>) -> Result<LoginScope, StoreError> {
    match (kind, tenant, switch) {
        ("tenant", Some(tenant), None) => Ok(LoginScope::Tenant { tenant: TenantId::from_uuid(tenant) }),
        ("any_tenant", None, Some(switch)) => {
            Ok(LoginScope::AnyTenant { switch: word("switch", switch, Switch::from_word)? })
        }
        ("admin", None, None) => Ok(LoginScope::Admin),
        _ => Err(StoreError::Unreadable { what: "scope of a login", value: kind.to_owned() }),
    }
}

const fn scope_word(scope: LoginScope) -> &'static str {
    match scope {
        LoginScope::Tenant { .. } => "tenant",
        LoginScope::AnyTenant { .. } => "any_tenant",
        LoginScope::Admin => "admin",
    }
}

/// Why a login was not made, changed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Another login has the name.
    #[error("there is a login `{0}` already; rotate its password, or choose another name")]
    Taken(LoginName),
    /// The tenant is not there any more.
    #[error("there is no tenant {0}")]
    NoTenant(TenantId),
    /// No such login.
    #[error("there is no login `{0}`")]
    NotFound(LoginName),
    /// It proves itself by a certificate.
    #[error("the login `{0}` has no password: it proves itself by a certificate")]
    NoPassword(LoginName),
    /// Too many.
    #[error("there are {LOGINS_MAX} logins, which is the limit; delete some")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Every login, by name.
    pub async fn logins(&self) -> Result<Vec<Login>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM login ORDER BY name LIMIT {LOGINS_MAX}");
        let rows: Vec<LoginRow> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&self.pool).await.doing("list logins")?;
        rows.into_iter().map(Login::try_from).collect()
    }

    /// Makes a login: with a verifier it proves itself by the password, without one by a certificate.
    pub async fn create_login(
        &self,
        permit: &Permit,
        name: &LoginName,
        scope: LoginScope,
        verifier: Option<&str>,
    ) -> Result<Login, LoginError> {
        const DOING: &str = "make a login";
        covers(permit, Permission::LoginWrite, None)?;
        let (tenant, switch) = match scope {
            LoginScope::Tenant { tenant } => (Some(tenant), None),
            LoginScope::AnyTenant { switch } => (None, Some(switch)),
            LoginScope::Admin => (None, None),
        };
        let proof = if verifier.is_some() { LoginProof::Password } else { LoginProof::Certificate };
        let sealed = verifier.map(|verifier| self.vault.seal(&context(name.as_str()), verifier.as_bytes())).transpose();
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM login").fetch_one(&mut *transaction).await.doing(DOING)?;
        if count >= LOGINS_MAX {
            return Err(LoginError::Full);
        }
        if let Some(tenant) = tenant {
            // Locked against a deletion that ends meanwhile.
            let living: Option<Uuid> =
                sqlx::query_scalar("SELECT id FROM tenant WHERE id = $1 AND state <> 'deleted' FOR SHARE")
                    .bind(tenant.uuid())
                    .fetch_optional(&mut *transaction)
                    .await
                    .doing(DOING)?;
            living.ok_or(LoginError::NoTenant(tenant))?;
        }
        let sql = format!(
            "INSERT INTO login (name, scope, tenant, switch, proof, sealed_verifier) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
        );
        let row: Option<LoginRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(name.as_str())
            .bind(scope_word(scope))
            .bind(tenant.map(TenantId::uuid))
            .bind(switch.map(Switch::as_str))
            .bind(proof.as_str())
            .bind(sealed.map_err(StoreError::from)?)
            .fetch_optional(&mut *transaction)
            .await
            .doing(DOING)?;
        let login = Login::try_from(row.ok_or_else(|| LoginError::Taken(name.clone()))?)?;
        let record = AuditRecord::of(permit, "login.create", tenant, Outcome::Done)
            .with(serde_json::json!({ "login": name, "scope": scope, "proof": proof }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(login)
    }

    /// Gives a login another password; the old one opens nothing from now on.
    pub async fn rotate_login(&self, permit: &Permit, name: &LoginName, verifier: &str) -> Result<Login, LoginError> {
        const DOING: &str = "change a login's password";
        covers(permit, Permission::LoginWrite, None)?;
        let sealed = self.vault.seal(&context(name.as_str()), verifier.as_bytes()).map_err(StoreError::from)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let proof: Option<String> = sqlx::query_scalar("SELECT proof FROM login WHERE name = $1 FOR UPDATE")
            .bind(name.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .doing(DOING)?;
        let proof = proof.ok_or_else(|| LoginError::NotFound(name.clone()))?;
        if word("proof", &proof, LoginProof::from_word)? != LoginProof::Password {
            return Err(LoginError::NoPassword(name.clone()));
        }
        let sql = format!("UPDATE login SET sealed_verifier = $2, rotated_at = now() WHERE name = $1 RETURNING {COLUMNS}");
        let row: LoginRow = sqlx::query_as(AssertSqlSafe(sql))
            .bind(name.as_str())
            .bind(sealed)
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        let login = Login::try_from(row)?;
        let record = AuditRecord::of(permit, "login.rotate", bound_to(&login), Outcome::Done)
            .with(serde_json::json!({ "login": name }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(login)
    }

    /// Deletes a login.
    pub async fn delete_login(&self, permit: &Permit, name: &LoginName) -> Result<(), LoginError> {
        const DOING: &str = "delete a login";
        covers(permit, Permission::LoginWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let sql = format!("DELETE FROM login WHERE name = $1 RETURNING {COLUMNS}");
        let row: Option<LoginRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(name.as_str()).fetch_optional(&mut *transaction).await.doing(DOING)?;
        let login = Login::try_from(row.ok_or_else(|| LoginError::NotFound(name.clone()))?)?;
        let record = AuditRecord::of(permit, "login.delete", bound_to(&login), Outcome::Done)
            .with(serde_json::json!({ "login": name }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(())
    }

    /// The verifier that [`Store::create_login`] sealed.
    pub(crate) fn open_verifier(&self, name: &str, sealed: &[u8]) -> Result<Secret, StoreError> {
        let plain = self.vault.open(&context(name), sealed)?;
        let text = std::str::from_utf8(&plain)
            .map_err(|_| StoreError::Unreadable { what: "verifier of the login", value: name.to_owned() })?;
        Ok(Secret::new(text))
    }
}

fn bound_to(login: &Login) -> Option<TenantId> {
    match login.scope {
        LoginScope::Tenant { tenant } => Some(tenant),
        LoginScope::AnyTenant { .. } | LoginScope::Admin => None,
    }
}

fn context(name: &str) -> String {
    format!("login:{name}")
}
