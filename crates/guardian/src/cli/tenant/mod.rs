//! `guardian tenant`: the tenants and their lives.

mod change;
mod import;
mod list;
mod paging;
mod show;

use std::str::FromStr;

use guardian_client::Client;
use guardian_model::{LimitOverrides, Slug, TenantId, TenantState, TierName, api::SetTier};

pub(super) use paging::Paging;

use crate::output::{Cell, Failure, Mark, Output};

/// Create, list, suspend, resume and delete tenants
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tenant {
    /// Create a tenant and wait until it is active
    #[command(after_help = "Examples:
  guardian tenant create acme --tier pro
  guardian tenant create globex --tier free --key 42 --no-wait")]
    Create(change::Create),
    /// Import the tenants that the application already has, with their keys
    #[command(after_help = import::HELP)]
    Import(import::Import),
    /// List tenants; deleted ones only with --state deleted
    #[command(after_help = "Examples:
  guardian tenant list --tier pro --state active
  guardian tenant list --slug-prefix ac --all --json")]
    List(list::List),
    /// Show a tenant and where its data lives
    #[command(after_help = "Examples:\n  guardian tenant show acme")]
    Show {
        /// Slug or id
        tenant: TenantRef,
    },
    /// Stop serving a tenant; its data stays
    #[command(after_help = "Examples:\n  guardian tenant suspend acme")]
    Suspend(change::Suspend),
    /// Serve a suspended tenant again
    #[command(after_help = "Examples:\n  guardian tenant resume acme")]
    Resume(change::Resume),
    /// Delete a tenant with all its data, after the grace period
    #[command(after_help = "Until the grace period is over, `guardian operation cancel` takes it back.

Examples:
  guardian tenant delete acme
  guardian tenant delete acme --now --confirm acme")]
    Delete(change::Delete),
    /// Move a tenant to another tier of the same isolation
    #[command(after_help = "Examples:\n  guardian tenant set-tier acme enterprise")]
    SetTier {
        /// Slug or id
        tenant: TenantRef,
        /// The new tier
        tier: TierName,
    },
    /// Set the limits that a tenant has otherwise than its tier, as a whole
    #[command(
        after_help = "What is not named is the tier's. The names are those of [tiers.*.limits] in guardian.toml, and \
`weight`.

Examples:
  guardian tenant set-limits acme queue_len_max=50 weight=200
  guardian tenant set-limits acme --reset"
    )]
    SetLimits {
        /// Slug or id
        tenant: TenantRef,
        /// A limit and its value
        #[arg(value_name = "NAME=VALUE", required_unless_present = "reset", value_parser = limit)]
        limits: Vec<(String, u32)>,
        /// Back to the tier's limits
        #[arg(long, conflicts_with = "limits")]
        reset: bool,
    },
    /// Print how to reach a tenant's data, secrets included; the audit log records it
    #[command(after_help = "Examples:\n  guardian tenant credentials acme --json")]
    Credentials {
        /// Slug or id
        tenant: TenantRef,
    },
}

impl Tenant {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(client, output).await,
            Self::Import(command) => command.run(client, output).await,
            Self::List(command) => command.run(client, output).await,
            Self::Show { tenant } => {
                output.result(&client.tenant(tenant.as_str()).await?, |tenant| show::tenant(tenant, output))
            }
            Self::Suspend(command) => command.run(client, output).await,
            Self::Resume(command) => command.run(client, output).await,
            Self::Delete(command) => command.run(client, output).await,
            Self::SetTier { tenant, tier } => {
                let tenant = client.set_tier(tenant.as_str(), &SetTier { tier }).await?;
                output.result(&tenant, |tenant| show::tenant(tenant, output))
            }
            Self::SetLimits { tenant, limits, reset: _ } => {
                let tenant = client.set_limits(tenant.as_str(), &overrides(limits)?).await?;
                output.result(&tenant, |tenant| show::tenant(tenant, output))
            }
            Self::Credentials { tenant } => {
                output.result(&client.connection(tenant.as_str()).await?, |connection| show::credentials(connection, output))
            }
        }
    }
}

fn limit(text: &str) -> Result<(String, u32), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("`{name}` is a whole number, not `{value}`"))?;
    Ok((name.to_owned(), value))
}

/// The names are checked where they are declared.
fn overrides(limits: Vec<(String, u32)>) -> Result<LimitOverrides, Failure> {
    let mut object = serde_json::Map::new();
    for (name, value) in limits {
        if object.insert(name.clone(), value.into()).is_some() {
            return Err(Failure::usage(format!("`{name}` is given twice")));
        }
    }
    serde_json::from_value(object.into()).map_err(|error| Failure::usage(error.to_string()))
}

/// A tenant as people name it: by slug or by id.
#[derive(Debug, Clone)]
pub(crate) struct TenantRef(String);

impl TenantRef {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<TenantRef> for String {
    fn from(tenant: TenantRef) -> Self {
        tenant.0
    }
}

impl FromStr for TenantRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // No slug has an underscore.
        let parsed = if text.starts_with("ten_") {
            text.parse::<TenantId>().map(|id| id.to_string()).map_err(|error| error.to_string())
        } else {
            text.parse::<Slug>().map(String::from).map_err(|error| error.to_string())
        };
        parsed.map(Self)
    }
}

fn state_cell(state: TenantState) -> Cell {
    let mark = match state {
        TenantState::Active => Some(Mark::Good),
        TenantState::Creating | TenantState::Suspended => Some(Mark::Caution),
        TenantState::Deleting | TenantState::Deleted => Some(Mark::Bad),
    };
    Cell::marked(mark, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_as_in_the_configuration() {
        let one = |text: &str| overrides(vec![limit(text).unwrap()]);
        assert_eq!(one("weight=200").unwrap(), LimitOverrides { weight: Some(200), ..LimitOverrides::default() });
        for name in guardian_model::Limits::NAMES {
            assert!(one(&format!("{name}=7")).is_ok(), "{name}");
        }
        assert!(one("speed=7").unwrap_err().to_string().contains("queue_len_max"));
        assert!(one("weight=70000").is_err());
        assert!(limit("weight").is_err() && limit("weight=x").is_err() && limit("weight=-1").is_err());
        assert!(overrides(vec![limit("weight=1").unwrap(), limit("weight=2").unwrap()]).is_err());
    }

    #[test]
    fn a_tenant_is_named_by_slug_or_id() {
        let id = "ten_01jd8v1n2c3p4q5r6s7t8v9w0x";
        assert_eq!(id.parse::<TenantRef>().unwrap().as_str(), id);
        assert_eq!("acme".parse::<TenantRef>().unwrap().as_str(), "acme");
        assert!("ten_x".parse::<TenantRef>().unwrap_err().contains("tenant id"));
        assert!("../tokens".parse::<TenantRef>().unwrap_err().contains("slug"));
    }
}
