//! The ledger `guardian.migration` of a database, and running what it lacks.

use std::collections::HashMap;

use guardian_postgres::quote::ident;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction, postgres::PgErrorPosition};

use super::{Migration, Migrations, split::Statement};
use crate::{
    error::{self, ProvisionError, describe, execute, failed},
    lock,
};

const LEDGER: &str = "\
    SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('guardian:ledger', 0)); \
    CREATE SCHEMA IF NOT EXISTS guardian; \
    CREATE TABLE IF NOT EXISTS guardian.migration ( \
        place text NOT NULL, name text NOT NULL, checksum bytea NOT NULL, \
        applied_at timestamptz NOT NULL DEFAULT pg_catalog.now(), PRIMARY KEY (place, name)); \
    REVOKE ALL ON guardian.migration FROM PUBLIC";

/// A place could not be migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A file is no longer what ran.
    #[error("{file} was changed after it had been applied to schema {schema}; restore it, and write a new file instead")]
    Changed {
        /// The file.
        file: String,
        /// Where it was applied.
        schema: String,
    },
    /// A file is gone.
    #[error("{file} was applied to schema {schema} but is not in the migrations folder; restore it")]
    Missing {
        /// The file.
        file: String,
        /// Where it was applied.
        schema: String,
    },
    /// The server refused a statement.
    #[error("{file}:{line}: {} (schema {schema}); {kept}", describe(source))]
    Statement {
        /// The file.
        file: String,
        /// The line at fault, or that of its statement, counted from 1.
        line: usize,
        /// Where it was to be applied.
        schema: String,
        /// What is left of the file.
        kept: &'static str,
        /// What the server said.
        #[source]
        source: sqlx::Error,
    },
    /// The ledger, the lock or the connection.
    #[error(transparent)]
    Place(#[from] ProvisionError),
}

impl MigrateError {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Changed { .. } | Self::Missing { .. } => false,
            Self::Statement { source, .. } => error::is_transient(source),
            Self::Place(error) => error.is_transient(),
        }
    }
}

/// What a schema's ledger says, beside the files that there are.
#[derive(Debug, Default)]
pub struct Standing<'m> {
    /// Files not applied yet, in order.
    pub missing: Vec<&'m Migration>,
    /// Files that were changed after they had been applied.
    pub changed: Vec<&'m Migration>,
    /// Names of files that were applied and are gone from the folder.
    pub gone: Vec<String>,
}

/// Holds a schema's ledger against the files.
pub async fn standing<'m>(
    connection: &mut PgConnection,
    schema: &str,
    migrations: &'m Migrations,
) -> Result<Standing<'m>, MigrateError> {
    let mut applied = HashMap::new();
    if ledger_exists(connection).await? {
        let rows: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT name, checksum FROM guardian.migration WHERE place = $1 ORDER BY name")
                .bind(schema)
                .fetch_all(connection)
                .await
                .map_err(failed("read the ledger of", schema))?;
        applied.extend(rows);
    }
    let mut standing = Standing::default();
    for migration in migrations.files() {
        match applied.remove(&migration.name) {
            None => standing.missing.push(migration),
            Some(checksum) if checksum == migration.checksum => {}
            Some(_) => standing.changed.push(migration),
        }
    }
    standing.gone = applied.into_keys().collect();
    standing.gone.sort_unstable();
    Ok(standing)
}

/// The files that a schema lacks, in order. A file that was applied and then changed or removed is an error.
pub async fn pending<'m>(
    connection: &mut PgConnection,
    schema: &str,
    migrations: &'m Migrations,
) -> Result<Vec<&'m Migration>, MigrateError> {
    let Standing { missing, changed, gone } = standing(connection, schema, migrations).await?;
    if let Some(changed) = changed.first() {
        return Err(MigrateError::Changed { file: changed.name.clone(), schema: schema.to_owned() });
    }
    match gone.into_iter().next() {
        Some(file) => Err(MigrateError::Missing { file, schema: schema.to_owned() }),
        None => Ok(missing),
    }
}

/// Brings a schema to the newest file and names those that ran. Two callers take turns.
///
/// The connection must be closed in the end: its session holds the lock.
pub async fn apply(
    connection: &mut PgConnection,
    schema: &str,
    migrations: &Migrations,
) -> Result<Vec<String>, MigrateError> {
    lock::hold(connection, &format!("migrations of schema {schema}")).await?;
    if !ledger_exists(connection).await? {
        execute(connection, "create the ledger for", schema, LEDGER.to_owned()).await?;
    }
    let mut applied = Vec::new();
    for migration in pending(connection, schema, migrations).await? {
        if migration.in_transaction {
            in_transaction(connection, schema, migration).await?;
        } else {
            one_by_one(connection, schema, migration).await?;
        }
        applied.push(migration.name.clone());
    }
    Ok(applied)
}

