//! One attacker's session: every attack begins in a fresh transaction (or below a savepoint) and is rolled back.

use futures_util::StreamExt as _;
use guardian_postgres::quote;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Either, PgConnection, Row as _, ValueRef as _,
    postgres::{PgConnectOptions, PgDatabaseError},
};

use super::{
    canary::{Marks, Tenant},
    context::{By, Context},
};

/// A step of an attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The session gets this tenant's context, as the application would.
    Enter(Tenant),
    /// A statement of the attacker's.
    Run(String),
    /// A `COPY … TO STDOUT` of the attacker's.
    CopyOut(String),
}

/// What came of the last step, or of the first that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It yielded rows; the first value of the first row, if there is one.
    Rows(Option<String>),
    /// It changed so many rows.
    Affected(u64),
    /// What it copied out.
    Copied(Vec<u8>),
    /// The server refused it.
    Failed {
        /// The SQLSTATE.
        code: String,
        /// What it said.
        message: String,
        /// The constraint that stood in the way.
        constraint: Option<String>,
    },
    /// It says nothing either way: a timeout, a lost connection, a context that cannot be entered.
    Unclear(String),
}

impl Outcome {
    /// Refused for want of a privilege or by row-level security.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Failed { code, .. } if code == "42501")
    }

    /// In words, for a report.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Rows(value) => format!("answered {}", value.as_deref().unwrap_or("nothing")),
            Self::Affected(rows) => format!("changed {rows} rows"),
            Self::Copied(bytes) => format!("copied {} bytes", bytes.len()),
            Self::Failed { code, message, .. } => format!("failed: {message} ({code})"),
            Self::Unclear(reason) => reason.clone(),
        }
    }
}

/// As whom a session acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// It has logged in as the application's role.
    Login,
    /// A superuser's session that takes the role on for each attack.
    Authorization,
    /// A session of somebody who is no superuser but a member of the role, or the role itself.
    Membership,
    /// The administrator's own session.
    Administrator,
}

/// A session.
pub(crate) struct Session {
    pub(crate) connection: PgConnection,
    /// How to connect again; `None` in place, where everything is one transaction.
    pub(crate) again: Option<PgConnectOptions>,
    /// The driver loses count of the server's answers when it refuses a COPY: the connection must not be used again.
    pub(crate) out_of_step: bool,
    pub(crate) entrance: Entrance,
    /// The application's role.
    pub(crate) role: String,
    /// Settings of the role, which a login gets by itself.
    pub(crate) role_settings: Vec<(String, String)>,
    /// Inside a transaction that is rolled back in the end: attacks run below savepoints.
    pub(crate) in_place: bool,
}

/// Bounds of every attack.
const LIMITS: &str =
    "SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'; SET LOCAL client_min_messages = 'error'";

impl Session {
    /// Plays the steps as the application's role and takes everything back.
    pub(crate) async fn play(&mut self, context: &Context, marks: &Marks, steps: &[Step]) -> Outcome {
        if let Err(error) = self.begin().await {
            return Outcome::Unclear(format!("cannot begin: {error}"));
        }
        let outcome = self.steps(context, marks, steps).await;
        match self.end(steps).await {
            Ok(()) => outcome,
            Err(error) => Outcome::Unclear(format!("the connection was lost: {error}")),
        }
    }

    /// Plays the last statement as the administrator, past triggers and foreign keys where it may, and takes it back.
    pub(crate) async fn play_as_administrator(&mut self, step: &Step) -> Outcome {
        if let Err(error) = self.begin().await {
            return Outcome::Unclear(format!("cannot begin: {error}"));
        }
        // Only a superuser may; without it the control may fail, and then says so.
        let _ = self.try_quietly("SET LOCAL session_replication_role = 'replica'").await;
        let outcome = self.run(step).await.unwrap_or_else(|error| Outcome::Unclear(error.to_string()));
        match self.end(&[]).await {
            Ok(()) => outcome,
            Err(error) => Outcome::Unclear(format!("the connection was lost: {error}")),
        }
    }

