//! Many tenants at once: what is new, what was there, what stands in the way, and what another worker finds of it.

use guardian_model::{
    Capability, KeyType, OperationState, Permission, Step, TenantId, TenantKey, TenantState, import::made_slugs,
};
use guardian_store::{AuditFilter, BegunImport, Fate, ImportSlug, Newcomer, Outcome, Predecessor};
use uuid::Uuid;

use crate::fixture::{Fixture, lease, lost, new_tenant, permit, place};

fn newcomer(key: &str, slug: &str) -> Newcomer {
    let placement = new_tenant(slug, "free").placement;
    Newcomer {
        id: TenantId::from_uuid(Uuid::now_v7()),
        slug: ImportSlug::Given(slug.parse().unwrap()),
        key: TenantKey::parse(KeyType::Text, key).unwrap(),
        tier: "free".parse().unwrap(),
        capability: Capability::from_bytes([9; 32]),
        placement,
        plan: guardian_model::Plan { steps: vec![Step::AdmitCapability { place: place(), key: key.to_owned() }] },
    }
}

fn named(key: &str, name: &str) -> Newcomer {
    Newcomer { slug: ImportSlug::Made(made_slugs(Some(name), key)), ..newcomer(key, "x") }
}

async fn begin(fixture: &Fixture, newcomers: &[Newcomer]) -> BegunImport {
    let permit = permit(Permission::TenantWrite);
    fixture.store.begin_import(&permit, newcomers, false, &lease("importer")).await.unwrap()
}

fn is_new(fate: &Fate) -> bool {
    matches!(fate, Fate::New { .. })
}

#[tokio::test]
async fn imported_tenants_are_there_once() {
    let fixture = Fixture::new("import").await;
    let mut position = fixture.store.begin_feed(b"x").await.unwrap();
    let some = [newcomer("1", "one"), newcomer("2", "two"), named("3", "One")];
    let begun = begin(&fixture, &some).await;
    assert!(begun.fates.iter().all(is_new), "{:?}", begun.fates);
    assert_eq!(fixture.store.finish_import(&begun.claim, 5).await.unwrap(), 3);
    for newcomer in &some {
        let tenant = fixture.store.tenant(&newcomer.id.into()).await.unwrap().unwrap();
        assert_eq!((tenant.state, tenant.key), (TenantState::Active, newcomer.key.to_string()));
        let secrets = fixture.store.secrets(newcomer.id).await.unwrap();
        assert_eq!(secrets.capability.unwrap().expose(), newcomer.capability.expose());
    }
    let changes = fixture.store.advance(&mut position, KeyType::Text).await.unwrap().unwrap();
    assert_eq!(changes.tenants.iter().filter(|tenant| tenant.secret.is_some()).count(), 3);

    // The one whose slug was made is known by its key, whatever it is called now.
    let again = begin(&fixture, &[newcomer("1", "one"), newcomer("2", "two"), named("3", "Another")]).await;
    assert_eq!(again.fates, [const { Fate::Unchanged }; 3]);
    assert!(again.claim.is_empty());
    let filter = AuditFilter { action: Some("tenant.import".to_owned()), ..AuditFilter::default() };
    let entries = fixture.store.audit_entries(&filter, None, None).await.unwrap().items;
    let of_tenants = entries.iter().filter(|entry| entry.tenant.is_some()).count();
    let done = entries.iter().filter(|entry| entry.outcome == Outcome::Done.as_str()).count();
    assert_eq!((of_tenants, done, entries.len()), (3, 1, 5), "{entries:?}");
}

#[tokio::test]
async fn what_stands_in_the_way_of_one_hinders_no_other() {
    let fixture = Fixture::new("import").await;
    let begun = begin(&fixture, &[newcomer("1", "one")]).await;
    fixture.store.finish_import(&begun.claim, 5).await.unwrap();
    let some = [
        newcomer("1", "uno"),
        newcomer("7", "one"),
        newcomer("8", "eight"),
        newcomer("8", "acht"),
        newcomer("9", "eight"),
        named("10", "Eight"),
        named("11", "Eleven"),
    ];
    let permit = permit(Permission::TenantWrite);
    let dry = fixture.store.begin_import(&permit, &some, true, &lease("importer")).await.unwrap();
    assert!(dry.claim.is_empty());
    let begun = begin(&fixture, &some).await;
    assert_eq!(dry.fates, begun.fates, "a dry run says what comes of it");
    let taken = |slug: &str, by: &str| Fate::SlugTaken { slug: slug.parse().unwrap(), by: by.to_owned() };
    assert_eq!(begun.fates[0], Fate::KeyTaken { by: "one".to_owned() });
    assert_eq!(begun.fates[1], taken("one", "1"));
    assert!(is_new(&begun.fates[2]));
    assert_eq!(begun.fates[3], Fate::KeyTaken { by: "eight".to_owned() });
    assert_eq!(begun.fates[4], taken("eight", "8"));
    let [_, second] = made_slugs(Some("Eight"), "10");
    assert_eq!(begun.fates[5], Fate::New { slug: second, succeeds: None });
    assert_eq!(begun.fates[6], Fate::New { slug: "eleven".parse().unwrap(), succeeds: None });
    assert_eq!(begun.claim.indices, [2, 5, 6]);
}

