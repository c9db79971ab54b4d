//! A whole house for a test: an application on a real server, a control database, and workers that may die.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use guardian_lifecycle::{Lifecycle, operations};
use guardian_model::{
    Capability, Config, Isolation, Operation, OperationId, OperationKind, OperationState, Permission, Place, Placement,
    Plan, Step, Tenant, TenantId, TenantKey, TenantState, TierName,
    access::{Actor, Permit},
    api::CreateTenant,
};
use guardian_postgres::{apply, collect, connect::Clusters, harden::Declaration, plan};
use guardian_store::{Begun, Lease, NewTenant, Secrets, Store, TenantRef, Vault};
use guardian_testkit::{Server, TestDatabase, unique};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions, types::Uuid};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const MIGRATION: &str = "\
CREATE TABLE note (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), body text NOT NULL,
    PRIMARY KEY (tenant_id, id));
CREATE TABLE reply (tenant_id uuid NOT NULL, note uuid NOT NULL, body text NOT NULL,
    FOREIGN KEY (tenant_id, note) REFERENCES note);
CREATE INDEX reply_note ON reply (tenant_id, note);";

/// Known to the servers of [`House::mended`] only: a step there fails until a person has mended it.
const ELSEWHERE: &str = "elsewhere";
/// The slug for which the cluster `own` is reserved.
pub const WALLED: &str = "walled";

pub struct House {
    pub store: Store,
    pub config: Arc<Config>,
    pub server: Server,
    pub control: TestDatabase,
    application: TestDatabase,
    migrations: tempfile::TempDir,
    master_key: String,
}

impl House {
    /// With the application migrated and hardened.
    pub async fn hardened() -> Self {
        Self::hardened_on(Server::shared()).await
    }

    pub async fn hardened_on(server: Server) -> Self {
        Self::bare_across(server.clone(), &server).await.harden().await
    }

    /// With the control database on another server than the tenants.
    pub async fn across(server: Server, control: &Server) -> Self {
        Self::bare_across(server, control).await.harden().await
    }

    async fn harden(self) -> Self {
        let house = self;
        house.lifecycle("boot").migrate_shared().await.unwrap();
        let declaration = Declaration::from(house.config.as_ref());
        let mut admin = house.application.connect().await;
        let facts = collect(&mut admin, &declaration).await.unwrap();
        apply(&mut admin, &plan(&facts, &declaration), &mut |_, _, _| {}).await.unwrap();
        house
    }

    /// With nothing in the application's database.
    pub async fn bare() -> Self {
        Self::bare_across(Server::shared(), &Server::shared()).await
    }

    /// Hardened, with prepared databases on the cluster `main`.
    pub async fn stocked() -> Self {
        Self::stocked_on(Server::shared()).await
    }

    pub async fn stocked_on(server: Server) -> Self {
        Self::made(server.clone(), &server, "warm_databases = 3\n").await.harden().await
    }

    async fn bare_across(server: Server, control: &Server) -> Self {
        Self::made(server, control, "").await
    }

    async fn made(server: Server, control: &Server, main: &str) -> Self {
        let (application, control) = (server.database("life").await, control.database("control").await);
        let migrations = tempfile::tempdir().unwrap();
        std::fs::write(migrations.path().join("0001_notes.sql"), MIGRATION).unwrap();
        let (name, database) = (unique("life"), &application.name);
        let text = format!(
            "[control]\nlease_seconds = 1\n\
             [application]\nname = \"{name}\"\ncluster = \"main\"\ndatabase = \"{database}\"\nmigrations = \"migrations\"\n\
             [clusters.main]\nurl = \"postgres://main\"\n{main}\
             [clusters.own]\nurl = \"postgres://own\"\nreserved_for = \"{WALLED}\"\n\
             [tiers.row]\nisolation = \"row\"\n[tiers.schema]\nisolation = \"schema\"\n\
             [tiers.database]\nisolation = \"database\"\n[tiers.cluster]\nisolation = \"cluster\"\n\
             [tiers.small]\nisolation = \"schema\"\n[tiers.small.limits]\nserver_connections_max = 1\n"
        );
        let config = Arc::new(Config::parse("guardian.toml", &text).unwrap());
        let (vault, master_key) = Vault::generate().unwrap();
        let master_key = master_key.to_string();
        let store = Store::open(control.options(), vault).await.unwrap();
        store.declare_tiers(&config.declared_tiers()).await.unwrap();
        Self { store, config, server, control, application, migrations, master_key }
    }

    fn clusters(&self, names: &[&str]) -> Clusters {
        let options = self.server.options("postgres");
        Clusters::new(names.iter().map(|name| (name.parse().unwrap(), options.clone())).collect::<BTreeMap<_, _>>())
    }

    pub fn lifecycle(&self, worker: &str) -> Lifecycle {
        self.with(self.store.clone(), &["main", "own"], worker)
    }

