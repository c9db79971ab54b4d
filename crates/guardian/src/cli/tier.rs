//! `guardian tier`: the plans that tenants are on.

use std::collections::BTreeMap;

use guardian_client::Client;
use guardian_model::{Isolation, LimitOverrides, Limits, Pooling, Tier as Model, TierName, api::PutTier};

use super::word_of;
use crate::output::{Cell, Output, Table};

/// Make, list and change tiers: isolation, limits, weight, features
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tier {
    /// List tiers
    #[command(after_help = "Examples:\n  guardian tier list")]
    List,
    /// Show a tier
    #[command(after_help = "Examples:\n  guardian tier show pro")]
    Show {
        /// Its name
        tier: TierName,
    },
    /// Make a tier, or replace it as a whole
    #[command(after_help = "A tier that guardian.toml declares is changed there.

Examples:
  guardian tier put free --isolation row
  guardian tier put pro --isolation database --weight 300 --statement-ms-max 60000 --feature sso")]
    Put(Put),
    /// Delete a tier that has no tenants
    #[command(after_help = "Examples:\n  guardian tier delete trial")]
    Delete {
        /// Its name
        tier: TierName,
    },
}

/// What a tier is made of; what is left out takes its default.
#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// Its name
    tier: TierName,
    /// Where its tenants' data lives; stays as it is while the tier has tenants
    #[arg(long, value_parser = word_of!(Isolation))]
    isolation: Isolation,
    /// Share under contention, relative to other tiers: 1 to 1000
    #[arg(long, value_name = "N")]
    weight: Option<u16>,
    /// How long the SQL gateway lends a server connection to a client: for one transaction, or for the client's session
    #[arg(long, value_parser = word_of!(Pooling), default_value = Pooling::Transaction.as_str())]
    pooling: Pooling,
    #[command(flatten)]
    limits: LimitFlags,
    /// A feature flag; may be given again
    #[arg(long = "feature", value_name = "NAME[=true|false]", value_parser = feature)]
    features: Vec<(String, bool)>,
}

/// A flag for each limit.
#[derive(Debug, clap::Args)]
struct LimitFlags {
    /// Clients of a tenant at one SQL gateway at once
    #[arg(long, value_name = "N")]
    client_connections_max: Option<u32>,
    /// Server connections of a tenant at once
    #[arg(long, value_name = "N")]
    server_connections_max: Option<u32>,
    /// Clients of a tenant that wait for a server connection at once
    #[arg(long, value_name = "N")]
    queue_len_max: Option<u32>,
    /// Milliseconds a client waits for a server connection
    #[arg(long, value_name = "MS")]
    queue_wait_ms_max: Option<u32>,
    /// Milliseconds a statement may run
    #[arg(long, value_name = "MS")]
    statement_ms_max: Option<u32>,
    /// Milliseconds a transaction may last
    #[arg(long, value_name = "MS")]
    transaction_ms_max: Option<u32>,
    /// Milliseconds a transaction may sit idle
    #[arg(long, value_name = "MS")]
    idle_in_transaction_ms_max: Option<u32>,
    /// Milliseconds a statement waits for a lock
    #[arg(long, value_name = "MS")]
    lock_wait_ms_max: Option<u32>,
    /// Seconds after which a server connection is not used again
    #[arg(long, value_name = "S")]
    server_connection_age_s_max: Option<u32>,
    /// Requests of a tenant a minute, at the API gateway
    #[arg(long, value_name = "N")]
    requests_per_minute_max: Option<u32>,
    /// Requests of a tenant that may come at once after a pause
    #[arg(long, value_name = "N")]
    request_burst_max: Option<u32>,
    /// Requests of a tenant that are served at once
    #[arg(long, value_name = "N")]
    requests_at_once_max: Option<u32>,
    /// Requests of a tenant that wait for their turn at once
    #[arg(long, value_name = "N")]
    request_queue_len_max: Option<u32>,
    /// Milliseconds a request waits for its turn
    #[arg(long, value_name = "MS")]
    request_queue_wait_ms_max: Option<u32>,
    /// Requests of a tenant a day
    #[arg(long, value_name = "N")]
    requests_per_day_max: Option<u32>,
    /// Requests of a tenant a month
    #[arg(long, value_name = "N")]
    requests_per_month_max: Option<u32>,
    /// Requests at once that every upstream keeps free for a tenant
    #[arg(long, value_name = "N")]
    requests_reserved: Option<u32>,
}

