//! API keys of tenants' programs. The secret is shown once, when it is made; only its SHA-256 is kept.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use guardian_model::{
    ApiKey, ApiKeyId, Permission, PermissionName, Role, RoleName, TenantId,
    access::Permit,
    access_api::{CreateApiKey, NewApiKey},
    api_key::{
        DIGITS, GRACE_SECONDS_MAX, KEYS_PER_TENANT_MAX, KeyHash, NAME_LEN_MAX, PREFIX, PreviousSecret, SnapshotApiKey,
    },
    tenant_access::{AccessError, BuiltIn, Giver, PERMISSIONS_MAX},
};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers, parse},
    tenant_access::read_for_update,
    timestamp::Stamp,
    vault::{hex, random},
};

/// Keys of one page of the whole.
pub const KEYS_PAGE: i64 = 5_000;
/// Keys of a tenant that are listed, revoked ones included.
const LISTED_MAX: i64 = 2 * KEYS_PER_TENANT_MAX;

const COLUMNS: &str =
    "id, tenant, name, hash, ends_with, roles, permissions, requests_per_minute_max, created_at, expires_at,
     rotated_at, revoked_at, previous_hash, previous_until";

#[derive(sqlx::FromRow)]
struct KeyRow {
    id: Uuid,
    tenant: Uuid,
    name: String,
    hash: Vec<u8>,
    ends_with: String,
    roles: Vec<String>,
    permissions: Option<Vec<String>>,
    requests_per_minute_max: Option<i64>,
    created_at: Stamp,
    expires_at: Option<Stamp>,
    rotated_at: Option<Stamp>,
    revoked_at: Option<Stamp>,
    previous_hash: Option<Vec<u8>>,
    previous_until: Option<Stamp>,
}

/// Why an API key was not made, rotated or revoked.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// The name is empty, too long, or has a control character.
    #[error("an API key's name has 1 to {NAME_LEN_MAX} characters, none of them a control character")]
    Name,
    /// It has no role.
    #[error("give the API key a role; `guardian access show TENANT` lists those there are")]
    NoRoles,
    /// Too many permissions.
    #[error("an API key may be narrowed to {PERMISSIONS_MAX} permissions at most")]
    Permissions,
    /// Narrowed to nothing.
    #[error("an API key with an empty list of permissions may do nothing; leave the list out, or name some")]
    NoPermissions,
    /// A limit or a time of zero.
    #[error("`{0}` must be 1 or more")]
    Zero(&'static str),
    /// The old secret would go on for too long.
    #[error("the old secret may go on for {GRACE_SECONDS_MAX} seconds at most")]
    Grace,
    /// Its roles cannot be given.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The tenant is not there any more.
    #[error("there is no tenant {0}")]
    NoTenant(TenantId),
    /// No such key of this tenant.
    #[error("there is no API key {0}")]
    NotFound(ApiKeyId),
    /// It ended.
    #[error("the API key {0} is revoked or over; make another")]
    Ended(ApiKeyId),
    /// Too many.
    #[error("the tenant has {KEYS_PER_TENANT_MAX} API keys, which is the limit; revoke some")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn words<T: std::str::FromStr + Ord>(what: &'static str, words: Vec<String>) -> Result<BTreeSet<T>, StoreError> {
    words.into_iter().map(|word| parse(what, word)).collect()
}

fn key_hash(bytes: &[u8]) -> Result<KeyHash, StoreError> {
    let hash = bytes.try_into().map_err(|_| StoreError::Unreadable { what: "hash of an API key", value: hex(bytes) })?;
    Ok(KeyHash(hash))
}

fn limit(number: Option<i64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

impl TryFrom<KeyRow> for ApiKey {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ApiKeyId::from_uuid(row.id),
            tenant: TenantId::from_uuid(row.tenant),
            name: row.name,
            ends_with: row.ends_with,
            roles: words("role", row.roles)?,
            permissions: row.permissions.map(|names| words("permission", names)).transpose()?,
            requests_per_minute_max: limit(row.requests_per_minute_max),
            created_at: row.created_at.0,
            expires_at: row.expires_at.map(|stamp| stamp.0),
            rotated_at: row.rotated_at.map(|stamp| stamp.0),
            previous_until: row.previous_until.map(|stamp| stamp.0),
            revoked_at: row.revoked_at.map(|stamp| stamp.0),
        })
    }
}

impl TryFrom<KeyRow> for SnapshotApiKey {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let previous = match (row.previous_hash, row.previous_until) {
            (Some(hash), Some(until)) => Some(PreviousSecret { hash: key_hash(&hash)?, until_s: until.0.as_second() }),
            _ => None,
        };
        Ok(Self {
            id: ApiKeyId::from_uuid(row.id),
            tenant: TenantId::from_uuid(row.tenant),
            hash: key_hash(&row.hash)?,
            previous,
            roles: words("role", row.roles)?,
            permissions: row.permissions.map(|names| words("permission", names)).transpose()?,
            requests_per_minute_max: limit(row.requests_per_minute_max),
            expires_at_s: row.expires_at.map(|stamp| stamp.0.as_second()),
        })
    }
}

