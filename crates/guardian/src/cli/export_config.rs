//! `guardian export-config`: everything that Guardian knows, as one document without secrets.
//!
//! It reads page by page and prints as it reads: neither side holds all tenants. What changes meanwhile may be in it or not.

use guardian_client::{Client, ClientError};
use guardian_model::{
    Tenant, TenantState,
    api::Page,
    query::{IncidentQuery, TenantQuery},
};
use jiff::Timestamp;
use serde::Serialize;

use crate::output::{Output, json_part, script};

/// Grows when a reader of the document has to change.
const FORMAT: &str = "guardian-export/1";
const PAGE_MAX: u32 = 500;

/// Print everything that Guardian knows as one JSON document, without secrets
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Tiers, logins, tokens, clusters, open incidents, and every tenant with its key, tier, limits, placement and role. Passwords,
capabilities and tokens' secrets are not in it. Tenants come last, one a line.

Examples:
  guardian export-config > guardian.json
  guardian export-config --tenants-csv > tenants.csv"
)]
pub(crate) struct ExportConfig {
    /// Only the tenants, as CSV with the columns key, slug and tier, as `guardian tenant import` reads them
    #[arg(long)]
    tenants_csv: bool,
}

impl ExportConfig {
    pub(crate) async fn run(self, client: &Client, _: Output) -> anyhow::Result<()> {
        if self.tenants_csv {
            script("key,slug,tier\n")?;
            return each_tenant(client, |tenant| script(&csv(tenant))).await;
        }
        let status = client.status().await?;
        let incidents = guardian_client::every(async |cursor| {
            client.incidents(&IncidentQuery { cursor, limit: Some(PAGE_MAX), ..IncidentQuery::default() }).await
        })
        .await?;
        json_part(&format!("{{\n\"format\": {}", json(&FORMAT)?))?;
        let member = |name: &str, value: String| json_part(&format!(",\n{}: {value}", json(&name)?));
        member("exported_at", json(&Timestamp::now())?)?;
        member("guardian", json(&status.version)?)?;
        member("application", json(&status.application)?)?;
        member("mechanism", json(&status.mechanism)?)?;
        member("clusters", json(&status.clusters)?)?;
        member("tiers", json(&client.tiers().await?)?)?;
        member("logins", json(&client.logins().await?)?)?;
        member("tokens", json(&client.tokens().await?)?)?;
        member("incidents", json(&incidents)?)?;
        json_part(",\n\"tenants\": [")?;
        let mut separator = "\n";
        each_tenant(client, |tenant| {
            json_part(&format!("{separator}{}", json(tenant)?))?;
            separator = ",\n";
            Ok(())
        })
        .await?;
        json_part("\n]\n}\n")
    }
}

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Every tenant that is not deleted.
async fn each_tenant(client: &Client, mut tell: impl FnMut(&Tenant) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let query = TenantQuery { cursor, limit: Some(PAGE_MAX), ..TenantQuery::default() };
        let page: Result<Page<Tenant>, ClientError> = client.tenants(&query).await;
        let page = page?;
        for tenant in page.items.iter().filter(|tenant| tenant.state != TenantState::Deleted) {
            tell(tenant)?;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// A line of CSV (RFC 4180). Slugs and tiers have no character that needs quotes.
fn csv(tenant: &Tenant) -> String {
    let key = if tenant.key.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", tenant.key.replace('"', "\"\""))
    } else {
        tenant.key.clone()
    };
    format!("{key},{},{}\n", tenant.slug, tenant.tier)
}
