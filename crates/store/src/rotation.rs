//! The change of the master key, while everything runs: which control planes have which key, and every secret sealed anew.
//!
//! A control plane says again and again which keys it has, and hears which one seals. The new key seals only when all of them
//! have it. What is sealed is opened with either key until nothing is left under the old one.

use std::time::{Duration, Instant};

use guardian_model::api::{ControlNode, MasterKeys};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::{
    Store,
    begin::Lease,
    error::{Doing, StoreError},
    run_claim::RunClaim,
    timestamp::Stamp,
};

/// How long what was sealed in time may take to be written: no statement takes so long.
const SILENCE: Duration = Duration::from_secs(15);
/// Leases for which a control plane seals after its last word. More than a stall of the machine lasts.
const SEALING_LEASES: u32 = 6;
/// When a silent one is forgotten.
const FORGET_HOURS: i32 = 24;
/// Secrets sealed anew in one transaction.
const BATCH: i64 = 500;
/// In which order the keys are locked, against a control plane that starts meanwhile.
const LOCK: &str = "LOCK TABLE node IN SHARE ROW EXCLUSIVE MODE";

/// The master key cannot be changed, or this process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// There is only the key that seals already.
    #[error(
        "this control plane has no other master key than the one that seals; name the new one as `control.master_key_file` \
         and the old one as `control.master_key_file_previous`, and start every control plane anew"
    )]
    NoNewKey,
    /// Some control planes do not have the new key.
    #[error("not every control plane has the new master key: {}; give it to them, and start them anew", .0.join(", "))]
    NotEverywhere(Vec<String>),
    /// The key that seals is none of this process's.
    #[error("the secrets in the control database are sealed with another master key by now; start with that key")]
    KeyGone,
    /// A row says that there are secrets under a key that this process does not have.
    #[error("a secret in `{table}` does not open with any of the master keys")]
    Unopened {
        /// The table.
        table: &'static str,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A column with sealed secrets. A test finds every column of such a name here.
#[derive(Debug, Clone, Copy)]
pub struct SealedColumn {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    key: &'static str,
    key_type: &'static str,
    context: fn(&str) -> String,
}

/// In the order in which they are sealed anew. A secret that is to come before the one in whose place it will be put, so that
/// nothing under the old key is put where nobody looks again. The canary is the last: as long as it is under the old key, that
/// key is needed.
pub const SEALED_COLUMNS: [SealedColumn; 9] = [
    SealedColumn {
        table: "tenant",
        column: "sealed_next_capability",
        key: "id",
        key_type: "uuid",
        context: |id| tenant("capability", id),
    },
    SealedColumn {
        table: "tenant",
        column: "sealed_next_password",
        key: "id",
        key_type: "uuid",
        context: |id| tenant("password", id),
    },
    SealedColumn {
        table: "tenant",
        column: "sealed_capability",
        key: "id",
        key_type: "uuid",
        context: |id| tenant("capability", id),
    },
    SealedColumn {
        table: "tenant",
        column: "sealed_password",
        key: "id",
        key_type: "uuid",
        context: |id| tenant("password", id),
    },
    SealedColumn {
        table: "login",
        column: "sealed_verifier",
        key: "name",
        key_type: "text",
        context: |name| format!("login:{name}"),
    },
    SealedColumn {
        table: "application",
        column: "sealed_password",
        key: "name",
        key_type: "text",
        context: |name| format!("application:{name}"),
    },
    SealedColumn {
        table: "application",
        column: "sealed_adopt_password",
        key: "name",
        key_type: "text",
        context: |name| format!("adopt:{name}"),
    },
    SealedColumn {
        table: "identity_key",
        column: "sealed_secret",
        key: "kid",
        key_type: "text",
        context: crate::identity_key::context,
    },
    SealedColumn {
        table: "vault_canary",
        column: "sealed",
        key: "one",
        key_type: "boolean",
        context: |_| "canary".to_owned(),
    },
];

/// A way through the secrets of one column.
#[derive(Debug)]
pub struct Pass {
    column: SealedColumn,
    last: Option<String>,
    /// How many were looked at so far.
    pub looked: u64,
    /// How many of them were under another key.
    pub resealed: u64,
}

impl Pass {
    /// From the first one on.
    pub const fn of(column: SealedColumn) -> Self {
        Self { column, last: None, looked: 0, resealed: 0 }
    }
}

fn tenant(purpose: &str, id: &str) -> String {
    let id = id.parse::<Uuid>().unwrap_or_default();
    format!("{purpose}:{}", guardian_model::TenantId::from_uuid(id))
}

impl Store {
    /// Says that this control plane runs and which keys it has, and takes up the one that seals. To be repeated three times a
    /// lease: after six leases of silence nothing is sealed any more.
    pub async fn beat(&self, lease: &Lease) -> Result<(), RotationError> {
        let said_at = Instant::now();
        let before = self.vault.sealing().to_owned();
        let id = self.say(&lease.worker).await?;
        if !self.vault.seal_with(&id, Some(said_at + lease.duration * SEALING_LEASES)) {
            return Err(RotationError::KeyGone);
        }
        if id != before {
            // Only now that it is so.
            self.say(&lease.worker).await?;
        }
        Ok(())
    }

    async fn say(&self, worker: &str) -> Result<String, StoreError> {
        let sealing: String = sqlx::query_scalar(
            "WITH said AS (
                 INSERT INTO node (worker, keys, sealing) VALUES ($1, $2, $3)
                 ON CONFLICT (worker) DO UPDATE SET keys = excluded.keys, sealing = excluded.sealing, seen_at = now()
             ), forgotten AS (
                 DELETE FROM node WHERE seen_at < now() - make_interval(hours => $4) AND worker <> $1
             )
             SELECT id FROM vault_key",
        )
        .bind(worker)
        .bind(self.vault.ids())
        .bind(self.vault.sealing())
        .bind(FORGET_HOURS)
        .fetch_one(&self.pool)
        .await
        .doing("say which master keys there are")?;
        Ok(sealing)
    }

    /// Says that this control plane stops.
    pub async fn leave(&self, lease: &Lease) -> Result<(), StoreError> {
        let left = sqlx::query("DELETE FROM node WHERE worker = $1").bind(&lease.worker).execute(&self.pool).await;
        left.doing("say that a control plane stops").map(drop)
    }

    /// Which master key seals, and which control planes have which.
    pub async fn master_keys(&self) -> Result<MasterKeys, StoreError> {
        const DOING: &str = "read the master keys' ids";
        let (id, previous, rotated_at): (String, Option<String>, Option<Stamp>) =
            sqlx::query_as("SELECT id, previous, rotated_at FROM vault_key").fetch_one(&self.pool).await.doing(DOING)?;
        let nodes: Vec<(String, Vec<String>, String, Stamp)> =
            sqlx::query_as("SELECT worker, keys, sealing, seen_at FROM node ORDER BY worker")
                .fetch_all(&self.pool)
                .await
                .doing(DOING)?;
        let nodes =
            nodes.into_iter().map(|(name, keys, sealing, seen_at)| ControlNode { name, keys, sealing, seen_at: seen_at.0 });
        Ok(MasterKeys { sealing: id, previous, rotated_at: rotated_at.map(|stamp| stamp.0), nodes: nodes.collect() })
    }

    /// The key that a rotation would go to, once it is known to every control plane that runs.
    pub async fn next_master_key(&self, lease: &Lease) -> Result<String, RotationError> {
        let mut connection = self.pool.acquire().await.doing("look for a new master key")?;
        self.look_for_next(&mut connection, lease).await
    }

    async fn look_for_next(&self, connection: &mut PgConnection, lease: &Lease) -> Result<String, RotationError> {
        const DOING: &str = "look for a new master key";
        let sealing: String =
            sqlx::query_scalar("SELECT id FROM vault_key").fetch_one(&mut *connection).await.doing(DOING)?;
        let new = self.vault.ids().swap_remove(0);
        if new == sealing {
            return Err(RotationError::NoNewKey);
        }
        let without: Vec<String> = sqlx::query_scalar(
            "SELECT worker FROM node WHERE seen_at > now() - make_interval(secs => $2) AND NOT $1 = ANY (keys) ORDER BY worker",
        )
        .bind(&new)
        .bind(alive(lease).as_secs_f64())
        .fetch_all(connection)
        .await
        .doing(DOING)?;
        if without.is_empty() { Ok(new) } else { Err(RotationError::NotEverywhere(without)) }
    }

    /// Makes the key the one that seals, unless it is already. To be called by whoever holds the run.
    pub async fn switch_key(&self, run: &RunClaim, lease: &Lease, new: &str) -> Result<(), RotationError> {
        const DOING: &str = "change the master key that seals";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        sqlx::query(LOCK).execute(&mut *transaction).await.doing(DOING)?;
        let sealing: String =
            sqlx::query_scalar("SELECT id FROM vault_key FOR UPDATE").fetch_one(&mut *transaction).await.doing(DOING)?;
        if sealing != new {
            if self.look_for_next(&mut transaction, lease).await? != new {
                return Err(RotationError::NoNewKey);
            }
            // The run's own hold, so that one that lost it does not switch back and forth.
            let switched = sqlx::query(
                "UPDATE vault_key SET previous = id, id = $1
                 WHERE EXISTS (SELECT FROM run WHERE id = $2 AND fence = $3 AND state = 'running')",
            )
            .bind(new)
            .bind(run.id.uuid())
            .bind(run.fence)
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
            if switched.rows_affected() == 0 {
                return Err(RotationError::NoNewKey);
            }
        }
        transaction.commit().await.doing(DOING)?;
        self.beat(lease).await
    }

    /// The control planes that may still seal with another key.
    pub async fn sealing_otherwise(&self, lease: &Lease, new: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT worker FROM node WHERE seen_at > now() - make_interval(secs => $2) AND sealing <> $1 ORDER BY worker",
        )
        .bind(new)
        .bind(alive(lease).as_secs_f64())
        .fetch_all(&self.pool)
        .await
        .doing("ask which master key each control plane seals with")
    }

    /// Seals anew what the next secrets of a column still have under another key; `false` when there were no more.
    pub async fn reseal(&self, pass: &mut Pass, new: &str) -> Result<bool, RotationError> {
        const DOING: &str = "seal secrets anew";
        let SealedColumn { table, column, key, key_type, context } = pass.column;
        let select = format!(
            "SELECT {key}::text, {column} FROM {table}
             WHERE {column} IS NOT NULL AND ($1::text IS NULL OR {key} > $1::text::{key_type}) ORDER BY {key} LIMIT {BATCH}"
        );
        let rows: Vec<(String, Vec<u8>)> =
            sqlx::query_as(AssertSqlSafe(select)).bind(&pass.last).fetch_all(&self.pool).await.doing(DOING)?;
        let Some((last, _)) = rows.last() else { return Ok(false) };
        pass.last = Some(last.clone());
        pass.looked += rows.len() as u64;
        let (mut keys, mut old, mut anew) = (Vec::new(), Vec::new(), Vec::new());
        for (key, sealed) in rows {
            let context = context(&key);
            match self.vault.sealed_under(&context, &sealed) {
                Some(id) if id == new => {}
                Some(_) => {
                    let plain = self.vault.open(&context, &sealed).map_err(StoreError::from)?;
                    anew.push(self.vault.seal(&context, &plain).map_err(StoreError::from)?);
                    keys.push(key);
                    old.push(sealed);
                }
                None => return Err(RotationError::Unopened { table }),
            }
        }
        if keys.is_empty() {
            return Ok(true);
        }
        pass.resealed += keys.len() as u64;
        // What somebody else has sealed meanwhile is under the new key already, and stays.
        let update = format!(
            "UPDATE {table} AS t SET {column} = anew.new FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS anew (key, old, new)
             WHERE t.{key} = anew.key::{key_type} AND t.{column} = anew.old"
        );
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let quiet = "SELECT set_config('guardian.resealing', 'on', true)";
        sqlx::query(quiet).execute(&mut *transaction).await.doing(DOING)?;
        sqlx::query(AssertSqlSafe(update)).bind(keys).bind(old).bind(anew).execute(&mut *transaction).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(true)
    }

    /// Notes that nothing is left under another key.
    pub async fn end_rotation(&self, new: &str) -> Result<(), StoreError> {
        let ended = sqlx::query("UPDATE vault_key SET previous = NULL, rotated_at = now() WHERE id = $1");
        ended.bind(new).execute(&self.pool).await.doing("end the change of the master key").map(drop)
    }
}

/// For how long after its last word a control plane counts as running.
fn alive(lease: &Lease) -> Duration {
    lease.duration * SEALING_LEASES + SILENCE
}
