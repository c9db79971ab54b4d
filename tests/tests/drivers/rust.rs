//! The Rust drivers.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgPool, Row as _, postgres::PgConnectOptions};
use tokio_postgres::NoTls;

const INSERT: &str = "INSERT INTO tag (name) VALUES ($1)";
const COUNT: &str = "SELECT count(*) FROM tag WHERE name = $1";
const DELETE: &str = "DELETE FROM tag WHERE name = $1";

/// As the guide says.
async fn sqlx_of_the_guide(url: &str) -> Result<(), sqlx::Error> {
    let pool = PgPool::connect(url).await?;
    let row = sqlx::query("SELECT count(*) FROM tag").fetch_one(&pool).await?;
    assert_eq!(row.get::<i64, _>(0), 0);
    pool.close().await;
    Ok(())
}

/// As the guide says.
async fn tokio_postgres_of_the_guide(url: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driving = tokio::spawn(connection);
    assert_eq!(client.query_one("SELECT count(*) FROM tag", &[]).await?.get::<_, i64>(0), 0);
    drop(client);
    driving.await.expect("join")
}

fn url(port: &str, password: &str) -> String {
    format!("postgres://app.acme:{password}@127.0.0.1:{port}/acme")
}

/// sqlx: parameters, prepared statements, a transaction undone, an error, a switch.
pub(crate) async fn sqlx(port: &str, password: &str) {
    sqlx_of_the_guide(&url(port, password)).await.expect("as the guide says");
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port.parse().expect("a port"))
        .username("app.acme")
        .password(password)
        .database("acme");
    let mut connection = sqlx::PgConnection::connect_with(&options).await.expect("connect");
    for number in 0..20_i32 {
        let doubled: i32 =
            sqlx::query_scalar("SELECT $1 * 2").bind(number).fetch_one(&mut connection).await.expect("select");
        assert_eq!(doubled, number * 2);
    }
    let mut transaction = connection.begin().await.expect("begin");
    sqlx::query(INSERT).bind("of-sqlx").execute(&mut *transaction).await.expect("insert");
    transaction.rollback().await.expect("roll back");
    let left: i64 = sqlx::query_scalar(COUNT).bind("of-sqlx").fetch_one(&mut connection).await.expect("count");
    assert_eq!(left, 0);
    let error = sqlx::query("SELECT * FROM nowhere").execute(&mut connection).await.expect_err("no such table");
    assert_eq!(error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(), Some("42P01"));

    sqlx::query(INSERT).bind("of-sqlx").execute(&mut connection).await.expect("insert");
    for (tenant, seen) in [("bravo", 0), ("acme", 1)] {
        let switch = format!("SET guardian.tenant = '{tenant}'");
        connection.execute(sqlx::raw_sql(AssertSqlSafe(switch))).await.expect("switch");
        let row = connection.fetch_one(sqlx::raw_sql("SHOW guardian.tenant")).await.expect("show");
        assert_eq!(row.get::<&str, _>(0), tenant);
        let found: i64 = sqlx::query_scalar(COUNT).bind("of-sqlx").fetch_one(&mut connection).await.expect("count");
        assert_eq!(found, seen);
    }
    let deleted = sqlx::query(DELETE).bind("of-sqlx").execute(&mut connection).await.expect("delete");
    assert_eq!(deleted.rows_affected(), 1);
    connection.close().await.expect("close");
}

/// tokio-postgres: the same, pipelined, and cancelled.
pub(crate) async fn tokio_postgres(port: &str, password: &str) {
    tokio_postgres_of_the_guide(&url(port, password)).await.expect("as the guide says");
    let settings = format!("host=127.0.0.1 port={port} user=app.acme password={password} dbname=acme");
    let (mut client, connection) = tokio_postgres::connect(&settings, NoTls).await.expect("connect");
    let driving = tokio::spawn(connection);
    let double = client.prepare("SELECT $1::int * 2").await.expect("prepare");
    let append = client.prepare("SELECT $1::text || 'x'").await.expect("prepare");
    for number in 0..20_i32 {
        // Both are on their way before either is answered.
        let doubling = async { client.query_one(&double, &[&number]).await };
        let appending = async { client.query_one(&append, &[&"y"]).await };
        let (doubled, appended) = tokio::try_join!(doubling, appending).expect("select");
        assert_eq!((doubled.get::<_, i32>(0), appended.get::<_, &str>(0)), (number * 2, "yx"));
    }
    let transaction = client.transaction().await.expect("begin");
    transaction.execute(INSERT, &[&"of-tokio"]).await.expect("insert");
    transaction.rollback().await.expect("roll back");
    let error = client.query("SELECT 1 / 0", &[]).await.expect_err("an error");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("22012"));

    let token = client.cancel_token();
    let sleeping = client.query("SELECT pg_sleep(60)", &[]);
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (slept, cancelled) = tokio::join!(sleeping, cancelling);
    cancelled.expect("ask for the cancel");
    assert_eq!(slept.expect_err("cancelled").code().map(tokio_postgres::error::SqlState::code), Some("57014"));

    client.execute(INSERT, &[&"of-tokio"]).await.expect("insert");
    for (tenant, seen) in [("bravo", 0), ("acme", 1)] {
        client.batch_execute(&format!("SET guardian.tenant = '{tenant}'")).await.expect("switch");
        let found: i64 = client.query_one(COUNT, &[&"of-tokio"]).await.expect("count").get(0);
        assert_eq!(found, seen);
    }
    assert_eq!(client.execute(DELETE, &[&"of-tokio"]).await.expect("delete"), 1);
    drop(client);
    driving.await.expect("join").expect("no error of the connection");
}
