//! `guardian init` as a user runs it: what it writes, what it refuses, and that it goes together with psql.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::{AssertSqlSafe, PgConnection};

const SHOP: &str = "
CREATE TABLE accounts (id bigint PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE orders (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts);
CREATE TABLE order_lines (order_id bigint NOT NULL REFERENCES orders, line integer NOT NULL, PRIMARY KEY (order_id, line));
INSERT INTO accounts VALUES (1, 'a'), (2, 'b');
INSERT INTO orders VALUES (1, 1), (2, 2);
INSERT INTO order_lines VALUES (1, 1), (1, 2), (2, 1);";

async fn database(sql: &str) -> (TestDatabase, PgConnection) {
    let database = Server::shared().database("init").await;
    let mut connection = database.connect().await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    (database, connection)
}

fn init(database: &TestDatabase, folder: &Path, arguments: &[&str]) -> Output {
    let name = unique("init");
    let mut command = Command::new(env!("CARGO_BIN_EXE_guardian"));
    command.args(["init", "--url", &database.url(), "--name", &name, "--output"]).arg(folder).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a file as the documentation says.
fn psql(database: &TestDatabase, file: &Path) -> Output {
    Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", &database.url(), "--file"])
        .arg(file)
        .output()
        .unwrap()
}

#[tokio::test]
async fn the_files_work_one_after_the_other() {
    let (database, mut connection) = database(SHOP).await;
    let folder = tempfile::tempdir().unwrap();
    let done = init(&database, folder.path(), &[]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let shown = text(&done.stdout);
    assert!(shown.contains("Tenants: public.accounts, by the column account_id (bigint); confidence: high"), "{shown}");
    assert!(shown.contains("order_lines.order_id → orders.id, orders.account_id"), "{shown}");
    let tables = "SELECT count(*) FROM pg_attribute WHERE attname = 'account_id' AND attrelid > 16383 AND attnum > 0 \
                  AND attrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r')";
    let count: i64 = sqlx::query_scalar(tables).fetch_one(&mut connection).await.unwrap();
    assert_eq!(count, 1, "nothing was changed");

    for file in ["migrations/0001_tenant_columns.sql", "migrations/0001_tenant_columns.sql", "hardening.sql"] {
        let done = psql(&database, &folder.path().join(file));
        assert!(done.status.success(), "{file}: {}", text(&done.stderr));
    }
    let filled = "SELECT array_agg(account_id ORDER BY order_id, line) FROM public.order_lines";
    let filled: Vec<i64> = sqlx::query_scalar(filled).fetch_one(&mut connection).await.unwrap();
    assert_eq!(filled, [1, 1, 2]);
    let forced =
        "SELECT count(*) FROM pg_class WHERE relforcerowsecurity AND relname IN ('accounts', 'orders', 'order_lines')";
    let forced: i64 = sqlx::query_scalar(forced).fetch_one(&mut connection).await.unwrap();
    assert_eq!(forced, 3);
}

#[tokio::test]
async fn files_are_not_overwritten_and_hold_no_password() {
    let (database, _connection) = database(SHOP).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("guardian.toml");
    fs::write(&config, "mine").unwrap();
    let refused = init(&database, folder.path(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is there already"), "{}", text(&refused.stderr));
    assert_eq!(fs::read_to_string(&config).unwrap(), "mine");
    assert!(!folder.path().join("hardening.sql").exists());

    let done = init(&database, folder.path(), &["--force"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let url = database.url();
    let (_, rest) = url.split_once("://").unwrap();
    let (user, _) = rest.split_once('@').unwrap();
    let (_, password) = user.split_once(':').unwrap();
    assert!(password.len() > 5);
    for file in ["guardian.toml", "migrations/0001_tenant_columns.sql", "hardening.sql"] {
        let written = fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(written.len() > 100 && !written.contains(password), "{file}");
    }
}

#[tokio::test]
async fn what_is_undecided_is_said_and_stops_the_script() {
    let (database, _connection) = database(&format!("{SHOP} CREATE TABLE leads (id bigint PRIMARY KEY, email text)")).await;
    let folder = tempfile::tempdir().unwrap();
    let done = init(&database, folder.path(), &["--json"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let written: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let leads = written["tables"].as_array().unwrap().iter().find(|table| table["name"] == "leads").unwrap();
    assert_eq!(leads["class"]["kind"], "undecided");
    assert_eq!(written["to_decide"][0]["object"], "public.leads");
    assert_eq!(written["files"].as_array().unwrap().len(), 3);
    let refused = psql(&database, &folder.path().join("hardening.sql"));
    assert!(text(&refused.stderr).contains("something is to be decided first"), "{}", text(&refused.stderr));
}

#[tokio::test]
async fn without_tenants_nothing_is_written() {
    let (database, _connection) = database("CREATE TABLE stars (id bigint PRIMARY KEY)").await;
    let folder = tempfile::tempdir().unwrap();
    let refused = init(&database, folder.path(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("no table and no column looks like the tenants'") && said.contains("--tenant-root"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