#[tokio::test]
async fn a_deleted_tenant_of_the_same_key_or_slug_is_told() {
    let fixture = Fixture::new("import").await;
    let begun = begin(&fixture, &[newcomer("1", "one")]).await;
    fixture.store.finish_import(&begun.claim, 5).await.unwrap();
    let sql = "UPDATE tenant SET state = 'deleted', sealed_capability = NULL";
    sqlx::query(sql).execute(&mut fixture.superuser().await).await.unwrap();
    let begun = begin(&fixture, &[newcomer("1", "uno"), newcomer("2", "one"), newcomer("3", "three")]).await;
    let succeeds = |fate: &Fate| match fate {
        Fate::New { succeeds, .. } => *succeeds,
        other => panic!("{other:?}"),
    };
    let told: Vec<_> = begun.fates.iter().map(succeeds).collect();
    assert_eq!(told, [Some(Predecessor::Key), Some(Predecessor::Slug), None]);
}

#[tokio::test]
async fn what_a_dead_importer_began_is_taken_up_and_is_no_longer_its_own() {
    let fixture = Fixture::new("import").await;
    let permit = permit(Permission::TenantWrite);
    let some = [newcomer("1", "one"), newcomer("2", "two")];
    let begun = fixture.store.begin_import(&permit, &some, false, &lost("importer")).await.unwrap();
    let claim = fixture.store.claim_next(&lease("worker-b")).await.unwrap().unwrap();
    assert_eq!(claim.steps_done, 0);
    assert!(!fixture.store.renew_import(&begun.claim, &lease("importer")).await.unwrap());
    assert_eq!(fixture.store.finish_import(&begun.claim, 5).await.unwrap(), 1, "one of them is in other hands");
    let tenant = fixture.store.tenant(&claim.tenant.id.into()).await.unwrap().unwrap();
    assert_eq!(tenant.state, TenantState::Creating);
    fixture.store.finish(&claim, Some(7)).await.unwrap();
    assert_eq!(fixture.store.tenant(&claim.tenant.id.into()).await.unwrap().unwrap().state, TenantState::Active);
}

#[tokio::test]
async fn one_that_was_cancelled_meanwhile_is_undone() {
    let fixture = Fixture::new("import").await;
    let some = [newcomer("1", "one"), newcomer("2", "two")];
    let begun = begin(&fixture, &some).await;
    let sql = "SELECT id FROM operation WHERE tenant = $1";
    let id: Uuid = sqlx::query_scalar(sql).bind(some[1].id.uuid()).fetch_one(&mut fixture.superuser().await).await.unwrap();
    fixture.store.cancel(&permit(Permission::TenantWrite), guardian_model::OperationId::from_uuid(id)).await.unwrap();
    assert_eq!(fixture.store.finish_import(&begun.claim, 5).await.unwrap(), 1);
    let claim = fixture.store.claim_next(&lease("worker-b")).await.unwrap().unwrap();
    assert_eq!((claim.tenant.id, claim.state, claim.steps_done), (some[1].id, OperationState::Undoing, 1));
}

#[tokio::test]
async fn what_was_not_carried_out_is_let_go_of() {
    let fixture = Fixture::new("import").await;
    let begun = begin(&fixture, &[newcomer("1", "one")]).await;
    assert!(fixture.store.claim_next(&lease("worker-b")).await.unwrap().is_none(), "it is leased");
    assert!(fixture.store.renew_import(&begun.claim, &lease("importer")).await.unwrap());
    fixture.store.release_import(&begun.claim, Some("no answer")).await.unwrap();
    let claim = fixture.store.claim_next(&lease("worker-b")).await.unwrap().unwrap();
    assert_eq!(claim.tenant.slug.as_str(), "one");
    assert_eq!(fixture.store.finish_import(&begun.claim, 5).await.unwrap(), 0);
}
