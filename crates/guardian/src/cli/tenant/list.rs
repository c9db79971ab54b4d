//! `guardian tenant list`.

use guardian_client::Client;
use guardian_model::{Isolation, Tenant, TenantState, TierName, api::Page, query::TenantQuery};

use super::{Paging, state_cell};
use crate::{
    cli::word_of,
    output::{Output, Table, time},
};

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// In this state
    #[arg(long, value_parser = word_of!(TenantState))]
    state: Option<TenantState>,
    /// On this tier
    #[arg(long)]
    tier: Option<TierName>,
    /// In this isolation model
    #[arg(long, value_parser = word_of!(Isolation))]
    isolation: Option<Isolation>,
    /// Whose slug begins so
    #[arg(long, value_name = "TEXT")]
    slug_prefix: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

impl List {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let base = TenantQuery {
            state: self.state,
            tier: self.tier,
            isolation: self.isolation,
            slug_prefix: self.slug_prefix,
            ..TenantQuery::default()
        };
        let page = self
            .paging
            .read(async |cursor, limit| client.tenants(&TenantQuery { cursor, limit, ..base.clone() }).await)
            .await?;
        output.result(&page, |page| show(page, output))
    }
}

fn show(page: &Page<Tenant>, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["slug", "state", "tier", "isolation", "key", "created (UTC)"]);
    for tenant in &page.items {
        table.row([
            (&tenant.slug).into(),
            state_cell(tenant.state),
            (&tenant.tier).into(),
            tenant.placement.isolation.into(),
            (&tenant.key).into(),
            time(tenant.created_at).into(),
        ]);
    }
    Paging::show(page, table, "tenants", output)
}
