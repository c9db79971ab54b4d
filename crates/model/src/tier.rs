//! Tiers: named plans with isolation, limits, weight and features.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Isolation, TierName};

/// A named plan. A tenant belongs to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tier {
    /// Its name, unique.
    pub name: TierName,
    /// Where its tenants' data lives.
    pub isolation: Isolation,
    /// Share of the server under contention, relative to other tiers; 1 to 1000.
    pub weight: u16,
    /// Bounds on what a tenant may use.
    pub limits: Limits,
    /// How long the SQL gateway lends a server connection to a client.
    #[serde(default)]
    pub pooling: Pooling,
    /// Feature flags by name.
    pub features: BTreeMap<String, bool>,
    /// Declared in `guardian.toml`: the API may read it but not change it.
    pub declared: bool,
}

/// How long the SQL gateway lends a server connection to a client.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// For one transaction: what a session keeps (settings beyond those PostgreSQL reports, cursors WITH HOLD, LISTEN) is
    /// not the client's to rely on.
    #[default]
    Transaction,
    /// From the first statement until the client disconnects or changes its tenant.
    Session,
}

impl Pooling {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Transaction, Self::Session];

    /// The word in configuration, in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Session => "session",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $default:literal;)+) => {
        /// Bounds on what one tenant may use. Every limit is explicit; what is left out takes the default shown in the schema.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits {
            $($(#[$doc])* pub $name: u32,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self::DEFAULT
            }
        }

        /// What one tenant has otherwise than its tier.
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
        )]
        #[serde(default, deny_unknown_fields)]
        pub struct LimitOverrides {
            /// Share of the server under contention, 1 to 1000.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub weight: Option<u16>,
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<u32>,)+
        }

        impl Limits {
            /// What is left out takes these.
            pub const DEFAULT: Self = Self { $($name: $default,)+ };

            /// The name of every limit, as in configuration and in refusals.
            pub const NAMES: &[&str] = &[$(stringify!($name),)+];

            /// These limits with a tenant's own in their place.
            #[must_use]
            pub fn with(self, overrides: &LimitOverrides) -> Self {
                Self { $($name: overrides.$name.unwrap_or(self.$name),)+ }
            }
        }
    };
}

limits! {
    /// Clients of the tenant connected to one SQL gateway at once.
    client_connections_max: 1000;
    /// Server connections of the tenant at once, on one SQL gateway.
    server_connections_max: 20;
    /// Clients of the tenant that wait for a server connection at once.
    queue_len_max: 1000;
    /// Milliseconds a client waits for a server connection.
    queue_wait_ms_max: 10_000;
    /// Milliseconds a statement may run.
    statement_ms_max: 30_000;
    /// Milliseconds a transaction may last.
    transaction_ms_max: 300_000;
    /// Milliseconds a transaction may sit idle.
    idle_in_transaction_ms_max: 30_000;
    /// Milliseconds a statement waits for a lock.
    lock_wait_ms_max: 5_000;
    /// Seconds after which a server connection is closed rather than used again.
    server_connection_age_s_max: 3_600;
    /// Requests of the tenant a minute, at the API gateway, spread evenly; `request_burst_max` may come at once.
    requests_per_minute_max: 6_000;
    /// Requests of the tenant that may come at once after a pause.
    request_burst_max: 600;
    /// Requests of the tenant that are served at once, on one API gateway.
    requests_at_once_max: 100;
    /// Requests of the tenant that wait for their turn at once.
    request_queue_len_max: 100;
    /// Milliseconds a request waits for its turn.
    request_queue_wait_ms_max: 1_000;
    /// Requests of the tenant a day (UTC); 4294967295: no bound.
    requests_per_day_max: 4_294_967_295;
    /// Requests of the tenant a month (UTC); 4294967295: no bound.
    requests_per_month_max: 4_294_967_295;
    /// Requests at once that every upstream keeps free for the tenant.
    requests_reserved: 0;
}

/// The default weight of a tier.
pub const WEIGHT_DEFAULT: u16 = 100;
/// The greatest weight of a tier.
pub const WEIGHT_MAX: u16 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_s_own_limit_goes_before_its_tier_s() {
        let overrides = LimitOverrides { queue_len_max: Some(7), ..LimitOverrides::default() };
        let limits = Limits::default().with(&overrides);
        assert_eq!(limits, Limits { queue_len_max: 7, ..Limits::default() });
    }

    #[test]
    fn words_round_trip() {
        for mode in Pooling::ALL {
            assert_eq!(Pooling::from_word(mode.as_str()), Some(mode));
        }
    }
}
