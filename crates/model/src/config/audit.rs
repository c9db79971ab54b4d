//! `[audit]`: how often Guardian audits its own placements.

use serde::{Deserialize, Serialize};

/// The audit of the application's shared place on a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSchedule {
    /// Hours from one audit to the next; 0: none is made.
    pub every_hours: u16,
}

impl Default for AuditSchedule {
    fn default() -> Self {
        Self { every_hours: 24 }
    }
}
