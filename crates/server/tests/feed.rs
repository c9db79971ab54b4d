//! What gateways run on, from a change to whoever follows: in this process, over HTTP, in one piece and by changes.

#![allow(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::http::Method;
use common::{World, permit, slug};
use guardian_client::{Client, ClientError};
use guardian_model::{
    LimitOverrides, LoginScope, Permission, Role, TenantId, TenantState,
    access_api::{CreateApiKey, ExplainQuery, PutAccessRole, PutRoute, RotateIdentityKey, VersionQuery},
    api::CreateTenant,
    config::Http,
    query::ChangesQuery,
    snapshot::{Cursor, Delta, ServerTls, Snapshot, SnapshotTenant},
};
use guardian_server::{
    AppState,
    feed::{FeedError, Publisher, WAIT_MAX},
};
use guardian_store::AuditFilter;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

/// Says nothing about how long anything should take.
const PATIENCE: Duration = Duration::from_mins(1);
const NO_WAIT: Duration = Duration::ZERO;

struct Served {
    world: World,
    address: String,
    publisher: Publisher,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Served {
    async fn new() -> Self {
        Self::with(Http::default()).await
    }

    async fn with(http: Http) -> Self {
        let world = World::hardened_with(http).await;
        let (address, publisher, stop) = serve(&world).await;
        Self { world, address, publisher, stop }
    }

    async fn gateway(&self) -> Client {
        Client::new(&self.address, &self.world.token(Role::Gateway, None).await.0).unwrap()
    }

    async fn audited(&self, action: &str) -> usize {
        let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
        self.world.store.audit_entries(&filter, None, None).await.unwrap().items.len()
    }
}

/// Another control plane on the same database.
async fn serve(world: &World) -> (String, Publisher, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let AppState { store, lifecycle, clusters, config, .. } = world.state.clone();
    let state = AppState::new(store, lifecycle, clusters, config, stop.clone());
    let publisher = state.publisher().clone();
    tokio::spawn(guardian_server::serve(listener, state));
    (address, publisher, stop)
}

/// Asks over HTTP.
async fn changes(client: &Client, since: Cursor, wait: Duration) -> Result<Delta, ClientError> {
    let wait_seconds = u8::try_from(wait.as_secs()).ok();
    client.snapshot_changes(&ChangesQuery { since: since.0, wait_seconds }).await
}

/// A gateway's view, as deltas change it.
struct View {
    cursor: Cursor,
    tenants: BTreeMap<TenantId, SnapshotTenant>,
    deltas: usize,
}

impl View {
    fn of(snapshot: Snapshot) -> Self {
        let tenants = snapshot.tenants.into_iter().map(|tenant| (tenant.id, tenant)).collect();
        Self { cursor: snapshot.cursor, tenants, deltas: 0 }
    }

    fn apply(&mut self, delta: &Delta) {
        self.cursor = delta.cursor;
        self.deltas += usize::from(!delta.is_empty());
        self.tenants.extend(delta.tenants.iter().map(|tenant| (tenant.id, tenant.clone())));
    }

