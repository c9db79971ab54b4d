//! `guardian plan`: what `apply` would do, as SQL with a reason a line. Changes nothing.

use std::{fs, path::PathBuf};

use anyhow::Context;
use guardian_client::Client;
use guardian_model::api::HardeningReport;

use crate::output::{Failure, Mark, Output, counted};

/// Show what `apply` would do to the application's database, as SQL with reasons
#[derive(Debug, clap::Args)]
#[command(after_help = "Exits with 1 while something must be decided first.

Examples:
  guardian plan
  guardian plan --out migrations/0042_guardian.sql")]
pub(crate) struct Plan {
    /// Write the SQL to this file, as a migration of your own
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Plan {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let report = client.plan_hardening().await?;
        output.result(&report, |report| {
            if self.out.is_none() {
                output.block(&report.script)?;
            }
            show(report, output)
        })?;
        refuse_undecided(&report)?;
        if let Some(file) = self.out {
            fs::write(&file, &report.script).with_context(|| format!("cannot write `{}`", file.display()))?;
            output.remark(format!("wrote {} to {}", counted(report.statements.len(), "statement"), file.display()));
        }
        Ok(())
    }
}

/// What stands beside the statements: the mechanism, what remains, what must be decided.
pub(super) fn show(report: &HardeningReport, output: Output) -> anyhow::Result<()> {
    output.line(format!("tenant context: {} ({})", report.mechanism, report.mechanism_reason))?;
    if !report.notes.is_empty() {
        output.heading("What remains:")?;
    }
    for note in &report.notes {
        output.marked(Mark::Caution, format!("{}: {}", note.object, note.text))?;
        show_ways_out(&note.ways_out, output)?;
    }
    show_undecided(report, output)?;
    if report.refusals.is_empty() && report.statements.is_empty() {
        output.marked(Mark::Good, "nothing to do: the database is hardened")?;
    }
    Ok(())
}

/// What must be decided, with the ways out.
pub(super) fn show_undecided(report: &HardeningReport, output: Output) -> anyhow::Result<()> {
    if !report.refusals.is_empty() {
        output.heading("To be decided first:")?;
    }
    for refusal in &report.refusals {
        let mut lines = refusal.problem.lines();
        output.marked(Mark::Bad, format!("{}: {}", refusal.object, lines.next().unwrap_or_default()))?;
        lines.try_for_each(|line| output.line(line))?;
        show_ways_out(&refusal.ways_out, output)?;
    }
    Ok(())
}

fn show_ways_out(ways: &[String], output: Output) -> anyhow::Result<()> {
    for way in ways {
        for (number, line) in way.lines().enumerate() {
            output.line(format!("    {} {line}", if number == 0 { "-" } else { " " }))?;
        }
    }
    Ok(())
}

/// `apply` does nothing while anything is undecided, and neither may a migration file.
pub(super) fn refuse_undecided(report: &HardeningReport) -> anyhow::Result<()> {
    match report.refusals.len() {
        0 => Ok(()),
        count => Err(Failure::new(format!("{} to be made first", counted(count, "decision")))
            .advise("take one of the ways out of each in guardian.toml or in your schema, then `guardian plan` again")
            .into()),
    }
}
