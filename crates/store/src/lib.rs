//! Guardian's own PostgreSQL: tenants, tiers, operations, tokens, the audit log. One file an aggregate.
//!
//! Every change takes a [`Permit`](guardian_model::access::Permit), or belongs to a worker that holds a
//! [`Claim`], and writes its audit entry in the same transaction. Secrets are sealed by a [`Vault`].
//! What is not here: anything about users' databases, and what the steps of an operation do.

mod adoption;
mod api_key;
mod application;
mod audit;
mod audits;
mod begin;
mod claim;
mod create_active;
mod door;
mod error;
mod feed;
mod finish;
mod http_override;
mod identity_key;
mod import;
mod incident;
mod intervene;
mod login;
mod observation;
mod open;
mod operation;
mod page;
mod renewal;
mod rotation;
mod run;
mod run_claim;
mod seal;
mod status;
mod tenant;
mod tenant_access;
mod ticket;
mod tier;
pub mod timestamp;
mod token;
mod tool_login;
mod vault;

use sqlx::PgPool;

pub use adoption::StageError;
pub use api_key::{ApiKeyError, KEYS_PAGE};
pub use audit::{AuditFilter, AuditRecord, Outcome};
pub use audits::{AUDIT_FINDINGS_MAX, FoundNow};
pub use begin::{BeginError, Begun, Idempotency, Lease, NewTenant};
pub use claim::{Claim, ClaimError};
pub use create_active::Created;
pub use door::{DOORS_MAX, NewDoor, OpenedDoor};
pub use error::{ListError, StoreError};
pub use feed::{ChangeCalls, Changes, FEED_PAGE, Position};
pub use http_override::{HttpChange, HttpOverrideError};
pub use identity_key::IdentityKeyError;
pub use import::{BegunImport, Fate, ImportClaim, ImportSlug, Newcomer, Predecessor};
pub use intervene::{InterveneError, Wakeups};
pub use login::{LOGINS_MAX, LoginError};
pub use observation::{OBSERVATIONS_MAX, ReportError};
pub use open::OpenError;
pub use operation::OperationFilter;
pub use page::{LIMIT_DEFAULT, LIMIT_MAX};
pub use renewal::{RENEWAL_BATCH, Renewal, Renewed};
pub use rotation::{Pass, RotationError, SEALED_COLUMNS, SealedColumn};
pub use run::RunError;
pub use run_claim::{RunClaim, RunClaimError};
pub use seal::Seal;
pub use status::Counts;
pub use tenant::{Secrets, SetLimitsError, SetTierError, TenantFilter, TenantRef, TenantRefError};
pub use tenant_access::{ACCESS_PAGE, DOMAINS_MAX, TenantAccessError};
pub use ticket::IssuedTicket;
pub use tier::{TIERS_MAX, TierError};
pub use token::{TOKENS_MAX, TokenError};
pub use tool_login::IssuedToolLogin;
pub use vault::{Vault, VaultError};

/// The control database. Cheap to clone; clones share one bounded pool of connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) vault: Vault,
    pub(crate) changed: feed::Changed,
}
