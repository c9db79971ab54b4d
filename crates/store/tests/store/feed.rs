use guardian_model::{
    Isolation, KeyType, LimitOverrides, LoginScope, OperationKind, Permission, Slug, TenantState,
    snapshot::{Cursor, SnapshotTenant},
};
use guardian_store::{Changes, Position};
use sqlx::{Connection as _, Executor as _};

use crate::fixture::{Fixture, lease, permit, plan, put, tier};

const KEY: KeyType = KeyType::Uuid;

async fn begin(fixture: &Fixture) -> Position {
    fixture.store.begin_feed(b"installation").await.unwrap()
}

async fn next(fixture: &Fixture, position: &mut Position) -> Option<Changes> {
    fixture.store.advance(position, KEY).await.unwrap()
}

fn slugs(changes: &Changes) -> Vec<(Slug, TenantState)> {
    changes.tenants.iter().map(|tenant| (tenant.slug.clone(), tenant.state)).collect()
}

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_change_comes_once() {
    let fixture = Fixture::new("feed_once").await;
    let mut position = begin(&fixture).await;
    assert!(next(&fixture, &mut position).await.is_none());
    let tenant = fixture.active("acme").await;
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!(slugs(&changes), [(slug("acme"), TenantState::Active)]);
    assert!(changes.tiers.is_none() && changes.logins.is_empty() && changes.logins_gone.is_empty());
    let SnapshotTenant { id, register, secret, .. } = &changes.tenants[0];
    assert_eq!((*id, register), (tenant.id, &tenant.id.uuid().simple().to_string()));
    assert_eq!(secret.as_ref().unwrap().expose(), "07".repeat(32));
    assert!(next(&fixture, &mut position).await.is_none());

    let own = LimitOverrides { weight: Some(9), ..LimitOverrides::default() };
    fixture.store.set_limits(&permit(Permission::TenantWrite), tenant.id, own).await.unwrap();
    assert_eq!(next(&fixture, &mut position).await.unwrap().tenants[0].limits, own);
    assert!(next(&fixture, &mut position).await.is_none());
}

#[tokio::test]
async fn only_an_active_tenant_shows_its_secret() {
    let fixture = Fixture::new("feed_secret").await;
    let mut position = begin(&fixture).await;
    let mut claim = fixture.begin("acme").await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!(slugs(&changes), [(slug("acme"), TenantState::Creating)]);
    assert!(changes.tenants[0].secret.is_none());
    fixture.store.record_step(&mut claim, 10).await.unwrap();
    fixture.store.finish(&claim, Some(20)).await.unwrap();
    assert!(next(&fixture, &mut position).await.unwrap().tenants[0].secret.is_some());
    let write = permit(Permission::TenantWrite);
    let (active, lease) = ([TenantState::Active], lease("w"));
    let delete = fixture.store.begin(&write, claim.tenant.id, OperationKind::Delete, plan(1), &active, &lease);
    let delete = delete.await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!(slugs(&changes), [(slug("acme"), TenantState::Deleting)]);
    assert!(changes.tenants[0].secret.is_none());
    fixture.store.finish(&delete, Some(1)).await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!(slugs(&changes), [(slug("acme"), TenantState::Deleted)]);
    assert_eq!(fixture.store.feed_tombstones(KEY).await.unwrap(), changes.tenants);
    assert!(fixture.store.feed_tenants(None, KEY).await.unwrap().is_empty());
    // Long ago.
    let age = "UPDATE tenant SET changed_at = now() - interval '31 days'";
    fixture.superuser().await.execute(age).await.unwrap();
    assert!(fixture.store.feed_tombstones(KEY).await.unwrap().is_empty());
}