    /// Calls something as the application's role in a tenant's context, and asks as the administrator, in the same
    /// transaction, what has become of the rows. Only for a session that can go back.
    pub(crate) async fn aftermath(
        &mut self,
        context: &Context,
        marks: &Marks,
        tenant: Tenant,
        call: &str,
        question: &str,
    ) -> Outcome {
        if let Err(error) = self.begin().await {
            return Outcome::Unclear(format!("cannot begin: {error}"));
        }
        let mut outcome = self.steps(context, marks, &[Step::Enter(tenant), Step::Run(call.to_owned())]).await;
        if let Outcome::Rows(_) | Outcome::Affected(_) = outcome {
            let back = execute(&mut self.connection, "SET LOCAL SESSION AUTHORIZATION DEFAULT").await;
            let answer = self.run(&Step::Run(question.to_owned())).await;
            outcome = match back.and(answer) {
                Ok(answer) => answer,
                Err(error) => Outcome::Unclear(error.to_string()),
            };
        }
        match self.end(&[]).await {
            Ok(()) => outcome,
            Err(error) => Outcome::Unclear(format!("the connection was lost: {error}")),
        }
    }

    async fn begin(&mut self) -> Result<(), sqlx::Error> {
        let begin = if self.in_place { "SAVEPOINT attack" } else { "BEGIN" };
        execute(&mut self.connection, begin).await?;
        execute(&mut self.connection, LIMITS).await
    }

    async fn end(&mut self, steps: &[Step]) -> Result<(), sqlx::Error> {
        if self.out_of_step {
            let options = self.again.as_ref().ok_or(sqlx::Error::PoolClosed)?;
            self.connection = options.connect().await?;
            self.out_of_step = false;
            return Ok(());
        }
        let end = if self.in_place { "ROLLBACK TO SAVEPOINT attack; RELEASE SAVEPOINT attack" } else { "ROLLBACK" };
        execute(&mut self.connection, end).await?;
        // A prepared statement outlives the transaction it was made in.
        if steps.iter().any(|step| matches!(step, Step::Run(sql) if sql.starts_with("PREPARE "))) {
            execute(&mut self.connection, "DEALLOCATE ALL").await?;
        }
        Ok(())
    }

    async fn steps(&mut self, context: &Context, marks: &Marks, steps: &[Step]) -> Outcome {
        if let Err(error) = self.take_role(None, context, marks).await {
            return Outcome::Unclear(format!("cannot act as {}: {error}", self.role));
        }
        let mut outcome = Outcome::Rows(None);
        for step in steps {
            if let Step::Enter(tenant) = step {
                if let Err(error) = self.enter(*tenant, context, marks).await {
                    return Outcome::Unclear(format!("cannot enter the context of tenant {tenant}: {error}"));
                }
                continue;
            }
            match self.run(step).await {
                Ok(failed @ Outcome::Failed { .. }) => return failed,
                Ok(unclear @ Outcome::Unclear(_)) => return unclear,
                Ok(next) => outcome = next,
                Err(error) => return Outcome::Unclear(error.to_string()),
            }
        }
        outcome
    }

    async fn enter(&mut self, tenant: Tenant, context: &Context, marks: &Marks) -> Result<(), sqlx::Error> {
        match context.by {
            By::Administrator => self.take_role(Some(tenant), context, marks).await,
            By::Application => match context.sql(tenant, marks) {
                Some(sql) => execute(&mut self.connection, &sql).await,
                None => Ok(()),
            },
        }
    }

