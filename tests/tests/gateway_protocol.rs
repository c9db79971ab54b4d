//! What drivers do with the protocol: statements prepared over a change of tenant, answers at Flush, start-up settings, and the
//! last word of a server.

use std::time::{Duration, Instant};

use guardian_pgwire::startup;
use guardian_testkit::Server;
use guardian_tests::{
    Answer, Failure, Gateway, Tenant, Wire,
    wire::{Silence, bind, execute, message, parse, query, sync},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};

const PATIENCE: Duration = Duration::from_secs(20);

fn describe(name: &str) -> Vec<u8> {
    message(b'D', format!("S{name}\0").as_bytes())
}

fn close(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0").as_bytes())
}

fn flush() -> Vec<u8> {
    message(b'H', b"")
}

/// The types of the next so many messages.
fn tags(wire: &mut Wire, count: usize) -> String {
    let mut next = || wire.receive(PATIENCE).map(|message| char::from(message.tag));
    (0..count).map(|_| next().unwrap_or_else(|silence| panic!("{silence:?} in place of an answer"))).collect()
}

/// The change of tenant that was prepared under its name.
fn switch(wire: &mut Wire, name: &str) {
    let answer = run(wire, name);
    assert_eq!((answer.failures.as_slice(), answer.tags.as_slice()), (&[][..], &["SET".to_owned()][..]), "{name}");
}

/// Bind, Execute and Sync of what was prepared.
fn run(wire: &mut Wire, name: &str) -> Answer {
    wire.send(&[bind("", name), execute(""), sync()].concat());
    wire.until_ready()
}

/// As asyncpg prepares: it waits for the description before it goes on.
fn prepare(wire: &mut Wire, name: &str, sql: &str) -> String {
    wire.send(&[parse(name, sql), describe(name), flush()].concat());
    tags(wire, 3)
}

