//! Roles, schemas and databases on a real server: made twice, removed twice, and what they shut out.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use guardian_model::{ClusterName, Limits, Place, TicketId, ToolLoginId};
use guardian_postgres::{connect::Clusters, scram};
use guardian_provision::{
    MAINTENANCE_DATABASE, ProvisionError, database, lock,
    migrator::{self, Reach},
    role::{self, Bounds},
    schema,
    ticket::{self, Terms},
};
use guardian_testkit::{Server, unique};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

fn cluster() -> ClusterName {
    "main".parse().unwrap()
}

fn clusters(server: &Server) -> Clusters {
    Clusters::new(BTreeMap::from([(cluster(), server.options(MAINTENANCE_DATABASE))]))
}

static LIMITS: LazyLock<Limits> = LazyLock::new(|| Limits {
    server_connections_max: 3,
    statement_ms_max: 1_000,
    idle_in_transaction_ms_max: 2_000,
    lock_wait_ms_max: 500,
    ..Limits::default()
});

fn bounds() -> Bounds<'static> {
    Bounds { limits: &LIMITS, schema: "Own" }
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn scalar<T>(connection: &mut PgConnection, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap()
}

fn login(server: &Server, database: &str, role: &str) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(server.port());
    options.username(role).password("secret").database(database)
}

fn refusal(result: Result<PgConnection, sqlx::Error>) -> String {
    result.map(|_| "it was let in").unwrap_err().to_string()
}

#[tokio::test]
async fn a_role_is_powerless_bounded_and_closed_until_told() {
    let server = Server::shared();
    let mut admin = server.connect(MAINTENANCE_DATABASE).await;
    let name = unique("role");
    for _ in 0..2 {
        role::ensure(&mut admin, &name, &scram::verifier("secret"), bounds()).await.unwrap();
    }
    assert!(refusal(login(&server, "postgres", &name).connect().await).contains("not permitted to log in"));
    for _ in 0..2 {
        role::allow_login(&mut admin, &name).await.unwrap();
    }
    let mut session = login(&server, "postgres", &name).connect().await.unwrap();
    assert_eq!(scalar::<String>(&mut session, "SHOW search_path").await, "\"Own\", pg_temp");
    assert_eq!(scalar::<String>(&mut session, "SHOW statement_timeout").await, "1s");
    let powers: bool = scalar(
        &mut admin,
        &format!(
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolinherit OR rolbypassrls OR rolreplication \
             OR rolconnlimit <> 3 FROM pg_roles WHERE rolname = '{name}'"
        ),
    )
    .await;
    assert!(!powers);

    // Somebody gave it powers behind our back.
    run(&mut admin, &format!("ALTER ROLE {name} BYPASSRLS CREATEDB")).await;
    role::ensure(&mut admin, &name, &scram::verifier("secret"), bounds()).await.unwrap();
    assert!(
        !scalar::<bool>(&mut admin, &format!("SELECT rolbypassrls OR rolcreatedb FROM pg_roles WHERE rolname = '{name}'"))
            .await
    );

    for _ in 0..2 {
        role::deny_login(&mut admin, &name).await.unwrap();
    }
    assert!(session.ping().await.is_err(), "its session had to end");
    for _ in 0..2 {
        role::remove(&clusters(&server), &cluster(), &mut admin, &name).await.unwrap();
    }
    role::deny_login(&mut admin, &name).await.unwrap();
}

#[tokio::test]
async fn a_role_goes_with_all_it_was_granted_anywhere() {
    let server = Server::shared();
    let (left, right) = (server.database("left").await, server.database("right").await);
    let mut admin = server.connect(MAINTENANCE_DATABASE).await;
    let name = unique("role");
    role::ensure(&mut admin, &name, &scram::verifier("secret"), bounds()).await.unwrap();
    for database in [&left, &right] {
        let mut inside = database.connect().await;
        run(
            &mut inside,
            &format!(
                "CREATE TABLE t (a int); GRANT SELECT ON t TO {name}; GRANT CONNECT ON DATABASE {} TO {name}",
                database.name
            ),
        )
        .await;
        run(&mut inside, &format!("CREATE SCHEMA own AUTHORIZATION {name}")).await;
    }
    role::remove(&clusters(&server), &cluster(), &mut admin, &name).await.unwrap();
    assert!(!scalar::<bool>(&mut admin, &format!("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')")).await);
    let mut inside = left.connect().await;
    assert!(scalar::<bool>(&mut inside, "SELECT to_regclass('t') IS NOT NULL AND to_regnamespace('own') IS NULL").await);
}

