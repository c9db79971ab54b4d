//! `guardian adopt status`: the stage, and where each table stands.

use guardian_client::Client;
use guardian_model::{
    AdoptionStage,
    adoption::{AdoptionColumn, AdoptionStatus},
};

use crate::output::{Cell, Mark, Output, Table, counted};

/// Show how far the adoption has come, table by table
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guardian adopt status
  guardian adopt status --json")]
pub(crate) struct Status {}

impl Status {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let status = client.adoption().await?;
        output.result(&status, |status| show(status, output))
    }
}

fn show(status: &AdoptionStatus, output: Output) -> anyhow::Result<()> {
    let role = status.existing_role.as_deref().unwrap_or("not declared: [adoption] existing_role in guardian.toml");
    output.line(format!("stage: {}; existing role: {role}", status.stage))?;
    let mut table = Table::new(["table", "tenant column", "policies"]);
    for one in &status.tables {
        let policies = if one.enforced {
            Cell::marked(Some(Mark::Good), "enforced")
        } else {
            Cell::marked(Some(Mark::Caution), "not enforced")
        };
        table.row([Cell::from(&one.name), Cell::from(one.column.as_str()), policies]);
    }
    output.table(table)?;
    for other in &status.others {
        let tables = other.tables.join(", ");
        output.marked(
            Mark::Caution,
            format!("`{}` has rights of its own on {tables}: once they are enforced, it reads nothing of them", other.role),
        )?;
    }
    let (mark, next) = next(status);
    output.marked(mark, next)
}

fn next(status: &AdoptionStatus) -> (Mark, String) {
    let enforced = status.tables.iter().filter(|table| table.enforced).count();
    let left = counted(status.finish_statements as usize, "statement");
    match status.stage {
        AdoptionStage::None if status.existing_role.is_none() => (Mark::Good, "nothing is being adopted".to_owned()),
        AdoptionStage::None if enforced > 0 && enforced == status.tables.len() => {
            (Mark::Good, "the adoption is over; take [adoption] out of guardian.toml".to_owned())
        }
        AdoptionStage::None => (Mark::Caution, "next: guardian adopt prepare".to_owned()),
        _ if !status.prepared || status.tables.iter().any(|table| table.column != AdoptionColumn::Full) => {
            (Mark::Caution, "something new is not prepared: guardian adopt prepare".to_owned())
        }
        AdoptionStage::Prepared => {
            (Mark::Caution, "next: guardian adopt observe --on, and lead the application to the SQL gateway".to_owned())
        }
        AdoptionStage::Observing => (
            Mark::Caution,
            format!(
                "{enforced} of {} enforced; next: guardian adopt enforce TABLE, or --all",
                counted(status.tables.len(), "table")
            ),
        ),
        AdoptionStage::Enforced => (
            Mark::Good,
            format!("every table is enforced; {left} that cannot be taken back quickly remain: guardian adopt finish"),
        ),
    }
}
