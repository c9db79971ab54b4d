//! Tiers: named plans with isolation, limits, weight and features.

use std::collections::BTreeMap;

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
    /// Feature flags by name.
    pub features: BTreeMap<String, bool>,
    /// Declared in `guardian.toml`: the API may read it but not change it.
    pub declared: bool,
}

/// Bounds on what one tenant may use. Every limit is explicit; what is left out takes the default shown in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Server connections of the tenant at once.
    pub server_connections_max: u32,
    /// Milliseconds a statement may run.
    pub statement_ms_max: u32,
    /// Milliseconds a transaction may sit idle.
    pub idle_in_transaction_ms_max: u32,
    /// Milliseconds a statement waits for a lock.
    pub lock_wait_ms_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            server_connections_max: 20,
            statement_ms_max: 30_000,
            idle_in_transaction_ms_max: 30_000,
            lock_wait_ms_max: 5_000,
        }
    }
}

/// The default weight of a tier.
pub const WEIGHT_DEFAULT: u16 = 100;
/// The greatest weight of a tier.
pub const WEIGHT_MAX: u16 = 1000;
