//! The server on a socket, through the typed client: every method of the client against the endpoint it is for.

#![allow(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod common;

use std::time::Duration;

use common::{World, slug};
use guardian_client::{Client, ClientError, every};
use guardian_model::{
    KeyType, LimitOverrides, LoginName, LoginProof, OperationState, Role, TenantKey, TenantState, TierName,
    api::{AskedScope, CreateLogin, CreateTenant, CreateToken, DeleteTenant, PutTier, SetTier, StartMigration},
    query::{AuditQuery, ChangesQuery, IncidentQuery, OperationQuery, RunQuery, TenantQuery, VerifyQuery},
};
use guardian_server::AppState;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

struct Served {
    world: World,
    address: String,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn new() -> Self {
        let world = World::hardened().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let AppState { store, lifecycle, clusters, config, .. } = world.state.clone();
        let state = AppState::new(store, lifecycle, clusters, config, stop.clone());
        let server = tokio::spawn(guardian_server::serve(listener, state));
        Self { world, address, stop, server }
    }

    async fn client(&self, role: Role) -> Client {
        Client::new(&self.address, &self.world.token(role, None).await.0).unwrap()
    }
}

#[tokio::test]
async fn the_client_speaks_to_every_endpoint() -> Result<(), ClientError> {
    let served = Served::new().await;
    let client = served.client(Role::PlatformAdmin).await;

    let create = CreateTenant { slug: slug("acme"), tier: "free".parse().unwrap(), key: None };
    let change = client.create_tenant(&create, Some("once")).await?;
    assert_eq!(client.create_tenant(&create, Some("once")).await?.tenant.id, change.tenant.id);
    let name = change.tenant.slug.as_str();
    assert_eq!(client.tenant(name).await?.id, change.tenant.id);
    let tenants =
        every(async |cursor| client.tenants(&TenantQuery { cursor, limit: Some(1), ..TenantQuery::default() }).await);
    assert_eq!(tenants.await?.len(), 1);
    assert_eq!(client.suspend_tenant(name).await?.tenant.state, TenantState::Suspended);
    assert_eq!(client.resume_tenant(name).await?.tenant.state, TenantState::Active);
    let pro: TierName = "pro".parse().unwrap();
    assert_eq!(client.set_tier(name, &SetTier { tier: pro.clone() }).await?.tier, pro);
    let connection = client.connection(name).await?;
    assert_eq!(connection.capability.map(|secret| secret.len()), Some(64));
    assert_eq!(connection.password.len(), 48);
    let grant = client.issue_ticket(name).await?;
    assert!(grant.user.starts_with("tkt_") && grant.ticket.is_some());
    let delete = DeleteTenant { confirm: name.to_owned(), now: false };
    let leaving = client.delete_tenant(name, &delete).await?;
    assert_eq!(leaving.tenant.state, TenantState::Deleting);

    let query = OperationQuery { tenant: Some(name.to_owned()), ..OperationQuery::default() };
    assert_eq!(client.operations(&query).await?.items[0].id, leaving.operation.id);
    assert_eq!(client.operation(leaving.operation.id).await?.kind, leaving.operation.kind);
    assert_eq!(client.cancel_operation(leaving.operation.id).await?.state, OperationState::Undoing);
    let refused = client.retry_operation(leaving.operation.id).await.unwrap_err();
    assert_eq!(refused.status(), Some(409), "{refused}");
    let stuck = served.world.stuck("stuck").await;
    let incidents = client.incidents(&IncidentQuery::default()).await?.items;
    assert_eq!(incidents[0].operation, Some(stuck.operation.id));

    let tier: TierName = "silver".parse().unwrap();
    let put: PutTier = serde_json::from_str(r#"{"isolation":"row","features":{"sso":true}}"#).unwrap();
    assert!(client.put_tier(&tier, &put).await?.features["sso"]);
    assert_eq!(client.tier(&tier).await?.name, tier);
    assert!(client.tiers().await?.iter().any(|found| found.name == tier));
    client.delete_tier(&tier).await?;

    let create = CreateToken { name: "a robot".to_owned(), role: Role::Gateway, tenant: None };
    let made = client.create_token(&create).await?;
    let robot = Client::new(&served.address, &made.secret).unwrap();
    let snapshot = robot.snapshot().await?;
    assert!(snapshot.tenants.iter().any(|tenant| tenant.id == change.tenant.id));
    let app: LoginName = "app".parse().unwrap();
    let create = CreateLogin {
        name: app.clone(),
        scope: AskedScope::Tenant { tenant: name.to_owned() },
        proof: LoginProof::Password,
    };
    let login = client.create_login(&create).await?;
    assert_eq!((login.user, login.password.map(|password| password.len())), (format!("app.{name}"), Some(48)));
    assert_eq!(client.logins().await?.iter().filter(|login| login.name == app).count(), 1);
    assert!(client.rotate_login(&app).await?.login.rotated_at.is_some());
    // What happened just before the snapshot may come once more.
    let mut since = snapshot.cursor;
    loop {
        let query = ChangesQuery { since: since.0, wait_seconds: None };
        let delta = robot.snapshot_changes(&query).await?;
        if delta.logins.iter().any(|login| login.name == app) {
            break;
        }
        since = delta.cursor;
    }
    client.delete_login(&app).await?;
    let own = LimitOverrides { queue_len_max: Some(3), ..LimitOverrides::default() };
    assert_eq!(client.set_limits(name, &own).await?.limits, own);
    client.revoke_token(made.token.id).await?;
    assert_eq!(robot.snapshot().await.unwrap_err().status(), Some(401));
    assert!(client.tokens().await?.iter().any(|token| token.id == made.token.id && token.revoked_at.is_some()));

    let query = AuditQuery { outcome: Some("refused".to_owned()), ..AuditQuery::default() };
    let refusals = client.audit_log(&query).await?.items;
    assert_eq!((&*refusals[0].actor, &*refusals[0].action), ("anonymous", "snapshot.read"));
    assert!(refusals[0].detail["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{:?}", refusals[0]);
    assert!(client.verify_audit_log(&VerifyQuery::default()).await?.intact);

    assert!(client.plan_hardening().await?.statements.is_empty());
    let run = client.start_hardening().await?;
    served.world.wait_for(run.id).await;
    assert_eq!(client.plan_migrations().await?.places.len(), 1);
    let run = client.start_migrations(&StartMigration::default()).await?;
    served.world.wait_for(run.id).await;
    assert_eq!(client.run(run.id).await?.items.len(), 1);
    assert_eq!(client.runs(&RunQuery { limit: Some(1), ..RunQuery::default() }).await?.items[0].id, run.id);
    assert_eq!(client.status().await?.incidents_open, 1);
    Ok(())
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn what_is_handed_out_opens_the_tenant() {
    let served = Served::new().await;
    let client = served.client(Role::Operator).await;
    let tenant = served.world.tenant("acme").await.tenant;
    let register = TenantKey::parse(KeyType::Uuid, &tenant.key).unwrap().to_register();
    let connect = async |host: &str, port: u16, user: &str, password: &str, database: &str| {
        let options = PgConnectOptions::new().host(host).port(port).username(user).password(password).database(database);
        PgConnection::connect_with(&options).await
    };

    let own = client.connection(tenant.slug.as_str()).await.unwrap();
    let mut session = connect(&own.host, own.port, &own.user, &own.password, &own.database).await.unwrap();
    let capability = bytes(&own.capability.unwrap());
    let entered: Option<String> =
        sqlx::query_scalar("SELECT guardian.enter($1)").bind(capability).fetch_one(&mut session).await.unwrap();
    assert_eq!(entered.as_ref(), Some(&register));
    let wrong = connect(&own.host, own.port, &own.user, "wrong", &own.database).await;
    assert!(wrong.is_err(), "any password opens the application's role");

    let once = client.issue_ticket(tenant.slug.as_str()).await.unwrap();
    let mut session = connect(&once.host, once.port, &once.user, &once.password, &once.database).await.unwrap();
    let ticket = bytes(&once.ticket.unwrap());
    for expected in [Some(register), None] {
        let entered: Option<String> =
            sqlx::query_scalar("SELECT guardian.redeem($1)").bind(&ticket).fetch_one(&mut session).await.unwrap();
        assert_eq!(entered, expected);
    }
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_frees_the_port() {
    let served = Served::new().await;
    let client = served.client(Role::Auditor).await;
    client.tiers().await.unwrap();
    let mut idle = tokio::net::TcpStream::connect(&served.address).await.unwrap();
    served.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), served.server).await.expect("the server ends").unwrap().unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or_default(), 0);
    assert!(matches!(client.tiers().await, Err(ClientError::Unreachable { .. })));
    TcpListener::bind(&served.address).await.unwrap();
}
