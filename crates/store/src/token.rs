//! Bearer tokens. The secret is shown once, at creation; only its SHA-256 is kept.
//!
//! A secret is `grd_`, a word for the role, and 64 hexadecimal digits from the random source: scanners for leaked
//! secrets find the prefix, and the digits cannot be guessed, so a plain hash is enough and the lookup takes one index
//! probe by hash.

use aws_lc_rs::digest::{SHA256, digest};
use guardian_model::{
    Permission, Role, TenantId, TokenId,
    access::{Actor, Permit},
    api::{NewToken, Token},
};
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers, word},
    timestamp::Stamp,
    vault::{hex, random},
};

const PREFIX: &str = "grd_";
const DIGITS: usize = 64;
/// Names the token that `guardian up` makes for the person who started it.
const BOOTSTRAP: &str = "bootstrap";
/// The longest name, in characters.
const NAME_LEN_MAX: usize = 100;
/// How many tokens that are in force there may be.
pub const TOKENS_MAX: i64 = 10_000;

#[derive(sqlx::FromRow)]
struct TokenRow {
    id: Uuid,
    name: String,
    role: String,
    tenant: Option<Uuid>,
    created_at: Stamp,
    revoked_at: Option<Stamp>,
}

impl TryFrom<TokenRow> for Token {
    type Error = StoreError;

    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: TokenId::from_uuid(row.id),
            name: row.name,
            role: word("role", &row.role, Role::from_word)?,
            tenant: row.tenant.map(TenantId::from_uuid),
            created_at: row.created_at.0,
            revoked_at: row.revoked_at.map(|stamp| stamp.0),
        })
    }
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is empty, too long, or has a control character.
    #[error("a token's name has 1 to {NAME_LEN_MAX} characters, none of them a control character")]
    Name,
    /// A tenant admin needs a tenant, the other roles must not have one.
    #[error("a token of the role tenant_admin names its tenant, one of another role names none")]
    Tenant,
    /// The tenant is not there any more.
    #[error("there is no tenant {0}")]
    NoTenant(TenantId),
    /// No such token.
    #[error("there is no token {0}")]
    NotFound(TokenId),
    /// Too many.
    #[error("there are {TOKENS_MAX} tokens in force, which is the limit; revoke some")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const fn short(role: Role) -> &'static str {
    match role {
        Role::PlatformAdmin => "admin",
        Role::Operator => "op",
        Role::Auditor => "aud",
        Role::TenantAdmin => "ten",
        Role::Gateway => "gw",
    }
}

fn new_secret(role: Role) -> Result<String, StoreError> {
    Ok(format!("{PREFIX}{}_{}", short(role), hex(&random::<{ DIGITS / 2 }>()?)))
}

fn hash(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}

/// Whether the text can be a secret of ours at all; saves the lookup for what is plainly none.
fn looks_like_one(secret: &str) -> bool {
    secret.len() <= PREFIX.len() + "admin_".len() + DIGITS
        && secret
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .is_some_and(|(_, digits)| digits.len() == DIGITS)
}

const COLUMNS: &str = "id, name, role, tenant, created_at, revoked_at";

