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