/// Strikes a schema that is gone from the ledger.
pub async fn forget(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    if !ledger_exists(connection).await? {
        return Ok(());
    }
    sqlx::query("DELETE FROM guardian.migration WHERE place = $1")
        .bind(schema)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed("strike from the ledger", schema))
}

/// A file is one message. Only when it fails is it tried again statement by statement, to find the one at fault.
async fn in_transaction(connection: &mut PgConnection, schema: &str, migration: &Migration) -> Result<(), MigrateError> {
    let mut whole = begin(connection, schema).await?;
    if sqlx::raw_sql(AssertSqlSafe(migration.sql.clone())).execute(&mut *whole).await.is_ok() {
        return commit(whole, schema, migration).await;
    }
    whole.rollback().await.map_err(failed("roll back a migration of", schema))?;
    let mut transaction = begin(connection, schema).await?;
    for statement in migration.statements() {
        run(&mut transaction, schema, migration, statement, "nothing of this file was kept").await?;
    }
    commit(transaction, schema, migration).await
}

async fn begin<'c>(connection: &'c mut PgConnection, schema: &str) -> Result<Transaction<'c, Postgres>, MigrateError> {
    let mut transaction = connection.begin().await.map_err(failed("begin a migration of", schema))?;
    execute(&mut transaction, "set the path for", schema, format!("SET LOCAL search_path = {}", ident(schema))).await?;
    Ok(transaction)
}

async fn commit(
    mut transaction: Transaction<'_, Postgres>,
    schema: &str,
    migration: &Migration,
) -> Result<(), MigrateError> {
    reset(&mut transaction, schema).await?;
    record(&mut transaction, schema, migration).await?;
    transaction.commit().await.map_err(|source| MigrateError::Statement {
        file: migration.name.clone(),
        line: migration.sql.lines().count().max(1),
        schema: schema.to_owned(),
        kept: "nothing of this file was kept",
        source,
    })
}

async fn one_by_one(connection: &mut PgConnection, schema: &str, migration: &Migration) -> Result<(), MigrateError> {
    execute(connection, "set the path for", schema, format!("SET search_path = {}", ident(schema))).await?;
    for statement in migration.statements() {
        let kept = "the statements before it were kept, as the file asks for no transaction; make them repeatable";
        run(connection, schema, migration, statement, kept).await?;
    }
    reset(connection, schema).await?;
    record(connection, schema, migration).await
}

/// What a file set for its session must be in force neither for the ledger nor for the next file.
async fn reset(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    execute(connection, "reset the session in", schema, "RESET ROLE; RESET ALL".to_owned()).await
}

async fn run(
    connection: &mut PgConnection,
    schema: &str,
    migration: &Migration,
    statement: Statement<'_>,
    kept: &'static str,
) -> Result<(), MigrateError> {
    let ran = sqlx::raw_sql(AssertSqlSafe(statement.text.to_owned())).execute(connection).await;
    ran.map(drop).map_err(|source| MigrateError::Statement {
        file: migration.name.clone(),
        line: statement.line + lines_before_fault(statement.text, &source),
        schema: schema.to_owned(),
        kept,
        source,
    })
}

/// The server counts characters from the start of the statement.
fn lines_before_fault(statement: &str, error: &sqlx::Error) -> usize {
    let position = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
        .and_then(sqlx::postgres::PgDatabaseError::position);
    match position {
        Some(PgErrorPosition::Original(position)) => {
            statement.chars().take(position.saturating_sub(1)).filter(|&character| character == '\n').count()
        }
        _ => 0,
    }
}

async fn record(connection: &mut PgConnection, schema: &str, migration: &Migration) -> Result<(), MigrateError> {
    sqlx::query("INSERT INTO guardian.migration (place, name, checksum) VALUES ($1, $2, $3)")
        .bind(schema)
        .bind(&migration.name)
        .bind(&migration.checksum[..])
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed("write the ledger of", schema))
        .map_err(MigrateError::from)
}

async fn ledger_exists(connection: &mut PgConnection) -> Result<bool, ProvisionError> {
    sqlx::query_scalar("SELECT pg_catalog.to_regclass('guardian.migration') IS NOT NULL")
        .fetch_one(connection)
        .await
        .map_err(failed("look for", "the ledger"))
}
