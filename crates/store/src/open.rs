//! Opening the store: migrations, the check of the master key, the pool.

use std::time::Duration;

use sqlx::{
    Connection as _, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    Store,
    error::{Doing, StoreError},
    feed,
    vault::{Vault, VaultError},
};

static MIGRATOR: Migrator = sqlx::migrate!();
/// Guardian's own schema, so that it may share a database with something else.
const SCHEMA: &str = "guardian_store";
/// What the canary is sealed as.
const CANARY: &str = "canary";
/// Connections at once. One is for listening; more would not make a server of few cores faster.
const CONNECTIONS_MAX: u32 = 16;
const STATEMENT_TIMEOUT: &str = "15s";
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that was idle for so long is tried before use; the others are trusted, which saves a round trip.
const TRUST_IDLE: Duration = Duration::from_secs(2);

/// Why the store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database is out of reach, or the role may not connect.
    #[error("cannot connect to the control database: check that it runs, and [control] in guardian.toml")]
    Connect(#[source] sqlx::Error),
    /// A later version of Guardian was here.
    #[error(
        "the control database has migration {version}, which this guardian does not know: it was written by a newer \
         version; use that version, or a newer one"
    )]
    Newer {
        /// The migration.
        version: i64,
    },
    /// A migration was changed after it was applied, or did not go through.
    #[error("cannot bring the control database up to date; nothing was changed by the migration that failed")]
    Migrate(#[source] MigrateError),
    /// The secrets inside were sealed under another key.
    #[error(
        "the master key is not the one that the secrets in the control database are sealed with; restore the key file \
         that belongs to this database"
    )]
    WrongKey,
    /// The master key is being changed, and this process has one of the two only.
    #[error(
        "the master key is being changed, and some secrets are under the old one, others under the new one; name both, as \
         `control.master_key_file` and `control.master_key_file_previous`, until `guardian key status` says that it is done"
    )]
    BetweenKeys,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Connects, migrates, and checks that the vault opens what is inside.
    pub async fn open(options: PgConnectOptions, vault: Vault) -> Result<Self, OpenError> {
        let options = options.application_name("guardian").options([("search_path", SCHEMA)]);
        // Unbounded in time: an index on a large table may take a while.
        let unbounded = options.clone().options([("statement_timeout", "0")]);
        let mut connection = PgConnection::connect_with(&unbounded).await.map_err(OpenError::Connect)?;
        migrate(&mut connection).await?;
        check_key(&mut connection, &vault).await?;
        connection.close().await.doing("close a connection")?;
        let bounded = options.options([("statement_timeout", STATEMENT_TIMEOUT), ("lock_timeout", STATEMENT_TIMEOUT)]);
        // A plan made while a table was one page long would read it whole for as long as it is cached, and the table may
        // have grown to a hundred thousand rows by then. Every condition used here has an index. The cost that
        // PostgreSQL puts on the scans that remain would start the JIT compiler.
        let bounded = bounded.options([("enable_seqscan", "off"), ("jit", "off")]);
        Ok(Self { pool: pool(bounded), vault, changed: feed::Changed::default() })
    }

    /// Closes every connection, after those in use have come back.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, met| {
            Box::pin(async move {
                if met.idle_for > TRUST_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

async fn migrate(connection: &mut PgConnection) -> Result<(), OpenError> {
    const DOING: &str = "make Guardian's schema";
    // Two processes that start at once: `IF NOT EXISTS` alone does not keep the second from failing.
    let mut transaction = connection.begin().await.doing(DOING)?;
    sqlx::query("SELECT pg_advisory_xact_lock(26485, 0)").execute(&mut *transaction).await.doing(DOING)?;
    let exists: bool = sqlx::query_scalar("SELECT pg_catalog.to_regnamespace($1) IS NOT NULL")
        .bind(SCHEMA)
        .fetch_one(&mut *transaction)
        .await
        .doing(DOING)?;
    // Somebody may have made it for a role that must not make schemas.
    if !exists {
        let sql = format!("CREATE SCHEMA {SCHEMA}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *transaction).await.doing(DOING)?;
    }
    transaction.commit().await.doing(DOING)?;
    MIGRATOR.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => OpenError::Newer { version },
        error => OpenError::Migrate(error),
    })
}

/// A canary sealed by the first start opens under the right key only. Takes up the key that seals.
async fn check_key(connection: &mut PgConnection, vault: &Vault) -> Result<(), OpenError> {
    const DOING: &str = "check the master key";
    let fresh = vault.seal(CANARY, CANARY.as_bytes()).map_err(StoreError::from)?;
    sqlx::query("INSERT INTO vault_canary (sealed) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(fresh)
        .execute(&mut *connection)
        .await
        .doing(DOING)?;
    let kept: Option<(String, Option<String>)> =
        sqlx::query_as("SELECT id, previous FROM vault_key").fetch_optional(&mut *connection).await.doing(DOING)?;
    if let Some((id, Some(previous))) = &kept
        && !(vault.knows(id) && vault.knows(previous))
    {
        return Err(OpenError::BetweenKeys);
    }
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT sealed FROM vault_canary").fetch_one(&mut *connection).await.doing(DOING)?;
    match vault.open(CANARY, &sealed) {
        Ok(_) => {}
        Err(VaultError::Sealed) => return Err(OpenError::WrongKey),
        Err(other) => return Err(StoreError::from(other).into()),
    }
    let opened = vault.sealed_under(CANARY, &sealed).ok_or(OpenError::WrongKey)?;
    let id: String =
        sqlx::query_scalar("INSERT INTO vault_key (id) VALUES ($1) ON CONFLICT (one) DO UPDATE SET one = true RETURNING id")
            .bind(opened)
            .fetch_one(connection)
            .await
            .doing(DOING)?;
    if vault.seal_with(&id, None) { Ok(()) } else { Err(OpenError::WrongKey) }
}