#[tokio::test]
async fn a_database_is_closed_to_everybody_else() {
    let server = Server::shared();
    let mut admin = server.connect(MAINTENANCE_DATABASE).await;
    let (name, stranger) = (unique("place"), unique("stranger"));
    role::ensure(&mut admin, &stranger, &scram::verifier("secret"), bounds()).await.unwrap();
    role::allow_login(&mut admin, &stranger).await.unwrap();
    for _ in 0..2 {
        database::ensure(&mut admin, &name).await.unwrap();
    }
    assert!(refusal(login(&server, &name, &stranger).connect().await).contains("permission denied for database"));
    let inside = server.connect(&name).await;
    for _ in 0..2 {
        database::remove(&mut admin, &name).await.unwrap();
    }
    drop(inside);
    role::remove(&clusters(&server), &cluster(), &mut admin, &stranger).await.unwrap();
}

#[tokio::test]
async fn a_half_made_database_is_finished() {
    let server = Server::shared();
    let mut admin = server.connect(MAINTENANCE_DATABASE).await;
    let name = unique("half");
    run(&mut admin, &format!("CREATE DATABASE {name} TEMPLATE template0 ALLOW_CONNECTIONS false")).await;
    database::ensure(&mut admin, &name).await.unwrap();
    let mut inside = server.connect(&name).await;
    let open: bool = scalar(&mut inside, "SELECT has_database_privilege('pg_monitor', current_database(), 'CONNECT')").await;
    assert!(!open);
    drop(inside);
    run(&mut admin, &format!("UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{name}'")).await;
    database::ensure(&mut admin, &name).await.unwrap();
    let _ = server.connect(&name).await;
    database::remove(&mut admin, &name).await.unwrap();
}

#[tokio::test]
async fn a_schema_goes_with_its_ledger() {
    let database = Server::shared().database("schemas").await;
    let mut admin = database.connect().await;
    for _ in 0..2 {
        schema::ensure(&mut admin, "Own").await.unwrap();
    }
    run(&mut admin, "CREATE TABLE \"Own\".t (a int)").await;
    for _ in 0..2 {
        schema::remove(&mut admin, "Own").await.unwrap();
    }
    assert!(scalar::<bool>(&mut admin, "SELECT to_regnamespace('\"Own\"') IS NULL").await);
}

