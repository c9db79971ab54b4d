//! `guardian domain`: host names of tenants' own, at the API gateway.

use guardian_client::Client;
use guardian_model::HostName;

use super::tenant::TenantRef;
use crate::output::{Output, Table, time};

/// Give tenants host names of their own at the API gateway
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Domain {
    /// Give a tenant a host name
    #[command(after_help = "Make sure first that the name is the tenant's: requests for it are the tenant's from then on.

Examples:
  guardian domain add acme support.acme.com")]
    Add {
        /// Slug or id
        tenant: TenantRef,
        /// The name, in lower case and as punycode
        host: HostName,
    },
    /// List a tenant's host names
    #[command(after_help = "Examples:\n  guardian domain list acme")]
    List {
        /// Slug or id
        tenant: TenantRef,
    },
    /// Take a host name away from a tenant
    #[command(after_help = "Examples:\n  guardian domain remove acme support.acme.com")]
    Remove {
        /// Slug or id
        tenant: TenantRef,
        /// The name
        host: HostName,
    },
}

impl Domain {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Add { tenant, host } => {
                let domain = client.add_domain(tenant.as_str(), &host).await?;
                output.result(&domain, |_| output.done(format!("{host} is {}'s", tenant.as_str())))
            }
            Self::List { tenant } => output.result(&client.domains(tenant.as_str()).await?, |domains| {
                let mut table = Table::new(["host", "since (UTC)"]);
                for domain in domains {
                    table.row([(&domain.host).into(), time(domain.created_at).into()]);
                }
                output.table(table)
            }),
            Self::Remove { tenant, host } => {
                client.remove_domain(tenant.as_str(), &host).await?;
                output.done(format!("{host} is nobody's"))
            }
        }
    }
}
