//! A tenant with a server of its own, behind the same address as everybody else's.

use guardian_testkit::Server;
use guardian_tests::{Gateway, Tenant, Wire, patiently};
use serde_json::json;
use sqlx::Executor as _;

const READ: &str = "SELECT string_agg(name, ',') FROM tag";
/// The slug that the second server is reserved for.
const WALLED: &str = "walled";

fn with_a_row(gateway: &Gateway, slug: &str, tier: &str) -> Tenant {
    let tenant = gateway.tenant(slug, tier);
    let inserted = gateway.connect(&tenant).query(&format!("INSERT INTO tag (name) VALUES ('of {slug}')"));
    assert_eq!(inserted.failures, []);
    tenant
}

/// State of a session that the next tenant must not find: how it is left, how it is looked for, and what betrays it.
const KINDS: &[(&str, &str, &str)] = &[
    ("SET work_mem = '4321kB'", "SHOW work_mem", "4321kB"),
    ("SET app.secret = 'of another'", "SELECT current_setting('app.secret', true)", "of another"),
    ("PREPARE kept AS SELECT 1", "SELECT string_agg(name, ',') FROM pg_prepared_statements", "kept"),
    ("LISTEN kept", "SELECT string_agg(c, ',') FROM pg_listening_channels() c", "kept"),
    (
        "SELECT pg_advisory_lock(4242)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND pid = pg_backend_pid()",
        "1",
    ),
    (
        "DECLARE kept CURSOR WITH HOLD FOR SELECT name FROM tag",
        "SELECT string_agg(name, ',') FROM pg_cursors WHERE name = 'kept'",
        "kept",
    ),
];

/// The tenant's own row and nothing else, on the server it should be on.
fn is_in(wire: &mut Wire, tenant: &str, server: &Server) {
    assert_eq!(wire.scalar(READ), format!("of {tenant}"));
    assert_eq!(wire.scalar("SELECT current_setting('port')"), server.port().to_string(), "{tenant} is elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_its_own_is_behind_the_same_address() {
    let (main, own) = (Server::shared(), Server::own());
    let gateway = Gateway::configured(&main, |text| {
        let clusters = format!(
            "[clusters.own]\nurl = \"{}\"\nreserved_for = \"{WALLED}\"\n\n[application]\ncluster = \"main\"\n",
            own.url("postgres")
        );
        let settings = "[gateway]\nserver_connections = 1\nserver_connections_reserved = 0\nworkers = 2\n";
        text.replacen("[application]\n", &clusters, 1).replacen("[gateway]\n", settings, 1)
            + "\n[tiers.walled]\nisolation = \"cluster\"\npooling = \"session\"\n"
    })
    .await;
    let password = gateway.login("app", &json!({ "kind": "any_tenant", "switch": "tenant" }));
    let walled = with_a_row(&gateway, WALLED, "walled");
    let others = [("acme", "free"), ("bravo", "business")].map(|(slug, tier)| with_a_row(&gateway, slug, tier));
    is_in(&mut gateway.connect(&walled), WALLED, &own);
    for tenant in &others {
        is_in(&mut gateway.connect(tenant), &tenant.slug, &main);
    }

    // One client on both servers in turn: it takes no state along.
    let mut wire = gateway.connect_as(&format!("app.{WALLED}"), &password);
    for (from, to) in [("acme", WALLED), (WALLED, "bravo")] {
        for (leave, look, betrayed) in KINDS {
            assert_eq!(wire.query(&format!("SET guardian.tenant = '{from}'")).tags, ["SET"]);
            assert_eq!(wire.query(leave).failures, [], "{leave}");
            assert_eq!(wire.extended("", &format!("SET guardian.tenant = '{to}'")).tags, ["SET"]);
            let found = wire.query(look);
            assert!(found.failures.is_empty() && found.first() != Some(betrayed), "{leave}, {from} to {to}: {found:?}");
            is_in(&mut wire, to, if to == WALLED { &own } else { &main });
        }
    }
    // On the second server no other tenant is to be found, by whatever name.
    assert_eq!(wire.query("SET guardian.tenant = 'walled'").tags, ["SET"]);
    assert_eq!(wire.scalar("SELECT count(*) FROM pg_class WHERE relname = 'tag' AND relkind = 'r'"), "1");

    drop(wire);

    // Its server stops: this tenant is told which one it is, and the others go on.
    let mut of_walled = gateway.connect(&walled);
    let mut of_others: Vec<Wire> = others.iter().map(|tenant| gateway.connect(tenant)).collect();
    is_in(&mut of_walled, WALLED, &own);
    // Nothing here is about what a power cut takes of a server without fsync.
    own.connect("postgres").await.execute("CHECKPOINT").await.expect("a checkpoint");
    own.kill();
    let told = patiently(|| {
        let answer = of_walled.query(READ);
        let told = answer.failures.first().filter(|failure| failure.message.contains("cluster `own`")).cloned();
        if answer.status.is_none() {
            of_walled = gateway.try_connect(WALLED, &walled.password).map_err(|failure| format!("{failure:?}"))?;
        }
        told.ok_or_else(|| format!("{answer:?}"))
    });
    assert_eq!(told.expect("the tenant is told").code, "08006");
    for (wire, tenant) in of_others.iter_mut().zip(&others) {
        is_in(wire, &tenant.slug, &main);
        is_in(&mut gateway.connect(tenant), &tenant.slug, &main);
    }
    // A client that comes over from another tenant is told as well, and can go back.
    let mut wire = gateway.connect_as("app.acme", &password);
    is_in(&mut wire, "acme", &main);
    assert_eq!(wire.query(&format!("SET guardian.tenant = '{WALLED}'")).tags, ["SET"]);
    let answer = wire.query(READ);
    assert!(answer.rows.is_empty() && answer.code() == "08006", "{answer:?}");
    assert_eq!(wire.query("SET guardian.tenant = 'acme'").tags, ["SET"]);
    is_in(&mut wire, "acme", &main);
    own.restart();
    let read = patiently(|| {
        let answer = gateway.connect(&walled).query(READ);
        answer.first().map(str::to_owned).ok_or(answer)
    });
    assert_eq!(read.as_deref(), Ok("of walled"));
}
