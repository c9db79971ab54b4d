use guardian_model::{Permission, Role, TicketId, TokenId, access::Permit};
use guardian_store::{AuditFilter, TokenError};
use uuid::Uuid;

use crate::fixture::{Fixture, permit};

fn write() -> Permit {
    permit(Permission::TokenWrite)
}

#[tokio::test]
async fn a_token_opens_until_it_is_revoked() {
    let fixture = Fixture::new("token").await;
    let new = fixture.store.create_token(&write(), "ci", Role::Operator, None).await.unwrap();
    assert!(new.secret.starts_with("grd_op_"), "{}", new.secret);
    let (token, actor) = fixture.store.authenticate(&new.secret).await.unwrap().unwrap();
    assert_eq!((token.id, actor.role), (new.token.id, Role::Operator));
    assert_eq!(actor.name, format!("token:{}", token.id));
    let mut forged = new.secret.clone();
    let last = if forged.pop() == Some('0') { '1' } else { '0' };
    forged.push(last);
    for wrong in [forged.as_str(), "", "grd_", "grd_op_", &new.secret.to_uppercase()] {
        assert!(fixture.store.authenticate(wrong).await.unwrap().is_none(), "{wrong}");
    }
    let mut connection = fixture.superuser().await;
    let row: String =
        sqlx::query_scalar("SELECT row_to_json(t)::text FROM token t").fetch_one(&mut connection).await.unwrap();
    assert!(!row.contains(&new.secret[7..]), "the secret is stored");
    fixture.store.revoke_token(&write(), token.id).await.unwrap();
    assert!(fixture.store.authenticate(&new.secret).await.unwrap().is_none());
    assert!(fixture.store.tokens().await.unwrap()[0].revoked_at.is_some());
    for name in ["", "a\0b", &"x".repeat(101)] {
        let refused = fixture.store.create_token(&write(), name, Role::Operator, None).await.err().unwrap();
        assert!(matches!(refused, TokenError::Name), "{refused:?}");
    }
    let absent = TokenId::from_uuid(Uuid::now_v7());
    assert!(matches!(fixture.store.revoke_token(&write(), absent).await, Err(TokenError::NotFound(_))));
}

#[tokio::test]
async fn a_tenant_admin_goes_with_its_tenant() {
    let fixture = Fixture::new("token_tenant").await;
    let mut claim = fixture.begin("acme").await.unwrap();
    let tenant = claim.tenant.id;
    for (role, of) in [(Role::TenantAdmin, None), (Role::Operator, Some(tenant))] {
        let refused = fixture.store.create_token(&write(), "x", role, of).await.err().unwrap();
        assert!(matches!(refused, TokenError::Tenant), "{refused:?}");
    }
    let new = fixture.store.create_token(&write(), "own", Role::TenantAdmin, Some(tenant)).await.unwrap();
    assert_eq!(fixture.store.authenticate(&new.secret).await.unwrap().unwrap().1.tenant, Some(tenant));
    fixture.store.turn_back(&mut claim, "no").await.unwrap();
    fixture.store.finish(&claim, Some(1)).await.unwrap();
    assert!(fixture.store.authenticate(&new.secret).await.unwrap().is_none());
    let refused = fixture.store.create_token(&write(), "own", Role::TenantAdmin, Some(tenant)).await.err().unwrap();
    assert!(matches!(refused, TokenError::NoTenant(_)), "{refused:?}");
}

#[tokio::test]
async fn the_first_token_is_made_once_and_can_be_replaced() {
    let fixture = Fixture::new("token_first").await;
    let (a, b) = tokio::join!(fixture.store.bootstrap_token(), fixture.store.bootstrap_token());
    let first = match (a.unwrap(), b.unwrap()) {
        (Some(secret), None) | (None, Some(secret)) => secret,
        both => panic!("{}", if both.0.is_some() { "two" } else { "none" }),
    };
    assert_eq!(fixture.store.authenticate(&first).await.unwrap().unwrap().1.role, Role::PlatformAdmin);
    let second = fixture.store.replace_bootstrap_token().await.unwrap();
    assert!(fixture.store.authenticate(&first).await.unwrap().is_none());
    assert!(fixture.store.authenticate(&second).await.unwrap().is_some());
}

#[tokio::test]
async fn reading_a_secret_is_told() {
    let fixture = Fixture::new("secret").await;
    let tenant = fixture.active("acme").await.id;
    let secrets = fixture.store.reveal_secrets(&permit(Permission::SecretRead), tenant).await.unwrap();
    assert!(secrets.capability.is_some());
    let filter = AuditFilter { action: Some("secret.read".to_owned()), ..Default::default() };
    let entries = fixture.store.audit_entries(&filter, None, None).await.unwrap().items;
    assert_eq!(
        entries.iter().map(|entry| (entry.tenant, entry.actor.as_str())).collect::<Vec<_>>(),
        [(Some(tenant), "system:test")]
    );
    assert!(fixture.store.reveal_secrets(&permit(Permission::TenantRead), tenant).await.is_err());
}

#[tokio::test]
async fn tickets_are_kept_until_their_role_is_gone() {
    let fixture = Fixture::new("ticket").await;
    let tenant = fixture.active("acme").await.id;
    let cluster = "local".parse().unwrap();
    let now = jiff::Timestamp::now();
    let second = jiff::SignedDuration::from_secs(60);
    let ids = [TicketId::from_uuid(Uuid::now_v7()), TicketId::from_uuid(Uuid::now_v7())];
    for (id, expires_at) in [(ids[0], now - second), (ids[1], now + second)] {
        let permit = permit(Permission::TenantEnter);
        fixture.store.record_ticket(&permit, id, tenant, &cluster, &id.to_string(), expires_at).await.unwrap();
    }
    let expired = fixture.store.expired_tickets().await.unwrap();
    assert_eq!(expired.iter().map(|ticket| ticket.id).collect::<Vec<_>>(), [ids[0]]);
    assert_eq!(
        (expired[0].tenant, &expired[0].cluster, expired[0].role.as_str()),
        (tenant, &cluster, ids[0].to_string().as_str())
    );
    assert_eq!(fixture.store.tenant_tickets(tenant).await.unwrap().len(), 2);
    fixture.store.postpone_ticket(ids[0], 60).await.unwrap();
    assert!(fixture.store.expired_tickets().await.unwrap().is_empty());
    fixture.store.forget_ticket(ids[0]).await.unwrap();
    assert_eq!(fixture.store.tenant_tickets(tenant).await.unwrap().len(), 1);
}
