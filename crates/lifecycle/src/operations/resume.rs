//! Serving a suspended tenant again.

use guardian_model::{Isolation, Placement, Plan, Step};

/// The steps for a tenant with this placement and key.
pub fn plan(placement: &Placement, key: &str) -> Plan {
    let Placement { isolation, place, role } = placement;
    let open = match isolation {
        Isolation::Row => Step::AdmitCapability { place: place.clone(), key: key.to_owned() },
        Isolation::Schema | Isolation::Database | Isolation::Cluster => {
            Step::AllowLogin { place: place.clone(), role: role.clone() }
        }
    };
    Plan { steps: vec![open] }
}
