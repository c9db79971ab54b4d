//! What went wrong with a place, and whether trying again can help.

use guardian_postgres::connect::ConnectError;
use sqlx::{AssertSqlSafe, PgConnection};

/// A place could not be brought to the wanted state.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The cluster does not let us in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused a statement, or the connection broke.
    #[error("cannot {action} {object}: {}", describe(source))]
    Statement {
        /// A verb and its kind of object: `create role`.
        action: &'static str,
        /// Which one.
        object: String,
        /// What the server or the driver said.
        #[source]
        source: sqlx::Error,
    },
    /// Somebody else is at work on the same object.
    #[error("{object} is being changed by another process; it is tried again")]
    Busy {
        /// The object.
        object: String,
    },
    /// Sessions that were told to end did not.
    #[error("{sessions} sessions of role {role} have not ended after {waited_s} s; end them with pg_terminate_backend")]
    SessionsRemain {
        /// Whose.
        role: String,
        /// How many are left.
        sessions: i64,
        /// How long they were given.
        waited_s: u64,
    },
    /// A role of a migrator's name that can do more than one.
    #[error("there is a role {role} already, which can log in or make roles; rename it: Guardian makes one of that name")]
    NotAMigrator {
        /// The role.
        role: String,
    },
    /// A table that was given to somebody.
    #[error("{table} belongs to {owner}, and not to {migrator}; ALTER TABLE {table} OWNER TO \"{migrator}\"")]
    ForeignTable {
        /// The table, quoted.
        table: String,
        /// Whose it is.
        owner: String,
        /// Whose it has to be.
        migrator: String,
    },
    /// A tenant's rows come back, or cannot go.
    #[error(
        "rows of tenant {key} remain in {tables} after {rounds} rounds of deletion; a trigger may be writing them again"
    )]
    RowsRemain {
        /// The tenant's key.
        key: String,
        /// The tables, comma-separated.
        tables: String,
        /// How often all tables were gone through.
        rounds: usize,
    },
}

impl ProvisionError {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) => connect_is_transient(error),
            Self::Statement { source, .. } => is_transient(source),
            Self::Busy { .. } | Self::SessionsRemain { .. } => true,
            Self::NotAMigrator { .. } | Self::ForeignTable { .. } | Self::RowsRemain { .. } => false,
        }
    }
}

/// Whether a connection that failed may succeed later: all but a cluster that nobody declared, and wrong credentials.
pub fn connect_is_transient(error: &ConnectError) -> bool {
    match error {
        ConnectError::Unknown(_) => false,
        ConnectError::Silent { .. } => true,
        ConnectError::Refused { source, .. } => is_transient(source),
    }
}

/// Whether the server or the network, rather than the request, was at fault.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // Lock timeout, object in use, the server is starting, stopping or was crashed by somebody.
            Some("55P03" | "55006" | "57P01" | "57P02" | "57P03") => true,
            // Two sessions wrote the same catalog row; PostgreSQL reports it as an internal error.
            Some("XX000") => database.message().contains("concurrently"),
            // Connection, rollback by conflict, out of disk, memory or connections, operating system.
            Some(code) => ["08", "40", "53", "58"].iter().any(|class| code.starts_with(class)),
            None => false,
        },
        _ => false,
    }
}

/// The server's message with detail, hint and SQLSTATE, or the driver's own words.
pub fn describe(error: &sqlx::Error) -> String {
    let Some(database) = error.as_database_error() else { return error.to_string() };
    let mut text = database.message().to_owned();
    if let Some(postgres) = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        for (label, more) in [("detail", postgres.detail()), ("hint", postgres.hint())] {
            if let Some(more) = more {
                text = format!("{text}; {label}: {more}");
            }
        }
    }
    match database.code() {
        Some(code) => format!("{text} ({code})"),
        None => text,
    }
}

/// Gives an error of the driver the words for what was being done.
pub(crate) fn failed(action: &'static str, object: impl Into<String>) -> impl FnOnce(sqlx::Error) -> ProvisionError {
    let object = object.into();
    move |source| ProvisionError::Statement { action, object, source }
}

/// Runs SQL without parameters, in one message: several statements of it are one transaction. Not prepared, because the
/// text is another one each time.
pub(crate) async fn execute(
    connection: &mut PgConnection,
    action: &'static str,
    object: &str,
    sql: String,
) -> Result<(), ProvisionError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop).map_err(failed(action, object))
}
