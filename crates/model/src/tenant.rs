//! A tenant and the states it goes through.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{LimitOverrides, Placement, Slug, TenantId, TierName};

/// A customer of the SaaS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tenant {
    /// Its id, for ever.
    pub id: TenantId,
    /// Its name in hosts and logins; free again after deletion.
    pub slug: Slug,
    /// Its value in the application's tenant column, as text.
    pub key: String,
    /// Its plan.
    pub tier: TierName,
    /// Where it stands in its life.
    pub state: TenantState,
    /// Where its data lives.
    pub placement: Placement,
    /// What it has otherwise than its tier.
    #[serde(default)]
    pub limits: LimitOverrides,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub changed_at: Timestamp,
}

/// Where a tenant stands in its life. Transitions happen only when an operation ends (or begins, for the `…ing` ones).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// Being provisioned.
    Creating,
    /// Serves.
    Active,
    /// Keeps its data, serves nobody.
    Suspended,
    /// Serves nobody; its data goes when the grace period ends.
    Deleting,
    /// Gone; only this record is left.
    Deleted,
}

impl TenantState {
    /// Every state, in the order of life.
    pub const ALL: [Self; 5] = [Self::Creating, Self::Active, Self::Suspended, Self::Deleting, Self::Deleted];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for TenantState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
