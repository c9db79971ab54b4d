//! The adoption of an application that runs already: how far it has come.

use serde::{Deserialize, Serialize};

use crate::snapshot::Secret;

/// How far an application has come. It goes forward one stage at a time, and back in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdoptionStage {
    /// Nothing is being adopted: the gateway logs in as the application's own role, and policies apply to every table.
    #[default]
    None,
    /// Everything is made, and nothing of it acts on the role that the application uses today.
    Prepared,
    /// The same, and the gateway serves the application as that role would: what is not enforced yet is observed.
    Observing,
    /// Policies apply to every table and the gateway uses the application's own role. The old keys are still there, so that
    /// there is a way back.
    Enforced,
}

impl AdoptionStage {
    /// Every stage, in order.
    pub const ALL: [Self; 4] = [Self::None, Self::Prepared, Self::Observing, Self::Enforced];

    /// The word in the database and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Prepared => "prepared",
            Self::Observing => "observing",
            Self::Enforced => "enforced",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }

    /// Whether the gateway serves row tenants as the role `…_adopt`, to which only the tables enforced so far apply their
    /// policies. In every other stage it uses the application's own role.
    pub const fn uses_adopt_role(self) -> bool {
        matches!(self, Self::Observing)
    }
}

impl std::fmt::Display for AdoptionStage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An adoption, as a gateway needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotAdoption {
    /// How far it has come.
    pub stage: AdoptionStage,
    /// The password of the role `…_adopt`; absent unless the stage uses it.
    pub password: Option<Secret>,
}

/// A step of an adoption that is a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdoptionStep {
    /// Make everything that nobody notices, and fill new tenant columns.
    Prepare,
    /// Have policies apply to tables.
    Enforce,
    /// Have them apply no longer.
    Release,
    /// Do what there is no quick way back from, and end the adoption.
    Finish,
}

impl AdoptionStep {
    /// Every step, in order.
    pub const ALL: [Self; 4] = [Self::Prepare, Self::Enforce, Self::Release, Self::Finish];

    /// The word on the command line and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Enforce => "enforce",
            Self::Release => "release",
            Self::Finish => "finish",
        }
    }
}

/// Asks for a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartAdoption {
    /// Which.
    pub step: AdoptionStep,
    /// The tables to enforce or release; none: all of them, with functions and views.
    #[serde(default)]
    pub tables: Vec<String>,
}

/// Asks what a step would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AdoptionPlanQuery {
    /// Which.
    pub step: AdoptionStep,
    /// The tables to enforce or release, with commas between them; left out: all of them, with functions and views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<String>,
}

/// Begins or ends the observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetObserving {
    /// Whether the gateway serves the application as the role that it uses today.
    pub observing: bool,
}

/// How far an adoption has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AdoptionStatus {
    /// Its stage.
    pub stage: AdoptionStage,
    /// The role that the application connects as today, as `guardian.toml` says.
    pub existing_role: Option<String>,
    /// Whether nothing of the preparation is missing.
    pub prepared: bool,
    /// The tables of tenants.
    pub tables: Vec<AdoptionTable>,
    /// Other roles with rights of their own on those tables: once a table is enforced they read nothing of it.
    pub others: Vec<AdoptionOther>,
    /// Statements that are left for the end, because there is no quick way back from them.
    pub finish_statements: u32,
}

/// One table of an adoption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AdoptionTable {
    /// Schema and name.
    pub name: String,
    /// The tenant column: there and full, still to be filled, or not there.
    pub column: AdoptionColumn,
    /// Whether policies apply to whoever comes.
    pub enforced: bool,
}

/// The tenant column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdoptionColumn {
    /// Every row has a tenant.
    Full,
    /// Some rows have none yet.
    Filling,
    /// It has yet to be made.
    Missing,
}

impl AdoptionColumn {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Filling => "filling",
            Self::Missing => "missing",
        }
    }
}

/// A role with rights of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AdoptionOther {
    /// The role.
    pub role: String,
    /// The tables.
    pub tables: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_observed_application_is_served_as_its_old_role() {
        for stage in AdoptionStage::ALL {
            assert_eq!(stage.uses_adopt_role(), stage == AdoptionStage::Observing);
            assert_eq!(AdoptionStage::from_word(stage.as_str()), Some(stage));
        }
        assert_eq!(AdoptionStage::default(), AdoptionStage::None);
    }
}
