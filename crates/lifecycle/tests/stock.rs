//! Prepared databases: handed out once, never of an old version, and made again.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

mod house;

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use guardian_model::{ClusterName, Isolation, OperationState, Tenant};
use guardian_provision::{MAINTENANCE_DATABASE, Migrations, Warm, database, lock, warm::Restocked};
use house::{House, Workers, permit, request};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::types::Oid};
use tokio::time::{Instant, sleep};

const WANTED: usize = 3;

fn cluster() -> ClusterName {
    "main".parse().unwrap()
}

/// The databases that Guardian keeps for the house's application, by name.
async fn kept(house: &House) -> Vec<(String, Oid)> {
    let warm = Warm::new(&house.config.application.name, &Migrations::default());
    let mut admin = house.server.connect(MAINTENANCE_DATABASE).await;
    sqlx::query_as("SELECT datname::text, oid FROM pg_database WHERE starts_with(datname::text, $1) ORDER BY 1")
        .bind(warm.names())
        .fetch_all(&mut admin)
        .await
        .unwrap()
}

/// Those that can be handed out.
async fn ready(house: &House) -> HashSet<Oid> {
    kept(house).await.into_iter().filter(|(name, _)| name.contains("_warm_")).map(|(_, oid)| oid).collect()
}

async fn restock(house: &House) -> Restocked {
    house.lifecycle("keeper").restock(&cluster(), WANTED).await.unwrap()
}

async fn oid_of(house: &House, tenant: &Tenant) -> Oid {
    let mut admin = house.server.connect(MAINTENANCE_DATABASE).await;
    let found = sqlx::query_scalar("SELECT oid FROM pg_database WHERE datname = $1");
    found.bind(&tenant.placement.place.database).fetch_one(&mut admin).await.unwrap()
}

async fn clear(house: &House, tenants: &[Tenant]) {
    let mut admin = house.server.connect(MAINTENANCE_DATABASE).await;
    for tenant in tenants {
        database::remove(&mut admin, &tenant.placement.place.database).await.unwrap();
    }
    for (name, _) in kept(house).await {
        database::remove(&mut admin, &name).await.unwrap();
    }
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_gets_a_prepared_database_and_another_is_made() {
    let house = House::stocked().await;
    assert_eq!(restock(&house).await, Restocked { made: WANTED, dropped: 0, is_elsewhere: false });
    assert_eq!(restock(&house).await, Restocked::default(), "the stock was full");
    let before = ready(&house).await;
    let workers = Workers::start(house.lifecycle("worker"));
    let tenant = house.create(Isolation::Database).await;
    assert!(before.contains(&oid_of(&house, &tenant).await), "a database was made although some were ready");
    let begun = Instant::now();
    while ready(&house).await.len() < WANTED {
        assert!(begun.elapsed() < Duration::from_mins(1), "the stock stays short");
        sleep(Duration::from_millis(20)).await;
    }
    workers.stop().await;
    clear(&house, &[tenant]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_into_a_prepared_database() {
    let house = House::stocked().await;
    restock(&house).await;
    let mut admin = house.server.connect(MAINTENANCE_DATABASE).await;
    for (name, _) in kept(&house).await {
        let sql = "SELECT has_database_privilege('pg_monitor', datname, 'CONNECT') AND datallowconn FROM pg_database \
                   WHERE datname = $1";
        let open: bool = sqlx::query_scalar(sql).bind(&name).fetch_one(&mut admin).await.unwrap();
        assert!(!open, "{name}");
    }
    clear(&house, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_get_twenty_databases() {
    let house = House::stocked().await;
    restock(&house).await;
    let workers = [Workers::start(house.lifecycle("one")), Workers::start(house.lifecycle("two"))];
    let creator = house.lifecycle("creator");
    let permit = permit();
    let changes = join_all((0..20).map(|_| creator.create(&permit, request(Isolation::Database), None))).await;
    let mut tenants = Vec::new();
    for change in changes {
        let operation = house.ended(change.unwrap().operation.id).await;
        assert_eq!(operation.state, OperationState::Done, "{operation:?}");
        let tenant = house.tenant(operation.tenant).await;
        house.use_it(&tenant).await;
        tenants.push(tenant);
    }
    let databases = join_all(tenants.iter().map(|tenant| oid_of(&house, tenant))).await;
    assert_eq!(databases.into_iter().collect::<HashSet<_>>().len(), tenants.len());
    for workers in workers {
        workers.stop().await;
    }
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
    assert!(!old.contains(&oid_of(&house, &tenant).await));
    let mut inside = house.server.connect(&tenant.placement.place.database).await;
    let files: Vec<String> =
        sqlx::query_scalar("SELECT name FROM guardian.migration ORDER BY 1").fetch_all(&mut inside).await.unwrap();
    assert_eq!(files, ["0001_notes.sql", "0002_more.sql"]);
    inside.close().await.unwrap();
    // The old template goes with the old databases.
    assert_eq!(restock(&house).await, Restocked { made: WANTED, dropped: WANTED + 1, is_elsewhere: false });
    assert!(old.is_disjoint(&ready(&house).await));
    clear(&house, &[tenant]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_left_is_put_right() {
    let house = House::stocked().await;
    let mut admin = house.server.connect(MAINTENANCE_DATABASE).await;
    let warm = Warm::new(&house.config.application.name, &Migrations::default());
    // Cut off in the making of the template, of a copy, and between the two.
    for half_made in ["making_1", "making_2"] {
        run(&mut admin, format!("CREATE DATABASE {}{half_made} ALLOW_CONNECTIONS false", warm.names())).await;
    }
    assert_eq!(restock(&house).await, Restocked { made: WANTED, dropped: 2, is_elsewhere: false });
    let template = kept(&house).await.into_iter().find(|(name, _)| name.ends_with("_template")).unwrap().0;
    database::remove(&mut admin, &template).await.unwrap();
    assert_eq!(restock(&house).await, Restocked { made: 0, dropped: 0, is_elsewhere: false });
    assert!(kept(&house).await.iter().any(|(name, _)| *name == template));
    // One at work keeps the others out.
    lock::hold(&mut admin, &format!("prepared databases {}", warm.names())).await.unwrap();
    assert_eq!(restock(&house).await, Restocked { is_elsewhere: true, ..Restocked::default() });
    admin.close().await.unwrap();
    clear(&house, &[]).await;
}
