//! What the API gateway runs on: keys, roles, host names, identity keys, routes over the API, and the feed of all of them.

use std::collections::BTreeSet;

use guardian_model::{
    HostName, KeyType, Permission, Role, TenantId,
    access::{Actor, Permit},
    access_api::{CreateApiKey, IdentityKeyStage, NewApiKey},
    http::{HttpRoute, SnapshotHttp, Upstream},
    tenant_access::{AccessChange, AccessError, AccessRole, AccessUser, BuiltIn},
};
use guardian_store::{
    ApiKeyError, AuditFilter, Changes, HttpChange, HttpOverrideError, IdentityKeyError, Position, TenantAccessError,
};

use crate::fixture::{Fixture, permit};

fn set<T: std::str::FromStr + Ord>(words: &[&str]) -> BTreeSet<T>
where
    T::Err: std::fmt::Debug,
{
    words.iter().map(|word| word.parse().unwrap()).collect()
}

fn built_in() -> BuiltIn {
    let roles = [("reader", &["ticket.read"][..]), ("support", &["billing.refund"])];
    BuiltIn {
        roles: roles.into_iter().map(|(role, permissions)| (role.parse().unwrap(), set(permissions))).collect(),
        reserved: set(&["support"]),
    }
}

fn ask(roles: &[&str]) -> CreateApiKey {
    CreateApiKey {
        name: "robot".to_owned(),
        roles: set(roles),
        permissions: None,
        requests_per_minute_max: None,
        lives_seconds: None,
    }
}

fn administrator(tenant: TenantId) -> Permit {
    let actor = Actor { name: "token:t".to_owned(), role: Role::TenantAdmin, tenant: Some(tenant) };
    actor.permit(Permission::AccessWrite, Some(tenant)).unwrap()
}

impl Fixture {
    async fn key(&self, tenant: TenantId) -> NewApiKey {
        self.store.create_api_key(&administrator(tenant), tenant, &built_in(), &ask(&["reader"])).await.unwrap()
    }

    async fn position(&self) -> Position {
        self.store.begin_feed(b"http").await.unwrap()
    }

    async fn changes(&self, position: &Position) -> Changes {
        self.store.changes_since(position, KeyType::Uuid).await.unwrap().1
    }

    async fn audited(&self, action: &str) -> usize {
        let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
        self.store.audit_entries(&filter, None, None).await.unwrap().items.len()
    }
}

#[tokio::test]
async fn a_key_is_made_rotated_and_revoked_and_gateways_hear_of_it() {
    let fixture = Fixture::new("api_keys").await;
    let (store, tenant) = (&fixture.store, fixture.active("acme").await.id);
    let position = fixture.position().await;
    let made = fixture.key(tenant).await;
    let id = made.key.id;
    let first = fixture.changes(&position).await.api_keys.remove(0);
    assert_eq!((first.id, first.tenant, first.previous), (id, tenant, None));
    assert_eq!(store.feed_api_keys(None).await.unwrap(), std::slice::from_ref(&first));

    let write = administrator(tenant);
    let rotated = store.rotate_api_key(&write, tenant, id, 60).await.unwrap();
    assert_ne!(rotated.secret, made.secret);
    let second = fixture.changes(&position).await.api_keys.remove(0);
    assert_eq!(second.previous.map(|previous| previous.hash), Some(first.hash));
    assert!(rotated.key.previous_until.is_some());
    // Without a grace the old secret ends at once, and so does the one before.
    store.rotate_api_key(&write, tenant, id, 0).await.unwrap();
    assert_eq!(fixture.changes(&position).await.api_keys[0].previous, None);
    assert!(matches!(store.rotate_api_key(&write, tenant, id, u32::MAX).await, Err(ApiKeyError::Grace)));

    store.revoke_api_key(&write, tenant, id).await.unwrap();
    let changes = fixture.changes(&position).await;
    assert_eq!((changes.api_keys.len(), changes.api_keys_gone), (0, vec![id]));
    assert!(store.feed_api_keys(None).await.unwrap().is_empty());
    assert!(matches!(store.rotate_api_key(&write, tenant, id, 0).await, Err(ApiKeyError::Ended(_))));
    assert_eq!(store.api_keys(tenant).await.unwrap()[0].id, id);
    assert_eq!((fixture.audited("api_key.create").await, fixture.audited("api_key.rotate").await), (1, 2));
}

