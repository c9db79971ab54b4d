//! A control plane in the test's own process, on real PostgreSQL.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use guardian_lifecycle::Lifecycle;
use guardian_model::{
    ApiKeyId, Config, DoorId, LoginName, LoginScope, Operation, OperationId, OperationKind, Permission, Place, Plan, Role,
    RunId, Slug, Step, Tenant, TenantId, TenantState, Tier, TokenId, ToolLoginId,
    access::{Actor, Permit},
    access_api::CreateApiKey,
    api::{CreateTenant, PutTier, Run, RunState},
    config::Http,
    tenant_access::{AccessChange, AccessGroup, AccessRole, AccessUser, BuiltIn},
};
use guardian_postgres::connect::Clusters;
use guardian_server::{AppState, ConfigSource, router};
use guardian_store::{Lease, Store, Vault};
use guardian_testkit::{Server, TestDatabase, unique};
use serde_json::Value;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;

const HELPDESK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/helpdesk");

/// A control plane with the helpdesk as its application.
pub struct World {
    pub store: Store,
    pub state: AppState,
    pub config: Config,
    application: Option<TestDatabase>,
    control: TestDatabase,
    run: Option<RunId>,
}

/// What a request brought.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

/// One of everything that a path can name.
#[derive(Debug, Clone)]
pub struct Subject {
    pub tenant: Tenant,
    pub operation: Operation,
    tier: String,
    token: TokenId,
    login: String,
    run: Option<RunId>,
    api_key: Option<ApiKeyId>,
    tool_login: Option<ToolLoginId>,
}

impl Subject {
    /// The path with its names filled in.
    pub fn fill(&self, path: &str) -> String {
        path.replace("{tenant}", self.tenant.slug.as_str())
            .replace("{operation}", &self.operation.id.to_string())
            .replace("{tier}", &self.tier)
            .replace("{token}", &self.token.to_string())
            .replace("{door}", &DoorId::from_uuid(self.operation.id.uuid()).to_string())
            .replace("{login}", &self.login)
            .replace("{tool_login}", &self.tool_login.map(|login| login.to_string()).unwrap_or_default())
            .replace("{run}", &self.run.map(|run| run.to_string()).unwrap_or_default())
            .replace("{api_key}", &self.api_key.map(|key| key.to_string()).unwrap_or_default())
            .replace("{role}", "spare")
            .replace("{group}", "crew")
            .replace("{subject}", "ada")
            .replace("{route}", "tickets")
            .replace("{host}", &format!("{}.example.com", self.tenant.slug))
    }

    /// The same with a tenant and an operation that do not exist.
    pub fn nowhere(&self) -> Self {
        let mut nowhere = self.clone();
        nowhere.tenant.slug = slug("nowhere");
        nowhere.operation.id = OperationId::from_uuid(Uuid::now_v7());
        nowhere
    }
}

pub fn slug(hint: &str) -> Slug {
    format!("{hint}-{}", Uuid::now_v7().simple()).parse().unwrap()
}

pub fn permit(permission: Permission, tenant: Option<TenantId>) -> Permit {
    Actor::system("test").permit(permission, tenant).unwrap()
}

impl World {
    /// With the helpdesk's tables in place, not hardened.
    pub async fn new() -> Self {
        let server = Server::shared();
        let application = server.helpdesk().await;
        let database = application.name.clone();
        Self::on(&server, &database, Some(application), PathBuf::from(HELPDESK)).await
    }

    /// With an application that has migrations in a folder and no database yet.
    pub async fn unborn(folder: PathBuf) -> Self {
        Self::unborn_with(folder, "").await
    }

    /// The same with more in `guardian.toml`.
    pub async fn unborn_with(folder: PathBuf, more: &str) -> Self {
        Self::configured(&Server::shared(), &unique("unborn"), None, folder, more, Http::default()).await
    }

    /// With everything on a server of the test's own, and no application.
    pub async fn alone(server: &Server) -> Self {
        Self::on(server, "nothing", None, PathBuf::from(HELPDESK)).await
    }

    async fn on(server: &Server, database: &str, application: Option<TestDatabase>, folder: PathBuf) -> Self {
        Self::configured(server, database, application, folder, "", Http::default()).await
    }

