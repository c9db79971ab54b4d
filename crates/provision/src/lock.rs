//! One process at a time changes an object.
//!
//! A process that was killed leaves a server session that may still be running its last statement: `CREATE DATABASE`
//! goes on although nobody waits for it. Whoever takes over would find the database absent, call it undone, and see it
//! appear afterwards. The lock belongs to the session, so it is free only when that session is really gone.

use sqlx::PgConnection;

use crate::error::{ProvisionError, failed};

/// Takes the lock of an object for the rest of this session. The same connection must then do the work, and be closed
/// (not returned to a pool) afterwards. Waits as long as `lock_timeout` allows.
pub async fn hold(connection: &mut PgConnection, object: &str) -> Result<(), ProvisionError> {
    take(connection, "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended('guardian:' || $1, 0))", object).await
}

/// Takes the lock of an object for the rest of this session, unless another one has it; says whether it did.
pub async fn try_hold(connection: &mut PgConnection, object: &str) -> Result<bool, ProvisionError> {
    sqlx::query_scalar("SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('guardian:' || $1, 0))")
        .bind(object)
        .fetch_one(connection)
        .await
        .map_err(failed("lock", object))
}

/// Takes the same lock until the transaction ends.
pub async fn hold_in_transaction(transaction: &mut PgConnection, object: &str) -> Result<(), ProvisionError> {
    take(transaction, "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('guardian:' || $1, 0))", object)
        .await
}

/// Takes the same lock until the transaction ends, unless another session has it; says whether it did.
pub async fn try_hold_in_transaction(transaction: &mut PgConnection, object: &str) -> Result<bool, ProvisionError> {
    sqlx::query_scalar("SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('guardian:' || $1, 0))")
        .bind(object)
        .fetch_one(transaction)
        .await
        .map_err(failed("lock", object))
}

/// Lets go of one lock of this session.
pub async fn release(connection: &mut PgConnection, object: &str) -> Result<(), ProvisionError> {
    take(connection, "SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended('guardian:' || $1, 0))", object).await
}

/// Lets go of every lock of this session, so that the connection can go on to another object.
pub async fn release_all(connection: &mut PgConnection) -> Result<(), ProvisionError> {
    sqlx::query("SELECT pg_catalog.pg_advisory_unlock_all()")
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed("let go of", "the locks of a session"))
}

async fn take(connection: &mut PgConnection, sql: &'static str, object: &str) -> Result<(), ProvisionError> {
    match sqlx::query(sql).bind(object).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03")) => {
            Err(ProvisionError::Busy { object: object.to_owned() })
        }
        Err(error) => Err(failed("lock", object)(error)),
    }
}
