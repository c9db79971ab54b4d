//! The SQL gateway when something ends, hangs, or asks for too much.

use std::{
    fs,
    path::Path,
    process::Child,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use guardian_testkit::{Server, Up};
use guardian_tests::{
    Failure, Gateway, Tenant, Wire, json as guardian_json, patiently,
    wire::{flush, query, sync, unsynced},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What a client is told whose server goes.
const LOST: [&str; 4] = ["08006", "57P01", "57P02", "57P03"];

fn with_a_row(gateway: &Gateway, slug: &str, tier: &str) -> Tenant {
    let tenant = gateway.tenant(slug, tier);
    let inserted = gateway.connect(&tenant).query(&format!("INSERT INTO tag (name) VALUES ('of {slug}')"));
    assert_eq!(inserted.failures, []);
    tenant
}

fn reads_its_own(wire: &mut Wire, tenant: &Tenant) {
    assert_eq!(wire.scalar("SELECT string_agg(name, ',') FROM tag"), format!("of {}", tenant.slug));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_is_told_and_its_return_is_noticed() {
    let server = Server::own();
    let gateway = Gateway::start(&server, "server_connections = 4\nworkers = 2").await;
    let tenants = [("acme", "free"), ("bravo", "business"), ("coyote", "enterprise"), ("delta", "free")]
        .map(|(slug, tier)| with_a_row(&gateway, slug, tier));
    let (is_over, lost, good) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for tenant in tenants.iter().cycle().take(8) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let Ok(mut wire) = gateway.try_connect(&tenant.slug, &tenant.password) else {
                        std::thread::sleep(Duration::from_millis(20));
                        continue;
                    };
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = wire.query("SELECT name FROM tag");
                        if answer.failures.is_empty() && answer.status.is_some() {
                            assert_eq!(answer.first(), Some(format!("of {}", tenant.slug).as_str()));
                            good.fetch_add(1, Ordering::Relaxed);
                        } else {
                            assert!(LOST.contains(&answer.code()), "{answer:?}");
                            lost.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        let more_than = |count: &AtomicUsize, least: usize| {
            patiently(|| if count.load(Ordering::Relaxed) > least { Ok(()) } else { Err(()) }).expect("statements");
        };
        more_than(&good, 50);
        // Nothing here is about what a power cut takes of a server without fsync.
        let mut superuser = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(gateway.direct()));
        let checkpoint = sqlx::Executor::execute(&mut superuser, "CHECKPOINT");
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(checkpoint)).expect("a checkpoint");
        server.kill();
        more_than(&lost, 0);
        server.restart();
        more_than(&good, good.load(Ordering::Relaxed) + 100);
        is_over.store(true, Ordering::Relaxed);
    });
    for tenant in &tenants {
        reads_its_own(&mut gateway.connect(tenant), tenant);
    }
}

fn limited(gateway: &Gateway, slug: &str, limits: &Value) -> Tenant {
    let tenant = with_a_row(gateway, slug, "free");
    gateway.limits(&tenant, limits);
    tenant
}