    async fn configured(
        server: &Server,
        database: &str,
        application: Option<TestDatabase>,
        folder: PathBuf,
        more: &str,
        http: Http,
    ) -> Self {
        let control = server.database("control").await;
        let (vault, _) = Vault::generate().unwrap();
        let store = Store::open(control.options(), vault).await.unwrap();
        let text = std::fs::read_to_string(format!("{HELPDESK}/guardian.toml")).unwrap();
        let named = format!("name = \"{}\"\ndatabase = \"{database}\"", unique("helpdesk"));
        let mut config = Config::parse("guardian.toml", &(text.replace("name = \"helpdesk\"", &named) + more)).unwrap();
        config.http = http;
        store.declare_tiers(&config.declared_tiers()).await.unwrap();
        let administrators = BTreeMap::from([("local".parse().unwrap(), server.options("postgres"))]);
        let clusters = Clusters::new(administrators);
        let migrations = Some(folder.join("migrations"));
        let lifecycle = Lifecycle::new(store.clone(), clusters.clone(), Arc::new(config.clone()), migrations, "test");
        let read = config.clone();
        let source = ConfigSource::new(config.clone(), folder, move || Ok(read.clone()));
        let state = AppState::new(store.clone(), lifecycle, clusters, source, CancellationToken::new());
        Self { store, state, config, application, control, run: None }
    }

    /// The same, hardened over the API.
    pub async fn hardened() -> Self {
        Self::hardened_with(Http::default()).await
    }

    /// The same with an API gateway.
    pub async fn hardened_with(http: Http) -> Self {
        let server = Server::shared();
        let application = server.helpdesk().await;
        let database = application.name.clone();
        let mut world = Self::configured(&server, &database, Some(application), PathBuf::from(HELPDESK), "", http).await;
        let run = world.run("/v1/hardening").await;
        assert_eq!(run.state, RunState::Done, "{:?}", run.error);
        world.run = Some(run.id);
        world
    }