impl Store {
    /// Whose secret it is; `None` for one that was never given out or is revoked.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<(Token, Actor)>, StoreError> {
        if !looks_like_one(secret) {
            return Ok(None);
        }
        let row: Option<TokenRow> = sqlx::query_as(
            "SELECT id, name, role, tenant, created_at, revoked_at FROM token WHERE hash = $1 AND revoked_at IS NULL",
        )
        .bind(hash(secret))
        .fetch_optional(&self.pool)
        .await
        .doing("look up a token")?;
        let Some(row) = row else { return Ok(None) };
        let token = Token::try_from(row)?;
        let actor = Actor { name: format!("token:{}", token.id), role: token.role, tenant: token.tenant };
        Ok(Some((token, actor)))
    }

    /// Makes a token; its secret is in the answer and nowhere else.
    pub async fn create_token(
        &self,
        permit: &Permit,
        name: &str,
        role: Role,
        tenant: Option<TenantId>,
    ) -> Result<NewToken, TokenError> {
        const DOING: &str = "make a token";
        covers(permit, Permission::TokenWrite, None)?;
        if name.is_empty() || name.chars().count() > NAME_LEN_MAX || name.contains(char::is_control) {
            return Err(TokenError::Name);
        }
        if (role == Role::TenantAdmin) != tenant.is_some() {
            return Err(TokenError::Tenant);
        }
        let secret = new_secret(role)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let in_force: i64 = sqlx::query_scalar("SELECT count(*) FROM token WHERE revoked_at IS NULL")
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        if in_force >= TOKENS_MAX {
            return Err(TokenError::Full);
        }
        if let Some(tenant) = tenant {
            // Locked against a deletion that ends meanwhile and would not see the new token.
            let living: Option<Uuid> =
                sqlx::query_scalar("SELECT id FROM tenant WHERE id = $1 AND state <> 'deleted' FOR SHARE")
                    .bind(tenant.uuid())
                    .fetch_optional(&mut *transaction)
                    .await
                    .doing(DOING)?;
            living.ok_or(TokenError::NoTenant(tenant))?;
        }
        let token = insert(&mut *transaction, name, role, tenant, &secret).await?;
        let record = AuditRecord::of(permit, "token.create", tenant, Outcome::Done)
            .with(serde_json::json!({ "token": token.id, "name": name, "role": role }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(NewToken { token, secret })
    }

    /// Whether a token is not revoked: for requests that outlast a revocation.
    pub async fn is_in_force(&self, id: TokenId) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM token WHERE id = $1 AND revoked_at IS NULL)")
            .bind(id.uuid())
            .fetch_one(&self.pool)
            .await
            .doing("look up a token")
    }

    /// Every token, the newest first; the revoked ones, too.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM token ORDER BY id DESC LIMIT {}", 2 * TOKENS_MAX);
        let rows: Vec<TokenRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await.doing("list tokens")?;
        rows.into_iter().map(Token::try_from).collect()
    }

    /// Ends a token; at once, for every request that comes after. Revoking it again changes nothing.
    pub async fn revoke_token(&self, permit: &Permit, id: TokenId) -> Result<Token, TokenError> {
        const DOING: &str = "revoke a token";
        covers(permit, Permission::TokenWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let sql = format!("UPDATE token SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING {COLUMNS}");
        let row: Option<TokenRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id.uuid()).fetch_optional(&mut *transaction).await.doing(DOING)?;
        let token = Token::try_from(row.ok_or(TokenError::NotFound(id))?)?;
        let record =
            AuditRecord::of(permit, "token.revoke", token.tenant, Outcome::Done).with(serde_json::json!({ "token": id }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(token)
    }

    /// The secret of a first token, when no platform admin's token is in force; otherwise `None`.
    pub async fn bootstrap_token(&self) -> Result<Option<String>, StoreError> {
        self.bootstrap(false).await
    }

    /// A new first token for somebody who lost the file with the old one; the old one is revoked.
    pub async fn replace_bootstrap_token(&self) -> Result<String, StoreError> {
        self.bootstrap(true).await?.ok_or(StoreError::Permit(Permission::TokenWrite))
    }

    async fn bootstrap(&self, replace: bool) -> Result<Option<String>, StoreError> {
        const DOING: &str = "make the first token";
        let secret = new_secret(Role::PlatformAdmin)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        // Two processes that start at once must not both make one.
        sqlx::query("LOCK TABLE token IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await.doing(DOING)?;
        if replace {
            sqlx::query(
                "UPDATE token SET revoked_at = now() WHERE name = $1 AND role = 'platform_admin' AND revoked_at IS NULL",
            )
            .bind(BOOTSTRAP)
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        } else {
            let exists: bool =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM token WHERE role = 'platform_admin' AND revoked_at IS NULL)")
                    .fetch_one(&mut *transaction)
                    .await
                    .doing(DOING)?;
            if exists {
                return Ok(None);
            }
        }
        let token = insert(&mut *transaction, BOOTSTRAP, Role::PlatformAdmin, None, &secret).await?;
        let record = AuditRecord::by(&Actor::system("boot"), "token.create", None, Outcome::Done)
            .with(serde_json::json!({ "token": token.id, "name": BOOTSTRAP, "role": token.role, "replaces": replace }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(Some(secret))
    }
}

async fn insert(
    executor: impl sqlx::PgExecutor<'_>,
    name: &str,
    role: Role,
    tenant: Option<TenantId>,
    secret: &str,
) -> Result<Token, StoreError> {
    let sql = format!("INSERT INTO token (id, name, role, tenant, hash) VALUES ($1, $2, $3, $4, $5) RETURNING {COLUMNS}");
    let row: TokenRow = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(Uuid::now_v7())
        .bind(name)
        .bind(role.as_str())
        .bind(tenant.map(TenantId::uuid))
        .bind(hash(secret))
        .fetch_one(executor)
        .await
        .doing("make a token")?;
    row.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_s_secret_looks_like_one() {
        for role in Role::ALL {
            let secret = new_secret(role).unwrap();
            assert!(looks_like_one(&secret), "{secret}");
            assert!(!looks_like_one(&secret[1..]));
            assert!(!looks_like_one(&secret[..secret.len() - 1]));
        }
    }
}
