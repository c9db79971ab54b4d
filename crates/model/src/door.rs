//! The cross-tenant door: one session that reaches the rows of every tenant in the shared tables, for reports, support and
//! back-fills. Read-only unless asked, bounded in time, with a reason, in the audit log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::DoorId;

/// How long a session may last when nothing is said, in minutes.
pub const DOOR_MINUTES_DEFAULT: u32 = 60;
/// The longest that may be asked for, in minutes.
pub const DOOR_MINUTES_MAX: u32 = 480;

/// Asks for a session across tenants.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenDoor {
    /// What it is for, in words; it stands in the audit log.
    pub reason: String,
    /// Whether it may also write.
    #[serde(default)]
    pub write: bool,
    /// How long it may last; 60 when left out, 480 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
}

/// A way through the door, for one session that begins within a minute.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DoorGrant {
    /// Names it in the audit log.
    pub id: DoorId,
    /// Host name, address, or directory of the unix socket.
    pub host: String,
    /// TCP port, also part of the unix socket's name.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The schema that holds the tables.
    pub schema: String,
    /// A login role made for this one session.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Whether it may also write.
    pub write: bool,
    /// After this instant the password opens nothing.
    pub expires_at: Timestamp,
    /// The session is ended then.
    pub ends_at: Timestamp,
}

/// A door that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Door {
    /// Its id, which its session's role bears as a name.
    pub id: DoorId,
    /// Who opened it: `token:tok_…`.
    pub opened_by: String,
    /// What for.
    pub reason: String,
    /// Whether it may also write.
    pub write: bool,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When its session is ended at the latest.
    pub ends_at: Timestamp,
}