#[tokio::test]
async fn a_secret_is_nowhere_in_the_database() {
    let fixture = Fixture::new("api_keys_secret").await;
    let tenant = fixture.active("acme").await.id;
    let made = fixture.key(tenant).await;
    let mut superuser = fixture.superuser().await;
    for table in ["api_key", "audit_entry", "change"] {
        let sql = format!("SELECT count(*) FROM {table} t WHERE t::text LIKE '%' || $1 || '%'");
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(&made.secret[..made.secret.len() - 4])
            .fetch_one(&mut superuser)
            .await
            .unwrap();
        assert_eq!(found, 0, "{table}");
    }
}

#[tokio::test]
async fn a_key_is_refused_what_makes_no_sense_or_is_not_the_administrator_s_to_give() {
    let fixture = Fixture::new("api_keys_refused").await;
    let (store, tenant, other) = (&fixture.store, fixture.active("acme").await.id, fixture.active("globex").await.id);
    let (write, built_in) = (administrator(tenant), built_in());
    let refused = async |body: CreateApiKey| store.create_api_key(&write, tenant, &built_in, &body).await.unwrap_err();
    assert!(matches!(refused(ask(&[])).await, ApiKeyError::NoRoles));
    assert!(matches!(refused(ask(&["nobody"])).await, ApiKeyError::Access(AccessError::NoRole(_))));
    assert!(matches!(refused(ask(&["support"])).await, ApiKeyError::Access(AccessError::Reserved(_))));
    for name in ["", "a\nb", &"x".repeat(101)] {
        assert!(matches!(refused(CreateApiKey { name: name.to_owned(), ..ask(&["reader"]) }).await, ApiKeyError::Name));
    }
    let nothing = CreateApiKey { permissions: Some(BTreeSet::new()), ..ask(&["reader"]) };
    assert!(matches!(refused(nothing).await, ApiKeyError::NoPermissions));
    // The installation's own people may give what is reserved.
    store.create_api_key(&permit(Permission::AccessWrite), tenant, &built_in, &ask(&["support"])).await.unwrap();
    // Another tenant's key is not there, and another tenant cannot be written to.
    let key = fixture.key(tenant).await.key.id;
    let stranger = administrator(other);
    assert!(matches!(store.revoke_api_key(&stranger, other, key).await, Err(ApiKeyError::NotFound(_))));
    assert!(matches!(store.rotate_api_key(&stranger, other, key, 0).await, Err(ApiKeyError::NotFound(_))));
    assert!(store.revoke_api_key(&stranger, tenant, key).await.is_err());
    assert!(store.create_api_key(&permit(Permission::TokenWrite), tenant, &built_in, &ask(&["reader"])).await.is_err());
}

#[tokio::test]
async fn who_may_do_what_is_written_as_a_whole_and_told() {
    let fixture = Fixture::new("tenant_access").await;
    let (store, tenant) = (&fixture.store, fixture.active("acme").await.id);
    let position = fixture.position().await;
    let (write, built_in) = (administrator(tenant), built_in());
    let closer = AccessRole { name: "closer".parse().unwrap(), permissions: set(&["ticket.close"]) };
    store.change_access(&write, tenant, &built_in, AccessChange::PutRole(closer.clone())).await.unwrap();
    let ada = AccessUser { subject: "ada".parse().unwrap(), roles: set(&["closer", "reader"]), groups: BTreeSet::new() };
    let access = store.change_access(&write, tenant, &built_in, AccessChange::PutUser(ada)).await.unwrap();
    assert_eq!(store.tenant_access(tenant).await.unwrap(), access);
    let changed = fixture.changes(&position).await.access;
    assert_eq!(changed, store.feed_access(None).await.unwrap());
    assert_eq!((changed[0].tenant, &changed[0].access), (tenant, &access));
    // A role that a key has stays.
    let delete = || AccessChange::DeleteRole("closer".parse().unwrap());
    store.change_access(&write, tenant, &built_in, AccessChange::DeleteUser("ada".parse().unwrap())).await.unwrap();
    let key = store.create_api_key(&write, tenant, &built_in, &ask(&["closer"])).await.unwrap().key.id;
    let held = store.change_access(&write, tenant, &built_in, delete()).await.unwrap_err();
    assert!(matches!(held, TenantAccessError::Access(AccessError::InUse { .. })), "{held:?}");
    store.revoke_api_key(&write, tenant, key).await.unwrap();
    assert!(store.change_access(&write, tenant, &built_in, delete()).await.unwrap().is_empty());
    assert!(fixture.changes(&position).await.access[0].access.is_empty());
    assert!(store.change_access(&permit(Permission::AccessRead), tenant, &built_in, delete()).await.is_err());
    assert_eq!(fixture.audited("access_role.put").await + fixture.audited("access_user.put").await, 2);
}

