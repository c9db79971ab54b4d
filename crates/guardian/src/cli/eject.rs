//! `guardian eject`: takes Guardian out of a database and leaves ordinary row-level security behind.
//!
//! It speaks to the database and not to a control plane: who leaves must be able to when that is gone.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use guardian_postgres::{Declaration, Hardening, StatementEvent, apply, collect, eject};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{Global, audit, confirm, plan};
use crate::{
    config_file::ConfigFile,
    output::{Mark, Output, Progress, counted, duration},
};

/// Take Guardian out of a database, and leave ordinary row-level security behind
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Policies then compare the tenant column with the setting app.tenant_id; Guardian's schema, functions and roles are
gone, the application's role and its rights stay, and no row is touched. Stop the control planes and gateways first: nobody
enters a tenant's context by them any more. `guardian apply` finds the way back.

Examples:
  guardian eject --url postgres://postgres@db.internal/shop --dry-run
  guardian eject --url postgres://postgres@db.internal/shop --confirm shop"
)]
pub(crate) struct Eject {
    /// The application's database, as an administrator; the password may also be in PGPASSWORD or ~/.pgpass, where other
    /// users of the machine do not see it
    #[arg(long, value_name = "URL")]
    url: String,
    /// Only print the statements
    #[arg(long)]
    dry_run: bool,
    /// Write the SQL to this file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The application's name, to do it without being asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

impl Eject {
    pub(crate) async fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let file = ConfigFile::read(&global.config)?;
        let declaration = Declaration::from(&file.config);
        let options = audit::source::options(&self.url, "--url")?.application_name("guardian eject");
        let mut connection = options.connect().await.context("cannot connect to the database of --url")?;
        let sessions = eject::session_roles(&mut connection, &declaration).await?;
        let facts = collect(&mut connection, &declaration).await?;
        let ejection = eject::plan(&facts, &declaration, &sessions);
        let report = ejection.report();
        if let Some(file) = &self.out {
            fs::write(file, &report.script).with_context(|| format!("cannot write `{}`", file.display()))?;
        }
        if self.dry_run || report.statements.is_empty() {
            return output.result(&report, |report| {
                if report.statements.is_empty() {
                    return output.marked(Mark::Good, "nothing to do: there is nothing of Guardian in this database");
                }
                output.block(&report.script)?;
                plan::show(report, output)
            });
        }
        output.result(&report, |report| plan::show(report, output))?;
        let name = &file.config.application.name;
        let question =
            format!("{} take Guardian out. Type `{name}` to go on:", counted(report.statements.len(), "statement"));
        confirm::word(&question, name, self.confirm.as_deref(), "--confirm")?;
        run(&mut connection, &ejection, output).await?;
        // Everything was done; a connection that ends badly changes nothing.
        let _ = connection.close().await;
        output.done("Guardian is out of the database; set app.tenant_id in each transaction from now on")
    }
}

async fn run(connection: &mut sqlx::PgConnection, ejection: &Hardening, output: Output) -> anyhow::Result<()> {
    let total = ejection.statements().count() as u64;
    let progress = Progress::start(output, Some(total));
    let mut failed = None;
    apply(connection, ejection, &mut |position, statement, event| match event {
        StatementEvent::Started => progress.now(position as u64, &statement.object),
        StatementEvent::Retrying { error, .. } => {
            progress.now(position as u64, &format!("{}: again after: {error}", statement.object));
        }
        StatementEvent::Done { duration: took } => {
            let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let line = format!("{}: {} ({})", statement.object, statement.sql, duration(took));
            failed = progress.ended(Mark::Good, &line).err();
        }
    })
    .await
    .context("what was done before stays; run it again when the cause is mended")?;
    failed.map_or(Ok(()), Err)
}
