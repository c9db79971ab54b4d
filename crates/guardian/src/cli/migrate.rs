//! `guardian migrate`: the application's SQL files to every place, by a ledger in each.

use guardian_client::Client;
use guardian_model::api::{MigrationPlan, StartMigration};

use super::follow;
use crate::output::{Cell, Failure, Mark, Output, Table, counted};

/// Bring the application's tables to the newest migration, in every place
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guardian migrate --dry-run
  guardian migrate --parallel 8")]
pub(crate) struct Migrate {
    /// Only show what each place lacks
    #[arg(long)]
    dry_run: bool,
    /// Places at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: Option<u16>,
}

impl Migrate {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        if self.dry_run {
            let plan = client.plan_migrations().await?;
            return output.result(&plan, |plan| show(plan, output));
        }
        let run = client.start_migrations(&StartMigration { parallel: self.parallel }).await?;
        follow::run(client, output, run).await?;
        output.done("every place is up to date")
    }
}

fn show(plan: &MigrationPlan, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["place", "lacks"]);
    let mut behind = 0;
    for place in &plan.places {
        match &place.error {
            Some(error) => table.row([(&place.place).into(), Cell::marked(Some(Mark::Bad), error)]),
            None if place.pending.is_empty() => continue,
            None => table.row([(&place.place).into(), place.pending.join(", ").into()]),
        }
        behind += 1;
    }
    let (files, places) = (counted(plan.files.len(), "file"), counted(plan.places.len(), "place"));
    if behind > 0 {
        output.table(table)?;
    }
    output.line(format!("{files}, {places}, {behind} not up to date"))?;
    match plan.places.iter().filter(|place| place.error.is_some()).count() {
        0 => Ok(()),
        count => Err(Failure::new(format!("{} cannot be migrated", counted(count, "place"))).into()),
    }
}