    /// One with connections of its own, which end with the runtime that this is run on.
    pub fn apart(&self, worker: &str) -> impl Future<Output = Lifecycle> + use<> {
        let (options, key) = (self.control.options(), self.master_key.clone());
        let (config, clusters) = (Arc::clone(&self.config), self.clusters(&["main", "own"]));
        let (folder, worker) = (Some(self.migrations.path().to_owned()), worker.to_owned());
        async move {
            let store = Store::open(options, Vault::from_hex(&key).unwrap()).await.unwrap();
            Lifecycle::new(store, clusters, config, folder, worker)
        }
    }

    /// After a person has mended what [`House::poison`] stumbles over.
    pub fn mended(&self) -> Lifecycle {
        self.with(self.store.clone(), &["main", "own", ELSEWHERE], "mended")
    }

    fn with(&self, store: Store, clusters: &[&str], worker: &str) -> Lifecycle {
        let folder = Some(self.migrations.path().to_owned());
        Lifecycle::new(store, self.clusters(clusters), Arc::clone(&self.config), folder, worker)
    }

    pub fn add_migration(&self, name: &str, sql: &str) {
        std::fs::write(self.migrations.path().join(name), sql).unwrap();
    }

    /// A step that fails, and has nothing to be undone.
    pub fn poison(&self) -> Step {
        Step::Migrate { place: Place { cluster: ELSEWHERE.parse().unwrap(), ..self.config.shared_place() } }
    }

    pub async fn admin(&self) -> PgConnection {
        self.application.connect().await
    }

    pub async fn tenant(&self, id: TenantId) -> Tenant {
        self.store.tenant(&TenantRef::Id(id)).await.unwrap().unwrap()
    }

