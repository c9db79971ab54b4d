//! The words of Guardian as types: tenants, tiers, placements, operations, configuration.
//!
//! Pure domain: no IO, no clock, no randomness, no async runtime. Every other crate speaks these types;
//! this one depends on none of ours.

pub mod access;
pub mod access_api;
pub mod adoption;
pub mod api;
pub mod api_key;
pub mod capability;
pub mod config;
pub mod door;
pub mod http;
pub mod id;
pub mod import;
pub mod key;
pub mod login;
pub mod name;
pub mod observation;
pub mod operation;
pub mod placement;
pub mod query;
pub mod rbac;
pub mod slug;
pub mod snapshot;
pub mod tenant;
pub mod tenant_access;
pub mod tier;
pub mod tool;
pub mod word;

pub use access::{Permission, Role};
pub use adoption::AdoptionStage;
pub use api_key::ApiKey;
pub use capability::{Capability, Ticket};
pub use config::Config;
pub use id::{ApiKeyId, AuditRunId, DoorId, IncidentId, OperationId, RunId, TenantId, TicketId, TokenId, ToolLoginId};
pub use key::{KeyType, TenantKey};
pub use login::{Login, LoginProof, LoginScope, Switch};
pub use name::{ClusterName, GroupName, LoginName, RoleName, RouteName, TierName, UpstreamName};
pub use operation::{Operation, OperationKind, OperationState, Plan, Step};
pub use placement::{Isolation, Place, Placement};
pub use slug::Slug;
pub use snapshot::Snapshot;
pub use tenant::{Tenant, TenantState};
pub use tenant_access::TenantAccess;
pub use tier::{LimitOverrides, Limits, Pooling, Tier};
pub use word::{HostName, PermissionName, Subject};