impl From<LimitFlags> for LimitOverrides {
    fn from(flags: LimitFlags) -> Self {
        Self {
            weight: None,
            client_connections_max: flags.client_connections_max,
            server_connections_max: flags.server_connections_max,
            queue_len_max: flags.queue_len_max,
            queue_wait_ms_max: flags.queue_wait_ms_max,
            statement_ms_max: flags.statement_ms_max,
            transaction_ms_max: flags.transaction_ms_max,
            idle_in_transaction_ms_max: flags.idle_in_transaction_ms_max,
            lock_wait_ms_max: flags.lock_wait_ms_max,
            server_connection_age_s_max: flags.server_connection_age_s_max,
            requests_per_minute_max: flags.requests_per_minute_max,
            request_burst_max: flags.request_burst_max,
            requests_at_once_max: flags.requests_at_once_max,
            request_queue_len_max: flags.request_queue_len_max,
            request_queue_wait_ms_max: flags.request_queue_wait_ms_max,
            requests_per_day_max: flags.requests_per_day_max,
            requests_per_month_max: flags.requests_per_month_max,
            requests_reserved: flags.requests_reserved,
        }
    }
}

fn feature(text: &str) -> Result<(String, bool), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, "true"));
    match (name, value) {
        ("", _) => Err("a feature needs a name".to_owned()),
        (name, "true") => Ok((name.to_owned(), true)),
        (name, "false") => Ok((name.to_owned(), false)),
        (name, value) => Err(format!("`{name}` is true or false, not `{value}`")),
    }
}

impl Tier {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::List => output.result(&client.tiers().await?, |tiers| list(tiers, output)),
            Self::Show { tier } => output.result(&client.tier(&tier).await?, |tier| show(tier, output)),
            Self::Put(put) => {
                let name = put.tier.clone();
                output.result(&client.put_tier(&name, &put.into_body()).await?, |tier| show(tier, output))
            }
            Self::Delete { tier } => {
                client.delete_tier(&tier).await?;
                output.done(format!("{tier} is deleted"))
            }
        }
    }
}

impl Put {
    fn into_body(self) -> PutTier {
        PutTier {
            isolation: self.isolation,
            weight: self.weight,
            limits: Limits::default().with(&self.limits.into()),
            pooling: self.pooling,
            features: self.features.into_iter().collect(),
        }
    }
}

fn features(features: &BTreeMap<String, bool>) -> String {
    let word = |(name, on): (&String, &bool)| if *on { name.clone() } else { format!("{name}=false") };
    features.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn list(tiers: &[Model], output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["tier", "isolation", "weight", "connections", "statement", "features", "declared"]);
    for tier in tiers {
        table.row([
            (&tier.name).into(),
            tier.isolation.into(),
            Cell::number(tier.weight),
            Cell::number(tier.limits.server_connections_max),
            Cell::number(format!("{} ms", tier.limits.statement_ms_max)),
            features(&tier.features).into(),
            if tier.declared { "guardian.toml" } else { "" }.into(),
        ]);
    }
    output.table(table)
}

fn show(tier: &Model, output: Output) -> anyhow::Result<()> {
    let limits = tier.limits;
    output.table(Table::of_one(vec![
        ("tier", (&tier.name).into()),
        ("isolation", tier.isolation.into()),
        ("weight", tier.weight.into()),
        ("pooling", tier.pooling.to_string().into()),
        ("client connections", limits.client_connections_max.into()),
        ("server connections", limits.server_connections_max.into()),
        ("queue", limits.queue_len_max.into()),
        ("queue wait", format!("{} ms", limits.queue_wait_ms_max).into()),
        ("statement", format!("{} ms", limits.statement_ms_max).into()),
        ("transaction", format!("{} ms", limits.transaction_ms_max).into()),
        ("idle in transaction", format!("{} ms", limits.idle_in_transaction_ms_max).into()),
        ("lock wait", format!("{} ms", limits.lock_wait_ms_max).into()),
        ("server connection age", format!("{} s", limits.server_connection_age_s_max).into()),
        ("features", features(&tier.features).into()),
        ("declared", if tier.declared { "in guardian.toml" } else { "over the API" }.into()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_on_unless_it_says_otherwise() {
        assert_eq!(feature("sso"), Ok(("sso".to_owned(), true)));
        assert_eq!(feature("sso=false"), Ok(("sso".to_owned(), false)));
        assert!(feature("sso=maybe").is_err());
        assert!(feature("=true").is_err());
    }
}
