//! `guardian adopt prepare`, `enforce`, `release` and `finish`: what would be done, and doing it.

use guardian_client::Client;
use guardian_model::adoption::{AdoptionPlanQuery, AdoptionStep, StartAdoption};

use super::super::{confirm, follow, plan};
use crate::output::{Output, counted};

/// Make everything that the running application does not notice
#[derive(Debug, clap::Args)]
#[command(after_help = "Roles, functions, tenant columns, unique indexes and policies; none of them acts on the role that
the application uses today. It can be run again, and goes on where it was cut off.

Examples:
  guardian adopt prepare --dry-run
  guardian adopt prepare --yes")]
pub(crate) struct Prepare {
    #[command(flatten)]
    pub(super) step: Step,
}

/// Have policies apply to tables
#[derive(Debug, clap::Args)]
#[command(after_help = "With --all, the gateway serves the application by its own role from then on.

Examples:
  guardian adopt enforce ticket message
  guardian adopt enforce --all --yes")]
pub(crate) struct Enforce {
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) step: Step,
}

/// Have policies apply no longer, in an instant
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guardian adopt release ticket
  guardian adopt release --all --yes")]
pub(crate) struct Release {
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) step: Step,
}

/// Do what there is no quick way back from, and end the adoption
#[derive(Debug, clap::Args)]
#[command(after_help = "Keys get the tenant in front, and what PUBLIC may do on the database is taken away.

Examples:
  guardian adopt finish --dry-run
  guardian adopt finish --yes")]
pub(crate) struct Finish {
    #[command(flatten)]
    pub(super) step: Step,
}

/// Which tables.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// These tables, with their partitions
    #[arg(value_name = "TABLE")]
    pub(super) tables: Vec<String>,
    /// Every table, with views and functions
    #[arg(long)]
    all: bool,
}

/// How a step is taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Step {
    /// Only show the SQL, with reasons
    #[arg(long)]
    dry_run: bool,
    /// Do not ask first
    #[arg(long, short)]
    yes: bool,
}

impl Step {
    pub(super) async fn run(
        self,
        step: AdoptionStep,
        tables: Vec<String>,
        client: &Client,
        output: Output,
    ) -> anyhow::Result<()> {
        let joined = (!tables.is_empty()).then(|| tables.join(","));
        let report = client.plan_adoption(&AdoptionPlanQuery { step, tables: joined }).await?;
        if self.dry_run {
            output.result(&report, |report| {
                output.block(&report.script)?;
                plan::show_undecided(report, output)
            })?;
            return plan::refuse_undecided(&report);
        }
        if !output.json {
            plan::show_undecided(&report, output)?;
        }
        plan::refuse_undecided(&report)?;
        let count = report.statements.len();
        if count > 0 && !self.yes {
            confirm::yes(&format!("Run {} (--dry-run shows them)?", counted(count, "statement")), "--yes")?;
        }
        let run = client.start_adoption(&StartAdoption { step, tables }).await?;
        follow::run(client, output, run).await?;
        output.done(match step {
            AdoptionStep::Prepare => "prepared: the application notices nothing of it",
            AdoptionStep::Enforce => "enforced",
            AdoptionStep::Release => "released",
            AdoptionStep::Finish => "the adoption is over; take [adoption] out of guardian.toml",
        })
    }
}
