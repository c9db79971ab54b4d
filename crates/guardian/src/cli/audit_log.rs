//! `guardian audit-log`: who did what to which tenant, and whether the record of it is whole.

use guardian_client::Client;
use guardian_model::{
    api::{AuditEntry, AuditVerification, Page},
    query::{AuditQuery, VerifyQuery},
};

use super::tenant::{Paging, TenantRef};
use crate::output::{Cell, Failure, Mark, Output, Table, time};

/// Read and verify the audit log
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditLog {
    /// List entries, newest first
    #[command(after_help = "Examples:
  guardian audit-log list --tenant acme
  guardian audit-log list --outcome refused --limit 20")]
    List(Box<List>),
    /// Check that no sealed entry was changed, added or taken out
    #[command(after_help = "Keep the head that it prints somewhere else: with it, a log cut short at the end shows too.

Examples:
  guardian audit-log verify
  guardian audit-log verify --expect-head 3f1b2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809")]
    Verify {
        /// A head that was printed earlier: the log must still contain it
        #[arg(long, value_name = "HASH")]
        expect_head: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// About this tenant: slug or id
    #[arg(long)]
    tenant: Option<TenantRef>,
    /// By this actor: token:tok_…, system:… or anonymous
    #[arg(long)]
    actor: Option<String>,
    /// Of this action, such as tenant.create
    #[arg(long)]
    action: Option<String>,
    /// With this outcome
    #[arg(long, value_parser = ["allowed", "refused", "done", "undone", "failed"])]
    outcome: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

impl AuditLog {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(client, output).await,
            Self::Verify { expect_head } => {
                let found = client.verify_audit_log(&VerifyQuery { head: expect_head }).await?;
                output.result(&found, |found| show_verification(found, output))?;
                if found.intact { Ok(()) } else { Err(Failure::new("the audit log was tampered with").into()) }
            }
        }
    }
}

impl List {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let base = AuditQuery {
            tenant: self.tenant.map(String::from),
            actor: self.actor,
            action: self.action,
            outcome: self.outcome,
            ..AuditQuery::default()
        };
        let page = self
            .paging
            .read(async |cursor, limit| client.audit_log(&AuditQuery { cursor, limit, ..base.clone() }).await)
            .await?;
        output.result(&page, |page| show(page, output))
    }
}

fn show(page: &Page<AuditEntry>, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["seq", "at (UTC)", "actor", "action", "outcome", "tenant", "detail"]);
    for entry in &page.items {
        let mark = match entry.outcome.as_str() {
            "refused" | "failed" => Some(Mark::Bad),
            "undone" => Some(Mark::Caution),
            _ => None,
        };
        table.row([
            Cell::number(entry.seq),
            time(entry.at).into(),
            (&entry.actor).into(),
            (&entry.action).into(),
            Cell::marked(mark, &entry.outcome),
            Cell::maybe(entry.tenant),
            if entry.detail.is_null() { "".into() } else { (&entry.detail).into() },
        ]);
    }
    Paging::show(page, table, "entries", output)
}

fn show_verification(found: &AuditVerification, output: Output) -> anyhow::Result<()> {
    for fault in &found.faults {
        output.marked(Mark::Bad, fault)?;
    }
    if found.intact {
        output.marked(Mark::Good, "every sealed entry is what it was when it was sealed")?;
    }
    output.line(format!("sealed entries: {} (seals: {})", found.sealed, found.seals))?;
    output.line(format!("entries not sealed yet, where a change would not show: {}", found.unsealed))?;
    match &found.head {
        Some(head) => output.line(format!("head: {head}")),
        None => Ok(()),
    }
}
