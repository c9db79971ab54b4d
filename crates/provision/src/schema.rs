//! A tenant's schema in the application's database.

use guardian_postgres::quote::ident;
use sqlx::PgConnection;

use crate::{
    error::{ProvisionError, execute},
    migrations,
};

/// Makes the schema, owned by the administrator and closed to PUBLIC.
pub async fn ensure(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    let name = ident(schema);
    let sql = format!("CREATE SCHEMA IF NOT EXISTS {name}; REVOKE ALL ON SCHEMA {name} FROM PUBLIC");
    execute(connection, "create schema", schema, sql).await
}

/// Drops the schema with everything in it, and what the migration ledger says about it.
pub async fn remove(connection: &mut PgConnection, schema: &str) -> Result<(), ProvisionError> {
    execute(connection, "drop schema", schema, format!("DROP SCHEMA IF EXISTS {} CASCADE", ident(schema))).await?;
    migrations::forget(connection, schema).await
}
