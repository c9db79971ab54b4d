//! What each operation consists of: pure functions from what is known about a tenant to the steps, without IO or clock.
//!
//! A dry run shows the same plan that is then stored and worked through. What a step does is in [`crate::step`].

pub mod create;
pub mod delete;
pub mod resume;
pub mod suspend;

#[cfg(test)]
mod tests {
    use guardian_model::{Isolation, Place, Placement, Plan, TenantId, TenantState};

    use super::{create, delete, resume, suspend};

    fn placement(isolation: Isolation) -> Placement {
        let shared = Place { cluster: "main".parse().unwrap(), database: "helpdesk".into(), schema: "public".into() };
        let id = TenantId::from_uuid(uuid::Uuid::nil());
        Placement::derive(isolation, id, "helpdesk", &shared, &"other".parse().unwrap())
    }

    fn words(plan: &Plan) -> Vec<&'static str> {
        plan.steps.iter().map(guardian_model::Step::name).collect()
    }

    #[test]
    fn a_row_tenant_is_one_write() {
        let row = placement(Isolation::Row);
        assert_eq!(words(&create::plan(&row, "7", true)), ["admit_capability"]);
        assert_eq!(words(&create::plan(&row, "7", false)), ["reach_cluster", "admit_capability"]);
    }

    #[test]
    fn a_silo_opens_last() {
        let ensure = |isolation| words(&create::plan(&placement(isolation), "7", true));
        let expected = ["reach_cluster", "ensure_role", "ensure_schema", "migrate", "grant_place", "allow_login"];
        assert_eq!(ensure(Isolation::Schema), expected);
        let expected = ["reach_cluster", "ensure_role", "ensure_database", "migrate", "grant_place", "allow_login"];
        assert_eq!(ensure(Isolation::Database), expected);
        assert_eq!(ensure(Isolation::Cluster), expected);
    }

    #[test]
    fn every_way_in_is_shut_before_anything_is_waited_for_or_removed() {
        for isolation in Isolation::ALL {
            let plan = delete::plan(&placement(isolation), "7", TenantState::Active, Some(jiff::Timestamp::UNIX_EPOCH));
            let shut = if isolation == Isolation::Row { "revoke_capability" } else { "deny_login" };
            assert_eq!(words(&plan)[..2], [shut, "await_grace"]);
            assert!(plan.is_reversible_at(1), "{isolation}");
            assert!(!plan.is_reversible_at(2), "{isolation}");
        }
    }

    #[test]
    fn a_deletion_taken_back_leaves_a_suspended_tenant_suspended() {
        for isolation in Isolation::ALL {
            let plan = delete::plan(&placement(isolation), "7", TenantState::Suspended, Some(jiff::Timestamp::UNIX_EPOCH));
            assert_eq!(words(&plan)[0], "await_grace", "{isolation}");
        }
    }

    #[test]
    fn resuming_reverses_suspending() {
        let pair = |isolation| {
            let placement = placement(isolation);
            (words(&suspend::plan(&placement, "7")), words(&resume::plan(&placement, "7")))
        };
        assert_eq!(pair(Isolation::Row), (vec!["revoke_capability"], vec!["admit_capability"]));
        assert_eq!(pair(Isolation::Schema), (vec!["deny_login"], vec!["allow_login"]));
    }

    #[test]
    fn only_the_end_of_a_deletion_is_irreversible() {
        for isolation in Isolation::ALL {
            let placement = placement(isolation);
            for plan in [create::plan(&placement, "7", false), suspend::plan(&placement, "7"), resume::plan(&placement, "7")]
            {
                assert!(plan.is_reversible_at(plan.steps.len()), "{isolation}");
            }
        }
    }
}
