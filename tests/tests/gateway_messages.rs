//! Messages of the extended protocol that the gateway has to understand itself: a switch of the tenant in session mode, and
//! messages without their end.

use std::time::Duration;

use guardian_testkit::Server;
use guardian_tests::{
    Gateway, Tenant, Wire,
    wire::{bind, execute, flush, group, message, parse, query, sync, unsynced},
};
use serde_json::json;

const READ: &str = "SELECT string_agg(name, ',') FROM tag";

fn with_a_row(gateway: &Gateway, slug: &str, tier: &str) -> Tenant {
    let tenant = gateway.tenant(slug, tier);
    let inserted = gateway.connect(&tenant).query(&format!("INSERT INTO tag (name) VALUES ('of {slug}')"));
    assert_eq!(inserted.failures, []);
    tenant
}

fn switch_to(slug: &str) -> String {
    format!("SET guardian.tenant = '{slug}'")
}

/// In whose tenant the client is, by the gateway and by its rows.
fn is_in(wire: &mut Wire, slug: &str) {
    assert_eq!(wire.scalar("SHOW guardian.tenant"), slug);
    assert_eq!(wire.extended("", READ).first(), Some(format!("of {slug}").as_str()));
}

/// A client that owns a server connection from its first statement on: Parse, Bind, Execute and Sync must not reach that.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_switches_by_a_group() {
    let gateway = Gateway::start(&Server::shared(), "workers = 2\nshards = 2\nserver_connections = 8").await;
    let password = gateway.login("app", &json!({ "kind": "any_tenant", "switch": "tenant" }));
    for tier in ["row-session", "schema-session", "database-session"] {
        let slugs = ["a", "b"].map(|side| format!("{side}-{tier}"));
        let [a, b] = &slugs;
        for slug in &slugs {
            with_a_row(&gateway, slug, tier);
        }
        let mut wire = gateway.connect_as(&format!("app.{a}"), &password);
        is_in(&mut wire, a);
        // State of the session; an unnamed statement, which a Bind that got through would run.
        wire.query("SET work_mem = '4321kB'");
        wire.query("LISTEN kept");
        wire.send(&[parse("", "SELECT 'the unnamed one of a'"), sync()].concat());
        assert_eq!(wire.until_ready().failures, []);
        let answer = wire.extended("", &switch_to(b));
        assert_eq!((answer.tags, answer.rows, answer.status), (vec!["SET".to_owned()], vec![], Some('I')), "{tier}");
        is_in(&mut wire, b);
        assert_eq!(wire.scalar("SHOW work_mem"), "4MB", "{tier}");
        assert_eq!(wire.scalar("SELECT count(*) FROM pg_listening_channels()"), "0", "{tier}");

        // The bytes one by one; the messages in pieces of their own; with a statement right behind.
        wire.trickle(&group("", &switch_to(a)));
        assert_eq!(wire.until_ready().tags, ["SET"], "{tier}");
        is_in(&mut wire, a);
        for piece in [parse("", &switch_to(b)), bind("", ""), execute(""), sync()] {
            wire.send(&piece);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(wire.until_ready().tags, ["SET"], "{tier}");
        is_in(&mut wire, b);
        wire.send(&[group("", &switch_to(a)), group("", READ), query(READ)].concat());
        assert_eq!(wire.until_ready().tags, ["SET"], "{tier}");
        for _ in 0..2 {
            assert_eq!(wire.until_ready().first(), Some(format!("of {a}").as_str()), "{tier}");
        }

        // Among other messages, or inside anything that is open, it is none, and nothing of the group is run.
        let switch = switch_to(b);
        for (name, bytes, end) in [
            ("before a read", [unsynced("", &switch), unsynced("", READ), sync()].concat(), ""),
            ("before a Query", [parse("", &switch), query(READ), sync()].concat(), ""),
            ("executed twice", [parse("", &switch), bind("", ""), execute(""), execute(""), sync()].concat(), ""),
            ("behind a read", [unsynced("", READ), unsynced("", &switch), sync()].concat(), ""),
            ("in an open group", [unsynced("", "SELECT 1"), flush(), group("", &switch)].concat(), ""),
            ("in a transaction", [query("BEGIN"), group("", &switch)].concat(), "ROLLBACK"),
        ] {
            wire.send(&[bytes, query("SELECT 'the end'")].concat());
            let mut codes = Vec::new();
            loop {
                let answer = wire.until_ready();
                assert!(answer.status.is_some(), "{tier}, {name}: {answer:?}");
                codes.extend(answer.failures.iter().map(|failure| failure.code.clone()));
                if answer.first() == Some("the end") || answer.code() == "25P02" {
                    break;
                }
            }
            assert!(!codes.is_empty(), "{tier}, {name}: it was taken");
            if !end.is_empty() {
                wire.query(end);
            }
            is_in(&mut wire, a);
        }
        assert!(!String::from_utf8_lossy(&wire.seen).contains("the unnamed one of a"), "{tier}: the server was asked");
    }
}

