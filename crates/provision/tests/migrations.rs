//! The user's migrations on a real server: in order, once, in the right schema, all of a file or nothing.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

use guardian_provision::{
    Migrations,
    migrations::{self, MigrateError},
    schema,
};
use guardian_testkit::{Server, TestDatabase};
use sqlx::{AssertSqlSafe, PgConnection};

fn files(files: &[(&str, &str)]) -> Migrations {
    Migrations::parse(files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned()))).unwrap()
}

async fn apply(database: &TestDatabase, schema: &str, migrations: &Migrations) -> Result<Vec<String>, MigrateError> {
    migrations::apply(&mut database.connect().await, schema, migrations).await
}

async fn exists(connection: &mut PgConnection, relation: &str) -> bool {
    let sql = format!("SELECT to_regclass('{relation}') IS NOT NULL");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn each_place_gets_each_file_once() {
    let database = Server::shared().database("migrate").await;
    let mut admin = database.connect().await;
    schema::ensure(&mut admin, "Own").await.unwrap();
    let first = files(&[("0001_a.sql", "CREATE TABLE a (n int); INSERT INTO a VALUES (1)")]);
    let both = files(&[
        ("0001_a.sql", "CREATE TABLE a (n int); INSERT INTO a VALUES (1)"),
        ("0002_b.sql", "CREATE TABLE b (n int); INSERT INTO b SELECT n FROM a"),
    ]);
    assert_eq!(apply(&database, "public", &first).await.unwrap(), ["0001_a.sql"]);
    assert_eq!(apply(&database, "public", &both).await.unwrap(), ["0002_b.sql"]);
    assert_eq!(migrations::pending(&mut admin, "Own", &both).await.unwrap().len(), 2);
    assert_eq!(apply(&database, "Own", &both).await.unwrap().len(), 2);
    assert!(apply(&database, "Own", &both).await.unwrap().is_empty());
    let rows: Vec<i64> = sqlx::query_scalar("SELECT count(*) FROM public.b UNION ALL SELECT count(*) FROM \"Own\".b")
        .fetch_all(&mut admin)
        .await
        .unwrap();
    assert_eq!(rows, [1, 1]);
    schema::remove(&mut admin, "Own").await.unwrap();
    assert_eq!(migrations::pending(&mut admin, "Own", &both).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_failing_file_leaves_nothing_and_says_where() {
    let database = Server::shared().database("failing").await;
    let mut admin = database.connect().await;
    let good = ("0001_a.sql", "CREATE TABLE a (n int)");
    let broken = "-- Two tables.\nCREATE TABLE b (n int);\nCREATE TABLE c (\n  n int,\n  m nonsense\n);";
    let error = apply(&database, "public", &files(&[good, ("0002_b.sql", broken)])).await.unwrap_err();
    assert!(!error.is_transient());
    let expected = "0002_b.sql:5: type \"nonsense\" does not exist (42704) (schema public); nothing of this file was kept";
    assert_eq!(error.to_string(), expected);
    assert!(exists(&mut admin, "public.a").await && !exists(&mut admin, "public.b").await);

    // An error without a position is that of its statement.
    let broken = "CREATE TABLE b (n int);\n\nCREATE TABLE a (n int);";
    let error = apply(&database, "public", &files(&[good, ("0002_b.sql", broken)])).await.unwrap_err();
    assert!(error.to_string().starts_with("0002_b.sql:3: relation \"a\" already exists"), "{error}");

    // A deferred constraint fails at the commit.
    let broken = "CREATE TABLE b (n int PRIMARY KEY);\nCREATE TABLE c (n int REFERENCES b DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO c VALUES (1);";
    let error = apply(&database, "public", &files(&[good, ("0002_b.sql", broken)])).await.unwrap_err();
    assert!(error.to_string().starts_with("0002_b.sql:3:"), "{error}");
    assert!(!exists(&mut admin, "public.b").await);

    // Mended, it runs.
    let mended = files(&[good, ("0002_b.sql", "CREATE TABLE b (n int)")]);
    assert_eq!(apply(&database, "public", &mended).await.unwrap(), ["0002_b.sql"]);
}

#[tokio::test]
async fn history_is_not_rewritten() {
    let database = Server::shared().database("history").await;
    apply(&database, "public", &files(&[("0001_a.sql", "SELECT 1"), ("0002_b.sql", "SELECT 2")])).await.unwrap();
    let changed = files(&[("0001_a.sql", "SELECT 3"), ("0002_b.sql", "SELECT 2")]);
    let error = apply(&database, "public", &changed).await.unwrap_err().to_string();
    assert!(error.starts_with("0001_a.sql was changed after it had been applied"), "{error}");
    let error = apply(&database, "public", &files(&[("0001_a.sql", "SELECT 1")])).await.unwrap_err().to_string();
    assert!(error.starts_with("0002_b.sql was applied to schema public but is not in"), "{error}");
}

#[tokio::test]
async fn two_runs_take_turns() {
    let database = Server::shared().database("turns").await;
    let migrations = files(&[("0001_a.sql", "SELECT pg_sleep(0.2); CREATE TABLE a (n int)")]);
    let (left, right) = tokio::join!(apply(&database, "public", &migrations), apply(&database, "public", &migrations));
    let mut counts = [left.unwrap().len(), right.unwrap().len()];
    counts.sort_unstable();
    assert_eq!(counts, [0, 1]);
}

#[tokio::test]
async fn places_of_one_database_are_migrated_side_by_side() {
    let database = Server::shared().database("beside").await;
    let mut admin = database.connect().await;
    let migrations = files(&[("0001_a.sql", "CREATE TABLE a (n int)")]);
    for index in 0..4 {
        schema::ensure(&mut admin, &format!("s{index}")).await.unwrap();
    }
    let database = &database;
    let migrations = &migrations;
    let schemas = ["s0", "s1", "s2", "s3"].map(|schema| async move { apply(database, schema, migrations).await.unwrap() });
    let [a, b, c, d] = schemas;
    tokio::join!(a, b, c, d);
}

#[tokio::test]
async fn a_file_may_ask_for_no_transaction() {
    let database = Server::shared().database("concurrently").await;
    let sql = "-- guardian: no-transaction\nCREATE TABLE IF NOT EXISTS a (n int);\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a_n ON a (n);";
    assert_eq!(apply(&database, "public", &files(&[("1_a.sql", sql)])).await.unwrap(), ["1_a.sql"]);
    let broken = format!("{sql}\nSELECT 1 / 0;");
    let error = apply(&database, "public", &files(&[("1_a.sql", sql), ("2_b.sql", &broken)])).await.unwrap_err();
    assert!(error.to_string().contains("statements before it were kept"), "{error}");
}

#[tokio::test]
async fn the_helpdesk_migrates_into_a_schema_of_its_own() {
    let database = Server::shared().database("own").await;
    let mut admin = database.connect().await;
    schema::ensure(&mut admin, "ten_x").await.unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/helpdesk/migrations");
    let migrations = Migrations::read(&folder).unwrap();
    assert_eq!(apply(&database, "ten_x", &migrations).await.unwrap().len(), migrations.files().len());
    assert!(exists(&mut admin, "ten_x.ticket").await && !exists(&mut admin, "public.ticket").await);
}
