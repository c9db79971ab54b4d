//! Operations: durable, resumable, undoable changes of one tenant, made of steps that are data.
//!
//! A plan is computed once and stored. What a step *does* is in `lifecycle`; here stands only what it says.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{OperationId, Place, Slug, TenantId, TenantState};

/// What an operation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// Provision a new tenant.
    Create,
    /// Stop serving it, keep its data.
    Suspend,
    /// Serve it again.
    Resume,
    /// Stop serving it, wait for the grace period, remove every trace.
    Delete,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Create, Self::Suspend, Self::Resume, Self::Delete];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Delete => "delete",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The tenant's state when the operation has gone through.
    pub const fn state_when_done(self) -> TenantState {
        match self {
            Self::Create | Self::Resume => TenantState::Active,
            Self::Suspend => TenantState::Suspended,
            Self::Delete => TenantState::Deleted,
        }
    }

    /// The tenant's state when the operation was undone; `before` is what it was when the operation began.
    pub const fn state_when_undone(self, before: TenantState) -> TenantState {
        match self {
            Self::Create => TenantState::Deleted,
            Self::Suspend | Self::Resume | Self::Delete => before,
        }
    }
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// Goes forward, or waits for a worker to take it there.
    Running,
    /// Goes backward after a failure or a cancellation.
    Undoing,
    /// Went through.
    Done,
    /// Was taken back; nothing of it is left.
    Undone,
    /// Waits for a person (`guardian operation retry`); an incident says why.
    Stuck,
}

impl OperationState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Running, Self::Undoing, Self::Done, Self::Undone, Self::Stuck];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Stuck => "stuck",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether anything is left to do: such an operation bars another one for the same tenant.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Undoing | Self::Stuck)
    }
}

/// The steps of an operation, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Plan {
    /// Done from the first to the last; undone from the last done to the first.
    pub steps: Vec<Step>,
}

/// One step: applying it means *ensure*, so that applying it twice is harmless; undoing it treats absence as success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Find out that the cluster answers, before anything is begun that would have to be undone there. Undo: nothing.
    ReachCluster {
        /// A place on the cluster.
        place: Place,
    },
    /// Write the tenant's capability into the registry of its database (`row`). Undo: remove it.
    AdmitCapability {
        /// The application's shared place.
        place: Place,
        /// The tenant's key.
        key: String,
    },
    /// Remove the capability: nobody enters the tenant any more. Undo: admit it again.
    RevokeCapability {
        /// The application's shared place.
        place: Place,
        /// The tenant's key.
        key: String,
    },
    /// Make the tenant's role, with the sealed password, not yet able to log in. Undo: drop it.
    EnsureRole {
        /// A place on the role's cluster.
        place: Place,
        /// The role.
        role: String,
    },
    /// Make the tenant's schema. Undo: drop it with everything in it.
    EnsureSchema {
        /// The schema's place.
        place: Place,
    },
    /// Make the tenant's database, closed to PUBLIC. Undo: drop it.
    EnsureDatabase {
        /// The database's place.
        place: Place,
    },
    /// Run the application's migrations there. Undo: nothing; what holds the tables goes.
    Migrate {
        /// Where to.
        place: Place,
    },
    /// Grant the tenant's role what the application needs, and no more; set the tenant column's default. Undo: revoke.
    GrantPlace {
        /// The tenant's place.
        place: Place,
        /// The tenant's role.
        role: String,
        /// The tenant's key, the default of the tenant column.
        key: String,
    },
    /// Let the role log in. Undo: forbid it and end its sessions.
    AllowLogin {
        /// A place on the role's cluster.
        place: Place,
        /// The role.
        role: String,
    },
    /// Forbid the role to log in and end its sessions. Undo: let it log in.
    DenyLogin {
        /// A place on the role's cluster.
        place: Place,
        /// The role.
        role: String,
    },
    /// Wait; until then the operation can still be cancelled.
    AwaitGrace {
        /// When the wait ends.
        until: Timestamp,
    },
    /// Delete the tenant's rows from the shared tables, in bounded batches, children first. Irreversible.
    DeleteRows {
        /// The application's shared place.
        place: Place,
        /// The tenant's key.
        key: String,
    },
    /// Drop the tenant's schema. Irreversible.
    DropSchema {
        /// The schema's place.
        place: Place,
    },
    /// Drop the tenant's database. Irreversible.
    DropDatabase {
        /// The database's place.
        place: Place,
    },
    /// Drop the tenant's role. Irreversible.
    DropRole {
        /// A place on the role's cluster.
        place: Place,
        /// The role.
        role: String,
    },
    /// Forget the tenant's sealed secrets. Irreversible.
    ForgetSecrets,
}

