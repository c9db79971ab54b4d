//! `guardian incident`: what waits for a person.

use guardian_client::Client;
use guardian_model::{
    api::{self, Page},
    query::IncidentQuery,
};

use crate::output::{Cell, Output, Table, time};

use super::tenant::Paging;

/// See what waits for a person
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Incident {
    /// List incidents, newest first
    #[command(after_help = "Examples:\n  guardian incident list\n  guardian incident list --closed --all")]
    List {
        /// Those that are over, too
        #[arg(long)]
        closed: bool,
        #[command(flatten)]
        paging: Paging,
    },
}

impl Incident {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let Self::List { closed, paging } = self;
        let page =
            paging.read(async |cursor, limit| client.incidents(&IncidentQuery { closed, cursor, limit }).await).await?;
        output.result(&page, |page| show(page, output))
    }
}

fn show(page: &Page<api::Incident>, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["incident", "opened (UTC)", "closed (UTC)", "operation", "what"]);
    for incident in &page.items {
        table.row([
            incident.id.into(),
            time(incident.opened_at).into(),
            Cell::maybe(incident.closed_at.map(time)),
            Cell::maybe(incident.operation),
            (&incident.summary).into(),
        ]);
    }
    Paging::show(page, table, "incidents", output)
}