fn tenant_with_rows(gateway: &Gateway, slug: &str, tier: &str) -> Tenant {
    let tenant = gateway.tenant(slug, tier);
    let inserted = gateway.connect(&tenant).query(&format!("INSERT INTO tag (name) VALUES ('of {slug}')"));
    assert_eq!(inserted.failures, []);
    tenant
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_go_with_the_client_from_tenant_to_tenant() {
    let gateway = Gateway::start(&Server::shared(), "server_connections = 2").await;
    let app = gateway.login("app", &json!({ "kind": "any_tenant", "switch": "tenant" }));
    for (pooling, tier) in [("transaction", "free"), ("session", "row-session"), ("own places", "enterprise")] {
        let names = ["alpha", "bravo"].map(|name| format!("{name}-{tier}"));
        for name in &names {
            tenant_with_rows(&gateway, name, tier);
        }
        let [alpha, bravo] = &names;
        let mut wire = gateway.connect_as("app", &app);
        for name in &names {
            assert_eq!(prepare(&mut wire, name, &format!("SET guardian.tenant = '{name}'")), "1tn", "{pooling}");
            switch(&mut wire, name);
        }
        assert_eq!(prepare(&mut wire, "show", "SHOW guardian.tenant"), "1tT", "{pooling}");
        assert_eq!(run(&mut wire, "show").first(), Some(bravo.as_str()), "{pooling}");
        // Later on by name alone, as psycopg and pgjdbc do.
        for name in [alpha, bravo, alpha] {
            switch(&mut wire, name);
            assert_eq!(run(&mut wire, "show").first(), Some(name.as_str()), "{pooling}");
            assert_eq!(wire.query("SELECT name FROM tag").first(), Some(format!("of {name}").as_str()), "{pooling}");
        }

        // What is prepared for servers is the client's, too, and is run in the tenant of the moment.
        assert_eq!(prepare(&mut wire, "names", "SELECT string_agg(name, ',') FROM tag"), "1tT");
        assert_eq!(run(&mut wire, "names").first(), Some(format!("of {alpha}").as_str()), "{pooling}");
        for name in [alpha, bravo, alpha, bravo] {
            switch(&mut wire, name);
            assert_eq!(run(&mut wire, "names").first(), Some(format!("of {name}").as_str()), "{pooling}");
        }
        let insert = format!("INSERT INTO tag (name) VALUES ('more of {bravo}')");
        assert_eq!(prepare(&mut wire, "insert", &insert), "1tn", "{pooling}");
        assert_eq!(run(&mut wire, "insert").tags, ["INSERT 0 1"], "{pooling}");
        switch(&mut wire, alpha);
        // One that fails in between is told, and the next one prepared anew.
        assert_eq!(wire.query("BEGIN; SELECT 1 / 0").code(), "22012", "{pooling}");
        assert_eq!(run(&mut wire, "insert").code(), "25P02", "{pooling}");
        assert_eq!(wire.query("ROLLBACK").tags, ["ROLLBACK"], "{pooling}");
        assert_eq!(run(&mut wire, "insert").tags, ["INSERT 0 1"], "{pooling}");
        assert_eq!(wire.query("DELETE FROM tag WHERE name LIKE 'more of %'").tags, ["DELETE 1"], "{pooling}");
        switch(&mut wire, bravo);
        assert_eq!(wire.query("DELETE FROM tag WHERE name LIKE 'more of %'").tags, ["DELETE 1"], "{pooling}");

        // Sent at once with what comes before and behind, each a message or group of its own.
        let names_of = "SELECT string_agg(name, ',') FROM tag";
        let mut at_once = Vec::new();
        for name in [alpha, bravo] {
            at_once.extend(query(&format!("SET guardian.tenant = '{name}'")));
            at_once.extend(query(names_of));
            at_once.extend([bind("", name), execute(""), sync()].concat());
            at_once.extend(query(names_of));
        }
        wire.send(&at_once);
        for name in [alpha, bravo] {
            for expected in [None, Some(format!("of {name}")), None, Some(format!("of {name}"))] {
                let answer = wire.until_ready();
                assert_eq!((answer.failures.as_slice(), answer.first()), (&[][..], expected.as_deref()), "{pooling}");
            }
        }

        // In company, or within a transaction, it is none; nothing of it is carried out.
        let here = run(&mut wire, "show").first().map(str::to_owned);
        let other = names.iter().find(|name| here.as_deref() != Some(name.as_str())).expect("the other one");
        let company = [
            [parse("", "SELECT 1"), bind("", ""), execute(""), bind("", other), execute(""), sync()].concat(),
            [bind("", other), execute(""), parse("", "SELECT name FROM tag"), bind("", ""), execute(""), sync()].concat(),
            [bind("", other), parse("", "SELECT name FROM tag"), execute(""), sync()].concat(),
        ];
        for messages in company {
            wire.send(&messages);
            let answer = wire.until_ready();
            assert_eq!((answer.code(), answer.status), ("25001", Some('I')), "{pooling}: {answer:?}");
            assert_eq!(run(&mut wire, "show").first(), here.as_deref(), "{pooling}");
        }
        assert_eq!(wire.query("BEGIN").tags, ["BEGIN"]);
        assert_eq!(run(&mut wire, other).code(), "25001", "{pooling}");
        assert_eq!(wire.query("ROLLBACK").tags, ["ROLLBACK"]);
        assert_eq!(run(&mut wire, "show").first(), here.as_deref(), "{pooling}");

        // Given up, by either way.
        wire.send(&[close(alpha), sync()].concat());
        assert_eq!(tags(&mut wire, 2), "3Z");
        assert_eq!(wire.query(&format!("DEALLOCATE \"{bravo}\"")).tags, ["DEALLOCATE"]);
        for name in [alpha, bravo] {
            assert_eq!(run(&mut wire, name).code(), "26000", "{pooling}");
        }
        assert_eq!(run(&mut wire, "show").first(), here.as_deref(), "{pooling}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_may_not_switch_may_prepare_it_in_vain() {
    let gateway = Gateway::start(&Server::shared(), "").await;
    let (alpha, _bravo) = (gateway.tenant("alpha", "pro"), gateway.tenant("bravo", "pro"));
    let mut wire = gateway.connect(&alpha);
    assert_eq!(prepare(&mut wire, "s", "SET guardian.tenant = 'bravo'"), "1tn");
    assert_eq!(run(&mut wire, "s").code(), "42501");
    // With the result asked for before the end of the group.
    wire.send(&[bind("", "s"), execute(""), flush()].concat());
    assert_eq!(tags(&mut wire, 2), "2E");
    wire.send(&[parse("", "SELECT 1"), bind("", ""), execute(""), sync()].concat());
    assert_eq!(wire.until_ready(), Answer { status: Some('I'), ..Answer::default() }, "discarded up to the Sync");
    assert_eq!(wire.extended("", "SHOW guardian.tenant").first(), Some("alpha"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_s_own_last_word_is_the_last_word() {
    let gateway = Gateway::start(&Server::shared(), "").await;
    let mut direct = gateway.direct().await;
    let tenant = gateway.tenant("alpha", "row-session");
    // Idle, and in the middle of a statement.
    for statement in [None, Some("SELECT pg_sleep(600)")] {
        let mut wire = gateway.connect(&tenant);
        let process = wire.scalar("SELECT pg_backend_pid()");
        if let Some(statement) = statement {
            wire.send(&query(statement));
            let sql = format!("SELECT state = 'active' FROM pg_stat_activity WHERE pid = {process}");
            while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(sql.as_str())).fetch_one(&mut direct).await.expect("look") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        direct.execute(AssertSqlSafe(format!("SELECT pg_terminate_backend({process})"))).await.expect("end it");
        let answer = wire.until_ready();
        assert_eq!(answer.status, None, "{answer:?}");
        let codes: Vec<&str> = answer.failures.iter().map(|failure| failure.code.as_str()).collect();
        assert_eq!(codes, ["57P01"], "{answer:?}");
        assert_eq!(answer.failures[0].message, "terminating connection due to administrator command");
        // With everything that PostgreSQL says beside it.
        let seen = String::from_utf8_lossy(&wire.seen);
        assert!(seen.contains("SFATAL\0VFATAL\0C57P01\0") && seen.contains("\0RProcessInterrupts\0"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_at_start_up_are_answered_in_the_server_s_words() {
    let gateway = Gateway::start(&Server::shared(), "").await;
    let tenant = gateway.tenant("alpha", "pro");
    gateway.connect(&tenant);
    let refused = [
        ("options", "-c nonsense=1", "42704", "nonsense"),
        ("options", "-c statement_timeout=soon", "22023", "statement_timeout"),
        ("DateStyle", "nonsense", "22023", "DateStyle"),
        ("options", "-c fsync=off", "55P02", "fsync"),
    ];
    for (parameter, value, code, of) in refused {
        let parameters = [("user", "alpha"), (parameter, value)];
        let Failure { code: told, message } = match Wire::login(&gateway.address, &parameters, &tenant.password) {
            Err(failure) => failure,
            Ok(mut wire) => {
                let answer = wire.query("SELECT 1");
                assert_eq!((answer.status, answer.failures.len(), &answer.rows), (None, 1, &Vec::new()), "{answer:?}");
                answer.failures[0].clone()
            }
        };
        assert_eq!(told, code, "{parameter}={value}: {message}");
        assert!(message.contains(of), "{parameter}={value}: {message}");
    }
    // As PostgreSQL spells them, to those who are bound and to those who are not yet.
    let app = gateway.login("app", &json!({ "kind": "any_tenant", "switch": "tenant" }));
    gateway.connect_as("app", &app);
    // Whatever the connection at rest was last used with.
    let other = [("user", "alpha"), ("DateStyle", "SQL, DMY"), ("application_name", "other")];
    let mut before = Wire::login(&gateway.address, &other, &tenant.password).expect("a client");
    assert_eq!(before.scalar("SHOW DateStyle"), "SQL, DMY");
    for (user, password) in [("alpha", &tenant.password), ("app", &app), ("app.alpha", &app)] {
        let asked =
            [("user", user), ("client_encoding", "'utf-8'"), ("DateStyle", "iso"), ("timezone", "utc"), ("a.b", "As It Is")];
        let mut wire = Wire::login(&gateway.address, &asked, password).unwrap_or_else(|failure| panic!("{failure:?}"));
        let told = String::from_utf8_lossy(&wire.seen).into_owned();
        for report in ["client_encoding\0UTF8\0", "DateStyle\0ISO, MDY\0", "TimeZone\0UTC\0"] {
            assert!(told.contains(report), "{user}: {report} in {told}");
        }
        if user != "app" {
            assert_eq!(wire.scalar("SELECT current_setting('a.b') || current_setting('DateStyle')"), "As It IsISO, MDY");
            assert!(!String::from_utf8_lossy(&wire.seen[told.len()..]).contains("DateStyle\0"), "{user} is told again");
        }
    }
    // Nobody else is the worse for it.
    assert_eq!(gateway.connect(&tenant).scalar("SELECT 1"), "1");
}

/// Whoever comes while another tenant has the only connection is let in when it is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_connection_of_a_kind_waits_for_room() {
    let gateway =
        Gateway::start(&Server::shared(), "server_connections = 1\nserver_connections_reserved = 0\nworkers = 1").await;
    let [a, b] = [("alpha", "business"), ("bravo", "enterprise")].map(|(slug, tier)| gateway.tenant(slug, tier));
    let mut of_a = gateway.connect(&a);
    assert_eq!(of_a.query("BEGIN").tags, ["BEGIN"]);
    let mut of_b = std::thread::scope(|scope| {
        // The gateway may not have heard of the login yet; anything else is final.
        let coming = scope.spawn(|| {
            let until = Instant::now() + Duration::from_secs(20);
            loop {
                match Wire::login(&gateway.address, &[("user", "bravo")], &b.password) {
                    Err(failure) if failure.code == "28P01" && Instant::now() < until => {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    outcome => break outcome,
                }
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(of_a.query("COMMIT").tags, ["COMMIT"]);
        coming.join().expect("no panic")
    })
    .expect("it is let in");
    assert_eq!(of_b.query("SELECT count(*) FROM tag").first(), Some("0"));
}

/// Drivers wait until a cancel's connection is closed before they send what it must not meet.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_over_when_the_server_has_dealt_with_it() {
    let gateway = Gateway::start(&Server::own(), "server_connections = 2").await;
    let tenant = gateway.tenant("alpha", "row-session");
    let mut direct = gateway.direct().await;
    let postmaster = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int";
    let postmaster: i32 = sqlx::query_scalar(postmaster).fetch_one(&mut direct).await.expect("ask for the process");
    let postmaster = Pid::from_raw(postmaster).expect("a process");
    let mut wire = gateway.connect(&tenant);
    let process: i32 = wire.scalar("SELECT pg_backend_pid()").parse().expect("a number");
    wire.send(&query("SELECT pg_sleep(60)"));
    let is_sleeping = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep')";
    while !sqlx::query_scalar::<_, bool>(is_sleeping)
        .bind(process)
        .fetch_one(&mut direct)
        .await
        .expect("look at the process")
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Nobody is there to read the request.
    kill_process(postmaster, Signal::STOP).expect("stop the server");
    let mut canceller = Wire::open(&gateway.address);
    let mut cancel = Vec::new();
    startup::write_cancel(&mut cancel, wire.key.0, &wire.key.1);
    canceller.send(&cancel);
    let was_closed = canceller.drain_raw(Duration::from_millis(500));
    kill_process(postmaster, Signal::CONT).expect("let the server go on");
    assert!(!was_closed, "before the server had heard of it");
    assert!(canceller.drain_raw(PATIENCE));
    assert_eq!(wire.until_ready().code(), "57014");
    assert_eq!(wire.scalar("SELECT 'goes on'"), "goes on");

    // With nothing to cancel, or the wrong secret, it is over at once.
    for secret in [wire.key.1.clone(), vec![0; 4]] {
        let mut canceller = Wire::open(&gateway.address);
        let mut cancel = Vec::new();
        startup::write_cancel(&mut cancel, wire.key.0, &secret);
        canceller.send(&cancel);
        assert!(canceller.drain_raw(PATIENCE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_in_place_of_a_start_up_is_heard_in_silence() {
    let gateway = Gateway::start(&Server::shared(), "").await;
    let mut wire = Wire::open(&gateway.address);
    wire.send(&message(b'X', b""));
    assert_eq!(wire.receive(PATIENCE), Err(Silence::Closed));
    // In place of a proof as well.
    let mut wire = Wire::open(&gateway.address);
    let mut packet = Vec::new();
    startup::write_startup(&mut packet, &[("user", "nobody")]);
    wire.send(&packet);
    assert_eq!(wire.receive(PATIENCE).map(|message| message.tag), Ok(b'R'));
    wire.send(&message(b'X', b""));
    assert_eq!(wire.receive(PATIENCE), Err(Silence::Closed));
}
