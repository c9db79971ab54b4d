//! The change of the master key: who must know it, what is sealed anew, and which starts are refused meanwhile.

use std::time::Duration;

use guardian_model::{LoginName, LoginScope, Permission, api::RunKind};
use guardian_store::{Lease, OpenError, Pass, RotationError, RunClaim, SEALED_COLUMNS, Store, TenantFilter, Vault};

use crate::fixture::{Fixture, lease, permit};

/// Everything that can be sealed, and the two keys.
async fn world(hint: &str) -> (Fixture, Vault, Vault) {
    let fixture = Fixture::new(hint).await;
    for slug in ["a", "b", "c"] {
        fixture.active(slug).await;
    }
    let name: LoginName = "app".parse().unwrap();
    let permit = permit(Permission::LoginWrite);
    fixture.store.create_login(&permit, &name, LoginScope::Admin, Some("SCRAM-SHA-256$")).await.unwrap();
    fixture.store.application_secret("shop").await.unwrap();
    let old = fixture.vault.clone();
    let (new, _) = Vault::generate().unwrap();
    (fixture, old, new)
}

async fn open(fixture: &Fixture, vault: &Vault) -> Result<Store, OpenError> {
    // A vault of its own, as another process has it.
    Store::open(fixture.database.options(), vault.with_previous(vault)).await
}

async fn run(store: &Store, new: &str) -> RunClaim {
    let arguments = serde_json::json!({ "key": new });
    store.start_run(&permit(Permission::TokenWrite), RunKind::RotateKey, arguments, &[], &lease("a")).await.unwrap()
}

async fn reseal_all(store: &Store, new: &str) -> u64 {
    let mut count = 0;
    for column in SEALED_COLUMNS {
        let mut pass = Pass::of(column);
        while store.reseal(&mut pass, new).await.unwrap() {}
        count += pass.resealed;
    }
    count
}

#[tokio::test]
async fn every_sealed_column_is_known_to_the_rotation() {
    let fixture = Fixture::new("rotate_columns").await;
    let mut superuser = fixture.superuser().await;
    let found: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns
         WHERE table_schema = 'guardian_store' AND data_type = 'bytea' AND column_name LIKE 'sealed%' ORDER BY 1, 2",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    let mut known: Vec<_> = SEALED_COLUMNS.map(|column| (column.table.to_owned(), column.column.to_owned())).to_vec();
    known.sort();
    assert_eq!(found, known);
    assert_eq!(SEALED_COLUMNS.last().map(|column| column.table), Some("vault_canary"), "the canary has to be the last");
}

#[tokio::test]
async fn a_key_is_changed_while_two_run() {
    let (fixture, old, new) = world("rotate").await;
    let key = new.sealing().to_owned();
    let both = new.with_previous(&old);
    let a = open(&fixture, &both).await.unwrap();
    a.beat(&lease("a")).await.unwrap();
    assert_eq!(a.master_keys().await.unwrap().sealing, old.sealing(), "the new key seals before it is asked to");

    // One control plane has the old key only.
    fixture.store.beat(&lease("b")).await.unwrap();
    let refused = a.next_master_key(&lease("a")).await.unwrap_err();
    assert!(matches!(&refused, RotationError::NotEverywhere(nodes) if nodes == &["b"]), "{refused}");
    assert!(matches!(fixture.store.next_master_key(&lease("b")).await, Err(RotationError::NoNewKey)));
    fixture.store.leave(&lease("b")).await.unwrap();
    let b = open(&fixture, &both).await.unwrap();
    b.beat(&lease("b")).await.unwrap();
    assert_eq!(a.next_master_key(&lease("a")).await.unwrap(), key);

    let claim = run(&a, &key).await;
    a.switch_key(&claim, &lease("a"), &key).await.unwrap();
    assert_eq!(a.sealing_otherwise(&lease("a"), &key).await.unwrap(), ["b"]);
    // What b seals until it hears of the change is found, too.
    fixture.store.application_secret("late").await.unwrap();
    b.beat(&lease("b")).await.unwrap();
    assert!(a.sealing_otherwise(&lease("a"), &key).await.unwrap().is_empty());

    // Between the keys, nobody starts with one of them, and the old process does not go on.
    for one in [&old, &new] {
        assert!(matches!(open(&fixture, one).await, Err(OpenError::BetweenKeys)));
    }
    assert!(matches!(fixture.store.beat(&lease("c")).await, Err(RotationError::KeyGone)));

    let changes: i64 = changes(&fixture).await;
    // Six of tenants, a login, two applications, the canary.
    assert_eq!(reseal_all(&a, &key).await, 10);
    assert_eq!(reseal_all(&b, &key).await, 0, "a second pass found something");
    assert_eq!(changes, self::changes(&fixture).await, "gateways heard of secrets that have not changed");
    a.end_rotation(&key).await.unwrap();
    a.finish_run(&claim, None).await.unwrap();

    assert!(matches!(open(&fixture, &old).await, Err(OpenError::WrongKey)));
    let alone = open(&fixture, &new).await.unwrap();
    let page = alone.tenants(&TenantFilter::default(), None, None).await.unwrap();
    for tenant in page.items {
        assert!(alone.secrets(tenant.id).await.unwrap().capability.is_some());
    }
    assert_eq!(alone.application_secret("shop").await.unwrap(), a.application_secret("shop").await.unwrap());
    let keys = alone.master_keys().await.unwrap();
    assert_eq!((keys.sealing, keys.previous, keys.rotated_at.is_some()), (key, None, true));
}

async fn changes(fixture: &Fixture) -> i64 {
    let mut superuser = fixture.superuser().await;
    let sql = "SELECT (SELECT sum(changed_xid::text::bigint) FROM tenant)::bigint + (SELECT sum(xid::text::bigint) FROM change)::bigint";
    sqlx::query_scalar(sql).fetch_one(&mut superuser).await.unwrap()
}

#[tokio::test]
async fn who_was_silent_for_too_long_seals_nothing() {
    let (fixture, ..) = world("rotate_silent").await;
    let brief = Lease { worker: "a".to_owned(), duration: Duration::from_millis(5) };
    fixture.store.beat(&brief).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let silent = fixture.begin("late").await.unwrap_err();
    assert!(format!("{silent:?}").contains("Unconfirmed"), "{silent:?}");
    fixture.store.beat(&lease("a")).await.unwrap();
    fixture.begin("late").await.unwrap();
}

#[tokio::test]
async fn an_altered_secret_stops_the_change() {
    let (fixture, old, new) = world("rotate_altered").await;
    let a = open(&fixture, &new.with_previous(&old)).await.unwrap();
    a.beat(&lease("a")).await.unwrap();
    let key = new.sealing();
    let claim = run(&a, key).await;
    a.switch_key(&claim, &lease("a"), key).await.unwrap();
    let mut superuser = fixture.superuser().await;
    sqlx::query("UPDATE login SET sealed_verifier = set_byte(sealed_verifier, 20, get_byte(sealed_verifier, 20) # 1)")
        .execute(&mut superuser)
        .await
        .unwrap();
    let stopped = a.reseal(&mut Pass::of(SEALED_COLUMNS[4]), key).await.unwrap_err();
    assert!(matches!(stopped, RotationError::Unopened { table: "login" }), "{stopped}");
}
