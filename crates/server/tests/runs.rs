//! Hardening and migrations as runs: from nothing to hardened, side by side, and with a place that fails.

#![allow(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod common;

use std::path::PathBuf;

use axum::http::{Method, StatusCode};
use common::{World, permit, slug};
use guardian_model::{
    Permission, Role, Tenant, TenantState,
    api::{CreateTenant, RunState},
    placement::ApplicationRoles,
};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio_util::sync::{CancellationToken, DropGuard};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

fn helpdesk() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/helpdesk"))
}

async fn shared(world: &World) -> PgConnection {
    let place = world.config.shared_place();
    world.state.clusters.connect(&place.cluster, &place.database).await.unwrap()
}

/// Lets operations be worked on for as long as the guard lives.
fn work(world: &World) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(world.state.lifecycle.clone().work(stop.clone()));
    stop.drop_guard()
}

async fn schema_tenant(world: &World) -> Tenant {
    let create = CreateTenant { slug: slug("bridge"), tier: "business".parse().unwrap(), key: None };
    let made = world.state.lifecycle.create(&permit(Permission::TenantWrite, None), create, None).await.unwrap();
    loop {
        let tenant = world.store.tenant(&made.tenant.id.into()).await.unwrap().unwrap();
        match tenant.state {
            TenantState::Active => return tenant,
            TenantState::Creating => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            state => panic!("the tenant is {state}: {:?}", world.store.operation(made.operation.id).await),
        }
    }
}

#[tokio::test]
async fn an_application_comes_from_nothing_to_hardened() {
    let world = World::unborn(helpdesk()).await;
    let (operator, _) = world.token(Role::Operator, None).await;
    let early = world.call(&GET, "/v1/hardening", Some(&operator), None).await;
    assert_eq!(early.status, StatusCode::CONFLICT, "{}", early.text);
    assert!(early.text.contains("`guardian migrate` makes it"), "{}", early.text);
    let plan = world.call(&GET, "/v1/migrations", Some(&operator), None).await;
    assert_eq!(plan.body["places"][0]["pending"], plan.body["files"], "{}", plan.text);
    assert_eq!(plan.body["files"][0], "0001_people.sql");

    let run = world.run("/v1/migrations").await;
    assert_eq!(run.state, RunState::Done, "{:?}", run.error);
    assert!(run.items[0].detail.starts_with("0001_people.sql, "), "{:?}", run.items);
    let plan = world.call(&GET, "/v1/migrations", Some(&operator), None).await;
    assert_eq!(plan.body["places"][0]["pending"], serde_json::json!([]));

    let plan = world.call(&GET, "/v1/hardening", Some(&operator), None).await;
    let planned = plan.body["statements"].as_array().unwrap().len();
    assert!(planned > 0, "{}", plan.text);
    let run = world.run("/v1/hardening").await;
    assert_eq!(run.state, RunState::Done, "{:?}", run.error);
    assert_eq!(run.items.len(), planned + 1);
    assert!(run.items.iter().all(|item| item.state == RunState::Done && item.duration_us.is_some()), "{:?}", run.items);
    let again = world.call(&GET, "/v1/hardening", Some(&operator), None).await;
    assert_eq!(again.body["statements"], serde_json::json!([]), "{}", again.text);

    let mut connection = shared(&world).await;
    let role = ApplicationRoles::of(&world.config.application.name).app;
    let (can_login, password): (bool, Option<String>) =
        sqlx::query_as("SELECT rolcanlogin, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1")
            .bind(role)
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert!(can_login && password.unwrap().starts_with("SCRAM-SHA-256$"));
    let status = world.call(&GET, "/v1/status", Some(&operator), None).await;
    assert_eq!(status.body["clusters"][0]["reachable"], true, "{}", status.text);
    assert_eq!(status.body["mechanism"], again.body["mechanism"], "{}", status.text);
}

#[tokio::test]
async fn a_second_apply_waits_for_nobody() {
    let world = World::new().await;
    let (operator, _) = world.token(Role::Operator, None).await;
    let answers =
        futures_util::future::join_all((0..4).map(|_| world.call(&POST, "/v1/hardening", Some(&operator), None))).await;
    let started = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).count();
    assert_eq!(started, 1, "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.status != StatusCode::ACCEPTED) {
        assert_eq!(refused.body["type"], "https://guardian.dev/problems/run-busy", "{}", refused.text);
    }
    world.wait_for_runs().await;
}

#[tokio::test]
async fn a_place_that_fails_is_named_and_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let migrations = folder.path().join("migrations");
    std::fs::create_dir(&migrations).unwrap();
    std::fs::write(migrations.join("0001_note.sql"), "CREATE TABLE note (tenant_id uuid NOT NULL, text text);").unwrap();
    let world = World::unborn(folder.path().to_owned()).await;
    assert_eq!(world.run("/v1/migrations").await.state, RunState::Done);
    let _work = work(&world);
    let (sound, broken) = (schema_tenant(&world).await, schema_tenant(&world).await);
    let mut connection = shared(&world).await;
    let sql = format!("CREATE TABLE {}.tag (in_the_way int)", broken.placement.place.schema);
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    std::fs::write(migrations.join("0002_tag.sql"), "CREATE TABLE tag (tenant_id uuid NOT NULL, text text);").unwrap();

    let run = world.run("/v1/migrations").await;
    assert_eq!(run.state, RunState::Failed);
    let error = run.error.unwrap();
    assert!(error.starts_with("1 of 3 places failed: ") && error.contains(broken.slug.as_str()), "{error}");
    assert!(run.items[0].detail.contains("0002_tag.sql"), "{:?}", run.items);
    let item = |tenant: &Tenant| run.items.iter().find(|item| item.name.contains(tenant.slug.as_str())).unwrap();
    assert_eq!(item(&sound).state, RunState::Done);
    assert_eq!(item(&broken).state, RunState::Failed);
    assert!(item(&broken).detail.contains("already exists"), "{:?}", item(&broken));
    let granted: bool = sqlx::query_scalar("SELECT pg_catalog.has_table_privilege($1, $2, 'INSERT')")
        .bind(&sound.placement.role)
        .bind(format!("{}.tag", sound.placement.place.schema))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(granted, "the tenant's role reaches the new table");

    // A file that is wrong everywhere stops at the shared place.
    std::fs::write(migrations.join("0003_wrong.sql"), "CREATE TABL x (y int);").unwrap();
    let run = world.run("/v1/migrations").await;
    assert_eq!(
        run.items.iter().map(|item| item.state).collect::<Vec<_>>(),
        [RunState::Failed, RunState::Waiting, RunState::Waiting]
    );
    assert!(run.items[0].detail.contains("0003_wrong.sql:1"), "{:?}", run.items[0]);
}
