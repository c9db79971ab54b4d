//! The keys that sign the installation's own identities: Ed25519, sealed, changed by age or when somebody asks.
//!
//! A new key is published before it signs, so that whoever verifies has it in time, and an old one until what it signed is
//! over. All control planes tend them; a lock lets one at a time.

use std::time::Duration;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use guardian_model::{
    Permission,
    access::{Actor, Permit},
    access_api::{IdentityKeyStage, IdentityKeyState},
    http::{IdentityKey, SnapshotIdentityKeys},
    snapshot::Secret,
};
use serde_json::json;
use sqlx::PgConnection;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers, word},
    timestamp::Stamp,
    vault::{VaultError, hex},
};

/// How long a key is published before it signs: more than the published set may be kept by those who fetch it.
const AHEAD: Duration = Duration::from_mins(10);
/// How long a key signs.
const SIGNS: Duration = Duration::from_hours(30 * 24);
/// How long a key is published after it signed: the longest life of an identity, and some minutes for clocks.
const AFTER: Duration = Duration::from_mins(65);

/// Why no other key was made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityKeyError {
    /// The next one is published already.
    #[error("the next key is published already and signs from {0}; wait for that, or end the present keys with --now")]
    UnderWay(jiff::Timestamp),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    kid: String,
    public: String,
    sealed_secret: Vec<u8>,
    state: String,
    since: Stamp,
}

