//! Prepared databases: handed out once, never of an old version or one that a tenant has been in, and made again.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

mod house;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use guardian_lifecycle::LifecycleError;
use guardian_model::{
    ClusterName, Isolation, OperationState, Permission, Placement, Tenant, TenantId, TenantKey, TenantState,
    api::CreateTenant,
};
use guardian_provision::{MAINTENANCE_DATABASE, Migrations, Warm, database, lock, role::Bounds, warm::Restocked};
use guardian_store::{AuditFilter, BeginError, Created, Idempotency, NewTenant, Secrets, TenantRef};
use house::{House, Workers, permit, request, tier};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions, types::Uuid};
use tokio::time::{Instant, sleep};

const WANTED: usize = 3;

fn cluster() -> ClusterName {
    "main".parse().unwrap()
}

fn warm(house: &House) -> Warm {
    Warm::new(&house.config.application.name, &Migrations::default(), "")
}

async fn maintenance(house: &House) -> PgConnection {
    house.server.connect(MAINTENANCE_DATABASE).await
}

async fn names(house: &House, sql: &str, of: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).bind(of).fetch_all(&mut maintenance(house).await).await.unwrap()
}

/// The ids of what can be handed out.
async fn ready(house: &House) -> HashSet<TenantId> {
    let sql = "SELECT rolname::text FROM pg_roles WHERE starts_with(shobj_description(oid, 'pg_authid'), $1)";
    let names = names(house, sql, &format!("{}prepared", warm(house).marks())).await;
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn mark_of(house: &House, id: TenantId) -> String {
    let mark = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1";
    names(house, mark, &id.to_string()).await.remove(0)
}

/// The application's templates, half made ones among them.
async fn templates(house: &House) -> Vec<String> {
    names(house, "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)", &warm(house).names()).await
}

/// Roles and databases of this name.
async fn traces(house: &House, name: &str) -> Vec<String> {
    let sql =
        "SELECT 'role' FROM pg_roles WHERE rolname = $1 UNION ALL SELECT 'database' FROM pg_database WHERE datname = $1";
    names(house, sql, name).await
}

async fn restock(house: &House) -> Restocked {
    house.lifecycle("keeper").restock(&cluster(), WANTED).await.unwrap()
}

fn made(made: usize) -> Restocked {
    Restocked { made, ..Restocked::default() }
}

/// Creates a tenant that is active at once, as only one out of the stock is.
async fn create(house: &House, request: CreateTenant) -> Tenant {
    let change = house.lifecycle("creator").create(&permit(), request, None).await.unwrap();
    assert_eq!((change.tenant.state, change.operation.state), (TenantState::Active, OperationState::Done), "{change:?}");
    change.tenant
}

async fn clear(house: &House, tenants: &[Tenant]) {
    let mut admin = maintenance(house).await;
    for tenant in tenants {
        database::remove(&mut admin, &tenant.placement.place.database).await.unwrap();
    }
    house.lifecycle("keeper").restock(&cluster(), 0).await.unwrap();
    for name in templates(house).await {
        database::remove(&mut admin, &name).await.unwrap();
    }
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

async fn files_in(house: &House, tenant: &Tenant) -> Vec<String> {
    let mut inside = house.server.connect(&tenant.placement.place.database).await;
    let files = sqlx::query_scalar("SELECT name FROM guardian.migration ORDER BY 1").fetch_all(&mut inside).await.unwrap();
    inside.close().await.unwrap();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_gets_a_prepared_database_and_another_is_made() {
    let house = House::stocked().await;
    assert_eq!(restock(&house).await, made(WANTED));
    assert_eq!(restock(&house).await, Restocked::default(), "the stock was full");
    let before = ready(&house).await;
    let workers = Workers::start(house.lifecycle("worker"));
    let tenant = create(&house, request(Isolation::Database)).await;
    assert!(before.contains(&tenant.id), "a database was made although some were ready");
    house.use_it(&tenant).await;
    assert_eq!(house.tenant(tenant.id).await, tenant);
    // It can be suspended and resumed like any other.
    let lifecycle = house.lifecycle("creator");
    assert_eq!(lifecycle.suspend(&permit(), tenant.id).await.unwrap().tenant.state, TenantState::Suspended);
    assert!(!house.is_open(&tenant).await);
    lifecycle.resume(&permit(), tenant.id).await.unwrap();
    house.use_it(&tenant).await;
    let begun = Instant::now();
    while ready(&house).await.len() < WANTED {
        assert!(begun.elapsed() < Duration::from_mins(1), "the stock stays short");
        sleep(Duration::from_millis(20)).await;
    }
    workers.stop().await;
    clear(&house, &[tenant]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_is_that_of_any_creation() {
    let house = House::stocked().await;
    restock(&house).await;
    let told = async |tenant: TenantId| {
        let filter = AuditFilter { tenant: Some(tenant), ..AuditFilter::default() };
        let mut entries = house.store.audit_entries(&filter, None, None).await.unwrap().items;
        entries.retain(|entry| entry.action != "ticket.issue");
        let operations = guardian_store::OperationFilter { tenant: Some(tenant), ..Default::default() };
        let operation = house.store.operations(&operations, None, None).await.unwrap().items.remove(0);
        assert!(operation.steps.iter().all(|step| step.duration_us.is_some()), "{operation:?}");
        let words = |entry: &guardian_model::api::AuditEntry| {
            let keys: Vec<String> = entry.detail.as_object().unwrap().keys().cloned().collect();
            (entry.actor.clone(), entry.action.clone(), entry.outcome.clone(), keys)
        };
        let steps: Vec<_> = operation.steps.iter().map(|step| step.name.clone()).collect();
        (entries.iter().map(words).collect::<Vec<_>>(), operation.requested_by, operation.steps_done, steps)
    };
    let out_of_stock = create(&house, request(Isolation::Database)).await;
    let ordinary = house.create(Isolation::Schema).await;
    let (entries, by, ..) = told(ordinary.id).await;
    let (same_entries, same_by, done, steps) = told(out_of_stock.id).await;
    assert_eq!((same_entries, same_by), (entries, by));
    assert_eq!(done, steps.len());
    assert_eq!(steps, ["reach_cluster", "ensure_role", "ensure_database", "migrate", "grant_place", "allow_login"]);
    clear(&house, &[out_of_stock]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_into_a_prepared_database_and_its_role_nowhere() {
    let house = House::stocked().await;
    restock(&house).await;
    let tenant = create(&house, request(Isolation::Database)).await;
    let mut admin = maintenance(&house).await;
    let way_in = |user: &str, password: &str, database: &str| {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(house.server.port());
        options.username(user).password(password).database(database)
    };
    let own = tenant.placement.role.as_str();
    let password = house.store.secrets(tenant.id).await.unwrap().password.unwrap();
    let mut session = way_in(own, &password, &tenant.placement.place.database).connect().await.unwrap();
    // Nor does a tenant's role pass for one of them.
    let forged = format!("COMMENT ON ROLE \"{own}\" IS '{}prepared'", warm(&house).marks());
    let refused = sqlx::raw_sql(AssertSqlSafe(forged)).execute(&mut session).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("42501"), "{refused}");
    session.close().await.unwrap();
    for id in ready(&house).await {
        let name = id.to_string();
        for role in ["pg_monitor", own] {
            let sql = "SELECT has_database_privilege($1, $2, 'CONNECT')";
            let open: bool = sqlx::query_scalar(sql).bind(role).bind(&name).fetch_one(&mut admin).await.unwrap();
            assert!(!open, "{role} gets into {name}");
        }
        way_in(own, &password, &name).connect().await.unwrap_err();
        let sql = "SELECT rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls \
                   OR EXISTS (SELECT FROM pg_auth_members WHERE member = a.oid) FROM pg_authid a WHERE rolname = $1";
        let powerful: bool = sqlx::query_scalar(sql).bind(&name).fetch_one(&mut admin).await.unwrap();
        assert!(!powerful, "{name}");
        let sealed = mark_of(&house, id).await.rsplit(' ').next().unwrap().to_owned();
        let its_own = house.store.open_password(id, &sealed).unwrap();
        way_in(&name, &its_own, &name).connect().await.unwrap_err();
    }
    clear(&house, &[tenant]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_get_twenty_databases() {
    let house = House::stocked().await;
    restock(&house).await;
    let before = ready(&house).await;
    let lifecycles = [house.apart("one").await, house.apart("two").await];
    let workers = lifecycles.clone().map(Workers::start);
    let permit = permit();
    let creations = (0..20).map(|number| lifecycles[number % 2].create(&permit, request(Isolation::Database), None));
    let mut tenants = Vec::new();
    for change in join_all(creations).await {
        let operation = house.ended(change.unwrap().operation.id).await;
        assert_eq!(operation.state, OperationState::Done, "{operation:?}");
        let tenant = house.tenant(operation.tenant).await;
        house.use_it(&tenant).await;
        tenants.push(tenant);
    }
    let ids: HashSet<_> = tenants.iter().map(|tenant| tenant.id).collect();
    assert_eq!(ids.len(), tenants.len());
    assert!(ids.intersection(&before).count() > 0, "none came out of the stock");
    for workers in workers {
        workers.stop().await;
    }
    clear(&house, &tenants).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_that_want_the_same_gets_it() {
    let house = House::stocked().await;
    restock(&house).await;
    let id = *ready(&house).await.iter().next().unwrap();
    let warm = warm(&house);
    let (mut one, mut two) = (maintenance(&house).await, maintenance(&house).await);
    let mut first = one.begin().await.unwrap();
    let mut second = two.begin().await.unwrap();
    assert!(warm.reserve_any(&mut first, id).await.unwrap());
    assert!(!warm.reserve_any(&mut second, id).await.unwrap(), "two hold it");
    // Not even who keeps the stock drops it now.
    house.lifecycle("keeper").restock(&cluster(), 0).await.unwrap();
    assert_eq!(traces(&house, &id.to_string()).await, ["role", "database"]);
    let limits = house.store.tier(&tier(Isolation::Database)).await.unwrap().unwrap().limits;
    warm.hand_out(&mut first, id, None, Bounds { limits: &limits, schema: "public" }).await.unwrap();
    first.commit().await.unwrap();
    assert!(!warm.reserve_any(&mut second, id).await.unwrap(), "it was handed out");
    drop(second);
    // What was handed out is no longer the stock's, whoever it belongs to.
    house.lifecycle("keeper").restock(&cluster(), 0).await.unwrap();
    assert_eq!(traces(&house, &id.to_string()).await, ["role", "database"]);
    run(&mut one, format!("DROP DATABASE \"{id}\" WITH (FORCE)")).await;
    run(&mut one, format!("DROP ROLE \"{id}\"")).await;
    clear(&house, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_key_is_what_rows_belong_to() {
    let house = House::stocked().await;
    restock(&house).await;
    let before = ready(&house).await;
    let key = Uuid::now_v7().to_string();
    let given = CreateTenant { key: Some(key.clone()), ..request(Isolation::Database) };
    let tenant = create(&house, given.clone()).await;
    assert!(before.contains(&tenant.id) && tenant.key == key);
    house.use_it(&tenant).await;
    // A refused request spoils nothing.
    let refused = house.lifecycle("creator").create(&permit(), given, None).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::Begin(BeginError::SlugTaken(_))), "{refused}");
    assert_eq!(restock(&house).await, made(1));
    clear(&house, &[tenant]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_or_repeated_request_takes_nothing() {
    let house = House::stocked().await;
    restock(&house).await;
    let idempotency = Idempotency { key: "once".to_owned(), request_hash: [1; 32] };
    let (lifecycle, wanted) = (house.lifecycle("creator"), request(Isolation::Database));
    let first = lifecycle.create(&permit(), wanted.clone(), Some(idempotency.clone())).await.unwrap();
    assert_eq!(restock(&house).await, made(1));
    let again = lifecycle.create(&permit(), wanted.clone(), Some(idempotency)).await.unwrap();
    assert_eq!((again.tenant, again.operation), (first.tenant.clone(), first.operation));
    let refused = lifecycle.create(&permit(), wanted, None).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::Begin(BeginError::SlugTaken(_))), "{refused}");
    assert_eq!(restock(&house).await, Restocked::default());
    clear(&house, &[first.tenant]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_does_not_open_is_replaced() {
    let house = House::stocked().await;
    restock(&house).await;
    let ids: Vec<TenantId> = ready(&house).await.into_iter().collect();
    let (first, second) = (mark_of(&house, ids[0]).await, mark_of(&house, ids[1]).await);
    let mut admin = maintenance(&house).await;
    // Another's, and nobody's.
    for (id, mark) in [(ids[0], second), (ids[1], first.clone()), (ids[2], first[..first.len() - 4].to_owned())] {
        run(&mut admin, format!("COMMENT ON ROLE \"{id}\" IS '{mark}'")).await;
    }
    let mut tenants = Vec::new();
    for _ in &ids {
        let tenant = create(&house, request(Isolation::Database)).await;
        let password = house.store.secrets(tenant.id).await.unwrap().password.unwrap();
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(house.server.port());
        let options =
            options.username(&tenant.placement.role).password(&password).database(&tenant.placement.place.database);
        options.connect().await.unwrap().close().await.unwrap();
        tenants.push(tenant);
    }
    assert_eq!(tenants.iter().map(|tenant| tenant.id).collect::<HashSet<_>>(), ids.into_iter().collect());
    clear(&house, &tenants).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_an_old_version_is_handed_out() {
    let house = House::stocked().await;
    restock(&house).await;
    let old = ready(&house).await;
    house.add_migration("0002_more.sql", "CREATE TABLE more (tenant_id uuid NOT NULL);");
    // The stock has not been looked after since.
    let lifecycle = house.lifecycle("creator");
    let change = lifecycle.create(&permit(), request(Isolation::Database), None).await.unwrap();
    let operation = house.ended(change.operation.id).await;
    assert_eq!(operation.state, OperationState::Done, "{operation:?}");
    let tenant = house.tenant(operation.tenant).await;
    assert!(!old.contains(&tenant.id));
    assert_eq!(files_in(&house, &tenant).await, ["0001_notes.sql", "0002_more.sql"]);
    assert_eq!(restock(&house).await, Restocked { dropped: WANTED, ..made(WANTED) });
    assert!(old.is_disjoint(&ready(&house).await));
    for id in old {
        assert_eq!(traces(&house, &id.to_string()).await, [""; 0]);
    }
    assert_eq!(templates(&house).await.len(), 1, "the old template goes with the old databases");
    clear(&house, &[tenant]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_with_the_rights_of_an_old_declaration_is_handed_out() {
    let mut house = House::stocked().await;
    restock(&house).await;
    let old = ready(&house).await;
    let mut config = (*house.config).clone();
    config.application.global.insert("reply".to_owned(), "everybody reads the replies".to_owned());
    house.config = Arc::new(config);
    let change = house.lifecycle("creator").create(&permit(), request(Isolation::Database), None).await.unwrap();
    assert!(!old.contains(&house.ended(change.operation.id).await.tenant));
    assert_eq!(restock(&house).await, Restocked { dropped: WANTED, ..made(WANTED) });
    clear(&house, &[change.tenant]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_left_is_put_right() {
    let house = House::stocked().await;
    let mut admin = maintenance(&house).await;
    let warm = warm(&house);
    // Cut off in the making of the template.
    run(&mut admin, format!("CREATE DATABASE {}making_1 ALLOW_CONNECTIONS false", warm.names())).await;
    // Cut off in the making of a copy: before the database, behind it, and between the rights and the mark.
    let half_made = [(); 3].map(|()| TenantId::from_uuid(Uuid::now_v7()).to_string());
    for name in &half_made {
        run(&mut admin, format!("CREATE ROLE \"{name}\"; COMMENT ON ROLE \"{name}\" IS '{}in the making'", warm.marks()))
            .await;
    }
    for name in &half_made[1..] {
        run(&mut admin, format!("CREATE DATABASE \"{name}\"")).await;
    }
    run(&mut admin, format!("GRANT CONNECT ON DATABASE \"{0}\" TO \"{0}\"", half_made[2])).await;
    assert_eq!(restock(&house).await, Restocked { dropped: half_made.len(), ..made(WANTED) });
    for name in &half_made {
        assert_eq!(traces(&house, name).await, [""; 0]);
    }
    // Between the template and the copies.
    let template = templates(&house).await;
    assert_eq!(template.len(), 1, "{template:?}");
    database::remove(&mut admin, &template[0]).await.unwrap();
    assert_eq!(restock(&house).await, Restocked::default());
    assert_eq!(templates(&house).await, template);
    // One at work keeps the others out.
    lock::hold(&mut admin, &format!("prepared databases {}", warm.names())).await.unwrap();
    assert_eq!(restock(&house).await, Restocked { is_elsewhere: true, ..Restocked::default() });
    admin.close().await.unwrap();
    clear(&house, &[]).await;
}

/// Records a tenant as active with a prepared database, and is gone before that is handed out.
async fn cut_off(house: &House, key: Option<Uuid>) -> Tenant {
    let ids: Vec<_> = ready(house).await.into_iter().collect();
    let known = house.store.tenant_states(&ids).await.unwrap();
    let id = ids.into_iter().find(|id| !known.contains_key(id)).unwrap();
    let CreateTenant { slug, tier, .. } = request(Isolation::Database);
    let name = &house.config.application.name;
    let placement = Placement::derive(Isolation::Database, id, name, &house.config.shared_place(), &cluster());
    let plan = guardian_lifecycle::operations::create::plan(&placement, "", true);
    let new = NewTenant { id, slug, key: TenantKey::Uuid(key.unwrap_or(id.uuid())), tier, placement };
    let secrets = Secrets { capability: None, password: Some("a password".to_owned()) };
    match house.store.create_active(&permit(), new, &secrets, &plan, 1, None).await.unwrap() {
        Created::New(created) => created.0,
        Created::Replayed(..) => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_out_that_was_cut_off_is_finished() {
    let house = House::stocked().await;
    restock(&house).await;
    let (same_key, other_key) = (cut_off(&house, None).await, cut_off(&house, Some(Uuid::now_v7())).await);
    let suspended = cut_off(&house, None).await;
    // It is not handed out to anybody else meanwhile.
    let next = house.create(Isolation::Database).await;
    assert!(![&same_key, &other_key, &suspended].map(|tenant| tenant.id).contains(&next.id));
    house.lifecycle("suspender").suspend(&permit(), suspended.id).await.unwrap();
    house.add_migration("0002_more.sql", "CREATE TABLE more (tenant_id uuid NOT NULL);");
    assert_eq!(restock(&house).await, Restocked { finished: 2, ..made(WANTED) });
    for tenant in [&same_key, &other_key] {
        house.use_it(tenant).await;
        assert_eq!(files_in(&house, tenant).await, ["0001_notes.sql", "0002_more.sql"]);
    }
    assert!(!house.is_open(&suspended).await, "a suspended tenant was opened");
    house.lifecycle("suspender").resume(&permit(), suspended.id).await.unwrap();
    assert_eq!(restock(&house).await, Restocked { finished: 1, ..Restocked::default() });
    house.use_it(&suspended).await;
    assert_eq!(restock(&house).await, Restocked::default());
    clear(&house, &[same_key, other_key, suspended, next]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_control_database_hands_out_nothing_that_a_tenant_has_used() {
    let house = House::stocked().await;
    restock(&house).await;
    let (tenant, deleted) =
        (create(&house, request(Isolation::Database)).await, create(&house, request(Isolation::Database)).await);
    house.use_it(&tenant).await;
    let lifecycle = house.lifecycle("deleter");
    let change = lifecycle.delete(&permit(), deleted.id, true).await.unwrap();
    assert_eq!(house.ended(change.operation.id).await.state, OperationState::Done);
    assert_eq!(house.traces(&deleted).await, [""; 0]);
    // The control database is as it was before.
    let mut control = house.control.connect().await;
    run(&mut control, format!("SET search_path = guardian_store; DELETE FROM ticket WHERE tenant = '{0}'; DELETE FROM operation WHERE tenant = '{0}'; DELETE FROM tenant WHERE id = '{0}'", tenant.id.uuid())).await;
    assert!(house.store.tenant(&TenantRef::Id(tenant.id)).await.unwrap().is_none());
    let mut others = Vec::new();
    for _ in 0..2 {
        let Restocked { dropped, .. } = restock(&house).await;
        assert_eq!(dropped, 0);
        for _ in 0..WANTED {
            others.push(create(&house, request(Isolation::Database)).await);
        }
    }
    assert!(others.iter().all(|other| other.id != tenant.id && other.id != deleted.id));
    house.lifecycle("keeper").restock(&cluster(), 0).await.unwrap();
    let mut inside = house.server.connect(&tenant.placement.place.database).await;
    let notes: i64 = sqlx::query_scalar("SELECT count(*) FROM public.note").fetch_one(&mut inside).await.unwrap();
    assert_eq!(notes, 1, "the tenant's rows are untouched");
    inside.close().await.unwrap();
    others.push(tenant);
    clear(&house, &others).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_a_hand_out_reaches_the_servers_log() {
    let house = House::stocked_on(guardian_testkit::Server::own_with(&[("log_statement", "all")])).await;
    restock(&house).await;
    let tenant = create(&house, request(Isolation::Database)).await;
    let permit = guardian_model::access::Actor::system("test").permit(Permission::SecretRead, None).unwrap();
    let password = house.lifecycle("api").connection(&permit, &tenant).await.unwrap().password;
    let log = house.server.log();
    assert!(log.contains("SET LOCAL synchronous_commit = off; ALTER ROLE"), "the log shows what was done");
    assert!(!password.is_empty() && !log.contains(&password));
}
