//! `guardian apply`: hardens the application's database. Doing it twice does nothing more.

use guardian_client::Client;

use super::{confirm, follow, plan};
use crate::output::{Output, counted};

/// Harden the application's database, as `plan` shows
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each statement waits briefly for its locks and is tried again; what was done already is not done again.

Examples:
  guardian apply
  guardian apply --yes"
)]
pub(crate) struct Apply {
    /// Do not ask first
    #[arg(long, short)]
    yes: bool,
}

impl Apply {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let report = client.plan_hardening().await?;
        plan::show(&report, output)?;
        plan::refuse_undecided(&report)?;
        let count = report.statements.len();
        if count > 0 && !self.yes {
            confirm::yes(&format!("Run {} (`guardian plan` shows them)?", counted(count, "statement")), "--yes")?;
        }
        // Also when there is nothing to do: for programs, and in case that has changed meanwhile.
        let run = client.start_hardening().await?;
        follow::run(client, output, run).await?;
        if count > 0 { output.done("the database is hardened") } else { Ok(()) }
    }
}
