//! `guardian tenant create`, `suspend`, `resume` and `delete`: each asks for an operation and, unless told otherwise, waits
//! for its end.

use guardian_client::Client;
use guardian_model::{
    Slug, TierName,
    api::{CreateTenant, DeleteTenant, TenantChange},
};

use super::TenantRef;
use crate::{
    cli::{confirm, follow},
    output::{Output, duration},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its name: a DNS label
    slug: Slug,
    /// Its tier
    #[arg(long)]
    tier: TierName,
    /// Its value in the tenant column; left out: a new one
    #[arg(long)]
    key: Option<String>,
    /// Asking again with the same key gives the same tenant, not another
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Suspend {
    /// Slug or id
    tenant: TenantRef,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    /// Slug or id
    tenant: TenantRef,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Slug or id
    tenant: TenantRef,
    /// Skip the grace period: there is no way back
    #[arg(long)]
    now: bool,
    /// The slug again; left out: asked for
    #[arg(long, value_name = "SLUG")]
    confirm: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, clap::Args)]
struct Wait {
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
}

impl Create {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let body = CreateTenant { slug: self.slug, tier: self.tier, key: self.key };
        let change = client.create_tenant(&body, self.idempotency_key.as_deref()).await?;
        self.wait.end(client, change, output).await
    }
}

impl Suspend {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let change = client.suspend_tenant(self.tenant.as_str()).await?;
        self.wait.end(client, change, output).await
    }
}

impl Resume {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let change = client.resume_tenant(self.tenant.as_str()).await?;
        self.wait.end(client, change, output).await
    }
}

impl Delete {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        // Its slug is what is typed, also when it was named by id.
        let tenant = client.tenant(self.tenant.as_str()).await?;
        let slug = tenant.slug.as_str();
        let when = if self.now { "now, for ever" } else { "after the grace period" };
        let question =
            format!("This deletes `{slug}` ({}) with all its data, {when}. Type its slug to go on:", tenant.placement.place);
        confirm::word(&question, slug, self.confirm.as_deref(), "--confirm")?;
        let request = DeleteTenant { confirm: slug.to_owned(), now: self.now };
        let change = client.delete_tenant(&tenant.id.to_string(), &request).await?;
        self.wait.end(client, change, output).await
    }
}

impl Wait {
    /// Follows the operation, says how it ended, and fails when it did not go through.
    async fn end(self, client: &Client, change: TenantChange, output: Output) -> anyhow::Result<()> {
        let mut change = change;
        if !self.no_wait {
            change.operation = follow::operation(client, output, change.operation).await?;
            change.tenant = client.tenant(&change.tenant.id.to_string()).await?;
        }
        output.result(&change, |_| Ok(()))?;
        follow::refuse_bad_end(&change.operation)?;
        summarise(&change, output)
    }
}

fn summarise(change: &TenantChange, output: Output) -> anyhow::Result<()> {
    let TenantChange { tenant, operation } = change;
    let (slug, id) = (&tenant.slug, operation.id);
    if follow::awaits_grace(operation) {
        output.done(format!("{slug} is closed; its data goes when the grace period ends"))?;
        output.remark(format!("take it back with `guardian operation cancel {id}`"));
        return Ok(());
    }
    match operation.finished_at {
        Some(finished_at) => {
            let took = finished_at.duration_since(operation.created_at).as_micros();
            let took = duration(u64::try_from(took).unwrap_or(0));
            output.done(format!("{slug} is {} after {took} ({})", tenant.state, tenant.id))
        }
        None => output.line(format!("{slug} is {}; `guardian operation show {id}` tells how it goes", tenant.state)),
    }
}