#[tokio::test]
async fn a_host_name_has_one_tenant() {
    let fixture = Fixture::new("domains").await;
    let (store, acme, globex) = (&fixture.store, fixture.active("acme").await.id, fixture.active("globex").await.id);
    let position = fixture.position().await;
    let (write, suffix): (_, HostName) = (permit(Permission::TenantWrite), "app.example".parse().unwrap());
    let host: HostName = "support.acme.com".parse().unwrap();
    store.add_domain(&write, acme, &host, Some(&suffix)).await.unwrap();
    assert_eq!(fixture.changes(&position).await.tenants[0].domains, std::slice::from_ref(&host));
    for tenant in [acme, globex] {
        let taken = store.add_domain(&write, tenant, &host, Some(&suffix)).await.unwrap_err();
        assert!(matches!(taken, TenantAccessError::Taken(_)), "{taken:?}");
    }
    for within in ["app.example", "globex.app.example", "a.b.app.example"] {
        let refused = store.add_domain(&write, acme, &within.parse().unwrap(), Some(&suffix)).await.unwrap_err();
        assert!(matches!(refused, TenantAccessError::WithinSuffix { .. }), "{refused:?}");
    }
    for none in ["localhost", "10.0.0.1", "1"] {
        let refused = store.add_domain(&write, acme, &none.parse().unwrap(), None).await.unwrap_err();
        assert!(matches!(refused, TenantAccessError::NoDomain(_)), "{refused:?}");
    }
    assert!(matches!(store.remove_domain(&write, globex, &host).await, Err(TenantAccessError::NoHost(_))));
    assert_eq!(store.domains(acme).await.unwrap()[0].host, host);
    store.remove_domain(&write, acme, &host).await.unwrap();
    assert!(fixture.changes(&position).await.tenants[0].domains.is_empty());
    store.add_domain(&write, globex, &host, None).await.unwrap();
}

#[tokio::test]
async fn what_a_tenant_had_ends_with_it() {
    let fixture = Fixture::new("http_deleted").await;
    let (store, tenant) = (&fixture.store, fixture.active("acme").await.id);
    let key = fixture.key(tenant).await.key.id;
    let closer = AccessRole { name: "closer".parse().unwrap(), permissions: set(&["ticket.close"]) };
    store.change_access(&administrator(tenant), tenant, &built_in(), AccessChange::PutRole(closer)).await.unwrap();
    let (domains, host): (_, HostName) = (permit(Permission::TenantWrite), "support.acme.com".parse().unwrap());
    store.add_domain(&domains, tenant, &host, None).await.unwrap();
    let position = fixture.position().await;
    let mut superuser = fixture.superuser().await;
    sqlx::query("UPDATE tenant SET state = 'deleted', sealed_capability = NULL, sealed_password = NULL WHERE id = $1")
        .bind(tenant.uuid())
        .execute(&mut superuser)
        .await
        .unwrap();
    let changes = fixture.changes(&position).await;
    assert_eq!(changes.api_keys_gone, [key]);
    assert!(changes.access[0].access.is_empty() && changes.tenants[0].domains.is_empty());
    let refused = store.create_api_key(&permit(Permission::AccessWrite), tenant, &built_in(), &ask(&["reader"])).await;
    assert!(matches!(refused, Err(ApiKeyError::NoTenant(_))));
    // Its host name is free.
    let other = fixture.active("globex").await.id;
    store.add_domain(&domains, other, &host, None).await.unwrap();
}

