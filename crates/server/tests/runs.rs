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
    tool::ToolLogin,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
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
    schema_tenant_named(world, slug("bridge")).await
}

async fn schema_tenant_named(world: &World, slug: guardian_model::Slug) -> Tenant {
    let create = CreateTenant { slug, tier: "business".parse().unwrap(), key: None };
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

/// A folder with one migration, and room for more.
fn notes() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let migrations = folder.path().join("migrations");
    std::fs::create_dir(&migrations).unwrap();
    let sql = "CREATE TABLE note (tenant_id uuid NOT NULL, text text, n int);\nCREATE INDEX note_text ON note (text);";
    std::fs::write(migrations.join("0001_note.sql"), sql).unwrap();
    (folder, migrations)
}

#[tokio::test]
async fn a_canary_that_fails_halts_the_run_and_is_first_in_the_next() {
    let (folder, migrations) = notes();
    let rings = "\n[migrations]\nshared = \"last\"\nparallel = 1\n[[migrations.rings]]\nname = \"canary\"\ntenants = [\"canary-a\", \"canary-b\"]\n";
    let world = World::unborn_with(folder.path().to_owned(), rings).await;
    assert_eq!(world.run("/v1/migrations").await.state, RunState::Done);
    let _work = work(&world);
    schema_tenant(&world).await;
    let mut canaries = Vec::new();
    for name in ["canary-a", "canary-b"] {
        canaries.push(schema_tenant_named(&world, name.parse().unwrap()).await);
    }
    let mut connection = shared(&world).await;
    let sql = format!("CREATE TABLE {}.tag ()", canaries[1].placement.place.schema);
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    std::fs::write(migrations.join("0002_tag.sql"), "CREATE TABLE tag (tenant_id uuid NOT NULL);").unwrap();
    let (operator, _) = world.token(Role::Operator, None).await;
    let plan = world.call(&GET, "/v1/migrations", Some(&operator), None).await;
    let rings: Vec<_> = plan.body["rings"].as_array().unwrap().iter().map(|ring| ring["name"].as_str().unwrap()).collect();
    assert_eq!(rings, ["canary", "rest", "shared"]);
    assert_eq!(plan.body["rings"][0]["behind"], 2, "{}", plan.text);

    // One of two is more than the tenth that is borne: the places behind the ring are not touched.
    let run = world.run("/v1/migrations").await;
    let states = |run: &guardian_model::api::Run| run.items.iter().map(|item| item.state).collect::<Vec<_>>();
    assert_eq!(states(&run), [RunState::Done, RunState::Failed, RunState::Waiting, RunState::Waiting], "{:?}", run.items);
    assert!(run.error.as_ref().unwrap().ends_with("it stopped in ring canary, where more than 10 % failed"), "{run:?}");
    assert_eq!(run.items[2].detail, "ring rest");

    // It is tried first, and still fails: the other one is done without having been begun again.
    let run = world.run("/v1/migrations").await;
    assert!(run.items[0].name.contains("canary-b"), "{:?}", run.items);
    assert_eq!(states(&run)[0], RunState::Failed);

    let sql = format!("DROP TABLE {}.tag", canaries[1].placement.place.schema);
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    let body = serde_json::json!({ "ring": "canary" });
    let started = world.call(&POST, "/v1/migrations", Some(&operator), Some(body)).await;
    world.wait_for(started.body["id"].as_str().unwrap().parse().unwrap()).await;
    let plan = world.call(&GET, "/v1/migrations", Some(&operator), None).await;
    let behind: Vec<_> =
        plan.body["rings"].as_array().unwrap().iter().map(|ring| ring["behind"].as_u64().unwrap()).collect();
    assert_eq!(behind, [0, 1, 1], "{}", plan.text);
    let wrong = world.call(&POST, "/v1/migrations", Some(&operator), Some(serde_json::json!({ "ring": "nobody" }))).await;
    assert!(wrong.text.contains("there are `canary`, `rest`, `shared`"), "{}", wrong.text);
    assert_eq!(states(&world.run("/v1/migrations").await), [RunState::Done; 4]);
}