pub(crate) fn context(kid: &str) -> String {
    format!("identity:{kid}")
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn until(stage: IdentityKeyStage, since: jiff::Timestamp) -> jiff::Timestamp {
    let lasts = match stage {
        IdentityKeyStage::Next => AHEAD,
        IdentityKeyStage::Signing => SIGNS,
        IdentityKeyStage::Retired => AFTER,
    };
    since.checked_add(lasts).unwrap_or(jiff::Timestamp::MAX)
}

impl Store {
    /// The keys for a gateway, which says `issuer` in what it signs.
    pub async fn identity_keys(&self, issuer: &str) -> Result<SnapshotIdentityKeys, StoreError> {
        let mut connection = self.pool.acquire().await.doing("read the keys that sign identities")?;
        self.identity_keys_on(&mut connection, issuer).await
    }

    pub(crate) async fn identity_keys_on(
        &self,
        connection: &mut PgConnection,
        issuer: &str,
    ) -> Result<SnapshotIdentityKeys, StoreError> {
        let rows = rows(connection).await?;
        let signing = rows.iter().find(|row| row.state == IdentityKeyStage::Signing.as_str());
        let current = signing.map(|row| {
            let secret = self.vault.open(&context(&row.kid), &row.sealed_secret)?;
            Ok::<_, VaultError>(IdentityKey { kid: row.kid.clone(), secret: Secret::new(hex(&secret)) })
        });
        Ok(SnapshotIdentityKeys { issuer: issuer.to_owned(), current: current.transpose()?, published: key_set(&rows) })
    }

    /// The JSON Web Key Set with which anybody can verify identities.
    pub async fn identity_key_set(&self) -> Result<String, StoreError> {
        let mut connection = self.pool.acquire().await.doing("read the keys that verify identities")?;
        Ok(key_set(&rows(&mut connection).await?))
    }

    /// Where each key stands; the one that signs first.
    pub async fn identity_key_states(&self) -> Result<Vec<IdentityKeyState>, StoreError> {
        let mut connection = self.pool.acquire().await.doing("read the keys that sign identities")?;
        states(rows(&mut connection).await?)
    }

    /// Makes the first key, lets the next one sign when its time has come, and forgets old ones. `true` when it did
    /// something.
    pub async fn tend_identity_keys(&self) -> Result<bool, StoreError> {
        const DOING: &str = "tend the keys that sign identities";
        let is_due: bool = sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM identity_key WHERE state = 'signing')
                 OR EXISTS (SELECT FROM identity_key WHERE state = 'next' AND since <= now() - $1 * interval '1 second')
                 OR EXISTS (SELECT FROM identity_key WHERE state = 'retired' AND since <= now() - $2 * interval '1 second')
                 OR (EXISTS (SELECT FROM identity_key WHERE state = 'signing' AND since <= now() - $3 * interval '1 second')
                     AND NOT EXISTS (SELECT FROM identity_key WHERE state = 'next'))",
        )
        .bind(seconds(AHEAD))
        .bind(seconds(AFTER))
        .bind(seconds(SIGNS))
        .fetch_one(&self.pool)
        .await
        .doing(DOING)?;
        if !is_due {
            return Ok(false);
        }
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        lock(&mut transaction).await?;
        let gone =
            sqlx::query("DELETE FROM identity_key WHERE state = 'retired' AND since <= now() - $1 * interval '1 second'")
                .bind(seconds(AFTER))
                .execute(&mut *transaction)
                .await
                .doing(DOING)?;
        let next: Option<bool> =
            sqlx::query_scalar("SELECT since <= now() - $1 * interval '1 second' FROM identity_key WHERE state = 'next'")
                .bind(seconds(AHEAD))
                .fetch_optional(&mut *transaction)
                .await
                .doing(DOING)?;
        let is_aged: Option<bool> =
            sqlx::query_scalar("SELECT since <= now() - $1 * interval '1 second' FROM identity_key WHERE state = 'signing'")
                .bind(seconds(SIGNS))
                .fetch_optional(&mut *transaction)
                .await
                .doing(DOING)?;
        let done = match (is_aged, next) {
            // Without one that signs, nothing is gained by waiting for the next one's time.
            (_, Some(true)) | (None, Some(false)) => {
                for sql in [
                    "UPDATE identity_key SET state = 'retired', since = now() WHERE state = 'signing'",
                    "UPDATE identity_key SET state = 'signing', since = now() WHERE state = 'next'",
                ] {
                    sqlx::query(sql).execute(&mut *transaction).await.doing(DOING)?;
                }
                Some("signs")
            }
            (None, None) => {
                self.insert_identity_key(&mut transaction, IdentityKeyStage::Signing).await?;
                Some("made")
            }
            (Some(true), None) => {
                self.insert_identity_key(&mut transaction, IdentityKeyStage::Next).await?;
                Some("published")
            }
            (Some(_), Some(false)) | (Some(false), None) => None,
        };
        if let Some(done) = done {
            let record = AuditRecord::by(&Actor::system("identity"), "identity_key.rotate", None, Outcome::Done)
                .with(json!({ "next": done, "forgotten": gone.rows_affected() }));
            insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        }
        transaction.commit().await.doing(DOING)?;
        Ok(done.is_some() || gone.rows_affected() > 0)
    }

    /// Publishes another key, which signs after a while. `now`: the present keys end at once, and what they signed is refused.
    pub async fn rotate_identity_key(&self, permit: &Permit, now: bool) -> Result<Vec<IdentityKeyState>, IdentityKeyError> {
        const DOING: &str = "rotate the key that signs identities";
        covers(permit, Permission::TokenWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        lock(&mut transaction).await?;
        if now {
            sqlx::query("DELETE FROM identity_key").execute(&mut *transaction).await.doing(DOING)?;
            self.insert_identity_key(&mut transaction, IdentityKeyStage::Signing).await?;
        } else {
            let next: Option<Stamp> = sqlx::query_scalar("SELECT since FROM identity_key WHERE state = 'next'")
                .fetch_optional(&mut *transaction)
                .await
                .doing(DOING)?;
            if let Some(Stamp(since)) = next {
                return Err(IdentityKeyError::UnderWay(until(IdentityKeyStage::Next, since)));
            }
            self.insert_identity_key(&mut transaction, IdentityKeyStage::Next).await?;
        }
        let states = states(rows(&mut transaction).await?)?;
        let record =
            AuditRecord::of(permit, "identity_key.rotate", None, Outcome::Done).with(json!({ "now": now, "keys": states }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(states)
    }

    async fn insert_identity_key(&self, connection: &mut PgConnection, stage: IdentityKeyStage) -> Result<(), StoreError> {
        let random = |_| StoreError::Vault(VaultError::Random);
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(random)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| StoreError::Vault(VaultError::Random))?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let kid = thumbprint(&public);
        let sealed = self.vault.seal(&context(&kid), document.as_ref())?;
        sqlx::query("INSERT INTO identity_key (kid, public, sealed_secret, state) VALUES ($1, $2, $3, $4)")
            .bind(&kid)
            .bind(&public)
            .bind(sealed)
            .bind(stage.as_str())
            .execute(connection)
            .await
            .map(drop)
            .doing("keep a key that signs identities")
    }
}

/// The id of a public key, as RFC 7638 makes it.
fn thumbprint(public: &str) -> String {
    let key = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, key.as_bytes()))
}

async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("LOCK TABLE identity_key IN SHARE ROW EXCLUSIVE MODE")
        .execute(connection)
        .await
        .map(drop)
        .doing("lock the keys that sign identities")
}

async fn rows(connection: &mut PgConnection) -> Result<Vec<KeyRow>, StoreError> {
    sqlx::query_as("SELECT kid, public, sealed_secret, state, since FROM identity_key ORDER BY state DESC, since, kid")
        .fetch_all(connection)
        .await
        .doing("read the keys that sign identities")
}

fn states(rows: Vec<KeyRow>) -> Result<Vec<IdentityKeyState>, StoreError> {
    let state = |row: KeyRow| {
        let state = word("state of a key", &row.state, IdentityKeyStage::from_word)?;
        Ok(IdentityKeyState { kid: row.kid, state, since: row.since.0, until: until(state, row.since.0) })
    };
    rows.into_iter().map(state).collect()
}

fn key_set(rows: &[KeyRow]) -> String {
    let key = |row: &KeyRow| json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": row.kid, "x": row.public });
    json!({ "keys": rows.iter().map(key).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8037, appendix A.3.
    #[test]
    fn a_key_has_its_thumbprint_for_a_name() {
        let public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(thumbprint(public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
