//! Deleting one tenant's rows from shared tables that make it hard, and nobody else's.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::path::Path;

use guardian_model::{Config, KeyType, TenantKey};
use guardian_postgres::{Declaration, apply, collect, plan};
use guardian_provision::rows::{self, SharedTables};
use guardian_testkit::{Server, TestDatabase};
use sqlx::{AssertSqlSafe, PgConnection};

const GLOBAL: &[String] = &[];

fn shared() -> SharedTables<'static> {
    SharedTables { schema: "public", column: "tenant_id", global: GLOBAL }
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn count(connection: &mut PgConnection, table: &str, tenant: i64) -> i64 {
    let sql = format!("SELECT count(*) FROM {table} WHERE tenant_id = {tenant}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

async fn database(sql: &str) -> (TestDatabase, PgConnection) {
    let database = Server::shared().database("rows").await;
    let mut admin = database.connect().await;
    run(&mut admin, sql).await;
    (database, admin)
}

/// Deletes tenant 1 twice and expects tenant 2 untouched.
async fn remove_one_of_two(admin: &mut PgConnection, tables: &[&str], rows: u64) {
    let mut before = Vec::new();
    for table in tables {
        before.push(count(admin, table, 2).await);
    }
    assert_eq!(rows::remove(admin, &shared(), &TenantKey::Bigint(1)).await.unwrap(), rows);
    assert_eq!(rows::remove(admin, &shared(), &TenantKey::Bigint(1)).await.unwrap(), 0);
    assert!(rows::remaining(admin, &shared(), &TenantKey::Bigint(1)).await.unwrap().is_empty());
    for (table, before) in tables.iter().zip(before) {
        assert_eq!(count(admin, table, 1).await, 0, "{table}");
        assert_eq!(count(admin, table, 2).await, before, "{table}");
        assert!(before > 0, "{table}");
    }
}

#[tokio::test]
async fn more_rows_than_a_batch_in_order_of_foreign_keys_that_restrict() {
    let (_database, mut admin) = database(
        "CREATE TABLE parent (tenant_id int, id int PRIMARY KEY);
         CREATE TABLE child (tenant_id smallint, id int REFERENCES parent ON DELETE RESTRICT);
         CREATE INDEX ON child (id);
         INSERT INTO parent SELECT 1 + n % 2, n FROM generate_series(1, 22000) n;
         INSERT INTO child SELECT tenant_id, id FROM parent",
    )
    .await;
    remove_one_of_two(&mut admin, &["parent", "child"], 22_000).await;
}

#[tokio::test]
async fn trees_go_leaf_by_leaf_and_circles_at_once() {
    let (_database, mut admin) = database(
        "CREATE TABLE tree (tenant_id bigint, id int PRIMARY KEY, up int REFERENCES tree ON DELETE RESTRICT);
         CREATE INDEX ON tree (up);
         INSERT INTO tree SELECT 1 + n / 8000, n, CASE WHEN n % 8000 > 0 THEN n - 1 - n % 2 * (n % 8000 / 2) END
         FROM generate_series(0, 15999) n;
         CREATE TABLE egg (tenant_id bigint, id int PRIMARY KEY, hen int NOT NULL);
         CREATE TABLE hen (tenant_id bigint, id int PRIMARY KEY, egg int NOT NULL REFERENCES egg);
         ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen DEFERRABLE INITIALLY DEFERRED;
         BEGIN; INSERT INTO egg VALUES (1, 1, 1), (2, 2, 2); INSERT INTO hen VALUES (1, 1, 1), (2, 2, 2); COMMIT;",
    )
    .await;
    remove_one_of_two(&mut admin, &["tree", "egg", "hen"], 8_002).await;
}

#[tokio::test]
async fn partitions_forced_policies_and_materialised_views() {
    let (_database, mut admin) = database(
        "CREATE TABLE event (tenant_id bigint, at int, PRIMARY KEY (tenant_id, at)) PARTITION BY RANGE (at);
         CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (100);
         CREATE TABLE event_2 PARTITION OF event DEFAULT PARTITION BY HASH (at);
         CREATE TABLE event_2_0 PARTITION OF event_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         CREATE TABLE note (tenant_id bigint, at int, FOREIGN KEY (tenant_id, at) REFERENCES event);
         INSERT INTO event SELECT 1 + n % 2, n FROM generate_series(1, 300) n;
         INSERT INTO note SELECT * FROM event;
         ALTER TABLE event ENABLE ROW LEVEL SECURITY; ALTER TABLE event FORCE ROW LEVEL SECURITY;
         CREATE MATERIALIZED VIEW daily AS SELECT tenant_id, count(*) AS n FROM event GROUP BY 1;
         CREATE UNIQUE INDEX ON daily (tenant_id)",
    )
    .await;
    remove_one_of_two(&mut admin, &["event", "note", "daily"], 300).await;
}

#[tokio::test]
async fn rows_that_triggers_write_meanwhile_go_too() {
    let (_database, mut admin) = database(
        "CREATE TABLE a_log (tenant_id bigint DEFAULT current_setting('backtrace_functions')::bigint, id int);
         CREATE TABLE item (tenant_id bigint, id int);
         CREATE FUNCTION log_item() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS
             $$ BEGIN INSERT INTO a_log (id) VALUES (OLD.id); RETURN OLD; END $$;
         CREATE TRIGGER log BEFORE DELETE ON item FOR EACH ROW EXECUTE FUNCTION log_item();
         INSERT INTO item SELECT 1 + n % 2, n FROM generate_series(1, 20) n;
         INSERT INTO a_log VALUES (2, 1)",
    )
    .await;
    remove_one_of_two(&mut admin, &["item", "a_log"], 20).await;
}

#[tokio::test]
async fn rows_that_will_not_go_are_told() {
    let (_database, mut admin) = database(
        "CREATE TABLE item (tenant_id bigint);
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER keep BEFORE DELETE ON item FOR EACH ROW EXECUTE FUNCTION keep();
         INSERT INTO item VALUES (1)",
    )
    .await;
    let error = rows::remove(&mut admin, &shared(), &TenantKey::Bigint(1)).await.unwrap_err();
    assert!(error.to_string().contains("remain in public.item") && !error.is_transient(), "{error}");
}

#[tokio::test]
async fn an_administrator_under_the_policies_does_not_take_blindness_for_emptiness() {
    let (_database, mut admin) = database("").await;
    let owner = guardian_testkit::unique("owner");
    run(
        &mut admin,
        &format!(
            "CREATE ROLE {owner}; GRANT CREATE ON SCHEMA public TO {owner}; SET ROLE {owner};
             CREATE TABLE item (tenant_id bigint); INSERT INTO item VALUES (1);
             ALTER TABLE item ENABLE ROW LEVEL SECURITY; ALTER TABLE item FORCE ROW LEVEL SECURITY"
        ),
    )
    .await;
    let error = rows::remove(&mut admin, &shared(), &TenantKey::Bigint(1)).await.unwrap_err();
    assert!(error.to_string().contains("row-level security"), "{error}");
    run(&mut admin, &format!("RESET ROLE; DROP OWNED BY {owner}; DROP ROLE {owner}")).await;
}

#[tokio::test]
async fn the_hardened_helpdesk_loses_one_tenant_and_nothing_else() {
    let helpdesk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/helpdesk");
    let database = TestDatabase::helpdesk().await;
    let mut admin = database.connect().await;
    let text = std::fs::read_to_string(helpdesk.join("guardian.toml")).unwrap();
    let named = format!("name = \"{}\"", guardian_testkit::unique("helpdesk"));
    let config = Config::parse("guardian.toml", &text.replace("name = \"helpdesk\"", &named)).unwrap();
    let filled = tokio::process::Command::new("psql")
        .args(["-X", "-q", "-v", "tenants=5", "-v", "tickets=900", "-f"])
        .arg(helpdesk.join("generate_fleet.sql"))
        .arg(database.url())
        .output()
        .await
        .unwrap();
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    run(&mut admin, "REFRESH MATERIALIZED VIEW ticket_daily").await;
    // Older servers cannot carry the tenant in a foreign key that sets NULL, so the example is refused there.
    if database.server().major() >= 15 {
        let declaration = Declaration::from(&config);
        let facts = collect(&mut admin, &declaration).await.unwrap();
        apply(&mut admin, &plan(&facts, &declaration), &mut |_, _, _| {}).await.unwrap();
    }

    let rows = async |admin: &mut PgConnection, condition: &str| -> Vec<(String, i64)> {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'm') ORDER BY 1",
        )
        .fetch_all(&mut *admin)
        .await
        .unwrap();
        let mut counts = Vec::new();
        for table in tables {
            let sql = format!("SELECT count(*) FROM public.{table} WHERE tenant_id {condition}");
            counts.push((table, sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *admin).await.unwrap()));
        }
        counts
    };
    // The largest of the five.
    let key: String = sqlx::query_scalar("SELECT md5('helpdesk tenant 1')::uuid::text").fetch_one(&mut admin).await.unwrap();
    let (own, others) = (format!("= '{key}'"), format!("<> '{key}'"));
    let before = rows(&mut admin, &others).await;
    assert!(rows(&mut admin, &own).await.iter().map(|(_, rows)| rows).sum::<i64>() > 1_000);
    let global = ["country".to_owned()];
    let shared = SharedTables { schema: "public", column: "tenant_id", global: &global };
    rows::remove(&mut admin, &shared, &TenantKey::parse(KeyType::Uuid, &key).unwrap()).await.unwrap();
    for (table, left) in rows(&mut admin, &own).await {
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(rows(&mut admin, &others).await, before);
}
