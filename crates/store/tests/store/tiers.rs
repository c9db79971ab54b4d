use guardian_model::{Isolation, Permission, Tier, access::Permit};
use guardian_store::{SetTierError, TierError};

use crate::fixture::{Fixture, permit, put, tier};

fn write() -> Permit {
    permit(Permission::TierWrite)
}

#[tokio::test]
async fn tenants_hold_their_tier_in_place() {
    let fixture = Fixture::new("tier_held").await;
    let mut claim = fixture.begin("acme").await.unwrap();
    let change = fixture.store.put_tier(&write(), &tier("free"), put(Isolation::Schema)).await.unwrap_err();
    assert!(matches!(change, TierError::InUse(_)), "{change:?}");
    assert!(matches!(fixture.store.delete_tier(&write(), &tier("free")).await, Err(TierError::InUse(_))));
    // What keeps the isolation may change.
    let mut wider = put(Isolation::Row);
    wider.weight = Some(7);
    fixture.store.put_tier(&write(), &tier("free"), wider).await.unwrap();
    assert_eq!(fixture.store.tier(&tier("free")).await.unwrap().unwrap().weight, 7);
    // A tombstone does not hold it.
    fixture.store.turn_back(&mut claim, "no").await.unwrap();
    fixture.store.finish(&claim, Some(1)).await.unwrap();
    fixture.store.delete_tier(&write(), &tier("free")).await.unwrap();
    assert_eq!(fixture.store.tenant(&claim.tenant.id.into()).await.unwrap().unwrap().tier, tier("free"));
    assert!(matches!(fixture.store.delete_tier(&write(), &tier("free")).await, Err(TierError::NotFound(_))));
}

#[tokio::test]
async fn a_tenant_changes_tier_within_its_isolation() {
    let fixture = Fixture::new("tier_set").await;
    let tenant = fixture.active("acme").await;
    let permit = permit(Permission::TenantWrite);
    let changed = fixture.store.set_tier(&permit, tenant.id, &tier("pro")).await.unwrap();
    assert_eq!(changed.tier, tier("pro"));
    for wrong in ["silo", "none"] {
        let refused = fixture.store.set_tier(&permit, tenant.id, &tier(wrong)).await.unwrap_err();
        assert!(matches!(refused, SetTierError::Tier { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn declared_tiers_follow_the_file() {
    let fixture = Fixture::new("tier_file").await;
    let declared = |name, weight| Tier {
        name: tier(name),
        isolation: Isolation::Row,
        weight,
        limits: guardian_model::Limits::default(),
        pooling: guardian_model::Pooling::Session,
        features: std::collections::BTreeMap::new(),
        declared: true,
    };
    fixture.store.declare_tiers(&[declared("free", 1), declared("gold", 2)]).await.unwrap();
    assert_eq!(fixture.store.tier(&tier("gold")).await.unwrap().unwrap(), declared("gold", 2));
    let refused = fixture.store.put_tier(&write(), &tier("gold"), put(Isolation::Row)).await.unwrap_err();
    assert!(matches!(refused, TierError::Declared(_)), "{refused:?}");
    assert!(matches!(fixture.store.delete_tier(&write(), &tier("gold")).await, Err(TierError::Declared(_))));
    let filter = guardian_store::AuditFilter { action: Some("tier.".to_owned()), ..Default::default() };
    let entries = async || fixture.store.audit_entries(&filter, None, None).await.unwrap().items.len();
    let before = entries().await;
    fixture.store.declare_tiers(&[declared("free", 1), declared("gold", 2)]).await.unwrap();
    assert_eq!(entries().await, before, "nothing changed, nothing to tell");
    fixture.store.declare_tiers(&[declared("free", 1)]).await.unwrap();
    assert!(!fixture.store.tier(&tier("gold")).await.unwrap().unwrap().declared);
    assert!(matches!(fixture.store.declare_tiers(&[declared("free", 0)]).await, Err(TierError::Weight(0))));
}
