//! Provisioning a new tenant. Nobody can enter it before the last step.

use guardian_model::{Isolation, Placement, Plan, Step};

/// The steps for a tenant with this placement and key. `reached` says that the cluster of a `row` tenant has just answered,
/// which spares asking again: such a tenant is then a single write.
pub fn plan(placement: &Placement, key: &str, reached: bool) -> Plan {
    let Placement { isolation, place, role } = placement;
    let (place, role, key) = (place.clone(), role.clone(), key.to_owned());
    let reach = Step::ReachCluster { place: place.clone() };
    let steps = match isolation {
        Isolation::Row if reached => vec![Step::AdmitCapability { place, key }],
        Isolation::Row => vec![reach, Step::AdmitCapability { place, key }],
        Isolation::Schema | Isolation::Database | Isolation::Cluster => vec![
            reach,
            Step::EnsureRole { place: place.clone(), role: role.clone() },
            match isolation {
                Isolation::Schema => Step::EnsureSchema { place: place.clone() },
                _ => Step::EnsureDatabase { place: place.clone() },
            },
            Step::Migrate { place: place.clone() },
            Step::GrantPlace { place: place.clone(), role: role.clone(), key },
            Step::AllowLogin { place, role },
        ],
    };
    Plan { steps }
}