impl Step {
    /// The step's word, for tables and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ReachCluster { .. } => "reach_cluster",
            Self::AdmitCapability { .. } => "admit_capability",
            Self::RevokeCapability { .. } => "revoke_capability",
            Self::EnsureRole { .. } => "ensure_role",
            Self::EnsureSchema { .. } => "ensure_schema",
            Self::EnsureDatabase { .. } => "ensure_database",
            Self::Migrate { .. } => "migrate",
            Self::GrantPlace { .. } => "grant_place",
            Self::AllowLogin { .. } => "allow_login",
            Self::DenyLogin { .. } => "deny_login",
            Self::AwaitGrace { .. } => "await_grace",
            Self::DeleteRows { .. } => "delete_rows",
            Self::DropSchema { .. } => "drop_schema",
            Self::DropDatabase { .. } => "drop_database",
            Self::DropRole { .. } => "drop_role",
            Self::ForgetSecrets => "forget_secrets",
        }
    }

    /// Whether there is no way back once the step has begun: from then on the operation only goes forward.
    pub const fn is_irreversible(&self) -> bool {
        matches!(
            self,
            Self::DeleteRows { .. }
                | Self::DropSchema { .. }
                | Self::DropDatabase { .. }
                | Self::DropRole { .. }
                | Self::ForgetSecrets
        )
    }
}

impl Plan {
    /// Whether an operation that has finished `done` steps, and may have begun the next, can still be taken back.
    pub fn is_reversible_at(&self, done: usize) -> bool {
        self.steps.iter().take(done + 1).all(|step| !step.is_irreversible())
    }
}

/// What happened to one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepRecord {
    /// The step's word.
    pub name: String,
    /// Microseconds that the last application took; `None` while it has not been applied.
    pub duration_us: Option<u64>,
}

/// An operation, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it changes.
    pub kind: OperationKind,
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's slug, for people.
    pub slug: Slug,
    /// Where it stands.
    pub state: OperationState,
    /// How many steps are done (and not undone).
    pub steps_done: usize,
    /// Every step with its time.
    pub steps: Vec<StepRecord>,
    /// How often the current step has been tried.
    pub attempts: u32,
    /// Why the last attempt failed, in words for the operator.
    pub error: Option<String>,
    /// Who asked for it.
    pub requested_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_ends_when_an_irreversible_step_may_have_begun() {
        let until = Timestamp::UNIX_EPOCH;
        let plan = Plan { steps: vec![Step::AwaitGrace { until }, Step::ForgetSecrets] };
        assert!(plan.is_reversible_at(0));
        assert!(!plan.is_reversible_at(1));
    }

    #[test]
    fn a_stored_step_reads_back_and_refuses_what_it_does_not_know() {
        let step = Step::AwaitGrace { until: Timestamp::UNIX_EPOCH };
        let json = serde_json::to_string(&step).unwrap();
        assert_eq!(serde_json::from_str::<Step>(&json).unwrap(), step);
        assert!(serde_json::from_str::<Step>(r#"{"step":"exec","command":"rm"}"#).is_err());
    }
}
