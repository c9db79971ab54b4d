//! New capabilities and passwords while tenants are served: no request fails, the old ones open nothing afterwards, and a
//! control plane that is killed on the way is no obstacle.

use std::{
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use guardian_testkit::{Installation, Server};
use guardian_tests::{Barrier, Gateway, Tenant, json, psql};
use serde_json::Value;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

/// Transactions of each client that have to go through while the change stands still half-way.
const HALFWAY: u64 = 20;

/// What opens a tenant, as the API tells somebody who may hear it.
fn keys(installation: &Installation, slug: &str) -> Value {
    json(installation, &["tenant", "credentials", slug])
}

/// A session past the gateway with what was told.
async fn direct(installation: &Installation, keys: &Value) -> Result<PgConnection, sqlx::Error> {
    let text = |name: &str| keys[name].as_str().unwrap_or_default().to_owned();
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(installation.server().port());
    options.username(&text("user")).password(&text("password")).database(&text("database")).connect().await
}

/// Whether the capability enters its tenant.
async fn enters(session: &mut PgConnection, keys: &Value) -> bool {
    let entered: Option<String> = sqlx::query_scalar("SELECT guardian.enter(decode($1, 'hex'))")
        .bind(keys["capability"].as_str().expect("a capability"))
        .fetch_one(session)
        .await
        .expect("ask to enter");
    entered.is_some()
}

/// The old secrets open nothing, the new ones do.
async fn is_changed(installation: &Installation, what: &str, slug: &str, old: &Value) {
    let new = keys(installation, slug);
    if what == "--capabilities" {
        assert_ne!(old["capability"], new["capability"], "{slug}");
        let mut session = direct(installation, &new).await.expect("connect as the application");
        assert!(!enters(&mut session, old).await, "{slug}: the old capability enters");
        assert!(enters(&mut session, &new).await, "{slug}: the new capability does not enter");
    } else {
        assert_ne!(old["password"], new["password"], "{slug}");
        let refused = direct(installation, old).await.map(drop).expect_err("the old password opens nothing");
        let code = refused.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        assert_eq!(code.as_deref(), Some("28P01"), "{slug}: {refused}");
        direct(installation, &new).await.expect("connect with the new password");
    }
}

fn rotate(installation: &Installation, what: &str) -> Child {
    let mut command = installation.command(["key", "rotate", what, "--yes"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the rotation")
}

/// Adds rows for a client of the tenant, on a connection that it keeps and on one that it opens for each.
fn traffic(gateway: &Gateway, tenant: &Tenant, done: &AtomicU64, stop: &AtomicBool) {
    let mut kept = gateway.connect(tenant);
    while !stop.load(Ordering::Relaxed) {
        let answer = kept.query("INSERT INTO tag (name) VALUES (gen_random_uuid()::text)");
        assert_eq!(answer.failures, [], "{}, on a connection that it kept", tenant.slug);
        let mut fresh = gateway.try_connect(&tenant.slug, &tenant.password).expect("log in");
        let answer = fresh.query("BEGIN; INSERT INTO tag (name) VALUES (gen_random_uuid()::text); COMMIT");
        assert_eq!(answer.failures, [], "{}, on a connection of its own", tenant.slug);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn fails_no_request(what: &str, column: &str, tiers: [&str; 3]) {
    // So few connections that tenants hand them to each other again and again; where each has a role of its own, by logging in.
    let few = if what == "--passwords" { 2 } else { 3 };
    let settings = format!("server_connections = {few}\nserver_connections_reserved = 0");
    let gateway = Gateway::start(&Server::shared(), &settings).await;
    let tenants: Vec<Tenant> =
        tiers.iter().enumerate().map(|(number, tier)| gateway.tenant(&format!("t{number}"), tier)).collect();
    let installation = &gateway.installation;
    let old: Vec<Value> = tenants.iter().map(|tenant| keys(installation, &tenant.slug)).collect();
    let (stop, done) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 3]);
    let mut barrier = Barrier::at_secret(installation.control(), column).await;
    let mut child = rotate(installation, what);
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            tenants.iter().zip(&done).map(|(tenant, done)| scope.spawn(|| traffic(&gateway, tenant, done, &stop))).collect();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let reached = barrier.is_reached(|| clients.iter().any(std::thread::ScopedJoinHandle::is_finished)).await;
                // The new one is in force on the server, and the gateway has not heard so.
                let at: Vec<u64> = done.iter().map(|done| done.load(Ordering::Relaxed)).collect();
                let begun = Instant::now();
                while reached
                    && clients.iter().all(|client| !client.is_finished())
                    && done.iter().zip(&at).any(|(done, at)| done.load(Ordering::Relaxed) < at + HALFWAY)
                {
                    assert!(begun.elapsed().as_secs() < 60, "the clients stand still: {}", installation.log());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                barrier.let_through().await;
                let ended = child.wait().expect("wait for the rotation");
                stop.store(true, Ordering::Relaxed);
                assert!(reached, "a client failed before");
                assert!(ended.success(), "{}", installation.log());
            });
        });
    });
    for (tenant, old) in tenants.iter().zip(&old) {
        is_changed(installation, what, &tenant.slug, old).await;
        assert!(gateway.connect(tenant).scalar("SELECT count(*) FROM tag").parse::<u64>().is_ok_and(|rows| rows > 0));
        let entries = json(installation, &["audit-log", "list", "--action", "secret.rotate", "--tenant", &tenant.id]);
        assert_eq!(entries["items"].as_array().map(Vec::len), Some(1), "{entries}");
    }
    let log = installation.log();
    for old in &old {
        let secret = old[if what == "--passwords" { "password" } else { "capability" }].as_str().expect("a secret");
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_capabilities_are_replaced() {
    fails_no_request("--capabilities", "sealed_capability", ["free", "free", "row-session"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_passwords_are_replaced() {
    fails_no_request("--passwords", "sealed_password", ["business", "business", "enterprise"]).await;
}

/// Killed when each part is recorded, and between what a server was told and the record of it.
async fn survives_kills(what: &str, column: &str, tier: &str) {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let mut up = Some(installation.up_and_hardened());
    for slug in ["a", "b"] {
        installation.run(["tenant", "create", slug, "--tier", tier]);
    }
    let old = ["a", "b"].map(|slug| keys(&installation, slug));
    let mut child = None;
    for place in [Some(0), Some(1), None, Some(2), Some(3)] {
        let mut barrier = match place {
            Some(item) => Barrier::at_item(installation.control(), item).await,
            None => Barrier::at_secret(installation.control(), column).await,
        };
        if up.is_none() {
            up = Some(installation.up());
        }
        child.get_or_insert_with(|| rotate(&installation, what));
        assert!(barrier.is_reached(|| false).await, "{}", installation.log());
        up.take().expect("it runs").kill();
        barrier.lift().await;
    }
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
    let up = installation.up();
    let begun = Instant::now();
    loop {
        let runs = json(&installation, &["audit-log", "list", "--action", "run.rotate_secrets"]);
        let ended = runs["items"].as_array().expect("entries").iter().find(|entry| entry["outcome"] != "allowed").cloned();
        if let Some(ended) = ended {
            assert_eq!(ended["outcome"], "done", "{ended}");
            break;
        }
        assert!(begun.elapsed().as_secs() < 90, "{}", installation.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (slug, old) in ["a", "b"].iter().zip(&old) {
        is_changed(&installation, what, slug, old).await;
        assert_eq!(psql(&installation, slug, "SELECT count(*) FROM tag"), Ok("0".into()), "{slug}");
        // Nothing is left to come.
        installation.run(["tenant", "suspend", slug]);
        installation.run(["tenant", "resume", slug]);
        assert_eq!(psql(&installation, slug, "SELECT count(*) FROM tag"), Ok("0".into()), "{slug}");
    }
    assert!(up.stop(), "{}", installation.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_are_replaced_although_control_planes_are_killed() {
    survives_kills("--capabilities", "sealed_capability", "free").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_replaced_although_control_planes_are_killed() {
    survives_kills("--passwords", "sealed_password", "business").await;
}
