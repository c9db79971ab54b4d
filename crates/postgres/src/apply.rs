//! Runs a hardening: short lock waits and retries, so that a busy application is never queued up behind it.
//!
//! What was applied before a failure stays: each batch leaves the database consistent, and the next plan begins where this one
//! ended.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    harden::{Batch, Hardening, Statement},
    quote::qualified,
};

/// How long a statement waits for a lock, with everybody else queued up behind it.
const LOCK_WAIT_MS_MAX: u32 = 2_000;

/// How long to wait for locks, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long a statement waits for a lock, with everybody else queued up behind it.
    pub lock_wait_ms_max: u32,
    /// Attempts at one batch.
    pub attempts_max: u32,
    /// Whether to rest after each batch for as long as it took, so that an application under load keeps most of the machine.
    pub rests: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self { lock_wait_ms_max: LOCK_WAIT_MS_MAX, attempts_max: ATTEMPTS_MAX, rests: false }
    }
}

/// `CREATE INDEX CONCURRENTLY` waits for old transactions, and nobody waits behind it.
const CONCURRENT_WAIT_MS_MAX: u32 = 60_000;
/// Attempts at one batch.
const ATTEMPTS_MAX: u32 = 10;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// After so many, the pause is the longest.
const BACKOFF_DOUBLINGS_MAX: u32 = 6;
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Names the lock that keeps two runs apart; an arbitrary number.
pub(crate) const RUN_LOCK: i64 = 0x6775_6172_6469_616e;

/// What happens to a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementEvent {
    /// It has been sent.
    Started,
    /// It went through; its batch may still fail, and then starts again.
    Done {
        /// How long it took.
        duration: Duration,
    },
    /// Its batch was rolled back and will be tried again.
    Retrying {
        /// Attempts so far.
        attempts: u32,
        /// Why.
        error: String,
    },
}

/// Why a hardening was not applied, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Something is undecided; nothing was changed.
    #[error("{} must be decided first, beginning with {}: {}", decisions(*.count), .object, .problem)]
    Refused {
        /// Refusals.
        count: usize,
        /// The first one's object.
        object: String,
        /// The first one's problem.
        problem: String,
    },
    /// Another run is at work on the database.
    #[error("another apply is at work on this database; wait for it to end")]
    Busy,
    /// A statement failed; its batch was rolled back.
    #[error("cannot change {object} with `{sql}`")]
    Statement {
        /// The object.
        object: String,
        /// The statement.
        sql: String,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The session could not be prepared.
    #[error("cannot prepare the session for apply")]
    Session(#[source] sqlx::Error),
}

fn decisions(count: usize) -> String {
    if count == 1 { "1 thing".to_owned() } else { format!("{count} things") }
}

/// From try to try whether the lock is free. Waiting inside PostgreSQL would hold a snapshot, for which a
/// `CREATE INDEX CONCURRENTLY` of the lock's holder would wait in turn.
const LOCK_POLL: Duration = Duration::from_millis(250);
/// A tenant's session can take the lock, too: then a run fails in the end instead of waiting for ever.
const LOCK_POLLS_MAX: u32 = 2_400;

/// Waits until no other run is at work on the database, and keeps the others out for the rest of the session.
pub async fn hold(connection: &mut PgConnection) -> Result<(), ApplyError> {
    for _ in 0..LOCK_POLLS_MAX {
        if lock(connection).await? {
            return Ok(());
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
    Err(ApplyError::Busy)
}

async fn lock(connection: &mut PgConnection) -> Result<bool, ApplyError> {
    sqlx::query_scalar("SELECT pg_catalog.pg_try_advisory_lock($1)")
        .bind(RUN_LOCK)
        .fetch_one(connection)
        .await
        .map_err(ApplyError::Session)
}

/// Applies a hardening. `progress` is told the statement's position among all statements.
pub async fn apply(
    connection: &mut PgConnection,
    hardening: &Hardening,
    progress: &mut (impl FnMut(usize, &Statement, StatementEvent) + Send),
) -> Result<(), ApplyError> {
    apply_patiently(connection, hardening, Patience::default(), progress).await
}

/// The same, with other bounds on the waiting for locks.
pub async fn apply_patiently(
    connection: &mut PgConnection,
    hardening: &Hardening,
    patience: Patience,
    progress: &mut (impl FnMut(usize, &Statement, StatementEvent) + Send),
) -> Result<(), ApplyError> {
    if let Some(first) = hardening.refusals.first() {
        return Err(ApplyError::Refused {
            count: hardening.refusals.len(),
            object: first.object.clone(),
            problem: first.problem.clone(),
        });
    }
    if !lock(connection).await? {
        return Err(ApplyError::Busy);
    }
    let result = run(connection, hardening, patience, progress).await;
    let end = "RESET search_path; RESET lock_timeout; RESET statement_timeout; SELECT pg_catalog.pg_advisory_unlock(";
    // A connection too broken for this releases the lock by closing.
    let _ = sqlx::raw_sql(AssertSqlSafe(format!("{end}{RUN_LOCK})"))).execute(connection).await;
    result
}

async fn run(
    connection: &mut PgConnection,
    hardening: &Hardening,
    patience: Patience,
    progress: &mut (impl FnMut(usize, &Statement, StatementEvent) + Send),
) -> Result<(), ApplyError> {
    // `pg_catalog` alone: no name in a statement means what somebody else made it mean.
    sqlx::raw_sql("SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0")
        .execute(&mut *connection)
        .await
        .map_err(ApplyError::Session)?;
    let mut position = 0;
    for batch in &hardening.batches {
        let mut attempts = 0;
        let begun = Instant::now();
        loop {
            let result = match batch {
                Batch::Transaction(statements) => transaction(connection, statements, patience, position, progress).await,
                Batch::Concurrently { statement, schema, index } => {
                    concurrently(connection, statement, (schema, index), position, progress).await
                }
            };
            let Err((failed, source)) = result else { break };
            attempts += 1;
            if attempts >= patience.attempts_max || !is_transient(&source) {
                return Err(ApplyError::Statement { object: failed.object.clone(), sql: failed.sql.clone(), source });
            }
            progress(position, failed, StatementEvent::Retrying { attempts, error: source.to_string() });
            tokio::time::sleep((BACKOFF_MIN * 2u32.pow(attempts.min(BACKOFF_DOUBLINGS_MAX))).min(BACKOFF_MAX)).await;
        }
        if patience.rests {
            tokio::time::sleep(begun.elapsed()).await;
        }
        position += batch.statements().len();
    }
    Ok(())
}

type Failure<'a> = (&'a Statement, sqlx::Error);

async fn transaction<'a>(
    connection: &mut PgConnection,
    statements: &'a [Statement],
    patience: Patience,
    position: usize,
    progress: &mut (impl FnMut(usize, &Statement, StatementEvent) + Send),
) -> Result<(), Failure<'a>> {
    let (Some(first), Some(last)) = (statements.first(), statements.last()) else { return Ok(()) };
    let mut transaction = connection.begin().await.map_err(|error| (first, error))?;
    let timeout = format!("SET LOCAL lock_timeout = {}", patience.lock_wait_ms_max);
    sqlx::raw_sql(AssertSqlSafe(timeout)).execute(&mut *transaction).await.map_err(|error| (first, error))?;
    for (offset, statement) in statements.iter().enumerate() {
        execute(&mut transaction, statement, position + offset, progress).await?;
    }
    transaction.commit().await.map_err(|error| (last, error))
}

