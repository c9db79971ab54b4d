use guardian_model::{LimitOverrides, LoginName, LoginProof, LoginScope, Permission, Switch};
use guardian_store::{AuditFilter, LoginError, SetLimitsError, TenantRef};

use crate::fixture::{Fixture, permit};

const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdA==$stored:server";

fn name(text: &str) -> LoginName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_login_is_made_rotated_and_deleted() {
    let fixture = Fixture::new("logins").await;
    let (store, write) = (&fixture.store, permit(Permission::LoginWrite));
    let tenant = fixture.active("acme").await;
    let scope = LoginScope::Tenant { tenant: tenant.id };
    let made = store.create_login(&write, &name("acme-app"), scope, Some(VERIFIER)).await.unwrap();
    assert_eq!((made.scope, made.proof, made.rotated_at), (scope, LoginProof::Password, None));
    let any = LoginScope::AnyTenant { switch: Switch::Identity };
    store.create_login(&write, &name("app"), any, None).await.unwrap();
    store.create_login(&write, &name("root"), LoginScope::Admin, Some(VERIFIER)).await.unwrap();
    let taken = store.create_login(&write, &name("app"), LoginScope::Admin, Some(VERIFIER)).await.unwrap_err();
    assert!(matches!(taken, LoginError::Taken(_)), "{taken:?}");

    let logins = store.logins().await.unwrap();
    let shown: Vec<_> = logins.iter().map(|login| (login.name.as_str(), login.scope, login.proof)).collect();
    let expected = [
        ("acme-app", scope, LoginProof::Password),
        ("app", any, LoginProof::Certificate),
        ("root", LoginScope::Admin, LoginProof::Password),
    ];
    assert_eq!(shown, expected);

    let rotated = store.rotate_login(&write, &name("acme-app"), "SCRAM-SHA-256$other").await.unwrap();
    assert!(rotated.rotated_at.is_some());
    let certificate = store.rotate_login(&write, &name("app"), VERIFIER).await.unwrap_err();
    assert!(matches!(certificate, LoginError::NoPassword(_)), "{certificate:?}");
    let verifiers = store.feed_logins().await.unwrap();
    assert_eq!(verifiers[0].verifier.as_ref().unwrap().expose(), "SCRAM-SHA-256$other");
    assert!(verifiers[1].verifier.is_none());

    store.delete_login(&write, &name("root")).await.unwrap();
    assert!(matches!(store.delete_login(&write, &name("root")).await, Err(LoginError::NotFound(_))));
    assert!(matches!(store.rotate_login(&write, &name("root"), VERIFIER).await, Err(LoginError::NotFound(_))));

    let filter = AuditFilter { action: Some("login.".to_owned()), ..AuditFilter::default() };
    let entries = store.audit_entries(&filter, None, None).await.unwrap().items;
    let actions: Vec<_> = entries.iter().rev().map(|entry| (entry.action.as_str(), entry.tenant)).collect();
    let own = Some(tenant.id);
    let expected = [
        ("login.create", own),
        ("login.create", None),
        ("login.create", None),
        ("login.rotate", own),
        ("login.delete", None),
    ];
    assert_eq!(actions, expected);
    assert!(entries.iter().all(|entry| !entry.detail.to_string().contains("SCRAM")));
}

#[tokio::test]
async fn a_verifier_lies_sealed_and_belongs_to_its_login() {
    let fixture = Fixture::new("logins_sealed").await;
    let write = permit(Permission::LoginWrite);
    for login in ["app", "other"] {
        fixture.store.create_login(&write, &name(login), LoginScope::Admin, Some(VERIFIER)).await.unwrap();
    }
    let mut superuser = fixture.superuser().await;
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT sealed_verifier FROM login WHERE name = 'app'").fetch_one(&mut superuser).await.unwrap();
    assert!(!sealed.windows(5).any(|window| window == b"SCRAM"));
    sqlx::query("UPDATE login SET sealed_verifier = $1 WHERE name = 'other'")
        .bind(sealed)
        .execute(&mut superuser)
        .await
        .unwrap();
    assert!(fixture.store.feed_logins().await.is_err(), "a verifier opens for another login");
}

#[tokio::test]
async fn a_login_needs_its_own_permit_and_a_living_tenant() {
    let fixture = Fixture::new("logins_permit").await;
    let wrong = permit(Permission::TokenWrite);
    assert!(fixture.store.create_login(&wrong, &name("app"), LoginScope::Admin, None).await.is_err());
    assert!(fixture.store.rotate_login(&wrong, &name("app"), VERIFIER).await.is_err());
    assert!(fixture.store.delete_login(&wrong, &name("app")).await.is_err());
    let mut claim = fixture.begin("acme").await.unwrap();
    fixture.store.turn_back(&mut claim, "no").await.unwrap();
    fixture.store.finish(&claim, Some(1)).await.unwrap();
    let scope = LoginScope::Tenant { tenant: claim.tenant.id };
    let gone = fixture.store.create_login(&permit(Permission::LoginWrite), &name("app"), scope, None).await.unwrap_err();
    assert!(matches!(gone, LoginError::NoTenant(_)), "{gone:?}");
    assert!(fixture.store.logins().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_tenant_has_limits_of_its_own_and_goes_back_to_its_tier_s() {
    let fixture = Fixture::new("limits").await;
    let (store, write) = (&fixture.store, permit(Permission::TenantWrite));
    let tenant = fixture.active("acme").await;
    assert_eq!(tenant.limits, LimitOverrides::default());
    let own = LimitOverrides { weight: Some(200), queue_len_max: Some(50), ..LimitOverrides::default() };
    assert_eq!(store.set_limits(&write, tenant.id, own).await.unwrap().limits, own);
    assert_eq!(store.tenant(&TenantRef::Id(tenant.id)).await.unwrap().unwrap().limits, own);
    let heavy = LimitOverrides { weight: Some(1001), ..own };
    assert!(matches!(store.set_limits(&write, tenant.id, heavy).await, Err(SetLimitsError::Weight(1001))));
    let none = LimitOverrides::default();
    assert_eq!(store.set_limits(&write, tenant.id, none).await.unwrap().limits, none);
    let filter = AuditFilter { action: Some("tenant.set_limits".to_owned()), ..AuditFilter::default() };
    let entries = store.audit_entries(&filter, None, None).await.unwrap().items;
    let details: Vec<_> = entries.iter().map(|entry| entry.detail["limits"].clone()).collect();
    assert_eq!(details, [serde_json::json!({}), serde_json::json!({ "queue_len_max": 50, "weight": 200 })]);
    assert!(store.set_limits(&permit(Permission::TierWrite), tenant.id, none).await.is_err());
}
