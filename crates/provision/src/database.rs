//! A tenant's database. The connection is to [`crate::MAINTENANCE_DATABASE`] of the same cluster.

use guardian_postgres::quote::ident;
use sqlx::PgConnection;

use crate::error::{ProvisionError, execute, failed};

/// `pg_database.datconnlimit` of a database whose DROP was interrupted: it can only be dropped again.
const INVALID: i32 = -2;

/// Makes the database, owned by the administrator. Nobody but roles with a grant of their own ever gets in: it opens for
/// connections only after PUBLIC has lost the right.
pub async fn ensure(connection: &mut PgConnection, database: &str) -> Result<(), ProvisionError> {
    // template0: what somebody left in template1 must not come into a tenant's database.
    ensure_from(connection, database, "template0").await
}

/// The same; one that is not there yet becomes a copy of the template, in which nobody may be connected.
pub(crate) async fn ensure_from(
    connection: &mut PgConnection,
    database: &str,
    template: &str,
) -> Result<(), ProvisionError> {
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
        let sql = format!("CREATE DATABASE {name} TEMPLATE {} ALLOW_CONNECTIONS false", ident(template));
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
    if !is_there(connection, database).await? {
        let name = ident(database);
        execute(connection, "create database", database, format!("CREATE DATABASE {name}")).await?;
        let sql = format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC");
        execute(connection, "close to PUBLIC database", database, sql).await?;
    }
    Ok(())
}

/// Whether the cluster has a database of this name, in whatever state.
pub(crate) async fn is_there(connection: &mut PgConnection, database: &str) -> Result<bool, ProvisionError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)")
        .bind(database)
        .fetch_one(connection)
        .await
        .map_err(failed("look for database", database))
}

/// Ends every session in the database and drops it.
pub async fn remove(connection: &mut PgConnection, database: &str) -> Result<(), ProvisionError> {
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(database));
    execute(connection, "drop database", database, sql).await
}
