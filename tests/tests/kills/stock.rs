//! Prepared databases, when `guardian up` is killed while it makes one and while it hands one out.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use guardian_testkit::{Installation, Server};
use guardian_tests::{Barrier, Remains, json, psql};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time::sleep;

const WANTED: usize = 2;

/// The marks of prepared databases, with the names of their roles.
async fn marks(installation: &Installation) -> Vec<(String, String)> {
    let sql = "SELECT rolname::text, mark FROM pg_roles, shobj_description(oid, 'pg_authid') AS mark
               WHERE mark LIKE 'guardian %' ORDER BY 1";
    sqlx::query_as(sql).fetch_all(&mut installation.server().connect("postgres").await).await.expect("look for marks")
}

fn is_full(installation: &Installation) -> bool {
    json(installation, &["status"])["clusters"][0]["warm_databases"] == json!({ "ready": WANTED, "wanted": WANTED })
}

async fn fill(installation: &Installation) {
    let begun = Instant::now();
    while !is_full(installation) {
        assert!(begun.elapsed().as_secs() < 60, "the stock stays short: {}", installation.log());
        sleep(Duration::from_millis(50)).await;
    }
}

async fn stocked() -> Installation {
    let installation = Installation::helpdesk(&Server::own()).await;
    let config = std::fs::read_to_string(installation.config()).expect("read guardian.toml");
    let stocked = config.replace("[clusters.main]", &format!("[clusters.main]\nwarm_databases = {WANTED}"));
    std::fs::write(installation.config(), stocked).expect("write guardian.toml");
    installation
}

/// The stock is full, and there is nothing but it, its template and these tenants.
async fn nothing_else_is_there(installation: &Installation, tenants: usize) {
    fill(installation).await;
    let names = "SELECT datname::text FROM pg_database WHERE datname ~ '^(ten_|guardian_)' ORDER BY 1";
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'ten\\_%'";
    let mut admin = installation.server().connect("postgres").await;
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut admin).await.expect("look for databases");
    assert_eq!(names.iter().filter(|name| name.ends_with("_template")).count(), 1, "{names:?}");
    assert_eq!(names.len(), 1 + WANTED + tenants, "{names:?}");
    let roles: i64 = sqlx::query_scalar(roles).fetch_one(&mut admin).await.expect("count roles");
    assert_eq!(roles, i64::try_from(WANTED + tenants).expect("a small number"));
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.expect("run SQL");
}

/// Takes one out of the stock, and waits until another is in the making.
async fn begin_another(installation: &Installation) -> String {
    let (gone, _) = marks(installation).await.remove(0);
    let mut admin = installation.server().connect("postgres").await;
    run(&mut admin, format!("DROP DATABASE \"{gone}\" WITH (FORCE)")).await;
    run(&mut admin, format!("DROP ROLE \"{gone}\"")).await;
    let begun = Instant::now();
    loop {
        let found = marks(installation).await.into_iter().find(|(_, mark)| mark.ends_with("in the making"));
        if let Some((name, _)) = found {
            return name;
        }
        assert!(begun.elapsed().as_secs() < 60, "nothing is made: {}", installation.log());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_making_of_prepared_databases_survives_kills() {
    let installation = stocked().await;
    let server = installation.server();
    let mut up = installation.up_and_hardened();
    for is_copied in [false, true] {
        fill(&installation).await;
        let mut admin = server.connect("postgres").await;
        let template: String =
            sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE datname LIKE 'guardian\\_%\\_template'")
                .fetch_one(&mut admin)
                .await
                .expect("look for the template");
        // A copy waits for sessions in its template to end.
        run(&mut admin, format!("ALTER DATABASE \"{template}\" ALLOW_CONNECTIONS true")).await;
        let inside = server.connect(&template).await;
        let name = begin_another(&installation).await;
        if is_copied {
            run(&mut admin, "BEGIN; LOCK TABLE pg_catalog.pg_shdescription IN SHARE MODE".to_owned()).await;
            inside.close().await.expect("leave the template");
            let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'pg_shdescription'::regclass AND NOT granted)";
            let begun = Instant::now();
            while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut admin).await.expect("look at the locks") {
                assert!(begun.elapsed().as_secs() < 60, "the copy is not finished: {}", installation.log());
                sleep(Duration::from_millis(5)).await;
            }
            up.kill();
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'pg_shdescription'::regclass
                       AND NOT granted; ROLLBACK";
            run(&mut admin, sql.to_owned()).await;
        } else {
            up.kill();
            inside.close().await.expect("leave the template");
        }
        run(&mut admin, format!("ALTER DATABASE \"{template}\" ALLOW_CONNECTIONS false")).await;
        admin.close().await.expect("close a connection");
        up = installation.up();
        nothing_else_is_there(&installation, 0).await;
        assert!(marks(&installation).await.iter().all(|(other, _)| *other != name), "half made, it was kept");
    }
    assert!(up.stop(), "{}", installation.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_out_survives_kills_before_and_after_its_record() {
    let installation = stocked().await;
    let mut up = installation.up_and_hardened();
    for (slug, is_recorded) in [("before", false), ("after", true)] {
        fill(&installation).await;
        let ready = marks(&installation).await;
        let mut barrier = Barrier::at_tenant(installation.control()).await;
        let mut command = installation.command(["tenant", "create", slug, "--tier", "enterprise"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the creation");
        assert!(barrier.is_reached(|| child.try_wait().expect("wait for the creation").is_some()).await);
        up.kill();
        // The command line would wait for the control plane to come back.
        let _ = child.kill();
        let _ = child.wait();
        if is_recorded {
            barrier.let_through().await;
        } else {
            barrier.lift().await;
        }
        assert_eq!(marks(&installation).await, ready, "the hand-out went through without the process");
        up = installation.up();
        if is_recorded {
            let tenant = json(&installation, &["tenant", "show", slug]);
            assert_eq!(tenant["state"], "active", "{tenant}");
            let id = tenant["id"].as_str().expect("an id");
            assert!(ready.iter().any(|(name, _)| name == id), "it did not come out of the stock");
            let begun = Instant::now();
            while marks(&installation).await.iter().any(|(name, _)| name == id) {
                assert!(begun.elapsed().as_secs() < 60, "the hand-out is not finished: {}", installation.log());
                sleep(Duration::from_millis(50)).await;
            }
        } else {
            assert!(!installation.guardian(["tenant", "show", slug]).status.success(), "there is half a tenant");
            installation.run(["tenant", "create", slug, "--tier", "enterprise"]);
        }
        let insert = "INSERT INTO tag (name) VALUES ('a'); SELECT count(*) FROM tag";
        assert_eq!(psql(&installation, slug, insert), Ok("1".into()), "{slug}");
    }
    nothing_else_is_there(&installation, 2).await;
    for slug in ["before", "after"] {
        let tenant = json(&installation, &["tenant", "show", slug]);
        installation.run(["tenant", "delete", slug, "--now", "--confirm", slug]);
        let word = |name: &str| tenant[name].as_str().expect("a text").to_owned();
        let remains = Remains::of(&installation, &word("id"), &word("key")).await;
        assert!(remains.is_nothing(), "{slug} left {remains:?}");
    }
    nothing_else_is_there(&installation, 0).await;
    let incidents = json(&installation, &["incident", "list"]);
    assert_eq!(incidents["items"].as_array().map(Vec::len), Some(0), "{incidents}");
    assert!(up.stop(), "{}", installation.log());
}
