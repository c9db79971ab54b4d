//! Serving a tenant no longer, and keeping its data.

use guardian_model::{Isolation, Placement, Plan, Step};

/// The steps for a tenant with this placement and key.
pub fn plan(placement: &Placement, key: &str) -> Plan {
    Plan { steps: vec![shut(placement, key)] }
}

/// The step that shuts every way into the tenant.
pub(super) fn shut(placement: &Placement, key: &str) -> Step {
    let Placement { isolation, place, role } = placement;
    match isolation {
        Isolation::Row => Step::RevokeCapability { place: place.clone(), key: key.to_owned() },
        Isolation::Schema | Isolation::Database | Isolation::Cluster => {
            Step::DenyLogin { place: place.clone(), role: role.clone() }
        }
    }
}
