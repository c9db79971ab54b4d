//! Where the facts come from: a database, a file, or SQL files on a server that is thrown away.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use guardian_audit::{Facts, collect_for};
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};
use tokio::time::timeout;

use super::migrations;
use crate::output::{Failure, Output};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One of these must be there.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false, args = ["url", "facts", "migrations", "explain", "history"])]
pub(super) struct SourceArguments {
    /// The database to audit: postgres://user@host:port/database. The password may also be in PGPASSWORD or ~/.pgpass,
    /// where other users of the machine do not see it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Facts that --save wrote, instead of a database
    #[arg(long, value_name = "FILE", conflicts_with = "save")]
    facts: Option<PathBuf>,
    /// A folder of .sql files: applied in the order of their names to a PostgreSQL that is started for it and thrown away
    #[arg(long, value_name = "FOLDER")]
    migrations: Option<PathBuf>,
}

/// Where the facts come from.
pub(super) enum Source {
    Database(Box<PgConnectOptions>),
    File(PathBuf),
    Migrations(PathBuf),
}

impl Source {
    pub(super) fn of(arguments: &SourceArguments) -> anyhow::Result<Self> {
        match (&arguments.url, &arguments.facts, &arguments.migrations) {
            (Some(url), ..) => Ok(Self::Database(Box::new(options(url, "--url")?))),
            (None, Some(path), _) => Ok(Self::File(path.clone())),
            (None, None, Some(folder)) => Ok(Self::Migrations(folder.clone())),
            (None, None, None) => {
                Err(Failure::usage("nothing to audit was named").advise("give --url, --facts or --migrations").into())
            }
        }
    }

    /// The database that is audited, when it is one that is there.
    pub(super) fn database(&self) -> Option<&PgConnectOptions> {
        match self {
            Self::Database(options) => Some(options),
            Self::File(_) | Self::Migrations(_) => None,
        }
    }

    pub(super) async fn facts(&self, app_roles: &[String], output: Output) -> anyhow::Result<Facts> {
        match self {
            Self::Database(options) => of_database(options, app_roles).await,
            Self::Migrations(folder) => migrations::facts(folder, app_roles, output).await,
            Self::File(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
                Facts::of_text(&text).with_context(|| format!("cannot use `{}`", path.display()))
            }
        }
    }
}

/// Never quotes the URL: there may be a password in it.
pub(in crate::cli) fn options(url: &str, argument: &str) -> anyhow::Result<PgConnectOptions> {
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let parsed = is_postgres.then(|| url.parse::<PgConnectOptions>().ok()).flatten();
    let options = parsed.ok_or_else(|| {
        Failure::usage(format!("{argument} is no valid `postgres://user:password@host:port/database`"))
            .advise("write characters of user and password other than letters and digits as %XX")
    })?;
    Ok(options
        .application_name("guardian audit")
        // A pooler refuses start-up parameters that it does not know.
        .extra_float_digits(None)
        .disable_statement_logging())
}

pub(in crate::cli) async fn of_database(options: &PgConnectOptions, app_roles: &[String]) -> anyhow::Result<Facts> {
    let to = || format!("cannot connect to {}", place(options));
    let mut connection = timeout(CONNECT_TIMEOUT, options.connect())
        .await
        .map_err(|_| anyhow::anyhow!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
        .with_context(to)?
        .with_context(to)?;
    let facts = collect_for(&mut connection, app_roles).await?;
    // Everything was read; a connection that ends badly changes nothing.
    let _ = connection.close().await;
    Ok(facts)
}

fn place(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    format!(
        "`{}` on {host}, port {}, as `{}`",
        options.get_database().unwrap_or("(default)"),
        options.get_port(),
        options.get_username()
    )
}
