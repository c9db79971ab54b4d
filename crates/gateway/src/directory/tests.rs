use guardian_model::{Isolation, LimitOverrides, LoginProof, LoginScope, Place, Placement, TenantState, snapshot::Secret};
use proptest::prelude::*;

use super::*;

/// A tenant of a number and a slug.
pub(crate) fn tenant(number: u32, slug: &str, state: TenantState) -> SnapshotTenant {
    SnapshotTenant {
        id: format!("ten_{number:026}").parse().unwrap(),
        slug: slug.parse().unwrap(),
        tier: "free".parse().unwrap(),
        state,
        placement: Placement { isolation: Isolation::Row, place: place(), role: "app".to_owned() },
        limits: LimitOverrides::default(),
        register: format!("register of {number}"),
        domains: Vec::new(),
        secret: (state != TenantState::Deleted).then(|| Secret::new("00".repeat(32))),
        next_secret: None,
    }
}

fn place() -> Place {
    Place { cluster: "local".parse().unwrap(), database: "helpdesk".to_owned(), schema: "public".to_owned() }
}

pub(crate) fn snapshot(tenants: Vec<SnapshotTenant>, logins: Vec<SnapshotLogin>) -> Snapshot {
    let installation = SnapshotInstallation {
        application: "helpdesk".to_owned(),
        shared: place(),
        application_password: None,
        clusters: Vec::new(),
        issuers: Vec::new(),
        http: None,
        identity_keys: None,
    };
    Snapshot {
        cursor: Cursor(1),
        installation,
        tiers: Vec::new(),
        tenants,
        logins,
        adoption: SnapshotAdoption::default(),
        api_keys: Vec::new(),
        access: Vec::new(),
    }
}

fn delta(tenants: Vec<SnapshotTenant>) -> Delta {
    Delta { cursor: Cursor(2), tenants, ..Delta::default() }
}

fn login(name: &str, scope: LoginScope) -> SnapshotLogin {
    SnapshotLogin { name: name.parse().unwrap(), scope, proof: LoginProof::Password, verifier: None }
}

fn sorted(mut snapshot: Snapshot) -> Snapshot {
    snapshot.tenants.sort_by_key(|tenant| tenant.id);
    snapshot.logins.sort_by_key(|login| login.name.to_string());
    snapshot
}

#[test]
fn a_tombstone_does_not_take_the_slug_of_a_living_tenant() {
    let (gone, living) = (tenant(1, "acme", TenantState::Deleted), tenant(2, "acme", TenantState::Active));
    for order in [vec![gone.clone(), living.clone()], vec![living.clone(), gone.clone()]] {
        let view = View::of(snapshot(order, Vec::new()));
        assert_eq!(view.tenant_named("acme").map(|tenant| tenant.id), Some(living.id));
        assert_eq!(view.tenant(gone.id).map(|tenant| tenant.state), Some(TenantState::Deleted));
        assert_eq!(view.tenant_named(&gone.id.to_string()).map(|tenant| tenant.id), Some(gone.id));
    }
}

#[test]
fn a_tombstone_alone_is_found_by_its_slug() {
    let view = View::of(snapshot(vec![tenant(1, "acme", TenantState::Deleted)], Vec::new()));
    assert_eq!(view.tenant_named("acme").map(|tenant| tenant.state), Some(TenantState::Deleted));
    assert!(view.tenant_named("acme2").is_none() && view.tenant_named("Acme!").is_none());
}

#[test]
fn a_login_that_is_gone_is_gone_and_one_that_came_back_is_there() {
    let directory = Directory::new(snapshot(Vec::new(), vec![login("app", LoginScope::Admin)]));
    let before = directory.view();
    let name = "app".parse().unwrap();
    directory.apply(Delta { logins_gone: vec!["app".parse().unwrap()], ..delta(Vec::new()) });
    let without = directory.view();
    assert!(without.login(&name).is_none() && before.login(&name).is_some(), "a view never changes");
    assert!(!without.has_logins_of(&before));
    directory.apply(Delta { logins: vec![login("app", LoginScope::Admin)], ..delta(Vec::new()) });
    assert!(directory.view().login(&name).is_some());
    directory.apply(delta(Vec::new()));
    assert!(directory.view().has_tiers_of(&before));
}

#[test]
fn a_new_snapshot_leaves_nothing_of_the_old() {
    let directory = Directory::new(snapshot(vec![tenant(1, "acme", TenantState::Active)], Vec::new()));
    let before = directory.view();
    directory.replace(snapshot(vec![tenant(2, "beta", TenantState::Active)], Vec::new()));
    let view = directory.view();
    assert!(view.tenant_named("acme").is_none() && view.tenant_named("beta").is_some());
    assert_eq!(view.tenants_len(), 1);
    assert!(!view.has_logins_of(&before), "who is compared against it is looked up again");
}

proptest! {
    /// A slug passes from tenant to tenant, each deleted before the next is made; the ends of all are heard of in any order,
    /// and everything twice.
    #[test]
    fn in_whatever_order_a_slug_means_its_living_tenant(
        last_lives in any::<bool>(),
        heard in prop::collection::vec((any::<bool>(), any::<bool>()), 1..6),
        ends in Just([0, 1, 2, 3, 4u32]).prop_shuffle(),
        batch_len in 1..4usize,
    ) {
        let generations = u32::try_from(heard.len()).unwrap();
        let mut changes = Vec::new();
        for (number, (made, served)) in (0..).zip(heard) {
            changes.extend(made.then(|| tenant(number, "acme", TenantState::Creating)));
            changes.extend(served.then(|| tenant(number, "acme", TenantState::Active)));
        }
        for number in ends.into_iter().filter(|number| *number < generations) {
            let lives = last_lives && number + 1 == generations;
            changes.push(tenant(number, "acme", if lives { TenantState::Active } else { TenantState::Deleted }));
        }
        let directory = Directory::new(snapshot(Vec::new(), Vec::new()));
        for batch in changes.chunks(batch_len) {
            directory.apply(delta(batch.to_vec()));
            let once = sorted(directory.view().to_snapshot());
            directory.apply(delta(batch.to_vec()));
            prop_assert_eq!(sorted(directory.view().to_snapshot()), once, "applied twice");
        }
        let named = directory.view().tenant_named("acme").map(|tenant| (tenant.id, tenant.state));
        if last_lives {
            let last = tenant(generations - 1, "acme", TenantState::Active);
            prop_assert_eq!(named, Some((last.id, TenantState::Active)));
        } else {
            prop_assert_eq!(named.map(|(_, state)| state), Some(TenantState::Deleted));
        }
        let view = View::of(directory.view().to_snapshot());
        prop_assert_eq!(sorted(view.to_snapshot()), sorted(directory.view().to_snapshot()));
    }
}