/// A refusal that names the limit.
fn names(failure: Option<&Failure>, code: &str, limit: &str) -> bool {
    failure.is_some_and(|failure| failure.code == code && failure.message.contains(limit))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_refuses_by_name() {
    let gateway = Gateway::start(&Server::shared(), "server_connections = 8\nworkers = 1").await;

    let tenant = limited(&gateway, "clients", &json!({ "client_connections_max": 2 }));
    let mut held = Vec::new();
    let refused = patiently(|| match gateway.try_connect(&tenant.slug, &tenant.password) {
        Ok(wire) => {
            held.push(wire);
            Err("let in".to_owned())
        }
        Err(failure) if names(Some(&failure), "53300", "client_connections_max of 2") => Ok(()),
        Err(failure) => Err(format!("{failure:?}")),
    });
    assert_eq!(refused, Ok(()));

    let tenant = limited(&gateway, "statements", &json!({ "statement_ms_max": 200 }));
    let mut wire = gateway.connect(&tenant);
    // A session can undo the server's clock, and not the gateway's.
    wire.query("SET statement_timeout = 0");
    let cut = patiently(|| {
        let answer = wire.query("SELECT pg_sleep(1.5)");
        if names(answer.failures.first(), "57014", "statement_ms_max of 200") { Ok(()) } else { Err(answer) }
    });
    assert_eq!(cut, Ok(()));
    reads_its_own(&mut wire, &tenant);

    let tenant = limited(&gateway, "transactions", &json!({ "transaction_ms_max": 400 }));
    let ended = patiently(|| {
        let mut wire = gateway.connect(&tenant);
        wire.query("BEGIN");
        let answer = (0..10).map(|_| wire.query("SELECT pg_sleep(0.1)")).find(|answer| answer.status.is_none());
        let failure = answer.as_ref().and_then(|answer| answer.failures.first());
        if names(failure, "25P04", "transaction_ms_max of 400") { Ok(()) } else { Err(answer) }
    });
    assert_eq!(ended, Ok(()));

    let tenant = limited(&gateway, "idlers", &json!({ "idle_in_transaction_ms_max": 300, "server_connections_max": 1 }));
    // Each holds the tenant's only connection, in a transaction that nobody ends.
    let write = "INSERT INTO tag (name) VALUES ('idle')";
    for (name, bytes) in [
        ("a transaction", query("BEGIN")),
        ("a failed transaction", query("BEGIN; SELECT 1 / 0")),
        ("a group without its Sync", [unsynced("", write), flush()].concat()),
        ("BEGIN without its Sync", [unsynced("", "BEGIN"), flush()].concat()),
        ("a failed group without its Sync", unsynced("", "SELECT 1 / 0")),
        ("a Flush alone", flush()),
        ("a COPY that is not fed", query("COPY tag_of_nobody FROM STDIN")),
    ] {
        let mut idle = gateway.connect(&tenant);
        idle.send(&bytes);
        std::thread::sleep(Duration::from_millis(50));
        let freed = patiently(|| {
            let answer = gateway.connect(&tenant).query("SELECT string_agg(name, ',') FROM tag");
            if answer.first() == Some("of idlers") { Ok(()) } else { Err(answer) }
        });
        assert_eq!(freed, Ok(()), "{name} holds a server connection");
        if !name.contains("COPY") && !name.contains("alone") {
            let told = loop {
                let Some(answer) = idle.until(Duration::from_secs(5)) else { break None };
                if answer.status.is_none() {
                    break answer.failures.last().cloned();
                }
            };
            assert!(names(told.as_ref(), "25P03", "idle_in_transaction_ms_max of 300"), "{name}: {told:?}");
        }
    }

    let tenant =
        limited(&gateway, "queue", &json!({ "server_connections_max": 1, "queue_len_max": 1, "queue_wait_ms_max": 700 }));
    let refused = patiently(|| {
        let mut clients = [(); 3].map(|()| gateway.connect(&tenant));
        clients[0].query("BEGIN");
        clients[1].send(&query("SELECT name FROM tag"));
        std::thread::sleep(Duration::from_millis(100));
        let full = clients[2].query("SELECT 1");
        let late = clients[1].until_ready();
        if !names(full.failures.first(), "53300", "queue_len_max of 1") {
            return Err(full);
        }
        if !names(late.failures.first(), "53300", "queue_wait_ms_max of 700") {
            return Err(late);
        }
        // Both go on.
        clients[0].query("COMMIT");
        reads_its_own(&mut clients[1], &tenant);
        reads_its_own(&mut clients[2], &tenant);
        Ok(())
    });
    assert_eq!(refused, Ok(()));

    let tenant = limited(&gateway, "locks", &json!({ "lock_wait_ms_max": 200 }));
    let waited = patiently(|| {
        let (mut first, mut second) = (gateway.connect(&tenant), gateway.connect(&tenant));
        first.query("BEGIN; UPDATE tag SET name = name");
        let answer = second.query("UPDATE tag SET name = name");
        first.query("ROLLBACK");
        if answer.code() == "55P03" { Ok(()) } else { Err(answer) }
    });
    assert_eq!(waited, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_hold_nobody_up() {
    let gateway = Gateway::start(&Server::shared(), "server_connections = 3\nworkers = 2\nlogin_seconds_max = 1").await;
    let tenant = with_a_row(&gateway, "acme", "free");
    // Half a start-up packet, a whole one without a proof, and nothing at all.
    let mut packet = Vec::new();
    guardian_pgwire::startup::write_startup(&mut packet, &[("user", "acme")]);
    let mut slow: Vec<Wire> = (0..150)
        .map(|n| {
            let mut wire = Wire::open(&gateway.address);
            wire.send(&packet[..[0, 6, packet.len()][n % 3]]);
            wire
        })
        .collect();
    reads_its_own(&mut gateway.connect(&tenant), &tenant);
    for (n, wire) in slow.iter_mut().enumerate() {
        assert!(wire.drain_raw(Duration::from_secs(20)), "client {n} never logs in and is kept");
    }
    // Clients that vanish without a word, in the middle of statements: their connections come back.
    for _ in 0..10 {
        let mut wire = gateway.connect(&tenant);
        wire.send(&query("SELECT pg_sleep(600)"));
        std::thread::sleep(Duration::from_millis(20));
        wire.vanish();
    }
    reads_its_own(&mut gateway.connect(&tenant), &tenant);
    // The end comes together with the last bytes, because the gateway does not look meanwhile.
    let few = limited(&gateway, "bravo", &json!({ "client_connections_max": 3 }));
    let pid = gateway.up.lock().expect("unpoisoned").as_ref().map(Up::pid).expect("it runs");
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process");
    let vanishing = [(); 3].map(|()| gateway.connect(&few));
    let full = patiently(|| match gateway.try_connect(&few.slug, &few.password) {
        Err(failure) if failure.code == "53300" => Ok(()),
        other => Err(other.err()),
    });
    assert_eq!(full, Ok(()));
    kill_process(pid, Signal::STOP).expect("stop the gateway");
    for mut wire in vanishing {
        wire.send(&query("SELECT 1")[..7]);
        wire.vanish();
    }
    std::thread::sleep(Duration::from_millis(100));
    kill_process(pid, Signal::CONT).expect("let the gateway go on");
    reads_its_own(&mut gateway.connect(&few), &few);
    // A client that does not read: the others do.
    let mut deaf = gateway.connect(&tenant);
    deaf.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"));
    reads_its_own(&mut gateway.connect(&tenant), &tenant);
    // And many that say nothing.
    let idle: Vec<Wire> = std::thread::scope(|scope| {
        let connecting: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..100).map(|_| gateway.connect(&tenant)).collect::<Vec<_>>())).collect();
        connecting.into_iter().flat_map(|thread| thread.join().expect("connect")).collect()
    });
    assert_eq!(idle.len(), 800);
    reads_its_own(&mut gateway.connect(&tenant), &tenant);
    for mut wire in idle {
        reads_its_own(&mut wire, &tenant);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_goes_is_told_at_once() {
    let gateway = Gateway::start(&Server::shared(), "workers = 2").await;
    for (slug, tier) in [("acme", "free"), ("bravo", "business"), ("coyote", "database-session")] {
        let tenant = with_a_row(&gateway, slug, tier);
        let mut idle = gateway.connect(&tenant);
        let mut busy = gateway.connect(&tenant);
        reads_its_own(&mut idle, &tenant);
        busy.send(&query("SELECT pg_sleep(600)"));
        guardian_json(&gateway.installation, &["tenant", "suspend", slug]);
        let answer = idle.until_ready();
        assert!(answer.code() == "57P03" || tier == "database-session", "{answer:?}");
        // Sessions of a role of its own are ended by the server as well, which may come first.
        let answer = busy.until_ready();
        let codes: &[&str] = if tier == "free" { &["57P03"] } else { &["57P03", "57P01"] };
        assert!(codes.contains(&answer.code()) && answer.status.is_none(), "{answer:?}");
        let refused = patiently(|| match gateway.try_connect(slug, &tenant.password) {
            Err(failure) if failure.code == "57P03" && failure.message.contains("suspended") => Ok(()),
            other => Err(format!("{:?}", other.err())),
        });
        assert_eq!(refused, Ok(()));
        guardian_json(&gateway.installation, &["tenant", "resume", slug]);
        let mut wire = gateway.connect(&tenant);
        reads_its_own(&mut wire, &tenant);
        guardian_json(&gateway.installation, &["tenant", "delete", slug, "--now", "--confirm", slug]);
        let answer = wire.until_ready();
        assert!(matches!(answer.code(), "57P03" | "3D000" | "57P01"), "{answer:?}");
        let failure = gateway.try_connect(slug, &tenant.password).expect_err("it was deleted");
        assert!(matches!(failure.code.as_str(), "28P01" | "57P03" | "3D000"), "{failure:?}");
    }
}

/// A `guardian gateway` of its own.
struct Edge(Child);

impl Edge {
    fn start(gateway: &Gateway, api: &str, token: &Path, state: &Path, log: &str) -> Self {
        let listen = fs::read_to_string(state.join("gateway.addr")).unwrap_or_else(|_| "127.0.0.1:0".to_owned());
        let log = fs::File::options().create(true).append(true).open(gateway.installation.path(log)).expect("a log");
        let child = gateway
            .installation
            .command(["gateway", "--control-url", api, "--listen", listen.trim()])
            .arg("--token-file")
            .arg(token)
            .arg("--state-dir")
            .arg(state)
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("start a gateway");
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("send a signal");
    }

    fn has_ended(&mut self) -> bool {
        patiently(|| self.0.try_wait().expect("look at the gateway").ok_or(())).expect("it ends").success()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_its_own_outlives_the_control_plane_and_itself() {
    let gateway = Gateway::start(&Server::shared(), "workers = 2\nserver_connections = 6").await;
    let tenant = with_a_row(&gateway, "acme", "free");
    let other = with_a_row(&gateway, "bravo", "business");
    let made = guardian_json(&gateway.installation, &["token", "create", "edge", "--role", "gateway"]);
    let token = gateway.installation.path("edge.token");
    fs::write(&token, made["secret"].as_str().expect("a secret")).expect("keep the token");
    let mut permissions = fs::metadata(&token).expect("the token").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(&token, permissions).expect("keep the token to oneself");
    let state = gateway.installation.path("edge");
    let (api, _) = gateway.installation.access();
    let api = format!("http://{api}");
    let log = || fs::read_to_string(gateway.installation.path("edge.log")).unwrap_or_default();

    let mut first = Edge::start(&gateway, &api, &token, &state, "edge.log");
    let address = patiently(|| fs::read_to_string(state.join("gateway.addr"))).unwrap_or_else(|_| panic!("{}", log()));
    let address = address.trim().to_owned();
    let connect = |tenant: &Tenant| Wire::login(&address, &[("user", &tenant.slug)], &tenant.password);
    let mut wire = patiently(|| connect(&tenant)).unwrap_or_else(|failure| panic!("{failure:?} {}", log()));
    reads_its_own(&mut wire, &tenant);

    // A successor takes over the port: nobody is refused, and an open transaction gets to its end.
    let mut open = connect(&tenant).expect("connect");
    open.query("BEGIN");
    let (is_over, connected) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut second = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut wire = connect(&other).unwrap_or_else(|failure| panic!("refused: {failure:?}"));
                    // Who is in already may be asked to connect again.
                    let answer = wire.query("SELECT string_agg(name, ',') FROM tag");
                    assert!(answer.first() == Some("of bravo") || answer.code() == "57P01", "{answer:?}");
                    connected.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |least: usize| {
            let wanted = connected.load(Ordering::Relaxed) + least;
            patiently(|| if connected.load(Ordering::Relaxed) >= wanted { Ok(()) } else { Err(()) }).expect("connections");
        };
        more(20);
        let second = Edge::start(&gateway, &api, &token, &state, "edge.log");
        patiently(|| if log().contains("taken over") { Ok(()) } else { Err(()) }).unwrap_or_else(|()| panic!("{}", log()));
        more(50);
        is_over.store(true, Ordering::Relaxed);
        second
    });
    reads_its_own(&mut open, &tenant);
    assert_eq!(open.query("COMMIT").tags, ["COMMIT"]);
    assert!(first.has_ended(), "{}", log());
    reads_its_own(&mut connect(&tenant).expect("connect"), &tenant);

    // Without the control plane it goes on, and starts again from what it kept.
    patiently(|| fs::metadata(state.join("gateway.sealed"))).expect("a snapshot is kept");
    let kept = fs::read(state.join("gateway.sealed")).expect("a snapshot is kept");
    assert!(!String::from_utf8_lossy(&kept).contains("acme"), "the snapshot is kept in clear");
    let up = gateway.up.lock().expect("unpoisoned").take();
    up.expect("it runs").kill();
    reads_its_own(&mut connect(&tenant).expect("connect"), &tenant);
    second.0.kill().expect("kill the gateway");
    second.0.wait().expect("see it go");
    let mut third = Edge::start(&gateway, &api, &token, &state, "edge.log");
    let mut wire = patiently(|| connect(&tenant)).unwrap_or_else(|failure| panic!("{failure:?} {}", log()));
    reads_its_own(&mut wire, &tenant);
    reads_its_own(&mut connect(&other).expect("connect"), &other);

    // Asked to stop, it lets transactions end, and tells those that have none.
    let mut open = connect(&tenant).expect("connect");
    let mut idle = connect(&other).expect("connect");
    open.query("BEGIN");
    third.signal(Signal::TERM);
    assert_eq!(idle.until_ready().code(), "57P01");
    reads_its_own(&mut open, &tenant);
    assert_eq!(open.query("COMMIT").tags, ["COMMIT"]);
    open.send(&sync());
    assert!(third.has_ended(), "{}", log());
}