async fn concurrently<'a>(
    connection: &mut PgConnection,
    statement: &'a Statement,
    (schema, index): (&str, &str),
    position: usize,
    progress: &mut (impl FnMut(usize, &Statement, StatementEvent) + Send),
) -> Result<(), Failure<'a>> {
    let failed = |error| (statement, error);
    let timeout = format!("SET lock_timeout = {CONCURRENT_WAIT_MS_MAX}");
    sqlx::raw_sql(AssertSqlSafe(timeout)).execute(&mut *connection).await.map_err(failed)?;
    let leftover: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND NOT (i.indisvalid AND i.indisready))",
    )
    .bind(schema)
    .bind(index)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if leftover {
        // An index that failed half way still slows every write down, and stands in the way of its successor.
        let drop = format!("DROP INDEX CONCURRENTLY {}", qualified(schema, index));
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *connection).await.map_err(failed)?;
    }
    execute(connection, statement, position, progress).await
}

async fn execute<'a>(
    connection: &mut PgConnection,
    statement: &'a Statement,
    position: usize,
    progress: &mut (impl FnMut(usize, &Statement, StatementEvent) + Send),
) -> Result<(), Failure<'a>> {
    progress(position, statement, StatementEvent::Started);
    let started = Instant::now();
    sqlx::raw_sql(AssertSqlSafe(statement.sql.clone())).execute(connection).await.map_err(|error| (statement, error))?;
    progress(position, statement, StatementEvent::Done { duration: started.elapsed() });
    Ok(())
}

/// Whether another attempt may go through: a lock that was not free, a deadlock, or a catalog row that another database's run
/// changed at the same instant.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    match error.code().as_deref() {
        Some("55P03" | "40P01" | "40001") => true,
        Some("XX000") => error.message().starts_with("tuple concurrently"),
        Some("23505") => error.constraint().is_some_and(|index| index.starts_with("pg_parameter_acl")),
        _ => false,
    }
}