#[tokio::test]
async fn advice_comes_from_what_the_server_did() {
    let (folder, migrations) = notes();
    let world = World::unborn(folder.path().to_owned()).await;
    assert_eq!(world.run("/v1/migrations").await.state, RunState::Done);
    let _work = work(&world);
    schema_tenant(&world).await;
    let write = |name: &str, sql: &str| std::fs::write(migrations.join(name), sql).unwrap();
    write(
        "0002_change.sql",
        "CREATE TABLE fresh (tenant_id uuid NOT NULL, n int);\nALTER TABLE fresh ALTER n TYPE bigint;\n\
         ALTER TABLE note ALTER n TYPE bigint;\nALTER TABLE note ADD more text;\n",
    );
    write("0003_index.sql", "CREATE INDEX note_n ON note (n);");
    write("0004_drop.sql", "ALTER TABLE note DROP text;");
    let (operator, _) = world.token(Role::Operator, None).await;
    let plan = world.call(&POST, "/v1/migrations/advice", Some(&operator), None).await;
    assert_eq!(plan.body["advice_lacks"], serde_json::Value::Null, "{}", plan.text);
    let advice: Vec<_> = plan.body["advice"]
        .as_array()
        .unwrap()
        .iter()
        .map(|advice| {
            let text = |key: &str| advice[key].as_str().unwrap();
            (
                text("file"),
                advice["line"].as_u64().unwrap(),
                text("relation"),
                text("lock"),
                advice["rewrites"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        advice,
        [
            // What a file made itself is nobody's yet; the lock of line 3 is still held on line 4.
            ("0002_change.sql", 3, "note", "AccessExclusiveLock", true),
            ("0003_index.sql", 1, "note", "ShareLock", false),
            ("0004_drop.sql", 1, "note", "AccessExclusiveLock", false),
        ],
        "{}",
        plan.text
    );
    assert!(plan.body["advice"][0]["advice"].as_str().unwrap().contains("expand"));
    assert!(plan.body["advice"][1]["advice"].as_str().unwrap().contains("CONCURRENTLY"));
    assert!(plan.body["advice"][2]["advice"].as_str().unwrap().contains("contract only when"));
    let mut connection = shared(&world).await;
    let left: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.note'::regclass AND attname = 'more'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(left, 0, "the plan changed a real table");

    // What outlasts the scratch database stops the look, and is taken back.
    let role = guardian_testkit::unique("advised");
    write("0005_role.sql", &format!("CREATE ROLE {role};"));
    let plan = world.call(&POST, "/v1/migrations/advice", Some(&operator), None).await;
    assert!(
        plan.body["advice_lacks"].as_str().unwrap().contains("0005_role.sql changes what all databases"),
        "{}",
        plan.text
    );
    let made: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_roles WHERE rolname = $1")
        .bind(&role)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(made, 0);
}

#[tokio::test]
async fn drift_is_told_by_place() {
    let (folder, migrations) = notes();
    let write = |name: &str, sql: &str| std::fs::write(migrations.join(name), sql).unwrap();
    write("0002_fresh.sql", "CREATE TABLE fresh (tenant_id uuid NOT NULL, n int);");
    write("0003_index.sql", "CREATE INDEX note_n ON note (n);");
    write("0004_drop.sql", "ALTER TABLE note DROP text;");
    let world = World::unborn(folder.path().to_owned()).await;
    assert_eq!(world.run("/v1/migrations").await.state, RunState::Done);
    let _work = work(&world);
    let (first, second) = (schema_tenant(&world).await, schema_tenant(&world).await);
    let (operator, _) = world.token(Role::Operator, None).await;
    let mut connection = shared(&world).await;
    let drift = |query: String| {
        let (world, operator) = (&world, &operator);
        async move { world.call(&GET, &format!("/v1/migrations/drift{query}"), Some(operator), None).await }
    };
    let found = drift(String::new()).await;
    let places = found.body["places"].as_array().unwrap().clone();
    assert!(places.len() == 3 && places.iter().all(|place| place["tables"] == serde_json::json!([])), "{}", found.text);
    let schema = &second.placement.place.schema;
    let sql = format!(
        "DROP INDEX {schema}.note_n; CREATE TABLE {schema}.more (); DROP TABLE {schema}.fresh; DELETE FROM guardian.migration WHERE place = '{schema}' AND name = '0004_drop.sql'"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    write("0003_index.sql", "CREATE INDEX note_other ON note (n);");
    let found = drift(format!("?reference={}&limit=2", first.slug)).await;
    assert!(found.body["reference"].as_str().unwrap().contains(first.slug.as_str()), "{}", found.text);
    assert_eq!(found.body["places"].as_array().unwrap().len(), 2);
    let cursor = found.body["next_cursor"].as_str().unwrap();
    let last = drift(format!("?reference={}&cursor={cursor}", first.slug)).await;
    let places: Vec<_> =
        [&found, &last].into_iter().flat_map(|page| page.body["places"].as_array().unwrap().clone()).collect();
    let place = |tenant: &Tenant| {
        places.iter().find(|place| place["place"].as_str().unwrap().contains(tenant.slug.as_str())).unwrap()
    };
    assert_eq!(place(&first)["tables"], serde_json::json!([]));
    assert_eq!(
        place(&second)["tables"],
        serde_json::json!([
            { "table": "fresh", "kind": "missing" }, { "table": "more", "kind": "extra" }, { "table": "note", "kind": "differs" }
        ])
    );
    assert_eq!(
        (&place(&second)["missing"], &place(&second)["changed"]),
        (&serde_json::json!(["0004_drop.sql"]), &serde_json::json!(["0003_index.sql"]))
    );
}

#[tokio::test]
async fn one_at_a_time_on_a_cluster_and_again_after_a_lock() {
    let (folder, migrations) = notes();
    let world =
        World::unborn_with(folder.path().to_owned(), "\n[migrations]\nparallel = 4\nparallel_per_cluster = 1\n").await;
    assert_eq!(world.run("/v1/migrations").await.state, RunState::Done);
    let _work = work(&world);
    let locked = schema_tenant(&world).await;
    for _ in 0..2 {
        schema_tenant(&world).await;
    }
    // Fails in a place that is migrated while another one is.
    let sql = "SELECT pg_advisory_xact_lock_shared(4712);
        DO $$ BEGIN IF (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) > 1
            THEN RAISE EXCEPTION 'two at once'; END IF; END $$;
        SELECT pg_sleep(0.3);
        ALTER TABLE note ADD tag text;";
    std::fs::write(migrations.join("0002_alone.sql"), sql).unwrap();
    // For longer than a statement waits for a lock, and for less than the attempts at a place last.
    let mut connection = shared(&world).await;
    let hold = format!("BEGIN; SELECT FROM {}.note", locked.placement.place.schema);
    sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut connection).await.unwrap();
    let let_go = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
    });
    let run = world.run("/v1/migrations").await;
    assert_eq!(run.state, RunState::Done, "{:?} {:?}", run.error, run.items);
    let_go.await.unwrap();
}

#[tokio::test]
async fn a_tool_is_let_into_one_place_at_a_time_and_its_tables_are_hardened_afterwards() {
    let world = World::hardened().await;
    let _work = work(&world);
    let tenant = schema_tenant(&world).await;
    let (operator, actor) = world.token(Role::Operator, None).await;
    let call = async |method: &Method, uri: &str, body| world.call(method, uri, Some(&operator), body).await;
    let fleet = call(&GET, "/v1/migrations/places", None).await;
    assert_eq!(fleet.body["rings"], json!(["shared", "rest"]), "{}", fleet.text);
    let places = fleet.body["places"].as_array().unwrap();
    assert_eq!(places.len(), 2);
    assert_eq!((places[0].get("tenant"), &places[1]["tenant"]), (None, &json!(tenant.slug)));
    for (body, status) in [
        (json!({ "tenant": "nobody" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "tenant": world.tenant("row").await.tenant.slug }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "place": "main" }), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let refused = call(&POST, "/v1/migrations/logins", Some(body)).await;
        assert_eq!(refused.status, status, "{}", refused.text);
    }

    let shared = call(&POST, "/v1/migrations/logins", None).await;
    assert_eq!(shared.status, StatusCode::CREATED, "{}", shared.text);
    let busy = call(&POST, "/v1/migrations/logins", None).await;
    assert_eq!(busy.body["type"], "https://guardian.dev/problems/tool-busy", "{}", busy.text);
    assert!(busy.text.contains(&actor.name), "{}", busy.text);
    let own = call(&POST, "/v1/migrations/logins", Some(json!({ "tenant": tenant.id }))).await;
    assert_eq!((own.status, &own.body["schema"]), (StatusCode::CREATED, &json!(tenant.placement.place.schema)));

    let login: ToolLogin = serde_json::from_value(shared.body).unwrap();
    let options = PgConnectOptions::new_without_pgpass().host(&login.host).port(login.port);
    let mut tool =
        options.username(&login.user).password(&login.password).database(&login.database).connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE made (tenant_id uuid NOT NULL, n int)").execute(&mut tool).await.unwrap();
    let uri = format!("/v1/migrations/logins/{}", login.id);
    let closed = call(&Method::DELETE, &format!("{uri}?exit_status=0"), None).await;
    assert_eq!(closed.status, StatusCode::NO_CONTENT, "{}", closed.text);
    assert!(sqlx::raw_sql("SELECT 1").execute(&mut tool).await.is_err(), "its sessions are ended");
    for gone in [call(&Method::DELETE, &uri, None).await, call(&POST, &format!("{uri}/renew"), None).await] {
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{}", gone.text);
    }

    // Nothing is amiss with an owner that is no superuser, and what it made is protected as anything else.
    assert_eq!(world.run("/v1/hardening").await.state, RunState::Done);
    let again = call(&GET, "/v1/hardening", None).await;
    assert_eq!(again.body["statements"], json!([]), "{}", again.text);
    let mut connection = self::shared(&world).await;
    let (forced, owner): (bool, String) = sqlx::query_as(
        "SELECT relforcerowsecurity, pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = 'public.made'::regclass",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!((forced, owner), (true, ApplicationRoles::of(&world.config.application.name).migrator));
    // And the tool can go on there.
    let next = call(&POST, "/v1/migrations/logins", None).await;
    let login: ToolLogin = serde_json::from_value(next.body).unwrap();
    let options = PgConnectOptions::new_without_pgpass().host(&login.host).port(login.port);
    let mut tool =
        options.username(&login.user).password(&login.password).database(&login.database).connect().await.unwrap();
    for sql in ["ALTER TABLE made ADD COLUMN m int", "CREATE TABLE second (n int)", "SELECT count(*) FROM made"] {
        sqlx::raw_sql(sql).execute(&mut tool).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}
