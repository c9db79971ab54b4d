//! `guardian status`: how the control plane and its clusters are.

use guardian_client::Client;
use guardian_model::{api, door::Door};

use super::door;
use crate::output::{Cell, Failure, Mark, Output, Table};

/// Show how the control plane and its clusters are
#[derive(Debug, clap::Args)]
#[command(after_help = "Exits with 1 when a cluster does not answer.

Examples:
  guardian status
  guardian status --json")]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let status = client.status().await?;
        output.result(&status, |status| show(status, client.server(), output))?;
        let silent = status.clusters.iter().filter(|cluster| !cluster.reachable);
        match silent.map(|cluster| cluster.name.as_str()).collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            names => Err(Failure::new(format!("no answer from `{}`", names.join("`, `"))).into()),
        }
    }
}

fn show(status: &api::Status, server: &str, output: Output) -> anyhow::Result<()> {
    let tenants = status.tenants.iter().filter(|(_, count)| **count > 0);
    let tenants = tenants.map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ");
    let incidents = (status.incidents_open > 0).then_some(Mark::Bad);
    output.table(Table::of_one(vec![
        ("guardian", format!("{} at {server}", status.version).into()),
        ("application", (&status.application).into()),
        ("tenant context", status.mechanism.as_deref().unwrap_or("none yet: run `guardian apply`").into()),
        ("tenants", if tenants.is_empty() { "none".into() } else { tenants.into() }),
        ("operations at work", status.operations_live.into()),
        ("incidents", Cell::marked(incidents, status.incidents_open)),
    ]))?;
    doors(&status.doors, output)?;
    output.line("")?;
    let mut table = Table::new(["cluster", "answers", "PostgreSQL", "reserved for", "databases ready"]);
    for cluster in &status.clusters {
        let answers = match (&cluster.error, cluster.reachable) {
            (_, true) => Cell::marked(Some(Mark::Good), "yes"),
            (error, false) => Cell::marked(Some(Mark::Bad), error.as_deref().unwrap_or("no")),
        };
        table.row([
            (&cluster.name).into(),
            answers,
            Cell::maybe(cluster.server_version.as_ref()),
            Cell::maybe(cluster.reserved_for.as_ref()),
            Cell::maybe(cluster.warm_databases.as_ref().map(|warm| match warm.ready {
                Some(ready) => format!("{ready} of {}", warm.wanted),
                None => format!("? of {}", warm.wanted),
            })),
        ]);
    }
    output.table(table)
}

/// Sessions across tenants; no table when there is none.
fn doors(open: &[Door], output: Output) -> anyhow::Result<()> {
    if open.is_empty() {
        return Ok(());
    }
    output.line("")?;
    output.table(door::table("across tenants", open))
}
