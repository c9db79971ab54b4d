//! Session state that one tenant leaves behind, looked for by the next one on the same server connection.
//!
//! Each row of the table is tried in every placement and both pool modes; and on one connection without the reset, where
//! whatever the gateway is to prevent must show.

use std::time::Duration;

use guardian_testkit::Server;
use guardian_tests::{
    Gateway, Tenant, Wire, patiently,
    wire::{bind, execute, parse, sync},
};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Executor as _};

/// A kind of session state: how it is left, how it is looked for, and whether the answer betrays it.
struct Kind {
    name: &'static str,
    leave: &'static [&'static str],
    look: &'static str,
    /// What the answer to `look` holds where it leaked.
    betrayed: fn(&str) -> bool,
    /// Needs rights that the role of shared tables lacks.
    own_place_only: bool,
}

const fn kind(name: &'static str, leave: &'static [&'static str], look: &'static str, betrayed: fn(&str) -> bool) -> Kind {
    Kind { name, leave, look, betrayed, own_place_only: false }
}

const KINDS: &[Kind] = &[
    kind("SET", &["SET timezone = 'Asia/Tokyo'"], "SHOW timezone", |v| v == "Asia/Tokyo"),
    kind("SET of what is not reported", &["SET statement_timeout = 54321"], "SHOW statement_timeout", |v| v == "54321ms"),
    kind(
        "SET SESSION CHARACTERISTICS",
        &["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"],
        "SHOW default_transaction_read_only",
        |v| v == "on",
    ),
    kind("set_config", &["SELECT set_config('work_mem', '4321kB', false)"], "SHOW work_mem", |v| v == "4321kB"),
    kind("a batch with SET", &["SELECT 1; SET work_mem = '5432kB'; SELECT 2"], "SHOW work_mem", |v| v == "5432kB"),
    kind("SET in a block", &["DO $$ BEGIN SET work_mem = '6543kB'; END $$"], "SHOW work_mem", |v| v == "6543kB"),
    kind("a setting of the application", &["SET app.secret = 'of a'"], "SELECT current_setting('app.secret', true)", |v| {
        v == "of a"
    }),
    kind("the search path", &["SET search_path = pg_catalog"], "SHOW search_path", |v| v == "pg_catalog"),
    kind("row security", &["SET row_security = off"], "SHOW row_security", |v| v == "off"),
    kind("a role", &["SELECT set_config('role', current_user, false)"], "SHOW role", |v| v != "none"),
    kind("PREPARE", &["PREPARE kept AS SELECT 'of a'"], "SELECT string_agg(name, ',') FROM pg_prepared_statements", |v| {
        v.contains("kept")
    }),
    kind(
        "a cursor WITH HOLD",
        &["DECLARE kept CURSOR WITH HOLD FOR SELECT 'of a'"],
        "SELECT string_agg(name, ',') FROM pg_cursors",
        |v| v.contains("kept"),
    ),
    kind("LISTEN", &["LISTEN kept"], "SELECT string_agg(c, ',') FROM pg_listening_channels() c", |v| v.contains("kept")),
    kind(
        "an advisory lock",
        &["SELECT pg_advisory_lock(4242)"],
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND pid = pg_backend_pid()",
        |v| v == "1",
    ),
    kind(
        "a shared advisory lock",
        &["SELECT pg_advisory_lock_shared(4343)"],
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4343 AND pid = pg_backend_pid()",
        |v| v == "1",
    ),
    kind("the sequence last used", &["INSERT INTO team (name) VALUES ('t' || random())"], "SELECT lastval()", |v| {
        !v.is_empty()
    }),
    kind("an open transaction", &["BEGIN", "SELECT set_config('work_mem', '7654kB', true)"], "SHOW work_mem", |v| {
        v == "7654kB"
    }),
    kind("a failed transaction", &["BEGIN", "SELECT 1 / 0"], "SELECT 'usable'", |v| v != "usable"),
    Kind {
        name: "a temporary table",
        leave: &["CREATE TEMP TABLE kept AS SELECT 'of a' x"],
        look: "SELECT x FROM kept",
        betrayed: |v| v == "of a",
        own_place_only: true,
    },
    Kind {
        name: "a temporary table in the way",
        leave: &["CREATE TEMP TABLE tag (name text)"],
        look: "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'tag'::regclass",
        betrayed: |v| v.starts_with("pg_temp"),
        own_place_only: true,
    },
];

fn set_up(gateway: &Gateway, tiers: [&str; 2]) -> [Tenant; 2] {
    ["a", "b"].map(|side| {
        let tenant = gateway.tenant(&format!("{side}-{}", tiers[0]), if side == "a" { tiers[0] } else { tiers[1] });
        let mut wire = gateway.connect(&tenant);
        let inserted = wire.query(&format!("INSERT INTO tag (name) VALUES ('of {}')", tenant.slug));
        assert_eq!(inserted.failures, []);
        tenant
    })
}

/// What a query answers; empty for an error. The session is one's own connection, or the same one without a reset.
fn look(wire: &mut Wire, sql: &str) -> String {
    wire.query(sql).first().unwrap_or_default().to_owned()
}

fn own_rows(wire: &mut Wire, tenant: &Tenant) {
    let answer = wire.query("SELECT string_agg(DISTINCT name, ',') FROM tag");
    assert_eq!(answer.first(), Some(format!("of {}", tenant.slug).as_str()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_state_never_crosses_tenants() {
    let server = Server::shared();
    // One connection, so that the next tenant has no other.
    let gateway = Gateway::start(&server, "server_connections = 1\nserver_connections_reserved = 0\nworkers = 1").await;
    let placements = [
        ("free", "row"),
        ("row-session", "row"),
        ("business", "schema"),
        ("schema-session", "schema"),
        ("enterprise", "database"),
        ("database-session", "database"),
    ];
    let mut problems = Vec::new();
    let mut shown = 0;
    for (tier, placement) in placements {
        let [a, b] = set_up(&gateway, [tier, tier]);
        for kind in KINDS {
            let name = format!("{} ({tier})", kind.name);
            if kind.own_place_only && placement != "schema" && placement != "database" {
                let mut wire = gateway.connect(&a);
                assert_eq!(wire.query(kind.leave[0]).code(), "42501", "{name} is possible: look for it");
                continue;
            }
            let mut of_a = gateway.connect(&a);
            let backend = look(&mut of_a, "SELECT pg_backend_pid()");
            let may_leave = kind.leave.iter().all(|sql| {
                let answer = of_a.query(sql);
                answer.status.is_some() && (answer.failures.is_empty() || answer.code() == "22012")
            });
            // A role that may not is as good a reason that nothing crosses; a place without temporary tables, too.
            if !may_leave && !kind.own_place_only {
                problems.push(format!("{name}: cannot be left"));
            }
            of_a.vanish();
            let mut of_b = gateway.connect(&b);
            let of_b_backend = look(&mut of_b, "SELECT pg_backend_pid()");
            let found = look(&mut of_b, kind.look);
            if (kind.betrayed)(&found) {
                problems.push(format!("{name}: {found:?} came through"));
            }
            // Only row tenants share a connection; it is dropped where a transaction was open.
            if placement == "row" && !kind.leave[0].starts_with("BEGIN") {
                assert_eq!(backend, of_b_backend, "{name}: B was given another connection: nothing was tried");
                shown += 1;
            }
            own_rows(&mut of_b, &b);
            of_b.vanish();
            // And nothing reaches A's own next session that would spoil it.
            let mut again = gateway.connect(&a);
            own_rows(&mut again, &a);
            again.vanish();
        }
    }
    assert!(shown >= 30, "{shown}");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    without_the_reset(&gateway).await;
}

/// The positive control: the same statements on one server connection show each kind where nobody resets.
async fn without_the_reset(gateway: &Gateway) {
    let mut wire = {
        let mut direct = gateway.direct().await;
        let role = format!("{}_control", gateway.installation.application);
        let sql = format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'control'; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}; GRANT TEMP ON DATABASE {} TO {role};
             ALTER ROLE {role} BYPASSRLS; GRANT CONNECT ON DATABASE {0} TO {role}; GRANT USAGE ON SCHEMA public TO {role}",
            gateway.installation.application
        );
        direct.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("make a role");
        let address = format!("127.0.0.1:{}", gateway.installation.server().port());
        let parameters = [("user", role.as_str()), ("database", gateway.installation.application.as_str())];
        Wire::login(&address, &parameters, "control").expect("connect past the gateway")
    };
    wire.query("SELECT set_config('backtrace_functions', '', false)");
    for kind in KINDS {
        wire.query("DISCARD ALL");
        for sql in kind.leave {
            // The rows' tenant comes from a context that is not there: named instead.
            wire.query(&sql.replace("(name) VALUES (", "(tenant_id, name) VALUES (gen_random_uuid(), "));
        }
        let found = look(&mut wire, kind.look);
        assert!((kind.betrayed)(&found), "{}: {found:?} does not show without a reset either", kind.name);
        wire.query("ROLLBACK");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_and_notifications_stay_with_their_tenant() {
    let gateway =
        Gateway::start(&Server::shared(), "server_connections = 1\nserver_connections_reserved = 0\nworkers = 1").await;
    let [a, b] = set_up(&gateway, ["free", "free"]);
    let mut of_a = gateway.connect(&a);
    let mut of_b = gateway.connect(&b);
    // Named, and unnamed; then the other one names the same, and executes without a Parse of its own.
    of_a.send(&[parse("s", "SELECT 'of a' FROM tag"), parse("", "SELECT 'unnamed of a' FROM tag"), sync()].concat());
    assert_eq!(of_a.until_ready().failures, []);
    for statement in ["s", ""] {
        of_b.send(&[bind("", statement), execute(""), sync()].concat());
        let answer = of_b.until_ready();
        assert_eq!((answer.code(), answer.rows.len()), ("26000", 0), "{statement:?}: {answer:?}");
        // Whose it is has it still, on whatever connection.
        own_rows(&mut of_b, &b);
        of_a.send(&[bind("", statement), execute(""), sync()].concat());
        assert_eq!(of_a.until_ready().rows.len(), 1, "{statement:?}");
    }
    // The same text, prepared by both: each one's rows.
    for (wire, tenant) in [(&mut of_a, &a), (&mut of_b, &b)] {
        let parsed = wire.extended("", "SELECT name FROM tag");
        assert_eq!(parsed.first(), Some(format!("of {}", tenant.slug).as_str()));
    }
    for wire in [&mut of_a, &mut of_b] {
        wire.send(&[parse("same", "SELECT name FROM tag"), sync()].concat());
        assert_eq!(wire.until_ready().failures, []);
    }
    for _ in 0..5 {
        for (wire, tenant) in [(&mut of_a, &a), (&mut of_b, &b)] {
            wire.send(&[bind("", "same"), execute(""), sync()].concat());
            assert_eq!(wire.until_ready().first(), Some(format!("of {}", tenant.slug).as_str()));
        }
    }
    // A notification for A arrives while B has the connection.
    let mut direct = gateway.direct().await;
    of_a.query("LISTEN gossip");
    assert_eq!(of_b.query("BEGIN").status, Some('T'));
    direct.execute("NOTIFY gossip, 'for a alone'").await.expect("notify");
    of_b.query("SELECT pg_sleep(0.1)");
    of_b.query("COMMIT");
    of_b.query("SELECT 1");
    assert!(!String::from_utf8_lossy(&of_b.seen).contains("for a alone"));
    // Both at once, in one message: it does come where it may.
    let heard = of_a.query("LISTEN gossip; NOTIFY gossip, 'for a alone'");
    assert_eq!(heard.notified.len(), 1, "{heard:?}");
}

/// Stops a server process in its tracks, so that what is sent to it stays unanswered.
fn signal(process: &str, signal: Signal) {
    let pid = process.parse().ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, signal).expect("send a signal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_that_fails_leaves_nothing_of_the_last_tenant() {
    let gateway =
        Gateway::start(&Server::shared(), "server_connections = 1\nserver_connections_reserved = 0\nworkers = 1").await;
    let [a, b] = set_up(&gateway, ["free", "free"]);
    let mut direct = gateway.direct().await;
    let read = "SELECT string_agg(name, ',') FROM tag";

    // The reset is under way, its server process does not move: a cancel for the one who waits, then the end of the process.
    let mut of_a = gateway.connect(&a);
    let backend = of_a.scalar("SELECT pg_backend_pid()");
    signal(&backend, Signal::STOP);
    let mut of_b = gateway.connect(&b);
    of_b.send(&guardian_tests::wire::query(read));
    std::thread::sleep(Duration::from_millis(100));
    let mut cancel = Vec::new();
    guardian_pgwire::startup::write_cancel(&mut cancel, of_b.key.0, &of_b.key.1);
    Wire::open(&gateway.address).send(&cancel);
    sqlx::query("SELECT pg_cancel_backend($1::int)")
        .bind(backend.parse::<i32>().unwrap())
        .execute(&mut direct)
        .await
        .expect("cancel");
    signal(&backend, Signal::CONT);
    let answer = of_b.until_ready();
    let own = format!("of {}", b.slug);
    assert!(answer.first() == Some(own.as_str()) || !answer.failures.is_empty(), "{answer:?}");
    let mut of_b = gateway.connect(&b);
    own_rows(&mut of_b, &b);

    // The process ends within the reset.
    let backend = gateway.connect(&a).scalar("SELECT pg_backend_pid()");
    signal(&backend, Signal::STOP);
    of_b.send(&guardian_tests::wire::query(read));
    std::thread::sleep(Duration::from_millis(100));
    signal(&backend, Signal::TERM);
    signal(&backend, Signal::CONT);
    let answer = of_b.until_ready();
    assert!(answer.first() == Some(own.as_str()) || matches!(answer.code(), "08006" | "57P01"), "{answer:?}");
    let mut of_b = gateway.connect(&b);
    own_rows(&mut of_b, &b);

    // Entry is refused, because the capability is revoked: an error, never the context before.
    own_rows(&mut gateway.connect(&a), &a);
    let revoke =
        format!("UPDATE guardian.capability SET register = register || 'x' WHERE register = '{}'", b.key.replace('-', ""));
    direct.execute(sqlx::raw_sql(AssertSqlSafe(revoke))).await.expect("revoke");
    let mut of_b = gateway.connect(&b);
    let answer = of_b.query(read);
    assert_eq!((answer.code(), answer.rows.len(), answer.status), ("08006", 0, None), "{answer:?}");
    let restore = format!("UPDATE guardian.capability SET register = '{0}' WHERE register = '{0}x'", b.key.replace('-', ""));
    direct.execute(sqlx::raw_sql(AssertSqlSafe(restore))).await.expect("restore");
    own_rows(&mut gateway.connect(&b), &b);

    // A reset that takes its time and is interrupted, again and again.
    for _ in 0..20 {
        let mut of_a = gateway.connect(&a);
        let backend: i32 = of_a.scalar("SELECT pg_backend_pid()").parse().unwrap();
        of_a.query("SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 2000) n");
        let mut of_b = gateway.connect(&b);
        of_b.send(&guardian_tests::wire::query(read));
        let _ = sqlx::query("SELECT pg_cancel_backend($1)").bind(backend).execute(&mut direct).await;
        let answer = of_b.until_ready();
        assert!(answer.first() == Some(own.as_str()) || matches!(answer.code(), "08006" | "57014"), "{answer:?}");
    }
    patiently(|| gateway.try_connect(&b.slug, &b.password)).map(|mut wire| own_rows(&mut wire, &b)).expect("goes on");
}

/// A tenant is suspended while its connection is being reset for another one, whose client goes on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_goes_takes_no_other_with_it() {
    let gateway =
        Gateway::start(&Server::shared(), "server_connections = 1\nserver_connections_reserved = 0\nworkers = 1").await;
    let [a, b] = set_up(&gateway, ["free", "free"]);
    let c = gateway.tenant("c-free", "free");
    gateway.connect(&c).query("INSERT INTO tag (name) VALUES ('of c-free')");
    let mut of_a = gateway.connect(&a);
    let backend = of_a.scalar("SELECT pg_backend_pid()");
    let mut of_b = gateway.connect(&b);
    let mut of_c = gateway.connect(&c);
    own_rows(&mut of_a, &a);
    signal(&backend, Signal::STOP);
    of_b.send(&guardian_tests::wire::query("SELECT name FROM tag"));
    std::thread::sleep(Duration::from_millis(100));
    guardian_tests::json(&gateway.installation, &["tenant", "suspend", &a.slug]);
    assert_eq!(of_a.until_ready().code(), "57P03");
    of_c.send(&guardian_tests::wire::query("BEGIN"));
    std::thread::sleep(Duration::from_millis(300));
    of_b.send(&guardian_tests::wire::query("INSERT INTO tag (name) VALUES ('written by b')"));
    std::thread::sleep(Duration::from_millis(300));
    signal(&backend, Signal::CONT);
    assert_eq!(of_c.until_ready().status, Some('T'));
    own_rows(&mut of_c, &c);
    of_c.query("COMMIT");
    while let Some(answer) = of_b.until(Duration::from_secs(3)).filter(|answer| answer.status.is_some()) {
        assert!(answer.rows.is_empty() || answer.first() == Some("of b-free"), "{answer:?}");
    }
    assert!(!String::from_utf8_lossy(&of_b.seen).contains("of c"), "B reads C");
    own_rows(&mut gateway.connect(&c), &c);
    let of_b = gateway.connect(&b).scalar("SELECT string_agg(name, ',' ORDER BY name) FROM tag");
    assert!(matches!(of_b.as_str(), "of b-free" | "of b-free,written by b"), "{of_b}");
}