    /// Starts a run and waits for its end.
    pub async fn run(&self, uri: &str) -> Run {
        let (admin, _) = self.token(Role::PlatformAdmin, None).await;
        let started = self.call(&Method::POST, uri, Some(&admin), None).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.text);
        let id: RunId = started.body["id"].as_str().unwrap().parse().unwrap();
        self.wait_for(id).await;
        self.store.run(id).await.unwrap().unwrap()
    }

    /// A router of its own, so that the bounds on refusals start anew.
    pub fn router(&self) -> Router {
        let AppState { store, lifecycle, clusters, config, .. } = self.state.clone();
        router(AppState::new(store, lifecycle, clusters, config, CancellationToken::new()))
    }

    /// Sends one request.
    pub async fn call(&self, method: &Method, uri: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, text, body }
    }

    /// A token and who it makes its bearer.
    pub async fn token(&self, role: Role, tenant: Option<TenantId>) -> (String, Actor) {
        let made = self.store.create_token(&permit(Permission::TokenWrite, None), "test", role, tenant).await.unwrap();
        let name = format!("token:{}", made.token.id);
        (made.secret, Actor { name, role, tenant })
    }

    pub async fn revoked_token(&self) -> String {
        let permit = permit(Permission::TokenWrite, None);
        let made = self.store.create_token(&permit, "revoked", Role::PlatformAdmin, None).await.unwrap();
        self.store.revoke_token(&permit, made.token.id).await.unwrap();
        made.secret
    }

    /// An active `row` tenant with its creation.
    pub async fn tenant(&self, hint: &str) -> Subject {
        let create = CreateTenant { slug: slug(hint), tier: "free".parse().unwrap(), key: None };
        let change = self.state.lifecycle.create(&permit(Permission::TenantWrite, None), create, None).await.unwrap();
        assert_eq!(change.tenant.state, TenantState::Active);
        self.subject(change.tenant, change.operation).await
    }

    pub async fn suspended(&self, hint: &str) -> Subject {
        let subject = self.tenant(hint).await;
        let permit = permit(Permission::TenantWrite, Some(subject.tenant.id));
        let change = self.state.lifecycle.suspend(&permit, subject.tenant.id).await.unwrap();
        assert_eq!(change.tenant.state, TenantState::Suspended);
        Subject { tenant: change.tenant, operation: change.operation, ..subject }
    }

    /// A tenant whose deletion waits for the end of its grace period.
    pub async fn leaving(&self, hint: &str) -> Subject {
        let subject = self.tenant(hint).await;
        let permit = permit(Permission::TenantWrite, Some(subject.tenant.id));
        let change = self.state.lifecycle.delete(&permit, subject.tenant.id, false).await.unwrap();
        Subject { tenant: change.tenant, operation: change.operation, ..subject }
    }

    /// A tenant whose operation waits for a person.
    pub async fn stuck(&self, hint: &str) -> Subject {
        let subject = self.tenant(hint).await;
        let permit = permit(Permission::TenantWrite, Some(subject.tenant.id));
        let lease = Lease { worker: "test".to_owned(), duration: Duration::from_mins(1) };
        let place: Place = subject.tenant.placement.place.clone();
        let plan = Plan { steps: vec![Step::RevokeCapability { place, key: subject.tenant.key.clone() }] };
        let expected = [TenantState::Active];
        let claim =
            self.store.begin(&permit, subject.tenant.id, OperationKind::Suspend, plan, &expected, &lease).await.unwrap();
        self.store.stick(&claim, "the disk is on fire").await.unwrap();
        let operation = self.store.operation(claim.id).await.unwrap().unwrap();
        Subject { operation, ..subject }
    }

    /// A tenant with an API key, roles, a group, a user and a host name.
    pub async fn with_access(&self, hint: &str) -> Subject {
        let subject = self.tenant(hint).await;
        let (tenant, none) = (subject.tenant.id, BuiltIn::default());
        let write = permit(Permission::AccessWrite, Some(tenant));
        let role = |name: &str| AccessRole {
            name: name.parse().unwrap(),
            permissions: BTreeSet::from(["ticket.read".parse().unwrap()]),
        };
        let roles = BTreeSet::from(["own".parse().unwrap()]);
        for change in [
            AccessChange::PutRole(role("own")),
            AccessChange::PutRole(role("spare")),
            AccessChange::PutGroup(AccessGroup { name: "crew".parse().unwrap(), roles: roles.clone() }),
            AccessChange::PutUser(AccessUser {
                subject: "ada".parse().unwrap(),
                roles: roles.clone(),
                groups: BTreeSet::new(),
            }),
        ] {
            self.store.change_access(&write, tenant, &none, change).await.unwrap();
        }
        let body = CreateApiKey {
            name: "robot".to_owned(),
            roles,
            permissions: None,
            requests_per_minute_max: None,
            lives_seconds: None,
        };
        let made = self.store.create_api_key(&write, tenant, &none, &body).await.unwrap();
        let host = subject.fill("{host}").parse().unwrap();
        let domains = permit(Permission::TenantWrite, Some(tenant));
        self.store.add_domain(&domains, tenant, &host, None).await.unwrap();
        Subject { api_key: Some(made.key.id), ..subject }
    }

    async fn subject(&self, tenant: Tenant, operation: Operation) -> Subject {
        let tier = self.tier().await;
        let tokens = permit(Permission::TokenWrite, None);
        let token = self.store.create_token(&tokens, "subject", Role::Auditor, None).await.unwrap().token.id;
        let login: LoginName = format!("l{}", Uuid::now_v7().simple()).parse().unwrap();
        let logins = permit(Permission::LoginWrite, None);
        self.store.create_login(&logins, &login, LoginScope::Admin, Some("SCRAM-SHA-256$")).await.unwrap();
        let (tier, login) = (tier.name.to_string(), login.to_string());
        Subject { tenant, operation, tier, token, login, run: self.run, api_key: None, tool_login: None }
    }

    /// With no migration tool at work in the shared place.
    pub async fn without_tool(&self) {
        let permit = permit(Permission::SchemaWrite, None);
        if let Some(login) = self.store.tool_login_at(&self.config.shared_place()).await.unwrap() {
            self.state.lifecycle.close_for_tool(&permit, login.id, Some(0)).await.unwrap();
        }
    }

    /// With one at work there.
    pub async fn with_tool(&self, hint: &str) -> Subject {
        self.without_tool().await;
        let login = self.state.lifecycle.open_for_tool(&permit(Permission::SchemaWrite, None), None).await.unwrap();
        Subject { tool_login: Some(login.id), ..self.tenant(hint).await }
    }

    /// A superuser's connection to the control database.
    pub async fn superuser(&self) -> PgConnection {
        self.control.connect().await
    }

    /// A tier without tenants.
    pub async fn tier(&self) -> Tier {
        let name = format!("t{}", Uuid::now_v7().simple()).parse().unwrap();
        let put: PutTier = serde_json::from_value(serde_json::json!({ "isolation": "row" })).unwrap();
        self.store.put_tier(&permit(Permission::TierWrite, None), &name, put).await.unwrap()
    }

    /// Waits until no run is at work.
    pub async fn wait_for_runs(&self) {
        for run in self.store.runs(None, None).await.unwrap().items {
            self.wait_for(run.id).await;
        }
    }

    pub async fn wait_for(&self, run: RunId) {
        let wait = async {
            while self.store.run(run).await.unwrap().unwrap().state == RunState::Running {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), wait).await.expect("the run ends");
    }
}
