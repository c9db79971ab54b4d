use guardian_model::{AdoptionStage, KeyType, Permission};
use guardian_store::StageError;

use crate::fixture::{Fixture, permit};

#[tokio::test]
async fn a_stage_reaches_gateways_with_the_password_that_it_needs() {
    let fixture = Fixture::new("adoption_feed").await;
    let store = &fixture.store;
    assert_eq!(store.adoption("shop").await.unwrap().stage, AdoptionStage::None);
    let password = store.adopt_secret("shop").await.unwrap();
    assert_eq!(*store.adopt_secret("shop").await.unwrap(), *password, "made once");
    let mut position = store.begin_feed(b"installation").await.unwrap();
    let permit = permit(Permission::SchemaWrite);
    let steps = [
        (AdoptionStage::None, AdoptionStage::Prepared, false),
        (AdoptionStage::Prepared, AdoptionStage::Observing, true),
        (AdoptionStage::Observing, AdoptionStage::Enforced, false),
    ];
    for (from, to, has_password) in steps {
        store.set_stage(&permit, "shop", &[from], to).await.unwrap();
        let changes = store.advance(&mut position, KeyType::Uuid).await.unwrap().expect("a change");
        let [(name, adoption)] = &changes.adoptions[..] else { panic!("{:?}", changes.adoptions) };
        assert_eq!((name.as_str(), adoption.stage), ("shop", to));
        let sent = adoption.password.as_ref().map(guardian_model::snapshot::Secret::expose);
        assert_eq!(sent, has_password.then_some(password.as_str()), "{to}");
        assert_eq!(store.adoption("shop").await.unwrap(), *adoption);
    }
    // The stage that it has already is no change.
    store.set_stage(&permit, "shop", &[], AdoptionStage::Enforced).await.unwrap();
    assert!(store.advance(&mut position, KeyType::Uuid).await.unwrap().is_none());
    let entries = store.audit_entries(&guardian_store::AuditFilter::default(), None, None).await.unwrap().items;
    assert_eq!(entries.iter().filter(|entry| entry.action == "adoption.stage").count(), 3);
}

#[tokio::test]
async fn no_stage_is_skipped_and_none_is_set_without_a_permit() {
    let fixture = Fixture::new("adoption_order").await;
    let store = &fixture.store;
    store.adopt_secret("shop").await.unwrap();
    let may = permit(Permission::SchemaWrite);
    let skipped = store.set_stage(&may, "shop", &[AdoptionStage::Prepared], AdoptionStage::Observing).await.unwrap_err();
    assert!(matches!(skipped, StageError::OutOfOrder { now: AdoptionStage::None, .. }), "{skipped}");
    let other = permit(Permission::TenantWrite);
    assert!(store.set_stage(&other, "shop", &[AdoptionStage::None], AdoptionStage::Prepared).await.is_err());
    assert_eq!(store.adoption("shop").await.unwrap().stage, AdoptionStage::None);
}