/// PostgreSQL calls such a message a violation of the protocol; whoever waits for its end instead keeps a server for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_its_end_is_refused_and_keeps_no_server() {
    for pooling in ["free", "row-session"] {
        let gateway =
            Gateway::start(&Server::shared(), "server_connections = 1\nserver_connections_reserved = 0\nworkers = 1").await;
        let tenant = with_a_row(&gateway, "acme", pooling);
        for (name, before, bytes) in [
            ("Parse", "", message(b'P', b"SELECT 1")),
            ("Bind", "", message(b'B', b"x")),
            ("Bind behind a Parse", "", [parse("", "SELECT 1"), message(b'B', b"x")].concat()),
            ("Parse without types", "", message(b'P', b"s\0SELECT 1")),
            ("Bind without a statement", "", message(b'B', b"portal\0statement")),
            ("Parse in a transaction", "BEGIN", message(b'P', b"SELECT 1")),
            ("Bind in a transaction", "BEGIN", message(b'B', b"x")),
        ] {
            let mut wire = gateway.connect(&tenant);
            if !before.is_empty() {
                assert_eq!(wire.query(before).failures, []);
            }
            wire.send(&[bytes, sync()].concat());
            let answer = wire.until(Duration::from_secs(10)).unwrap_or_else(|| panic!("{pooling}, {name}: it hangs"));
            assert_eq!(answer.code(), "08P01", "{pooling}, {name}: {answer:?}");
            // A session goes on with the connection it owns, where PostgreSQL itself refused.
            if pooling == "row-session" && answer.status.is_some() {
                wire.query("ROLLBACK");
                assert_eq!(wire.query(READ).first(), Some("of acme"), "{name}");
                wire.vanish();
                continue;
            }
            // The only server connection there is serves the next client, while this one stays.
            let read = gateway.connect(&tenant).query(READ);
            assert_eq!(read.first(), Some("of acme"), "{pooling}, {name}: {read:?}");
            wire.vanish();
        }
    }
}

/// Whether PostgreSQL answers a Sync in the midst of COPY data hangs on where it stopped reading them. Its connection is not
/// lent on: an answer too many would be the next client's.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_with_a_sync_in_it_ends_its_connection() {
    let gateway =
        Gateway::start(&Server::shared(), "server_connections = 1\nserver_connections_reserved = 0\nworkers = 1").await;
    let tenant = with_a_row(&gateway, "alpha", "business");
    let (mut first, mut second) = (gateway.connect(&tenant), gateway.connect(&tenant));
    let mut process = second.scalar("SELECT pg_backend_pid()");
    for data in ["too\tmany\tcolumns\n", "name\n"] {
        first.send(&query("COPY tag (name) FROM STDIN"));
        assert_eq!(first.receive(Duration::from_secs(20)).expect("an answer").tag, b'G');
        first.send(&[message(b'd', data.as_bytes()), sync(), message(b'c', b"")].concat());
        let answer = first.until_ready();
        assert_eq!(answer.failures.is_empty(), data == "name\n", "{answer:?}");
        for number in 0..20 {
            assert_eq!(second.scalar(&format!("SELECT {number}")), number.to_string());
        }
        let now = second.scalar("SELECT pg_backend_pid()");
        assert_eq!(now == process, data == "name\n", "{data}");
        process = now;
    }
}