#[tokio::test]
async fn tiers_and_logins_are_followed_to_their_end() {
    let fixture = Fixture::new("feed_others").await;
    let mut position = begin(&fixture).await;
    fixture.store.put_tier(&permit(Permission::TierWrite), &tier("gold"), put(Isolation::Row)).await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!(changes.tiers, Some(fixture.store.tiers().await.unwrap()));
    fixture.store.delete_tier(&permit(Permission::TierWrite), &tier("gold")).await.unwrap();
    assert!(next(&fixture, &mut position).await.unwrap().tiers.unwrap().iter().all(|found| found.name != tier("gold")));

    let (write, app) = (permit(Permission::LoginWrite), "app".parse().unwrap());
    fixture.store.create_login(&write, &app, LoginScope::Admin, Some("SCRAM-1")).await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!(changes.logins[0].verifier.as_ref().unwrap().expose(), "SCRAM-1");
    fixture.store.rotate_login(&write, &app, "SCRAM-2").await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!(changes.logins[0].verifier.as_ref().unwrap().expose(), "SCRAM-2");
    fixture.store.delete_login(&write, &app).await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert!(changes.logins.is_empty() && changes.tiers.is_none());
    assert_eq!(changes.logins_gone, std::slice::from_ref(&app));
    // Made again and not known as gone.
    fixture.store.create_login(&write, &app, LoginScope::Admin, None).await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!((changes.logins.len(), changes.logins_gone.len()), (1, 0));
    assert!(next(&fixture, &mut position).await.is_none());
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_missed_and_holds_up_nobody() {
    let fixture = Fixture::new("feed_late").await;
    let (late, early) = (fixture.active("late").await, fixture.active("early").await);
    let mut position = begin(&fixture).await;
    let mut superuser = fixture.superuser().await;
    let mut open = superuser.begin().await.unwrap();
    sqlx::query("UPDATE tenant SET slug = 'later' WHERE id = $1").bind(late.id.uuid()).execute(&mut *open).await.unwrap();
    let write = permit(Permission::TenantWrite);
    for weight in [1, 2, 3] {
        let own = LimitOverrides { weight: Some(weight), ..LimitOverrides::default() };
        fixture.store.set_limits(&write, early.id, own).await.unwrap();
        let changes = next(&fixture, &mut position).await.unwrap();
        assert_eq!(slugs(&changes), [(slug("early"), TenantState::Active)]);
        // Nothing comes twice while the other transaction is open.
        assert!(next(&fixture, &mut position).await.is_none());
    }
    let cursor = position.cursor;
    open.commit().await.unwrap();
    let changes = next(&fixture, &mut position).await.unwrap();
    assert_eq!(slugs(&changes), [(slug("later"), TenantState::Active)]);
    // Nor for another process that takes up the position.
    let taken_up = fixture.store.position(cursor).await.unwrap().unwrap();
    let (_, changes) = fixture.store.changes_since(&taken_up, KEY).await.unwrap();
    assert_eq!(slugs(&changes), [(slug("later"), TenantState::Active)]);
}

#[tokio::test]
async fn a_position_outlives_its_process_but_not_its_installation() {
    let fixture = Fixture::new("feed_position").await;
    let before = begin(&fixture).await;
    fixture.active("acme").await;
    begin(&fixture).await;
    let again = fixture.store.position(before.cursor).await.unwrap().unwrap();
    let (_, changes) = fixture.store.changes_since(&again, KEY).await.unwrap();
    assert_eq!(slugs(&changes), [(slug("acme"), TenantState::Active)]);
    for unknown in [Cursor(0), Cursor(u64::MAX), Cursor(before.cursor.0 + 1_000_000)] {
        assert!(fixture.store.position(unknown).await.unwrap().is_none(), "{unknown:?}");
    }
    fixture.store.begin_feed(b"another installation").await.unwrap();
    assert!(fixture.store.position(before.cursor).await.unwrap().is_none());
}

#[tokio::test]
async fn a_database_from_another_server_begins_anew() {
    let fixture = Fixture::new("feed_restored").await;
    fixture.active("acme").await;
    let before = begin(&fixture).await;
    // As a dump from a server that has run for longer leaves it.
    let foreign = "ALTER TABLE tenant DISABLE TRIGGER tenant_changed; UPDATE tenant SET changed_xid = '9000000000'; \
         ALTER TABLE tenant ENABLE TRIGGER tenant_changed; UPDATE change SET xid = '9000000000'";
    fixture.superuser().await.execute(foreign).await.unwrap();
    let mut position = begin(&fixture).await;
    assert!(fixture.store.position(before.cursor).await.unwrap().is_none());
    assert!(next(&fixture, &mut position).await.is_none(), "a change that never ends");
}

#[tokio::test]
async fn what_nobody_can_ask_for_any_more_is_forgotten() {
    let fixture = Fixture::new("feed_forget").await;
    let (write, app) = (permit(Permission::LoginWrite), "app".parse().unwrap());
    fixture.store.create_login(&write, &app, LoginScope::Admin, None).await.unwrap();
    fixture.store.delete_login(&write, &app).await.unwrap();
    let mut superuser = fixture.superuser().await;
    let forgotten = async {
        loop {
            let old = begin(&fixture).await;
            superuser.execute("UPDATE feed_position SET at = now() - interval '25 hours'").await.unwrap();
            let young = begin(&fixture).await;
            fixture.store.forget_positions().await.unwrap();
            assert!(fixture.store.position(old.cursor).await.unwrap().is_none());
            assert!(fixture.store.position(young.cursor).await.unwrap().is_some());
            let logins: i64 = sqlx::query_scalar("SELECT count(*) FROM change WHERE kind = 'login'")
                .fetch_one(&mut superuser)
                .await
                .unwrap();
            if logins == 0 {
                return;
            }
            // A transaction elsewhere on the server is older than the deletion; until it ends, the trace may be needed.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), forgotten).await.expect("the trace goes");
}

#[tokio::test]
async fn pages_hold_every_tenant_once() {
    let fixture = Fixture::new("feed_pages").await;
    let template = fixture.active("acme").await;
    let many = guardian_store::FEED_PAGE + 10;
    let insert = "INSERT INTO tenant (id, slug, key, tier, state, isolation, cluster, database, schema, role)
         SELECT gen_random_uuid(), 'many-' || n, gen_random_uuid()::text, tier, 'suspended', isolation, cluster, database, schema, role
         FROM tenant, generate_series(1, $2) AS n WHERE id = $1";
    let mut superuser = fixture.superuser().await;
    sqlx::query(insert).bind(template.id.uuid()).bind(many).execute(&mut superuser).await.unwrap();
    let first = fixture.store.feed_tenants(None, KEY).await.unwrap();
    let second = fixture.store.feed_tenants(first.last(), KEY).await.unwrap();
    assert_eq!((i64::try_from(first.len()).unwrap(), second.len()), (guardian_store::FEED_PAGE, 11));
    let mut slugs: Vec<_> = first.iter().chain(&second).map(|tenant| tenant.slug.clone()).collect();
    slugs.sort();
    slugs.dedup();
    assert_eq!(i64::try_from(slugs.len()).unwrap(), many + 1);
}

#[tokio::test]
async fn a_change_calls_whoever_listens_and_a_creation_its_own_process() {
    let fixture = Fixture::new("feed_calls").await;
    let mut calls = fixture.store.change_calls().await.unwrap();
    let patience = std::time::Duration::from_secs(30);
    let tenant = fixture.active("acme").await;
    tokio::time::timeout(patience, fixture.store.own_change()).await.expect("the creation is announced");
    fixture.store.call_others().await.unwrap();
    tokio::time::timeout(patience, calls.next()).await.expect("a call").unwrap();
    fixture.store.set_limits(&permit(Permission::TenantWrite), tenant.id, LimitOverrides::default()).await.unwrap();
    tokio::time::timeout(patience, calls.next()).await.expect("a call").unwrap();
    fixture
        .store
        .create_login(&permit(Permission::LoginWrite), &"app".parse().unwrap(), LoginScope::Admin, None)
        .await
        .unwrap();
    tokio::time::timeout(patience, calls.next()).await.expect("a call").unwrap();
}
