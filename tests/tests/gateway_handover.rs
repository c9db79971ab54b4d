//! A hand-over that is interrupted: between the tenant before and the tenant after, nothing may run in the wrong context, and
//! the connection is closed.

use guardian_testkit::Server;
use guardian_tests::{Gateway, Tenant, Wire, patiently, wire::query};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

const READ: &str = "SELECT string_agg(name, ',') FROM tag";
/// Enough temporary tables that to drop them takes many times as long as the session's timeout.
const LITTER: &str = "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE 'CREATE TEMP TABLE litter' || n || ' ()'; END LOOP; END $$;
                      SET work_mem = '4321kB'; SET statement_timeout = 1";

fn with_a_row(gateway: &Gateway, slug: &str, tier: &str) -> Tenant {
    let tenant = gateway.tenant(slug, tier);
    let inserted = gateway.connect(&tenant).query(&format!("INSERT INTO tag (name) VALUES ('of {slug}')"));
    assert_eq!(inserted.failures, []);
    tenant
}

/// One connection, so that the next tenant has no other.
async fn gateway() -> Gateway {
    Gateway::start(&Server::shared(), "server_connections = 1\nserver_connections_reserved = 0\nworkers = 1").await
}

/// Runs something as the superuser.
async fn run(direct: &mut PgConnection, sql: String) {
    direct.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("run something past the gateway");
}

/// Waits until the process does, or is, what the condition on `pg_stat_activity` says.
async fn comes_to(direct: &mut PgConnection, process: &str, condition: &str) {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process} AND {condition}");
    for _ in 0..1000 {
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_one(&mut *direct).await.expect("look at it");
        if found == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("process {process} never comes to {condition}");
}

/// Waits until the process is no more.
async fn is_gone(direct: &mut PgConnection, process: &str) {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process}");
    for _ in 0..1000 {
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_one(&mut *direct).await.expect("look at it");
        if found == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("process {process} is still in use");
}