    /// Waits until the operation has ended, or is stuck.
    pub async fn ended(&self, id: OperationId) -> Operation {
        let begun = Instant::now();
        loop {
            let operation = self.store.operation(id).await.unwrap().unwrap();
            if !matches!(operation.state, OperationState::Running | OperationState::Undoing) {
                return operation;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "the operation does not end: {operation:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// An active tenant, with data of its own.
    pub async fn create(&self, isolation: Isolation) -> Tenant {
        let change = self.lifecycle("creator").create(&permit(), request(isolation), None).await.unwrap();
        let operation = self.ended(change.operation.id).await;
        assert_eq!(operation.state, OperationState::Done, "{operation:?}");
        let tenant = self.tenant(operation.tenant).await;
        self.use_it(&tenant).await;
        tenant
    }

    /// Enters the tenant by a ticket and writes and reads, as somebody who uses `guardian psql`.
    pub async fn use_it(&self, tenant: &Tenant) {
        let mut session = self.enter(tenant).await;
        for statement in ["INSERT INTO note (body) VALUES ('a')", "INSERT INTO reply (note, body) SELECT id, 'b' FROM note"]
        {
            sqlx::raw_sql(statement).execute(&mut session).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        let (rows, keys): (i64, Vec<String>) =
            sqlx::query_as("SELECT count(*), array_agg(DISTINCT tenant_id::text) FROM note")
                .fetch_one(&mut session)
                .await
                .unwrap();
        assert!(rows > 0);
        assert_eq!(keys, [tenant.key.as_str()]);
        session.close().await.unwrap();
    }

    pub async fn enter(&self, tenant: &Tenant) -> PgConnection {
        let permit = Actor::system("test").permit(Permission::TenantEnter, Some(tenant.id)).unwrap();
        let grant = self.lifecycle("enter").issue_ticket(&permit, tenant).await.unwrap();
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.server.port());
        let options = options.username(&grant.user).password(&grant.password).database(&grant.database);
        let mut session = options.connect().await.unwrap();
        if let Some(ticket) = grant.ticket {
            let register: Option<String> = sqlx::query_scalar("SELECT guardian.redeem(decode($1, 'hex'))")
                .bind(ticket)
                .fetch_one(&mut session)
                .await
                .unwrap();
            assert!(register.is_some(), "the ticket opens nothing");
        }
        session
    }

    /// Whether anybody could be let in.
    pub async fn is_open(&self, tenant: &Tenant) -> bool {
        let sql = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND rolcanlogin AND rolname LIKE 'ten%') \
                   OR EXISTS (SELECT FROM guardian.capability WHERE register = replace($2, '-', ''))";
        sqlx::query_scalar(sql)
            .bind(&tenant.placement.role)
            .bind(&tenant.key)
            .fetch_one(&mut self.admin().await)
            .await
            .unwrap()
    }

    /// Everything of the tenant that is anywhere on the server.
    pub async fn traces(&self, tenant: &Tenant) -> Vec<String> {
        let sql = format!(
            "SELECT 'role ' || rolname FROM pg_roles WHERE rolname = $1 \
             UNION ALL SELECT 'database ' || datname FROM pg_database WHERE datname = $1 \
             UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = $1 \
             UNION ALL SELECT 'ledger ' || name FROM guardian.migration WHERE place = $1 \
             UNION ALL SELECT 'note' FROM note WHERE tenant_id = '{0}' \
             UNION ALL SELECT 'reply' FROM reply WHERE tenant_id = '{0}' \
             UNION ALL SELECT 'capability' FROM guardian.capability WHERE register = replace('{0}', '-', '') \
             UNION ALL SELECT 'ticket' FROM guardian.ticket WHERE register = replace('{0}', '-', '') \
             ORDER BY 1",
            tenant.key
        );
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(tenant.id.to_string());
        found.fetch_all(&mut self.admin().await).await.unwrap()
    }

    /// Begins an operation with the given plan and leaves it to whoever claims it.
    pub async fn begin(&self, subject: &Subject, plan: Plan) -> OperationId {
        let lease = Lease { worker: "nobody".to_owned(), duration: Duration::ZERO };
        let claim = match subject {
            Subject::New(new) => {
                let secrets = Secrets {
                    capability: Some(Capability::from_bytes(rand_bytes())),
                    password: Some(Uuid::now_v7().to_string()),
                };
                match self.store.begin_create(&permit(), new.clone(), secrets, plan, None, &lease).await.unwrap() {
                    Begun::New(claim) => *claim,
                    Begun::Replayed(..) => unreachable!(),
                }
            }
            Subject::Old(tenant, kind) => {
                self.store.begin(&permit(), tenant.id, *kind, plan, &[tenant.state], &lease).await.unwrap()
            }
        };
        let mut control = self.control.connect().await;
        sqlx::raw_sql("SELECT pg_notify('guardian_operation', '')").execute(&mut control).await.unwrap();
        claim.id
    }

    /// A subject for an operation of this kind: a new tenant, or one that is in the state that the operation begins in.
    pub async fn subject(&self, kind: OperationKind, isolation: Isolation) -> Subject {
        if kind == OperationKind::Create {
            let id = TenantId::from_uuid(Uuid::now_v7());
            let CreateTenant { slug, tier, .. } = request(isolation);
            let cluster = if isolation == Isolation::Cluster { "own" } else { "main" }.parse().unwrap();
            let name = &self.config.application.name;
            let placement = Placement::derive(isolation, id, name, &self.config.shared_place(), &cluster);
            return Subject::New(NewTenant { id, slug, key: TenantKey::Uuid(id.uuid()), tier, placement });
        }
        let mut tenant = self.create(isolation).await;
        if kind == OperationKind::Resume {
            let change = self.lifecycle("suspender").suspend(&permit(), tenant.id).await.unwrap();
            tenant = change.tenant;
            assert_eq!(tenant.state, TenantState::Suspended);
        }
        Subject::Old(Box::new(tenant), kind)
    }
}

/// What an operation is about.
pub enum Subject {
    New(NewTenant),
    Old(Box<Tenant>, OperationKind),
}

impl Subject {
    pub fn id(&self) -> TenantId {
        match self {
            Self::New(new) => new.id,
            Self::Old(tenant, _) => tenant.id,
        }
    }

    /// The state that the tenant is in when nothing has happened.
    pub fn state_before(&self) -> TenantState {
        match self {
            Self::New(_) => TenantState::Deleted,
            Self::Old(tenant, _) => tenant.state,
        }
    }

    pub fn plan(&self) -> Plan {
        match self {
            Self::New(new) => operations::create::plan(&new.placement, &new.key.to_string(), true),
            Self::Old(tenant, kind) => {
                let (placement, key) = (&tenant.placement, tenant.key.as_str());
                match kind {
                    OperationKind::Suspend => operations::suspend::plan(placement, key),
                    OperationKind::Resume => operations::resume::plan(placement, key),
                    _ => operations::delete::plan(placement, key, tenant.state, Some(Timestamp::now())),
                }
            }
        }
    }
}

/// Workers that stop with the value.
pub struct Workers {
    stop: CancellationToken,
    work: Option<tokio::task::JoinHandle<()>>,
}

impl Workers {
    pub fn start(lifecycle: Lifecycle) -> Self {
        let stop = CancellationToken::new();
        let work = tokio::spawn(lifecycle.work(stop.clone()));
        Self { stop, work: Some(work) }
    }

    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(work) = self.work.take() {
            work.await.unwrap();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn permit() -> Permit {
    Actor::system("test").permit(Permission::TenantWrite, None).unwrap()
}

pub fn request(isolation: Isolation) -> CreateTenant {
    let slug = match isolation {
        Isolation::Cluster => WALLED.to_owned(),
        _ => format!("t{}", Uuid::now_v7().simple()),
    };
    CreateTenant { slug: slug.parse().unwrap(), tier: tier(isolation), key: None }
}

pub fn tier(isolation: Isolation) -> TierName {
    isolation.as_str().parse().unwrap()
}

fn rand_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::now_v7().as_bytes());
    bytes[16..].copy_from_slice(Uuid::now_v7().as_bytes());
    bytes
}
