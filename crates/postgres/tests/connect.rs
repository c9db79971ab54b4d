//! Administrators' connections: what is pinned, what is told to clients, what an error says.

#![expect(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

use std::collections::BTreeMap;

use guardian_model::ClusterName;
use guardian_postgres::connect::{Address, Clusters, ConnectError};
use guardian_testkit::{Server, unique};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgConnectOptions};

fn name() -> ClusterName {
    "main".parse().unwrap()
}

fn clusters(options: PgConnectOptions) -> Clusters {
    Clusters::new(BTreeMap::from([(name(), options)]))
}

async fn show(connection: &mut PgConnection, setting: &str) -> String {
    sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn settings_of_the_database_do_not_reach_the_administrator() {
    let database = Server::shared().database("pinned").await;
    let sql = format!(
        "ALTER DATABASE \"{0}\" SET search_path = evil; ALTER DATABASE \"{0}\" SET statement_timeout = 1; \
         ALTER DATABASE \"{0}\" SET default_transaction_read_only = on; ALTER DATABASE \"{0}\" SET log_parameter_max_length = -1",
        database.name
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut database.connect().await).await.unwrap();
    let clusters = clusters(database.options());
    let mut own = clusters.connect(&name(), &database.name).await.unwrap();
    let mut pooled = clusters.pool(&name(), &database.name).await.unwrap().acquire().await.unwrap();
    for connection in [&mut own, &mut *pooled] {
        assert_eq!(show(connection, "search_path").await, "pg_catalog");
        assert_eq!(show(connection, "statement_timeout").await, "0");
        assert_eq!(show(connection, "lock_timeout").await, "5s");
        assert_eq!(show(connection, "default_transaction_read_only").await, "off");
        assert_eq!(show(connection, "log_parameter_max_length").await, "0");
        assert_eq!(show(connection, "log_parameter_max_length_on_error").await, "0");
    }
}

#[tokio::test]
async fn an_administrator_who_is_no_superuser_gets_in_too() {
    let server = Server::shared();
    let role = unique("admin");
    let sql = format!("CREATE ROLE {role} LOGIN CREATEROLE CREATEDB PASSWORD 'right'");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut server.connect("postgres").await).await.unwrap();
    let clusters = clusters(server.options("postgres").username(&role).password("right"));
    let mut connection = clusters.connect(&name(), "postgres").await.unwrap();
    assert_eq!(show(&mut connection, "search_path").await, "pg_catalog");
}

#[tokio::test]
async fn forgetting_closes_the_pool_so_that_the_database_can_go() {
    let server = Server::shared();
    let database = server.database("forgotten").await;
    let clusters = clusters(database.options());
    let pool = clusters.pool(&name(), &database.name).await.unwrap();
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    assert!(clusters.pool(&name(), &database.name).await.unwrap().size() > 0, "the pool is kept");
    clusters.forget(&name(), &database.name).await;
    let sql = format!("DROP DATABASE \"{}\"", database.name);
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut server.connect("postgres").await).await.unwrap();
}

#[tokio::test]
async fn the_number_of_pools_is_bounded() {
    let clusters = clusters(Server::shared().options("postgres"));
    let first = clusters.pool(&name(), "postgres").await.unwrap();
    sqlx::query("SELECT 1").execute(&first).await.unwrap();
    for n in 0..40 {
        clusters.pool(&name(), &format!("database_{n}")).await.unwrap();
    }
    assert_eq!(clusters.pool(&name(), "postgres").await.unwrap().size(), 0, "a new pool after the old one made room");
}

#[tokio::test]
async fn errors_name_the_cluster_and_the_database() {
    let clusters = clusters(Server::shared().options("postgres"));
    let error = clusters.connect(&name(), "not_there").await.unwrap_err();
    assert!(error.to_string().starts_with("cannot connect to database `not_there` of cluster `main`: "), "{error}");
    let error = clusters.connect(&"other".parse().unwrap(), "postgres").await.unwrap_err();
    assert!(matches!(error, ConnectError::Unknown(_)), "{error}");
    assert_eq!(error.to_string(), "there is no cluster `other`; declare [clusters.other] in guardian.toml");
}

#[test]
fn clients_are_told_the_tcp_address_of_the_local_cluster_and_the_socket_of_others() {
    let address = |options: PgConnectOptions| clusters(options).address(&name()).unwrap();
    let local = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(4000).socket("/private");
    assert_eq!(address(local), Address { host: "127.0.0.1".to_owned(), port: 4000 });
    let remote = "postgres://admin@db.example:6000/postgres".parse().unwrap();
    assert_eq!(address(remote), Address { host: "db.example".to_owned(), port: 6000 });
    let socket = "postgres:///postgres?host=/run/postgresql&port=5433".parse().unwrap();
    assert_eq!(address(socket), Address { host: "/run/postgresql".to_owned(), port: 5433 });
}
