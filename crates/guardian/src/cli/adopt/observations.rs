//! `guardian adopt observations`: what would fare otherwise once everything is enforced.

use guardian_client::Client;
use guardian_model::{
    api::Page,
    observation::{Observation, ObservationSummary, ObservationVerdict},
    query::ObservationQuery,
};

use super::super::tenant::Paging;
use crate::output::{Cell, Mark, Output, Table, counted, time};

/// See which statements of the application would be refused, or return something else, once everything is enforced
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  guardian adopt observations\n  guardian adopt observations --unknown --all --json\n  guardian adopt observations --clear"
)]
pub(crate) struct Observations {
    /// Those that could not be looked at, too, with the reason
    #[arg(long)]
    unknown: bool,
    /// Forget what was observed and look at everything anew: after a fix
    #[arg(long, conflicts_with_all = ["unknown", "all", "limit", "cursor"])]
    clear: bool,
    #[command(flatten)]
    paging: Paging,
}

impl Observations {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let Self { unknown, clear, paging } = self;
        if clear {
            client.clear_observations().await?;
            output.remark("Gateways begin anew: every statement is looked at when it runs next.");
            return Ok(());
        }
        let read = async |cursor, limit| client.observations(&ObservationQuery { all: unknown, cursor, limit }).await;
        let page = paging.read(read).await?;
        let summary = client.observation_summary().await?;
        output.result(&page, |page| show(page, &summary, output))
    }
}

/// What would become of it, in words.
const fn words(verdict: ObservationVerdict) -> &'static str {
    match verdict {
        ObservationVerdict::Fine => "fine",
        ObservationVerdict::NotLookedAt => "not looked at",
        ObservationVerdict::Different => "other rows",
        ObservationVerdict::Fewer => "fewer rows",
        ObservationVerdict::Empty => "no rows",
        ObservationVerdict::Refused => "refused",
        ObservationVerdict::NoTenant => "no tenant",
    }
}

fn show(page: &Page<Observation>, summary: &ObservationSummary, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["would be", "why", "tables", "runs", "tenants", "last (UTC)", "statement"]);
    for found in &page.items {
        let mark = if found.verdict.needs_work() { Mark::Bad } else { Mark::Caution };
        table.row([
            Cell::marked(Some(mark), words(found.verdict)),
            (&found.reason).into(),
            found.tables.join(", ").into(),
            Cell::number(found.count),
            Cell::number(found.tenants),
            time(found.last_seen).into(),
            (&found.statement).into(),
        ]);
    }
    Paging::show(page, table, "observations", output)?;
    for line in summed(summary) {
        output.remark(line);
    }
    Ok(())
}

fn many(count: u64, noun: &str) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), noun)
}

/// The sum, a line each; also for `guardian adopt status`.
pub(crate) fn summed(summary: &ObservationSummary) -> Vec<String> {
    let mut lines = vec![format!(
        "{} ran through gateways; {} looked at, {} for which there was no room or time, or that could not be looked at",
        many(summary.statements, "statement"),
        summary.looked_at,
        summary.overlooked,
    )];
    for table in &summary.tables {
        lines.push(format!("{}: {} to work on", table.table, many(table.need_work, "statement")));
    }
    if summary.elsewhere > 0 {
        lines.push(format!("on no table that is known: {} to work on", many(summary.elsewhere, "statement")));
    }
    for direct in &summary.direct {
        let name = if direct.application_name.is_empty() { "without a name" } else { &direct.application_name };
        let address = if direct.client_address.is_empty() { "a unix socket" } else { &direct.client_address };
        lines.push(format!(
            "connects past the gateway as {}: {name} from {address} ({}): it will see nothing once everything is enforced",
            direct.role,
            many(direct.sessions.into(), "session"),
        ));
    }
    if summary.full {
        lines.push("There is no room for further statements: fix these and clear them with --clear.".to_owned());
    }
    lines
}
