//! `guardian operation`: the changes of tenants that are at work, stuck or over.

use guardian_client::Client;
use guardian_model::{Operation as Model, OperationId, OperationKind, OperationState, api::Page, query::OperationQuery};

use super::{
    follow,
    tenant::{Paging, TenantRef},
    word_of,
};
use crate::output::{Cell, Mark, Output, Table, duration, time};

/// See and steer the changes of tenants
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Operation {
    /// List operations, newest first
    #[command(after_help = "Examples:
  guardian operation list --state stuck
  guardian operation list --tenant acme --limit 5")]
    List {
        /// Of this tenant: slug or id
        #[arg(long)]
        tenant: Option<TenantRef>,
        /// In this state
        #[arg(long, value_parser = word_of!(OperationState))]
        state: Option<OperationState>,
        /// Of this kind
        #[arg(long, value_parser = word_of!(OperationKind))]
        kind: Option<OperationKind>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show an operation with every step and its time
    #[command(after_help = "Examples:\n  guardian operation show op_01jd8v1n2c3p4q5r6s7t8v9w0x")]
    Show {
        /// Its id
        operation: OperationId,
    },
    /// Set a stuck operation going again, when what it stumbled over is mended
    #[command(after_help = "Examples:\n  guardian operation retry op_01jd8v1n2c3p4q5r6s7t8v9w0x")]
    Retry {
        /// Its id
        operation: OperationId,
        /// Do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
    /// Take an operation back, as long as there is a way back
    #[command(after_help = "A deletion can be taken back until its grace period is over.

Examples:
  guardian operation cancel op_01jd8v1n2c3p4q5r6s7t8v9w0x")]
    Cancel {
        /// Its id
        operation: OperationId,
        /// Do not wait for its end
        #[arg(long)]
        no_wait: bool,
    },
}

impl Operation {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List { tenant, state, kind, paging } => {
                let base = OperationQuery { tenant: tenant.map(String::from), state, kind, ..OperationQuery::default() };
                let page = paging
                    .read(async |cursor, limit| client.operations(&OperationQuery { cursor, limit, ..base.clone() }).await)
                    .await?;
                output.result(&page, |page| list(page, output))
            }
            Self::Show { operation } => {
                output.result(&client.operation(operation).await?, |operation| show(operation, output))
            }
            Self::Retry { operation, no_wait } => {
                let operation = client.retry_operation(operation).await?;
                let operation = wait(client, operation, no_wait, output).await?;
                follow::refuse_bad_end(&operation)
            }
            Self::Cancel { operation, no_wait } => {
                let operation = client.cancel_operation(operation).await?;
                let operation = wait(client, operation, no_wait, output).await?;
                if operation.state == OperationState::Undone { Ok(()) } else { follow::refuse_bad_end(&operation) }
            }
        }
    }
}

async fn wait(client: &Client, operation: Model, no_wait: bool, output: Output) -> anyhow::Result<Model> {
    let operation = if no_wait { operation } else { follow::operation(client, output, operation).await? };
    output.result(&operation, |operation| {
        let (kind, slug, state) = (operation.kind.as_str(), &operation.slug, operation.state.as_str());
        output.line(format!("{kind} of {slug}: {state}"))
    })?;
    Ok(operation)
}

fn list(page: &Page<Model>, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["operation", "kind", "tenant", "state", "steps", "created (UTC)", "error"]);
    for operation in &page.items {
        table.row([
            operation.id.into(),
            operation.kind.as_str().into(),
            (&operation.slug).into(),
            state_cell(operation.state),
            Cell::number(format!("{}/{}", operation.steps_done, operation.steps.len())),
            time(operation.created_at).into(),
            operation.error.as_deref().unwrap_or("").into(),
        ]);
    }
    Paging::show(page, table, "operations", output)
}

fn state_cell(state: OperationState) -> Cell {
    let mark = match state {
        OperationState::Running => None,
        OperationState::Done => Some(Mark::Good),
        OperationState::Undoing | OperationState::Undone => Some(Mark::Caution),
        OperationState::Stuck => Some(Mark::Bad),
    };
    Cell::marked(mark, state.as_str())
}

fn show(operation: &Model, output: Output) -> anyhow::Result<()> {
    output.table(Table::of_one(vec![
        ("operation", operation.id.into()),
        ("kind", operation.kind.as_str().into()),
        ("tenant", format!("{} ({})", operation.slug, operation.tenant).into()),
        ("state", state_cell(operation.state)),
        ("attempts", operation.attempts.into()),
        ("error", Cell::maybe(operation.error.as_ref())),
        ("requested by", (&operation.requested_by).into()),
        ("created (UTC)", time(operation.created_at).into()),
        ("finished (UTC)", Cell::maybe(operation.finished_at.map(time))),
    ]))?;
    output.line("")?;
    let mut table = Table::new(["step", "done", "time"]);
    for (index, step) in operation.steps.iter().enumerate() {
        let done = if index < operation.steps_done { Cell::marked(Some(Mark::Good), "yes") } else { "no".into() };
        let time = step.duration_us.map_or_else(String::new, duration);
        table.row([step.name.replace('_', " ").into(), done, Cell::number(time)]);
    }
    output.table(table)
}
