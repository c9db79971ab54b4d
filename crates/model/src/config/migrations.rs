//! `[migrations]`: in which order a fleet gets the application's migrations, how fast, and when to stop.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde::Deserialize;

use crate::{Slug, Tenant, TierName};

/// How a run of `guardian migrate` goes through the places: ring after ring.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rollout {
    /// Groups of tenants with places of their own, in the order in which they are migrated. A tenant belongs to the first ring that
    /// names it; those that none names are the last ring, `rest`.
    pub rings: Vec<Ring>,
    /// When the shared place, which holds all `row` tenants, has its turn: before every ring, or after all of them.
    pub shared: SharedTurn,
    /// Places at once.
    pub parallel: u16,
    /// Places at once on one cluster.
    pub parallel_per_cluster: u16,
    /// A run stops when more than this share of a ring's places failed, in percent. 0: at the first one; 100: never.
    pub halt_percent: u8,
    /// How long the login of a user's own tool lasts after the command line that runs the tool was heard of last, in seconds.
    pub tool_login_seconds: u16,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            rings: Vec::new(),
            shared: SharedTurn::First,
            parallel: 4,
            parallel_per_cluster: 8,
            halt_percent: 10,
            tool_login_seconds: 60,
        }
    }
}

/// When the shared place is migrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SharedTurn {
    /// Before every ring: a file that is wrong everywhere stops there.
    First,
    /// After every ring: what most tenants share moves when the rings have shown that it can.
    Last,
}

/// Tenants that are migrated together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ring {
    /// What `--ring` says: 1 to 30 of a-z, 0-9, _ and -.
    pub name: String,
    /// These tenants.
    #[serde(default)]
    pub tenants: BTreeSet<Slug>,
    /// Every tenant of these tiers.
    #[serde(default)]
    pub tiers: BTreeSet<TierName>,
    /// This share of the tenants, 1 to 100: the same ones each time.
    #[serde(default)]
    pub percent: Option<u8>,
}

/// The ring of the shared place.
pub const SHARED_RING: &str = "shared";
/// The ring of the tenants that no ring names.
pub const REST_RING: &str = "rest";

const NAME_LEN_MAX: usize = 30;
/// Shorter, and a busy machine would lose logins that are in use; longer, and a killed command line leaves them open.
const TOOL_LOGIN_SECONDS: RangeInclusive<u16> = 3..=900;
/// The most places migrated at once.
pub const PARALLEL_MAX: u16 = 64;

impl Ring {
    fn holds(&self, tenant: &Tenant) -> bool {
        self.tenants.contains(&tenant.slug)
            || self.tiers.contains(&tenant.tier)
            || self.percent.is_some_and(|percent| share(tenant) < percent)
    }
}

/// Where the tenant stands among all, 0 to 99, by the random part of its id.
fn share(tenant: &Tenant) -> u8 {
    let random = tenant.id.uuid().as_u64_pair().1;
    u8::try_from(random % 100).unwrap_or(u8::MAX)
}

impl Rollout {
    /// The names of all rings, in the order in which they are migrated.
    pub fn order(&self) -> Vec<&str> {
        let named = self.rings.iter().map(|ring| ring.name.as_str());
        match self.shared {
            SharedTurn::First => [SHARED_RING].into_iter().chain(named).chain([REST_RING]).collect(),
            SharedTurn::Last => named.chain([REST_RING, SHARED_RING]).collect(),
        }
    }

    /// The ring of a tenant with a place of its own.
    pub fn ring_of(&self, tenant: &Tenant) -> &str {
        self.rings.iter().find(|ring| ring.holds(tenant)).map_or(REST_RING, |ring| &ring.name)
    }

    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let refuse = |key: &str, problem: String| Err((format!("migrations.{key}"), problem));
        for (key, value) in [("parallel", self.parallel), ("parallel_per_cluster", self.parallel_per_cluster)] {
            if value == 0 || value > PARALLEL_MAX {
                return refuse(key, format!("must be 1 to {PARALLEL_MAX}"));
            }
        }
        if self.halt_percent > 100 {
            return refuse("halt_percent", "must be 0 to 100".to_owned());
        }
        if !TOOL_LOGIN_SECONDS.contains(&self.tool_login_seconds) {
            let (least, most) = (TOOL_LOGIN_SECONDS.start(), TOOL_LOGIN_SECONDS.end());
            return refuse("tool_login_seconds", format!("must be {least} to {most}"));
        }
        let mut names = BTreeSet::from([SHARED_RING, REST_RING]);
        for Ring { name, tenants, tiers, percent } in &self.rings {
            let is_sound = (1..=NAME_LEN_MAX).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
            if !is_sound {
                return refuse("rings", format!("name a ring by 1 to {NAME_LEN_MAX} of a-z, 0-9, _ and -"));
            }
            if !names.insert(name) {
                let problem = format!(
                    "`{name}` is taken; there are the rings `{SHARED_RING}` and `{REST_RING}`, and no two of one name"
                );
                return refuse("rings", problem);
            }
            if percent.is_some_and(|percent| percent == 0 || percent > 100) {
                return refuse("rings", format!("`percent` of `{name}` must be 1 to 100"));
            }
            if tenants.is_empty() && tiers.is_empty() && percent.is_none() {
                return refuse("rings", format!("`{name}` names nobody; give it `tenants`, `tiers` or `percent`"));
            }
        }
        Ok(())
    }
}
