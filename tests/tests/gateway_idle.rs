//! Ten thousand clients that say nothing.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use guardian_testkit::{Server, Up};
use guardian_tests::{Gateway, Wire, patiently};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

const CLIENTS: usize = 10_000;
/// Descriptors that are none of the clients'.
const DESCRIPTORS_BESIDE: u64 = 500;
const THREADS: usize = 8;
/// What an idle client may take of the gateway's memory, without the kernel's. Three times what it took when this was written.
const BYTES_A_CLIENT_MAX: u64 = 4096;

/// Whether so many descriptors are to be had, for this process and for those that it starts.
fn raise_descriptors(wanted: u64) -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return true;
    }
    if maximum.is_some_and(|maximum| maximum < wanted) {
        return false;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok()
}

/// Resident memory in bytes.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("look at the gateway");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("look at the gateway").count()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a figure to be read, and a skipped test has to say so")]
async fn ten_thousand_idle_clients_cost_little_and_hold_nobody_up() {
    if !raise_descriptors(CLIENTS as u64 + DESCRIPTORS_BESIDE) {
        eprintln!("SKIPPED: the hard limit of descriptors is below {CLIENTS} clients; raise it (`ulimit -Hn`)");
        return;
    }
    let settings = format!("workers = 2\nserver_connections = 2\nclients_max = {}", CLIENTS + 100);
    let gateway = Gateway::start(&Server::shared(), &settings).await;
    let tenant = gateway.tenant("acme", "free");
    gateway.limits(&tenant, &json!({ "client_connections_max": CLIENTS + 100 }));
    let mut working = gateway.connect(&tenant);
    assert_eq!(working.query("INSERT INTO tag (name) VALUES ('of acme')").failures, []);
    let process = gateway.up.lock().expect("unpoisoned").as_ref().map(Up::pid).expect("it runs");
    // The limit reaches the gateway soon: more clients than it has by default are let in from then on.
    let many: Vec<Wire> = (0..50).map(|_| gateway.connect(&tenant)).collect();
    drop(many);
    let alone = patiently(|| {
        let now = descriptors(process);
        std::thread::sleep(Duration::from_millis(200));
        if descriptors(process) == now { Ok(now) } else { Err(()) }
    })
    .expect("the first ones go");
    let before = resident(process);

    let connected = AtomicUsize::new(0);
    let idle: Vec<Wire> = std::thread::scope(|scope| {
        let connecting: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let wires: Vec<Wire> = (0..CLIENTS / THREADS).map(|_| gateway.connect(&tenant)).collect();
                    connected.fetch_add(wires.len(), Ordering::Relaxed);
                    wires
                })
            })
            .collect();
        connecting.into_iter().flat_map(|thread| thread.join().expect("connect")).collect()
    });
    assert_eq!((idle.len(), connected.load(Ordering::Relaxed)), (CLIENTS, CLIENTS));
    assert!(descriptors(process) >= alone + CLIENTS, "they are not all there");
    let each = resident(process).saturating_sub(before) / CLIENTS as u64;
    eprintln!("{CLIENTS} idle clients: {each} bytes each");
    assert!(each <= BYTES_A_CLIENT_MAX, "{each} bytes an idle client");

    // Who works goes on, who comes is let in, and each of the idle ones can begin at any time.
    for _ in 0..20 {
        assert_eq!(working.scalar("SELECT name FROM tag"), "of acme");
    }
    assert_eq!(gateway.connect(&tenant).scalar("SELECT name FROM tag"), "of acme");
    let mut idle = idle;
    for wire in idle.iter_mut().step_by(CLIENTS / 100) {
        assert_eq!(wire.scalar("SELECT name FROM tag"), "of acme");
    }
    // They go: with a word, and without.
    for (number, mut wire) in idle.into_iter().enumerate() {
        if number % 2 == 0 {
            wire.send(&guardian_tests::wire::message(b'X', b""));
        }
        wire.vanish();
    }
    let left = patiently(|| match descriptors(process) {
        now if now <= alone + 2 => Ok(()),
        now => Err(now),
    });
    assert_eq!(left, Ok(()), "descriptors, of which {alone} were there before");
    assert_eq!(working.scalar("SELECT name FROM tag"), "of acme");
}