struct Secret {
    text: String,
    hash: Vec<u8>,
    ends_with: String,
}

fn new_secret() -> Result<Secret, StoreError> {
    let text = format!("{PREFIX}{}", hex(&random::<{ DIGITS / 2 }>()?));
    let hash = digest(&SHA256, text.as_bytes()).as_ref().to_vec();
    let ends_with = text[text.len() - 4..].to_owned();
    Ok(Secret { text, hash, ends_with })
}

fn check(body: &CreateApiKey) -> Result<(), ApiKeyError> {
    let name_is_sound = (1..=NAME_LEN_MAX).contains(&body.name.chars().count()) && !body.name.contains(char::is_control);
    if !name_is_sound {
        return Err(ApiKeyError::Name);
    }
    if body.roles.is_empty() {
        return Err(ApiKeyError::NoRoles);
    }
    match body.permissions.as_ref().map(BTreeSet::len) {
        Some(0) => return Err(ApiKeyError::NoPermissions),
        Some(len) if len > PERMISSIONS_MAX => return Err(ApiKeyError::Permissions),
        Some(_) | None => {}
    }
    if body.requests_per_minute_max == Some(0) {
        return Err(ApiKeyError::Zero("requests_per_minute_max"));
    }
    if body.lives_seconds == Some(0) {
        return Err(ApiKeyError::Zero("lives_seconds"));
    }
    Ok(())
}

/// Who gives, by the role of the token.
pub(crate) fn giver(permit: &Permit) -> Giver {
    if permit.actor().role == Role::TenantAdmin { Giver::Tenant } else { Giver::Installation }
}

impl Store {
    /// Makes an API key; its secret is in the answer and nowhere else.
    pub async fn create_api_key(
        &self,
        permit: &Permit,
        tenant: TenantId,
        built_in: &BuiltIn,
        body: &CreateApiKey,
    ) -> Result<NewApiKey, ApiKeyError> {
        const DOING: &str = "make an API key";
        covers(permit, Permission::AccessWrite, Some(tenant))?;
        check(body)?;
        let secret = new_secret()?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        // Locked against a deletion that ends meanwhile, and against others that count.
        let access = read_for_update(&mut transaction, tenant).await?.ok_or(ApiKeyError::NoTenant(tenant))?;
        access.check_known(built_in, &body.roles)?;
        access.check_given(built_in, giver(permit), &body.roles)?;
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM api_key WHERE tenant = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
        )
        .bind(tenant.uuid())
        .fetch_one(&mut *transaction)
        .await
        .doing(DOING)?;
        if count >= KEYS_PER_TENANT_MAX {
            return Err(ApiKeyError::Full);
        }
        let sql = format!(
            "INSERT INTO api_key (id, tenant, name, hash, ends_with, roles, permissions, requests_per_minute_max, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9 * interval '1 second') RETURNING {COLUMNS}"
        );
        let row: KeyRow = sqlx::query_as(AssertSqlSafe(sql))
            .bind(Uuid::now_v7())
            .bind(tenant.uuid())
            .bind(&body.name)
            .bind(&secret.hash)
            .bind(&secret.ends_with)
            .bind(body.roles.iter().map(RoleName::as_str).collect::<Vec<_>>())
            .bind(body.permissions.as_ref().map(|names| names.iter().map(PermissionName::as_str).collect::<Vec<_>>()))
            .bind(body.requests_per_minute_max.map(i64::from))
            .bind(body.lives_seconds.map(f64::from))
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        let key = ApiKey::try_from(row)?;
        let record = AuditRecord::of(permit, "api_key.create", Some(tenant), Outcome::Done).with(serde_json::json!({
            "key": key.id, "name": key.name, "roles": key.roles, "permissions": key.permissions, "expires_at": key.expires_at,
        }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(NewApiKey { key, secret: secret.text })
    }

    /// The API keys of a tenant, the newest first; revoked ones, too.
    pub async fn api_keys(&self, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_key WHERE tenant = $1 ORDER BY id DESC LIMIT {LISTED_MAX}");
        let rows: Vec<KeyRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.uuid()).fetch_all(&self.pool).await.doing("list API keys")?;
        rows.into_iter().map(ApiKey::try_from).collect()
    }

    /// An API key of a tenant.
    pub async fn api_key(&self, tenant: TenantId, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM api_key WHERE tenant = $1 AND id = $2");
        let row: Option<KeyRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(tenant.uuid())
            .bind(id.uuid())
            .fetch_optional(&self.pool)
            .await
            .doing("read an API key")?;
        row.map(ApiKey::try_from).transpose()
    }