    /// Becomes the application's role; before that, an administrator sets what only an administrator can.
    async fn take_role(&mut self, tenant: Option<Tenant>, context: &Context, marks: &Marks) -> Result<(), sqlx::Error> {
        let (leave, take) = match self.entrance {
            Entrance::Authorization => ("SET LOCAL SESSION AUTHORIZATION DEFAULT", "SET LOCAL SESSION AUTHORIZATION"),
            Entrance::Membership => ("SET LOCAL ROLE NONE", "SET LOCAL ROLE"),
            Entrance::Login | Entrance::Administrator => return Ok(()),
        };
        execute(&mut self.connection, leave).await?;
        if let Some(sql) = tenant.and_then(|tenant| context.sql(tenant, marks)) {
            execute(&mut self.connection, &sql).await?;
        } else {
            for (name, value) in self.role_settings.clone() {
                let name: Vec<_> = name.split('.').map(quote::ident).collect();
                let value = quote::literal(&value);
                let _ = self.try_quietly(&format!("SET LOCAL {} = {value}", name.join("."))).await;
            }
        }
        execute(&mut self.connection, &format!("{take} {}", quote::ident(&self.role))).await
    }

    /// A statement that may fail without harm to the transaction.
    pub(crate) async fn try_quietly(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        execute(&mut self.connection, "SAVEPOINT quietly").await?;
        let done = execute(&mut self.connection, sql).await;
        let end = if done.is_ok() { "RELEASE SAVEPOINT quietly" } else { "ROLLBACK TO SAVEPOINT quietly" };
        execute(&mut self.connection, end).await?;
        done
    }

    async fn run(&mut self, step: &Step) -> Result<Outcome, sqlx::Error> {
        match step {
            Step::Enter(_) => Ok(Outcome::Rows(None)),
            Step::Run(sql) => judge(run(&mut self.connection, sql).await),
            Step::CopyOut(sql) => {
                let copied = copy_out(&mut self.connection, sql).await;
                self.out_of_step = copied.is_err();
                judge(copied)
            }
        }
    }
}

/// A refusal by the server is an outcome; only a lost connection is an error.
fn judge(result: Result<Outcome, sqlx::Error>) -> Result<Outcome, sqlx::Error> {
    match result {
        Err(sqlx::Error::Database(error)) => Ok(failure(error.downcast_ref::<PgDatabaseError>())),
        other => other,
    }
}

/// What a refusal of the server means.
pub(crate) fn failure(error: &PgDatabaseError) -> Outcome {
    match error.code() {
        // Cancelled, by the statement's or the lock's time limit or by somebody; shutting down.
        "57014" | "55P03" | "57P01" | "57P02" | "57P03" | "40P01" | "40001" | "53200" | "54001" => {
            Outcome::Unclear(format!("{} ({})", error.message(), error.code()))
        }
        code => Outcome::Failed {
            code: code.to_owned(),
            message: error.message().to_owned(),
            constraint: error.constraint().map(str::to_owned),
        },
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<Outcome, sqlx::Error> {
    let mut answers = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(connection);
    let (mut first, mut rows, mut affected) = (None, 0_u64, 0);
    while let Some(answer) = answers.next().await {
        match answer? {
            Either::Left(done) => affected = done.rows_affected(),
            Either::Right(row) => {
                rows += 1;
                if rows == 1 && !row.is_empty() {
                    let value = row.try_get_raw(0)?;
                    first = if value.is_null() { None } else { value.as_str().ok().map(str::to_owned) };
                }
            }
        }
    }
    let changes = sql.starts_with("UPDATE") || sql.starts_with("DELETE") || sql.starts_with("INSERT");
    if rows == 0 && changes { Ok(Outcome::Affected(affected)) } else { Ok(Outcome::Rows(first)) }
}

async fn copy_out(connection: &mut PgConnection, sql: &str) -> Result<Outcome, sqlx::Error> {
    /// A few rows are enough.
    const BYTES_MAX: usize = 16 << 20;
    let mut stream = connection.copy_out_raw(sql).await?;
    let mut copied = Vec::new();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        if copied.len() < BYTES_MAX {
            copied.extend_from_slice(&bytes);
        }
    }
    Ok(Outcome::Copied(copied))
}

/// Runs statements by the simple protocol.
pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}

/// The single text that a query yields; null is `None`.
pub(crate) async fn text_of(connection: &mut PgConnection, sql: &str) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?;
    let value = row.try_get_raw(0)?;
    Ok(if value.is_null() { None } else { value.as_str().ok().map(str::to_owned) })
}
