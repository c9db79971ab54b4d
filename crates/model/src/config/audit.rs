//! `[audit]`: how often Guardian audits its own placements.

use serde::{Deserialize, Serialize};

/// The audit of the application's shared place, and of the places that tenants have of their own, on a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSchedule {
    /// Hours from one audit to the next; 0: none is made.
    pub every_hours: u16,
    /// Tenants with a schema or a database of their own whose places are audited each time, those first that were longest ago;
    /// 0: none.
    pub tenants_each_time: u16,
}

impl Default for AuditSchedule {
    fn default() -> Self {
        Self { every_hours: 24, tenants_each_time: 100 }
    }
}
