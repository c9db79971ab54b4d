//! What the gateway saw of an application that is being adopted: statements that would fare otherwise once everything is
//! enforced.
//!
//! No literal and no parameter is among it: texts are shown without them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What would become of a statement. The order is that of how much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObservationVerdict {
    /// Nothing would change, as far as was looked.
    Fine,
    /// It could not be told; the reason says why.
    NotLookedAt,
    /// It would return as many rows, and others, or other values.
    Different,
    /// It would return fewer rows.
    Fewer,
    /// It would return no row.
    Empty,
    /// It would be refused.
    Refused,
    /// The client named no tenant: the gateway would refuse it.
    NoTenant,
}

impl ObservationVerdict {
    /// Every verdict, in order.
    pub const ALL: [Self; 7] =
        [Self::Fine, Self::NotLookedAt, Self::Different, Self::Fewer, Self::Empty, Self::Refused, Self::NoTenant];

    /// The word in the database and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::NotLookedAt => "not_looked_at",
            Self::Different => "different",
            Self::Fewer => "fewer",
            Self::Empty => "empty",
            Self::Refused => "refused",
            Self::NoTenant => "no_tenant",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == word)
    }

    /// Whether the application has to be changed, or the configuration, before everything is enforced.
    pub const fn needs_work(self) -> bool {
        !matches!(self, Self::Fine | Self::NotLookedAt)
    }
}

impl std::fmt::Display for ObservationVerdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// How many rows a statement returned to the observer, up to the most that it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservedRows {
    /// With everything enforced.
    pub enforced: u32,
    /// As it is now.
    pub now: u32,
}

/// A statement that would fare otherwise, with what of it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Tells it from others: of its text without literals, and whether a tenant was named. 16 hexadecimal digits.
    #[schema(example = "5d41402abc4b2a76")]
    pub fingerprint: String,
    /// Its text without literals and comments; a long one is cut.
    #[schema(example = "SELECT * FROM ticket WHERE status = ?")]
    pub statement: String,
    /// What would become of it.
    pub verdict: ObservationVerdict,
    /// The error that it would get.
    #[serde(default)]
    #[schema(example = "42501")]
    pub sqlstate: Option<String>,
    /// Why, for a person.
    pub reason: String,
    /// The tables that it reads or writes, as far as the server says so.
    pub tables: Vec<String>,
    /// How many rows it returned.
    #[serde(default)]
    pub rows: Option<ObservedRows>,
    /// How often it ran; from a gateway: since its last report.
    pub count: u64,
    /// How many tenants ran it, as one gateway counts them, up to 100.
    pub tenants: u32,
    /// When it ran first.
    pub first_seen: Timestamp,
    /// When it ran last.
    pub last_seen: Timestamp,
}

/// Sessions of the role that the application uses today which do not come through the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectSessions {
    /// The role.
    #[schema(example = "shop_owner")]
    pub role: String,
    /// What they call themselves.
    #[schema(example = "nightly-report")]
    pub application_name: String,
    /// Where they come from; empty for a unix socket.
    #[schema(example = "10.0.3.7")]
    pub client_address: String,
    /// How many there were at once when they were last looked at.
    pub sessions: u32,
    /// When there was one last.
    pub last_seen: Timestamp,
}

/// What a gateway saw since its last report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservationReport {
    /// What the last answer said; 0 at first. A report of before the observations were cleared is not taken.
    pub generation: u64,
    /// Statements with a verdict other than `fine`: at most 500.
    pub observations: Vec<Observation>,
    /// Those that were `fine` when they were looked at again: their fingerprints.
    #[serde(default)]
    pub fine: Vec<String>,
    /// Statements that ran.
    pub statements: u64,
    /// How many of them were looked at.
    pub looked_at: u64,
    /// How many of them there was no room or time for.
    pub overlooked: u64,
}

/// The answer to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ObservationReceipt {
    /// Goes up when the observations are cleared: the gateway begins anew as well.
    pub generation: u64,
    /// Whether the report was taken.
    pub taken: bool,
}

/// What was observed, in sum.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ObservationSummary {
    /// Statements that ran through gateways while the application was observed.
    pub statements: u64,
    /// How many of them were looked at. Others of the same text were counted only.
    pub looked_at: u64,
    /// How many of them there was no room or time for.
    pub overlooked: u64,
    /// Distinct statements that need work, by table; a statement on two tables counts for both.
    pub tables: Vec<ObservedTable>,
    /// Distinct statements that need work on no table that is known.
    pub elsewhere: u64,
    /// Who connected past the gateway within the last day.
    pub direct: Vec<DirectSessions>,
    /// Whether there was no room for further statements.
    pub full: bool,
}

/// Statements on one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ObservedTable {
    /// The table.
    #[schema(example = "public.ticket")]
    pub table: String,
    /// Distinct statements that need work.
    pub need_work: u64,
    /// When one of them ran last.
    pub last_seen: Timestamp,
}
