//! Why a request about tenants was refused or could not be carried out.

use guardian_model::{
    DoorId, Place, Slug, TenantId, TenantState, TierName, ToolLoginId, door::DOOR_MINUTES_MAX, import::IMPORT_TENANTS_MAX,
    key::KeyError,
};
use guardian_provision::{ProvisionError, migrations::ReadError};
use guardian_store::{BeginError, InterveneError, SetLimitsError, SetTierError, StoreError};
use jiff::Timestamp;

use crate::step::StepError;

/// A refusal or a failure. Nothing is half done: what was begun is an operation, and goes on by itself.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// No such tenant.
    #[error("there is no tenant {0}")]
    NotFound(TenantId),
    /// No such tier.
    #[error("there is no tier `{0}`; see `guardian tier list`")]
    NoTier(TierName),
    /// What is imported are `row` tenants.
    #[error("there is no tier `{0}` of row isolation; see `guardian tier list`")]
    NoRowTier(TierName),
    /// More tenants at once than one request may bring, or none.
    #[error("{given} tenants were given; one request brings 1 to {IMPORT_TENANTS_MAX}")]
    ImportSize {
        /// How many were given.
        given: usize,
    },
    /// The shared tables are not protected yet.
    #[error("{place} is not hardened, so a row tenant would not be kept apart there; run `guardian apply` first")]
    NotHardened {
        /// The shared place.
        place: Place,
    },
    /// Isolation `cluster` needs a server of the tenant's own.
    #[error("no cluster is reserved for `{0}`; add `reserved_for = \"{0}\"` to its [clusters.…] in guardian.toml")]
    NoReservedCluster(Slug),
    /// The tenant serves nobody, so nobody can be let in.
    #[error("the tenant `{slug}` is {state}; it has to be active")]
    NotActive {
        /// The tenant.
        slug: Slug,
        /// Its state.
        state: TenantState,
    },
    /// More sessions for people than one tenant may have open.
    #[error("`{slug}` has {limit} tickets open, which is the limit; end some of those sessions, or wait a minute")]
    TooManyTickets {
        /// The tenant.
        slug: Slug,
        /// How many there may be.
        limit: usize,
    },
    /// The door's roles are `apply`'s.
    #[error("{place} has no door across tenants yet; run `guardian apply` first")]
    NoDoor {
        /// The shared place.
        place: Place,
    },
    /// Longer, or shorter, than a session may be asked for.
    #[error("{given} minutes were asked for; a session across tenants lasts 1 to {DOOR_MINUTES_MAX}")]
    DoorMinutes {
        /// What was asked for.
        given: u32,
    },
    /// It was shut, or never there.
    #[error("the door {door} is not open; `guardian door list` shows those that are")]
    DoorNotOpen {
        /// Its id.
        door: DoorId,
    },
    /// As many as may be are open.
    #[error("{limit} doors are open, which is the limit; `guardian door list` shows them, `guardian door end` shuts one")]
    TooManyDoors {
        /// How many there may be.
        limit: i64,
    },
    /// Row tenants live in the shared place.
    #[error("the tenant `{slug}` has no place of its own: its rows are in the shared tables")]
    NoPlace {
        /// The tenant.
        slug: Slug,
    },
    /// Its place is not there yet, or goes.
    #[error("the tenant `{slug}` is {state}; its place is migrated while it is active or suspended")]
    NoTool {
        /// The tenant.
        slug: Slug,
        /// Its state.
        state: TenantState,
    },
    /// Another tool is at work in the place.
    #[error("a migration tool of {opened_by} is at work in {place}; if it was killed, the place is free at {expires_at}")]
    ToolBusy {
        /// The place.
        place: Place,
        /// Who runs it.
        opened_by: String,
        /// When it is over, unless it is renewed.
        expires_at: Timestamp,
    },
    /// Somebody else was faster.
    #[error("a migration tool has just begun its work in {place}")]
    ToolOvertaken {
        /// The place.
        place: Place,
    },
    /// There is none of this id, or not any more.
    #[error("the login {0} is over: it was closed, or not renewed in time")]
    NoToolLogin(ToolLoginId),
    /// What is in the place is not Guardian's to give away.
    #[error("{0}")]
    Foreign(String),
    /// The key is none of the application's type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The operation was not begun.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The operation was not retried or cancelled.
    #[error(transparent)]
    Intervene(#[from] InterveneError),
    /// The tenant keeps the limits it had.
    #[error(transparent)]
    SetLimits(#[from] SetLimitsError),
    /// The tenant stays in its tier.
    #[error(transparent)]
    SetTier(#[from] SetTierError),
    /// The new tier or limits are recorded, but the tenant's role is still held to the old ones.
    #[error("it is recorded, but the limits did not reach the tenant's role; set it again: {detail}")]
    Bounds {
        /// What the cluster said.
        detail: String,
    },
    /// The migrations folder cannot be used.
    #[error(transparent)]
    Migrations(#[from] ReadError),
    /// The tenant's cluster does not do what it is asked.
    #[error("{detail}")]
    Cluster {
        /// What it said.
        detail: String,
        /// Whether the same request may succeed later without anybody mending anything.
        transient: bool,
    },
    /// Guardian's own database does not do what it is asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StepError> for LifecycleError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Store(error) => Self::Store(error),
            StepError::Key(error) => Self::Key(error),
            StepError::Folder(error) => Self::Migrations(error),
            StepError::Provision(error @ (ProvisionError::NotAMigrator { .. } | ProvisionError::ForeignTable { .. })) => {
                Self::Foreign(error.to_string())
            }
            error => Self::Cluster { detail: error.to_string(), transient: error.is_transient() },
        }
    }
}