    /// Follows until the condition holds.
    async fn follow(&mut self, publisher: &Publisher, until: impl Fn(&Self) -> bool) {
        let followed = timeout(PATIENCE, async {
            while !until(self) {
                self.apply(&publisher.changes(self.cursor, WAIT_MAX).await.unwrap());
            }
        });
        followed.await.expect("the change comes");
    }
}

#[tokio::test]
async fn a_follower_ends_with_what_a_newcomer_reads() {
    let served = Served::new().await;
    let publisher = &served.publisher;
    let (mut follower, lifecycle) = (View::of(publisher.snapshot().await.unwrap()), &served.world.state.lifecycle);
    assert!(follower.tenants.is_empty());
    // Twelve at once, so that transactions overlap.
    let work = async {
        let create = |_| async {
            let create = CreateTenant { slug: slug("many"), tier: "free".parse().unwrap(), key: None };
            let tenant = lifecycle.create(&permit(Permission::TenantWrite, None), create, None).await.unwrap().tenant;
            let write = permit(Permission::TenantWrite, Some(tenant.id));
            let own = LimitOverrides { queue_len_max: Some(1), ..LimitOverrides::default() };
            lifecycle.set_limits(&write, tenant.id, own).await.unwrap();
            lifecycle.suspend(&write, tenant.id).await.unwrap();
        };
        futures_util::future::join_all((0..12).map(create)).await;
    };
    let suspended =
        |view: &View| view.tenants.values().filter(|tenant| tenant.state == TenantState::Suspended).count() == 12;
    tokio::join!(work, follower.follow(publisher, suspended));
    let newcomer = View::of(publisher.snapshot().await.unwrap());
    assert_eq!(follower.tenants, newcomer.tenants);
    assert!(follower.tenants.values().all(|tenant| tenant.secret.is_none() && tenant.limits.queue_len_max == Some(1)));
    // Nothing more comes, and nothing comes twice.
    let rest = publisher.changes(follower.cursor, NO_WAIT).await.unwrap();
    assert!(rest.is_empty() && rest.cursor == follower.cursor, "{rest:?}");
}

#[tokio::test]
async fn a_snapshot_holds_all_that_opens_a_tenant() {
    let served = Served::new().await;
    let active = served.world.tenant("acme").await.tenant;
    served.world.suspended("asleep").await;
    let snapshot = served.gateway().await.snapshot().await.unwrap();
    let here = served.publisher.snapshot().await.unwrap();
    assert_eq!(snapshot, Snapshot { cursor: snapshot.cursor, ..here });
    let found = snapshot.tenants.iter().find(|tenant| tenant.id == active.id).unwrap();
    let connection =
        served.world.state.lifecycle.connection(&permit(Permission::SecretRead, Some(active.id)), &active).await.unwrap();
    assert_eq!(found.secret.as_ref().unwrap().expose(), connection.capability.unwrap());
    assert_eq!(found.placement, active.placement);
    let installation = &snapshot.installation;
    assert_eq!(installation.application_password.as_ref().unwrap().expose(), connection.password);
    let cluster = &installation.clusters[0];
    assert_eq!((&cluster.host, cluster.port, &cluster.tls), (&connection.host, connection.port, &ServerTls::Disable));
    assert_eq!(snapshot.tiers, served.world.store.tiers().await.unwrap());
    assert_eq!(snapshot.logins.len(), 2);
    assert!(!format!("{snapshot:?}").contains(&connection.password), "Debug prints a secret");
    assert_eq!(served.audited("snapshot.read").await, 1, "each reading over HTTP, and no other");
}

// On several threads: the end of the test drops databases, which waits for every server process, and one that sends a large
// answer waits for its reader, who would wait for this thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_snapshot_comes_in_one_piece() {
    let served = Served::new().await;
    let template = served.world.tenant("acme").await.tenant;
    let insert = "INSERT INTO guardian_store.tenant
             (id, slug, key, tier, state, isolation, cluster, database, schema, role)
         SELECT gen_random_uuid(), 'many-' || n, gen_random_uuid()::text, tier, 'suspended', isolation, cluster, database,
             schema, role
         FROM guardian_store.tenant, generate_series(1, 5000) AS n WHERE id = $1";
    sqlx::query(insert).bind(template.id.uuid()).execute(&mut served.world.superuser().await).await.unwrap();
    let snapshot = served.gateway().await.snapshot().await.unwrap();
    let view = View::of(snapshot);
    assert_eq!(view.tenants.len(), 5001);
}

