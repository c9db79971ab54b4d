use guardian_store::{BeginError, Begun, Idempotency};

use crate::fixture::Fixture;

fn key(text: &str, request: u8) -> Idempotency {
    Idempotency { key: text.to_owned(), request_hash: [request; 32] }
}

#[tokio::test]
async fn a_repeated_request_has_no_second_effect() {
    let fixture = Fixture::new("idem").await;
    let Begun::New(claim) = fixture.begin_with("acme", Some(&key("k", 1))).await.unwrap() else { panic!("not new") };
    let Begun::Replayed(tenant, operation) = fixture.begin_with("acme", Some(&key("k", 1))).await.unwrap() else {
        panic!("not replayed")
    };
    assert_eq!((tenant, operation), (claim.tenant.id, claim.id));
    let mismatch = fixture.begin_with("globex", Some(&key("k", 2))).await.unwrap_err();
    assert!(matches!(mismatch, BeginError::IdempotencyMismatch), "{mismatch:?}");
    assert_eq!(fixture.store.counts().await.unwrap().operations_live, 1);
    for text in ["", "a\0b", &"k".repeat(256)] {
        let refused = fixture.begin_with("long", Some(&key(text, 1))).await.unwrap_err();
        assert!(matches!(refused, BeginError::IdempotencyKey), "{refused:?}");
    }
}

#[tokio::test]
async fn of_requests_at_once_one_has_the_effect() {
    let fixture = Fixture::new("idem_race").await;
    let given = key("k", 1);
    let (a, b, c) = tokio::join!(
        fixture.begin_with("acme", Some(&given)),
        fixture.begin_with("acme", Some(&given)),
        fixture.begin_with("acme", Some(&given)),
    );
    let new = [a, b, c].into_iter().filter(|begun| matches!(begun.as_ref().unwrap(), Begun::New(_))).count();
    assert_eq!(new, 1);
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let fixture = Fixture::new("idem_age").await;
    fixture.begin_with("acme", Some(&key("k", 1))).await.unwrap();
    assert_eq!(fixture.store.forget_expired().await.unwrap(), 0);
    let mut connection = fixture.superuser().await;
    sqlx::query("UPDATE idempotency SET created_at = now() - interval '25 hours'").execute(&mut connection).await.unwrap();
    assert_eq!(fixture.store.forget_expired().await.unwrap(), 1);
    let taken = fixture.begin_with("acme", Some(&key("k", 1))).await.unwrap_err();
    assert!(matches!(taken, BeginError::SlugTaken(_)), "{taken:?}");
}