#[tokio::test]
async fn an_identity_key_is_published_before_it_signs_and_after() {
    let fixture = Fixture::new("identity_keys").await;
    let (store, write) = (&fixture.store, permit(Permission::TokenWrite));
    assert!(store.tend_identity_keys().await.unwrap());
    assert!(!store.tend_identity_keys().await.unwrap());
    let first = store.identity_keys("guardian/x").await.unwrap();
    let kid = first.current.as_ref().unwrap().kid.clone();
    assert!(first.published.contains(&kid) && !first.published.contains(first.current.unwrap().secret.expose()));
    let position = fixture.position().await;

    store.rotate_identity_key(&write, false).await.unwrap();
    let again = store.rotate_identity_key(&write, false).await.unwrap_err();
    assert!(matches!(again, IdentityKeyError::UnderWay(_)), "{again:?}");
    let changed = fixture.changes(&position).await.identity_keys.unwrap();
    assert_eq!(changed.current.as_ref().map(|key| &key.kid), Some(&kid));
    let next =
        store.identity_key_states().await.unwrap().into_iter().find(|key| key.state == IdentityKeyStage::Next).unwrap();
    assert!(changed.published.contains(&next.kid) && changed.published.contains(&kid));

    let mut superuser = fixture.superuser().await;
    let mut age = async |state: &str, interval: &str| {
        let sql = format!("UPDATE identity_key SET since = since - interval '{interval}' WHERE state = '{state}'");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut superuser).await.unwrap();
    };
    age("next", "11 minutes").await;
    assert!(store.tend_identity_keys().await.unwrap());
    let second = store.identity_keys("guardian/x").await.unwrap();
    assert_eq!(second.current.unwrap().kid, next.kid);
    assert!(second.published.contains(&kid), "what the old key signed is not over");
    age("retired", "66 minutes").await;
    assert!(store.tend_identity_keys().await.unwrap());
    assert!(!store.identity_key_set().await.unwrap().contains(&kid));
    // By age, too.
    age("signing", "31 days").await;
    assert!(store.tend_identity_keys().await.unwrap());
    assert_eq!(store.identity_key_states().await.unwrap().len(), 2);

    let now = store.rotate_identity_key(&write, true).await.unwrap();
    assert_eq!(now.len(), 1);
    assert!(!store.identity_key_set().await.unwrap().contains(&next.kid), "a key that ended is still published");
    assert!(store.rotate_identity_key(&permit(Permission::TenantWrite), true).await.is_err());
}

fn declared() -> SnapshotHttp {
    let upstream: Upstream = serde_json::from_value(serde_json::json!({ "servers": ["http://127.0.0.1:9000"] })).unwrap();
    SnapshotHttp {
        routes: vec![route("tickets", "/tickets", "ticket.read")],
        upstreams: [("app".parse().unwrap(), upstream)].into(),
        ..SnapshotHttp::default()
    }
}

fn route(name: &str, path: &str, permission: &str) -> HttpRoute {
    let route = serde_json::json!({ "name": name, "path": path, "upstream": "app", "permission": permission });
    serde_json::from_value(route).unwrap()
}

#[tokio::test]
async fn routes_over_the_api_go_before_the_file_s_and_have_versions() {
    let fixture = Fixture::new("http_override").await;
    let (store, write, declared) = (&fixture.store, permit(Permission::RouteWrite), declared());
    let position = fixture.position().await;
    let put = |route: HttpRoute| HttpChange::PutRoute(Box::new(route));
    let change = async |version, change| store.change_http(&write, Some(&declared), version, change).await;
    assert_eq!(change(Some(0), put(route("tickets", "/tickets", "ticket.admin"))).await.unwrap(), 1);
    let over = fixture.changes(&position).await.http.unwrap();
    let merged = over.onto(&declared).unwrap();
    assert_eq!(merged.routes, [route("tickets", "/tickets", "ticket.admin")]);
    let late = change(Some(0), put(route("more", "/more", "ticket.read"))).await.unwrap_err();
    assert!(matches!(late, HttpOverrideError::Version { asked: 0, found: 1 }), "{late:?}");
    let rival = change(None, put(route("rival", "/tickets", "ticket.read"))).await.unwrap_err();
    assert!(matches!(rival, HttpOverrideError::Conflict(_)), "{rival:?}");
    // The file lost the upstream: neither route is in force, rather than the weaker one.
    let without = SnapshotHttp { upstreams: std::collections::BTreeMap::new(), routes: Vec::new(), ..declared.clone() };
    let left = over.onto_leniently(&without);
    assert!(left.http.routes.is_empty() && left.left_out[0].0.as_str() == "tickets");
    assert_eq!(change(Some(1), HttpChange::DeleteRoute("tickets".parse().unwrap())).await.unwrap(), 2);
    let gone = change(None, HttpChange::DeleteRoute("tickets".parse().unwrap())).await.unwrap_err();
    assert!(matches!(gone, HttpOverrideError::NotFound(_)), "{gone:?}");
    let disabled = store.change_http(&write, None, None, put(route("x", "/x", "x"))).await.unwrap_err();
    assert!(matches!(disabled, HttpOverrideError::Disabled));
    assert!(
        store.change_http(&permit(Permission::TierWrite), Some(&declared), None, put(route("x", "/x", "x"))).await.is_err()
    );
    assert_eq!(fixture.audited("route.put").await + fixture.audited("route.delete").await, 2);
}