#[tokio::test]
async fn a_ticket_opens_one_session_for_a_while() {
    let server = Server::shared();
    let mut admin = server.connect(MAINTENANCE_DATABASE).await;
    let parent = unique("parent");
    role::ensure(&mut admin, &parent, &scram::verifier("secret"), bounds()).await.unwrap();
    let id = TicketId::from_uuid(sqlx::types::Uuid::from_u128(u128::from(std::process::id())));
    let (verifier, other) = (scram::verifier("secret"), scram::verifier("other"));
    let terms = Terms { ticket: id, parent: &parent, verifier: &verifier, valid: Duration::from_mins(1), bounds: bounds() };
    ticket::create(&mut admin, &terms).await.unwrap();
    let mut session = login(&server, "postgres", &id.to_string()).connect().await.unwrap();
    assert!(refusal(login(&server, "postgres", &id.to_string()).connect().await).contains("too many connections"));
    run(&mut session, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC").await;
    assert!(
        !ticket::reap(&clusters(&server), &cluster(), &mut admin, &id.to_string()).await.unwrap(),
        "its session still runs"
    );
    for _ in 0..2 {
        ticket::end(&clusters(&server), &cluster(), &mut admin, &id.to_string()).await.unwrap();
    }
    assert!(session.ping().await.is_err());
    let expired = Terms { verifier: &other, valid: Duration::ZERO, ..terms };
    ticket::create(&mut admin, &expired).await.unwrap();
    assert!(refusal(login(&server, "postgres", &id.to_string()).password("other").connect().await).contains("password"));
    assert!(ticket::reap(&clusters(&server), &cluster(), &mut admin, &id.to_string()).await.unwrap());
    assert!(ticket::reap(&clusters(&server), &cluster(), &mut admin, &id.to_string()).await.unwrap(), "absence is success");
    role::remove(&clusters(&server), &cluster(), &mut admin, &parent).await.unwrap();
}

#[tokio::test]
async fn an_administrator_need_not_be_a_superuser() {
    let server = Server::shared();
    let mut superuser = server.connect(MAINTENANCE_DATABASE).await;
    let (chief, name) = (unique("chief"), unique("place"));
    run(&mut superuser, &format!("CREATE ROLE {chief} LOGIN CREATEROLE CREATEDB PASSWORD 'secret'")).await;
    let options = login(&server, MAINTENANCE_DATABASE, &chief);
    let clusters = Clusters::new(BTreeMap::from([(cluster(), options.clone())]));
    let mut admin = options.connect().await.unwrap();
    for _ in 0..2 {
        role::ensure(&mut admin, &name, &scram::verifier("secret"), bounds()).await.unwrap();
        database::ensure(&mut admin, &name).await.unwrap();
        role::allow_login(&mut admin, &name).await.unwrap();
    }
    let mut inside = clusters.connect(&cluster(), &name).await.unwrap();
    schema::ensure(&mut inside, "Own").await.unwrap();
    run(&mut inside, &format!("GRANT CONNECT ON DATABASE {name} TO {name}; GRANT USAGE ON SCHEMA \"Own\" TO {name}")).await;
    let id = TicketId::from_uuid(sqlx::types::Uuid::from_u128(u128::from(std::process::id()) << 64));
    let verifier = scram::verifier("secret");
    let terms = Terms { ticket: id, parent: &name, verifier: &verifier, valid: Duration::from_mins(1), bounds: bounds() };
    ticket::create(&mut admin, &terms).await.unwrap();
    let mut sessions = [
        login(&server, &name, &name).connect().await.unwrap(),
        login(&server, &name, &id.to_string()).connect().await.unwrap(),
    ];
    role::deny_login(&mut admin, &name).await.unwrap();
    ticket::end(&clusters, &cluster(), &mut admin, &id.to_string()).await.unwrap();
    for session in &mut sessions {
        assert!(session.ping().await.is_err());
    }
    role::remove(&clusters, &cluster(), &mut admin, &name).await.unwrap();

    // What it made is given to the place's migrator, and it can still do with it what it has to.
    let (migrator, place) =
        (format!("{name}_migrator"), Place { cluster: cluster(), database: name.clone(), schema: "Own".into() });
    run(&mut inside, "CREATE TABLE \"Own\".old (n serial); CREATE TYPE \"Own\".mood AS ENUM ('a')").await;
    run(&mut inside, "CREATE FUNCTION \"Own\".one(\"Own\".mood) RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    for _ in 0..2 {
        migrator::ensure(&mut inside, &migrator, &place, Reach::Database).await.unwrap();
    }
    let tool = ToolLoginId::from_uuid(id.uuid());
    migrator::open(&mut inside, tool, &migrator, &verifier, Duration::ZERO, &place).await.unwrap();
    let as_tool = login(&server, &name, &tool.to_string());
    assert!(refusal(as_tool.connect().await).contains("password"), "it is over");
    migrator::renew(&mut inside, tool, Duration::from_mins(1)).await.unwrap();
    let mut session = as_tool.connect().await.unwrap();
    run(&mut session, "ALTER TABLE old ADD COLUMN m mood; ALTER TYPE mood ADD VALUE 'b'; DROP FUNCTION one(mood)").await;
    run(&mut session, "CREATE TABLE new (n serial); CREATE SCHEMA more").await;
    run(&mut inside, "GRANT SELECT ON \"Own\".old, \"Own\".new TO PUBLIC").await;
    for _ in 0..2 {
        migrator::close(&clusters, &place, tool).await.unwrap();
    }
    assert!(session.ping().await.is_err());
    let owner: String =
        scalar(&mut inside, "SELECT relowner::regrole::text FROM pg_class WHERE oid = '\"Own\".new'::regclass").await;
    assert_eq!(owner, migrator);
    drop(inside);
    database::remove(&mut admin, &name).await.unwrap();
    migrator::close(&clusters, &place, tool).await.expect("absence is success");
    migrator::remove(&clusters, &cluster(), &mut admin, &migrator).await.unwrap();
    drop(admin);
    run(&mut superuser, &format!("DROP ROLE {chief}")).await;
}

#[tokio::test]
async fn two_processes_do_not_change_one_object_at_once() {
    let database = Server::shared().database("locks").await;
    let (mut first, mut second) = (database.connect().await, database.connect().await);
    lock::hold(&mut first, "a").await.unwrap();
    lock::hold(&mut first, "a").await.unwrap();
    run(&mut second, "SET lock_timeout = '50ms'").await;
    lock::hold(&mut second, "b").await.unwrap();
    let busy = lock::hold(&mut second, "a").await.unwrap_err();
    assert!(matches!(busy, ProvisionError::Busy { .. }) && busy.is_transient(), "{busy}");
    first.close().await.unwrap();
    lock::hold(&mut second, "a").await.unwrap();
}
