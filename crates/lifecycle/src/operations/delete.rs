//! Removing a tenant with every trace of it, after a time in which that can still be taken back.

use guardian_model::{Isolation, Placement, Plan, Step, TenantState};
use jiff::Timestamp;

use super::suspend::shut;

/// The steps for a tenant with this placement, key and state. Without `grace` the data goes at once.
///
/// A suspended tenant is shut already: shutting it here again would make taking the deletion back open it.
pub fn plan(placement: &Placement, key: &str, state: TenantState, grace: Option<Timestamp>) -> Plan {
    let Placement { isolation, place, role } = placement;
    let (place, role) = (place.clone(), role.clone());
    let mut steps = Vec::new();
    if state != TenantState::Suspended {
        steps.push(shut(placement, key));
    }
    steps.extend(grace.map(|until| Step::AwaitGrace { until }));
    match isolation {
        Isolation::Row => steps.push(Step::DeleteRows { place, key: key.to_owned() }),
        Isolation::Schema => {
            steps.extend([Step::DropSchema { place: place.clone() }, Step::DropRole { place, role }]);
        }
        Isolation::Database | Isolation::Cluster => {
            steps.extend([Step::DropDatabase { place: place.clone() }, Step::DropRole { place, role }]);
        }
    }
    steps.push(Step::ForgetSecrets);
    Plan { steps }
}