/// The client is told that its server is lost, nothing of its statement was run, and all is well on another connection.
fn was_told_and_goes_on(gateway: &Gateway, mut wire: Wire, tenant: &Tenant, how: &str) {
    let answer = wire.until_ready();
    // What the server said at its end may be passed on.
    assert!(matches!(answer.code(), "08006" | "57P01"), "{how}: {answer:?}");
    assert_eq!((answer.rows.len(), answer.status), (0, None), "{how}: {answer:?}");
    let read = patiently(|| {
        let answer = gateway.connect(tenant).query(READ);
        answer.first().map(str::to_owned).ok_or(answer)
    });
    assert_eq!(read, Ok(format!("of {}", tenant.slug)), "{how}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_interrupted_closes_the_connection() {
    let gateway = gateway().await;
    let [a, b] = ["alpha", "bravo"].map(|slug| with_a_row(&gateway, slug, "free"));
    let (mut holder, mut direct) = (gateway.direct().await, gateway.direct().await);
    // `guardian.enter` looks the capability up, which a lock on the table holds up as long as wanted.
    for (how, interrupt) in
        [("a cancel", "SELECT pg_cancel_backend({pid})"), ("the end of the process", "SELECT pg_terminate_backend({pid})")]
    {
        let mut of_a = gateway.connect(&a);
        let process = of_a.scalar("SELECT pg_backend_pid()");
        assert_eq!(of_a.scalar(READ), "of alpha");
        run(&mut holder, "BEGIN; LOCK TABLE guardian.capability IN ACCESS EXCLUSIVE MODE".to_owned()).await;
        let mut of_b = gateway.connect(&b);
        of_b.send(&query(READ));
        comes_to(&mut direct, &process, "wait_event_type = 'Lock'").await;
        run(&mut direct, interrupt.replace("{pid}", &process)).await;
        is_gone(&mut direct, &process).await;
        run(&mut holder, "COMMIT".to_owned()).await;
        was_told_and_goes_on(&gateway, of_b, &b, how);
        // Whoever had the connection before is at the gateway still.
        assert_eq!(of_a.scalar(READ), "of alpha", "{how}");
    }
    // Held up and let go, it comes about, on the same connection.
    let process = gateway.connect(&a).scalar("SELECT pg_backend_pid()");
    run(&mut holder, "BEGIN; LOCK TABLE guardian.capability IN ACCESS EXCLUSIVE MODE".to_owned()).await;
    let mut of_b = gateway.connect(&b);
    of_b.send(&query(READ));
    comes_to(&mut direct, &process, "wait_event_type = 'Lock'").await;
    // The client's own cancel is not passed on: what the server does is no statement of the client's. That has not been sent, and is
    // over without.
    let mut cancel = Vec::new();
    guardian_pgwire::startup::write_cancel(&mut cancel, of_b.key.0, &of_b.key.1);
    Wire::open(&gateway.address).send(&cancel);
    let answer = of_b.until_ready();
    assert_eq!((answer.code(), answer.status), ("57014", Some('I')), "{answer:?}");
    run(&mut holder, "COMMIT".to_owned()).await;
    assert_eq!(of_b.scalar(READ), "of bravo");
    assert_eq!(of_b.scalar("SELECT pg_backend_pid()"), process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_the_tenant_makes_fail_closes_the_connection() {
    let gateway = gateway().await;
    let mut direct = gateway.direct().await;
    let role = format!("{}_app", gateway.installation.application);
    // Guardian takes the right to temporary tables away; here the installation's owner has given it back.
    run(&mut direct, format!("GRANT TEMP ON DATABASE {} TO {role}", gateway.installation.application)).await;
    without_the_gateway(&gateway, &mut direct).await;
    let cases = [("free", "for nobody, ahead of need"), ("row-session", "for a client that waits")];
    for (number, (tier, how)) in cases.into_iter().enumerate() {
        let [a, b] = ["alpha", "bravo"].map(|slug| with_a_row(&gateway, &format!("{slug}-{tier}"), tier));
        let mut of_a = gateway.connect(&a);
        let process = of_a.scalar("SELECT pg_backend_pid()");
        let mut of_b = gateway.connect(&b);
        of_a.send(&query(LITTER));
        if tier == "free" {
            // It is given back with this answer, and reset at once.
            assert_eq!(of_a.until_ready().failures, [], "{how}");
            is_gone(&mut direct, &process).await;
        } else {
            assert_eq!(of_a.until_ready().failures, [], "{how}");
            of_b.send(&query(READ));
            // Another tenant waits for the connection when its session ends.
            std::thread::sleep(std::time::Duration::from_millis(100));
            of_a.vanish();
            is_gone(&mut direct, &process).await;
        }
        let failed = || gateway.installation.log().matches("a hand-over failed").count();
        patiently(|| if failed() == number + 1 { Ok(()) } else { Err(failed()) }).expect("it is in the log");
        if tier == "free" {
            assert_eq!(of_b.scalar(READ), format!("of {}", b.slug), "{how}");
        } else {
            was_told_and_goes_on(&gateway, of_b, &b, how);
        }
        let mut next = gateway.connect(&b);
        assert_eq!(next.scalar("SHOW work_mem"), "4MB", "{how}");
        assert_ne!(next.scalar("SELECT pg_backend_pid()"), process, "{how}");
    }
}

/// The very same on a connection of one's own: the reset fails, and everything is there still.
async fn without_the_gateway(gateway: &Gateway, direct: &mut PgConnection) {
    let (application, address) =
        (&gateway.installation.application, format!("127.0.0.1:{}", gateway.installation.server().port()));
    let role = format!("{application}_control");
    let sql =
        format!("CREATE ROLE {role} LOGIN PASSWORD 'control'; GRANT CONNECT, TEMP ON DATABASE {application} TO {role}");
    run(direct, sql).await;
    let mut wire = Wire::login(&address, &[("user", &role), ("database", application)], "control").expect("connect");
    assert_eq!(wire.query(LITTER).failures, []);
    assert_eq!(wire.query("DISCARD ALL").code(), "57014");
    assert_eq!(wire.scalar("SHOW work_mem"), "4321kB");
}
