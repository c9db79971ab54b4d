//! A tenant's database. The connection is to [`crate::MAINTENANCE_DATABASE`] of the same cluster.

use guardian_postgres::quote::ident;
use sqlx::PgConnection;

use crate::error::{ProvisionError, execute, failed};

/// `pg_database.datconnlimit` of a database whose DROP was interrupted: it can only be dropped again.
const INVALID: i32 = -2;

/// Makes the database, owned by the administrator. Nobody but roles with a grant of their own ever gets in: it opens for
/// connections only after PUBLIC has lost the right.
pub async fn ensure(connection: &mut PgConnection, database: &str) -> Result<(), ProvisionError> {
    let name = ident(database);
    let found: Option<(bool, i32)> =
        sqlx::query_as("SELECT datallowconn, datconnlimit FROM pg_catalog.pg_database WHERE datname = $1")
            .bind(database)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed("look for database", database))?;
    if let Some((_, INVALID)) = found {
        remove(connection, database).await?;
    }
    if !matches!(found, Some((_, limit)) if limit != INVALID) {
        // template0: what somebody left in template1 must not come into a tenant's database.
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ALLOW_CONNECTIONS false");
        execute(connection, "create database", database, sql).await?;
    }
    if !matches!(found, Some((true, limit)) if limit != INVALID) {
        let sql = format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC; ALTER DATABASE {name} ALLOW_CONNECTIONS true");
        execute(connection, "close to PUBLIC database", database, sql).await?;
    }
    Ok(())
}

/// Makes an application's own shared database where it is missing, closed to PUBLIC: the hardening lets the application in.
/// One that was there keeps whom it admits.
pub async fn ensure_shared(connection: &mut PgConnection, database: &str) -> Result<(), ProvisionError> {
    let found: Option<i32> = sqlx::query_scalar("SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1")
        .bind(database)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("look for database", database))?;
    if found.is_none() {
        let name = ident(database);
        execute(connection, "create database", database, format!("CREATE DATABASE {name}")).await?;
        let sql = format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC");
        execute(connection, "close to PUBLIC database", database, sql).await?;
    }
    Ok(())
}

/// Ends every session in the database and drops it.
pub async fn remove(connection: &mut PgConnection, database: &str) -> Result<(), ProvisionError> {
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(database));
    execute(connection, "drop database", database, sql).await
}