#[tokio::test]
async fn one_who_waits_over_http_hears_of_each_change() {
    let served = Served::new().await;
    let gateway = served.gateway().await;
    let mut view = View::of(gateway.snapshot().await.unwrap());
    let subject = served.world.tenant("acme").await;
    let write = permit(Permission::TenantWrite, Some(subject.tenant.id));
    for weight in 1..=20 {
        let waits = tokio::spawn({
            let (gateway, since) = (gateway.clone(), view.cursor);
            async move { changes(&gateway, since, WAIT_MAX).await }
        });
        let own = LimitOverrides { weight: Some(weight), ..LimitOverrides::default() };
        served.world.store.set_limits(&write, subject.tenant.id, own).await.unwrap();
        view.apply(&waits.await.unwrap().unwrap());
        while view.tenants.get(&subject.tenant.id).and_then(|tenant| tenant.limits.weight) != Some(weight) {
            view.apply(&changes(&gateway, view.cursor, WAIT_MAX).await.unwrap());
        }
    }
    // The tenant's creation may have come in one piece or in several, each later change as one.
    assert!((20..=28).contains(&view.deltas), "{}", view.deltas);
    assert!(changes(&gateway, view.cursor, NO_WAIT).await.unwrap().is_empty());
    assert_eq!(served.audited("snapshot.").await, 1, "the one whole snapshot");
    let refused = changes(&gateway, view.cursor, WAIT_MAX + Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(refused.status(), Some(422));
}

#[tokio::test]
async fn a_position_is_good_at_another_control_plane_and_none_that_was_made_up() {
    let served = Served::new().await;
    let gateway = served.gateway().await;
    let snapshot = gateway.snapshot().await.unwrap();
    let tenant = served.world.tenant("acme").await.tenant;
    let (address, publisher, stop) = serve(&served.world).await;
    let other = Client::new(&address, &served.world.token(Role::Gateway, None).await.0).unwrap();
    let delta = changes(&other, snapshot.cursor, NO_WAIT).await.unwrap();
    assert!(delta.tenants.iter().any(|found| found.id == tenant.id));
    // From there on it follows that one, which has nothing new.
    let mut view = View::of(snapshot);
    view.apply(&delta);
    let rest = publisher.changes(view.cursor, NO_WAIT).await.unwrap();
    assert_eq!(rest.cursor, view.cursor);
    let unknown = changes(&gateway, Cursor(7), WAIT_MAX).await.unwrap_err();
    assert_eq!(unknown.status(), Some(410), "{unknown}");
    assert!(matches!(served.publisher.changes(Cursor(7), NO_WAIT).await, Err(FeedError::Gone(Cursor(7)))));
    stop.cancel();
}

#[tokio::test]
async fn a_revoked_token_is_told_nothing_even_when_it_waited_before() {
    let served = Served::new().await;
    let (secret, actor) = served.world.token(Role::Gateway, None).await;
    let gateway = Client::new(&served.address, &secret).unwrap();
    let snapshot = gateway.snapshot().await.unwrap();
    let waits = tokio::spawn({
        let gateway = gateway.clone();
        async move { changes(&gateway, snapshot.cursor, WAIT_MAX).await }
    });
    // Once the server has let it in; a poll refused at the door would show nothing.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let id = actor.name.strip_prefix("token:").unwrap().parse().unwrap();
    served.world.store.revoke_token(&permit(Permission::TokenWrite, None), id).await.unwrap();
    let login = "app".parse().unwrap();
    served.world.store.create_login(&permit(Permission::LoginWrite, None), &login, LoginScope::Admin, None).await.unwrap();
    let refused = timeout(PATIENCE, waits).await.expect("an answer").unwrap().unwrap_err();
    assert_eq!(refused.status(), Some(401), "{refused}");
    assert_eq!(gateway.snapshot().await.unwrap_err().status(), Some(401));
}

#[tokio::test]
async fn a_stop_ends_whoever_waits() {
    let served = Served::new().await;
    let gateway = served.gateway().await;
    let snapshot = gateway.snapshot().await.unwrap();
    let waits = tokio::spawn(async move { changes(&gateway, snapshot.cursor, WAIT_MAX).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    served.stop.cancel();
    let answer = timeout(Duration::from_secs(15), waits).await.expect("an answer before the wait is over").unwrap();
    assert!(answer.unwrap().is_empty());
}

#[tokio::test]
async fn many_followers_share_what_was_read_once() {
    let served = Served::new().await;
    let cursor = served.publisher.begin().await.unwrap();
    served.world.tenant("acme").await;
    let follow = || async { served.publisher.changes(cursor, WAIT_MAX).await.unwrap() };
    let (first, second) = tokio::join!(follow(), follow());
    assert!(!first.is_empty());
    assert!(Arc::ptr_eq(&first, &second));
}

/// An API gateway with one route and one role.
fn http() -> Http {
    let http = serde_json::json!({
        "enabled": true,
        "host_suffix": "app.example",
        "upstreams": { "app": { "servers": ["http://127.0.0.1:9000"] } },
        "routes": [{ "name": "tickets", "path": "/tickets", "upstream": "app", "permission": "ticket.read" }],
        "roles": {
            "reader": { "permissions": ["ticket.read"] },
            "support": { "permissions": ["billing.refund"], "reserved": true },
        },
    });
    serde_json::from_value(http).unwrap()
}

#[tokio::test]
async fn what_the_api_gateway_runs_on_reaches_whoever_follows() {
    let served = Served::with(http()).await;
    let admin = Client::new(&served.address, &served.world.token(Role::PlatformAdmin, None).await.0).unwrap();
    let subject = served.world.tenant("acme").await.tenant;
    let (tenant, gateway) = (subject.slug.as_str(), served.gateway().await);
    let snapshot = gateway.snapshot().await.unwrap();
    let declared = snapshot.installation.http.clone().unwrap();
    assert_eq!((declared.routes.len(), declared.roles.len()), (1, 2));
    let keys = snapshot.installation.identity_keys.clone().unwrap();
    assert!(keys.issuer.starts_with("guardian/") && keys.published.contains(&keys.current.unwrap().kid));

    let mut cursor = snapshot.cursor;
    // A change may come with others, and one that is known may come again.
    let mut next = async |is_wanted: fn(&Delta) -> bool| {
        loop {
            let delta = changes(&gateway, cursor, WAIT_MAX).await.unwrap();
            cursor = delta.cursor;
            if is_wanted(&delta) {
                break delta;
            }
        }
    };
    let route: PutRoute = serde_json::from_value(serde_json::json!({
        "path": "/more/{id}", "upstream": "app", "permission": "more.read"
    }))
    .unwrap();
    let none = VersionQuery::default();
    let told = admin.put_route(&"more".parse().unwrap(), &none, &route).await.unwrap();
    assert_eq!((told.version, told.routes.len()), (1, 2));
    assert_eq!(next(|delta| delta.http.is_some()).await.http.unwrap().routes.len(), 2);
    let rival = admin.put_route(&"rival".parse().unwrap(), &none, &route).await.unwrap_err();
    assert_eq!(rival.status(), Some(422), "{rival}");

    let body = PutAccessRole { permissions: ["more.read".parse().unwrap()].into() };
    admin.put_access_role(tenant, &"own".parse().unwrap(), &body).await.unwrap();
    assert_eq!(next(|delta| !delta.access.is_empty()).await.access[0].access.roles[0].name.as_str(), "own");
    let ask: CreateApiKey = serde_json::from_value(serde_json::json!({
        "name": "robot", "roles": ["own", "reader"], "permissions": ["more.read"]
    }))
    .unwrap();
    let made = admin.create_api_key(tenant, &ask).await.unwrap();
    assert_eq!(next(|delta| !delta.api_keys.is_empty()).await.api_keys[0].id, made.key.id);
    admin.add_domain(tenant, &"support.acme.com".parse().unwrap()).await.unwrap();
    assert_eq!(next(|delta| delta.tenants.iter().any(|tenant| !tenant.domains.is_empty())).await.tenants.len(), 1);
    let within = admin.add_domain(tenant, &"x.app.example".parse().unwrap()).await.unwrap_err();
    assert_eq!(within.status(), Some(422), "{within}");

    let explain = async |permission: &str| {
        let subject = made.key.id.to_string().parse().unwrap();
        admin.explain_access(tenant, &ExplainQuery { subject, permission: permission.parse().unwrap() }).await.unwrap()
    };
    let (granted, narrowed) = (explain("more.read").await, explain("ticket.read").await);
    assert!(granted.allowed && granted.routes == ["more"] && !granted.grants[0].is_built_in);
    assert!(!narrowed.allowed && narrowed.is_narrowed && narrowed.grants[0].is_built_in);

    admin.rotate_identity_key(&RotateIdentityKey { now: true }).await.unwrap();
    let rotated = next(|delta| delta.identity_keys.is_some()).await.identity_keys.unwrap();
    assert_eq!(rotated.issuer, keys.issuer);
    let set = served.world.call(&Method::GET, "/.well-known/jwks.json", None, None).await;
    assert_eq!(set.headers["cache-control"], "public, max-age=300");
    assert_eq!(set.text, rotated.published);

    admin.revoke_api_key(tenant, made.key.id).await.unwrap();
    assert_eq!(next(|delta| !delta.api_keys_gone.is_empty()).await.api_keys_gone, [made.key.id]);
    assert!(!explain("more.read").await.is_known);
    // A newcomer reads what the follower has heard.
    let newcomer = gateway.snapshot().await.unwrap();
    assert_eq!(newcomer.installation.http.unwrap().routes.len(), 2);
    assert_eq!((newcomer.api_keys.len(), newcomer.access.len()), (0, 1));
    assert_eq!(newcomer.installation.identity_keys.unwrap().published, rotated.published);
}

#[tokio::test]
async fn a_tenant_s_administrator_gives_nothing_that_is_reserved_and_the_refusal_is_logged() {
    let served = Served::with(http()).await;
    let subject = served.world.tenant("acme").await.tenant;
    let own = Client::new(&served.address, &served.world.token(Role::TenantAdmin, Some(subject.id)).await.0).unwrap();
    let (tenant, ask) = (subject.slug.as_str(), |role: &str| serde_json::json!({ "name": "robot", "roles": [role] }));
    let ask = |role: &str| serde_json::from_value::<CreateApiKey>(ask(role)).unwrap();
    own.create_api_key(tenant, &ask("reader")).await.unwrap();
    let refused = own.create_api_key(tenant, &ask("support")).await.unwrap_err();
    assert_eq!(refused.status(), Some(403), "{refused}");
    let body = PutAccessRole { permissions: ["billing.refund".parse().unwrap()].into() };
    let refused = own.put_access_role(tenant, &"own".parse().unwrap(), &body).await.unwrap_err();
    assert_eq!(refused.status(), Some(403), "{refused}");
    let filter = AuditFilter { outcome: Some(guardian_store::Outcome::Refused), ..AuditFilter::default() };
    let entries = served.world.store.audit_entries(&filter, None, None).await.unwrap().items;
    let refusals: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.tenant)).collect();
    assert_eq!(refusals, [("access_role.put", Some(subject.id)), ("api_key.create", Some(subject.id))]);
}