    /// Gives an API key another secret. The old one goes on for `grace_seconds`; one before that ends.
    pub async fn rotate_api_key(
        &self,
        permit: &Permit,
        tenant: TenantId,
        id: ApiKeyId,
        grace_seconds: u32,
    ) -> Result<NewApiKey, ApiKeyError> {
        const DOING: &str = "rotate an API key";
        covers(permit, Permission::AccessWrite, Some(tenant))?;
        if grace_seconds > GRACE_SECONDS_MAX {
            return Err(ApiKeyError::Grace);
        }
        let secret = new_secret()?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        refuse_ended(&mut transaction, tenant, id).await?;
        let sql = format!(
            "UPDATE api_key SET hash = $3, ends_with = $4, rotated_at = now(),
                 previous_hash = CASE WHEN $5::float8 > 0 THEN hash END,
                 previous_until = CASE WHEN $5::float8 > 0 THEN now() + $5 * interval '1 second' END
             WHERE tenant = $1 AND id = $2 RETURNING {COLUMNS}"
        );
        let row: KeyRow = sqlx::query_as(AssertSqlSafe(sql))
            .bind(tenant.uuid())
            .bind(id.uuid())
            .bind(&secret.hash)
            .bind(&secret.ends_with)
            .bind(f64::from(grace_seconds))
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        let key = ApiKey::try_from(row)?;
        let record = AuditRecord::of(permit, "api_key.rotate", Some(tenant), Outcome::Done)
            .with(serde_json::json!({ "key": id, "grace_seconds": grace_seconds }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(NewApiKey { key, secret: secret.text })
    }

    /// Ends an API key. Revoking it again changes nothing.
    pub async fn revoke_api_key(&self, permit: &Permit, tenant: TenantId, id: ApiKeyId) -> Result<ApiKey, ApiKeyError> {
        const DOING: &str = "revoke an API key";
        covers(permit, Permission::AccessWrite, Some(tenant))?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let sql = format!(
            "UPDATE api_key SET revoked_at = coalesce(revoked_at, now()) WHERE tenant = $1 AND id = $2 RETURNING {COLUMNS}"
        );
        let row: Option<KeyRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(tenant.uuid())
            .bind(id.uuid())
            .fetch_optional(&mut *transaction)
            .await
            .doing(DOING)?;
        let key = ApiKey::try_from(row.ok_or(ApiKeyError::NotFound(id))?)?;
        let record = AuditRecord::of(permit, "api_key.revoke", Some(tenant), Outcome::Done)
            .with(serde_json::json!({ "key": id, "name": key.name }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(key)
    }

    /// A page of the API keys that are not revoked or over, by id, after `after`; at most [`KEYS_PAGE`].
    pub async fn feed_api_keys(&self, after: Option<ApiKeyId>) -> Result<Vec<SnapshotApiKey>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM api_key
             WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AND id > $1 ORDER BY id LIMIT {KEYS_PAGE}"
        );
        let rows: Vec<KeyRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(after.map_or(Uuid::nil(), ApiKeyId::uuid))
            .fetch_all(&self.pool)
            .await
            .doing("read the API keys")?;
        rows.into_iter().map(SnapshotApiKey::try_from).collect()
    }
}

/// Those of these keys that are in force, and the ids of the rest.
pub(crate) async fn read_changed(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<(Vec<SnapshotApiKey>, Vec<ApiKeyId>), StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_key WHERE id = ANY ($1) AND revoked_at IS NULL");
    let rows: Vec<KeyRow> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(ids).fetch_all(connection).await.doing("read what changed")?;
    let keys: Vec<SnapshotApiKey> = rows.into_iter().map(SnapshotApiKey::try_from).collect::<Result<_, _>>()?;
    let there: BTreeSet<ApiKeyId> = keys.iter().map(|key| key.id).collect();
    let gone = ids.iter().copied().map(ApiKeyId::from_uuid).filter(|id| !there.contains(id)).collect();
    Ok((keys, gone))
}

async fn refuse_ended(connection: &mut PgConnection, tenant: TenantId, id: ApiKeyId) -> Result<(), ApiKeyError> {
    let ended: Option<bool> = sqlx::query_scalar(
        "SELECT revoked_at IS NOT NULL OR coalesce(expires_at <= now(), false) FROM api_key
         WHERE tenant = $1 AND id = $2 FOR UPDATE",
    )
    .bind(tenant.uuid())
    .bind(id.uuid())
    .fetch_optional(connection)
    .await
    .doing("read an API key")?;
    match ended {
        None => Err(ApiKeyError::NotFound(id)),
        Some(true) => Err(ApiKeyError::Ended(id)),
        Some(false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_the_form_that_gateways_look_for() {
        let (one, other) = (new_secret().unwrap(), new_secret().unwrap());
        assert!(guardian_model::api_key::has_the_form(&one.text) && one.text.ends_with(&one.ends_with));
        assert_ne!(one.hash, other.hash);
    }
}
