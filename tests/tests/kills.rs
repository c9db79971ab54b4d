//! SIGKILL of `guardian up` between the act of any step and its record: the next start finishes, and nothing is orphaned.

#[path = "kills/adoption.rs"]
mod adoption;
#[path = "kills/nodes.rs"]
mod nodes;
#[path = "kills/secrets.rs"]
mod secrets;
#[path = "kills/stock.rs"]
mod stock;

use std::process::Stdio;

use guardian_testkit::{Installation, Server, Up};
use guardian_tests::{Barrier, Remains, json, psql};

/// Begins the change of one tenant after the other, kills Guardian when the first, the second … step has acted, and lets a new
/// process go on. `names` are what the tenants are asked for by: a deleted tenant's slug names nobody.
async fn kill_at_each_step(
    installation: &Installation,
    mut up: Up,
    change: &[&str],
    slugs: &[String],
    names: &[String],
    done: &str,
) -> Up {
    for steps in 1.. {
        let (slug, name) = (&slugs[steps - 1], &names[steps - 1]);
        let arguments = change.iter().map(|word| word.replace("SLUG", slug));
        let mut barrier = Barrier::at(installation.control(), steps).await;
        let mut command = installation.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the change");
        let reached = barrier.is_reached(|| child.try_wait().expect("wait for the change").is_some()).await;
        if !reached {
            // There are no more steps: the change went through, and the barrier stood behind its end.
            barrier.lift().await;
            assert!(child.wait().expect("wait for the change").success());
            assert!(steps > 1, "no step was interrupted");
            return up;
        }
        up.kill();
        // The command line would wait for the control plane to come back.
        let _ = child.kill();
        let _ = child.wait();
        barrier.lift().await;
        up = installation.up();
        let begun = std::time::Instant::now();
        loop {
            let tenant = json(installation, &["tenant", "show", name]);
            if tenant["state"] == done {
                break;
            }
            assert!(begun.elapsed().as_secs() < 60, "step {steps} of {change:?} was not finished: {}", installation.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    unreachable!("the loop only ends by returning")
}

/// More than any operation has steps.
const TENANTS: usize = 8;

async fn survives_kills(tier: &str) {
    let installation = &Installation::helpdesk(&Server::shared()).await;
    let mut up = installation.up_and_hardened();
    let slugs: Vec<String> = (0..TENANTS).map(|number| format!("t{number}")).collect();

    up = kill_at_each_step(installation, up, &["tenant", "create", "SLUG", "--tier", tier], &slugs, &slugs, "active").await;
    for slug in &slugs {
        if !installation.guardian(["tenant", "show", slug.as_str()]).status.success() {
            installation.run(["tenant", "create", slug.as_str(), "--tier", tier]);
        }
        assert_eq!(
            psql(installation, slug, "INSERT INTO tag (name) VALUES ('a'); SELECT count(*) FROM tag"),
            Ok("1".into())
        );
    }
    up = kill_at_each_step(installation, up, &["tenant", "suspend", "SLUG"], &slugs, &slugs, "suspended").await;
    up = kill_at_each_step(installation, up, &["tenant", "resume", "SLUG"], &slugs, &slugs, "active").await;
    for slug in &slugs {
        assert_eq!(psql(installation, slug, "SELECT count(*) FROM tag"), Ok("1".into()), "{slug} lost its data");
    }
    let tenants: Vec<_> = slugs.iter().map(|slug| json(installation, &["tenant", "show", slug])).collect();
    let ids: Vec<String> = tenants.iter().map(|tenant| tenant["id"].as_str().expect("an id").to_owned()).collect();
    let delete = ["tenant", "delete", "SLUG", "--now", "--confirm", "SLUG"];
    up = kill_at_each_step(installation, up, &delete, &slugs, &ids, "deleted").await;
    for (tenant, (slug, id)) in tenants.iter().zip(slugs.iter().zip(&ids)) {
        if json(installation, &["tenant", "show", id])["state"] != "deleted" {
            installation.run(["tenant", "delete", slug, "--now", "--confirm", slug]);
        }
        let key = tenant["key"].as_str().expect("a key");
        let remains = Remains::of(installation, id, key).await;
        assert!(remains.is_nothing(), "{slug} left {remains:?}");
    }
    let incidents = json(installation, &["incident", "list"]);
    assert_eq!(incidents["items"].as_array().map(Vec::len), Some(0), "{incidents}");
    assert!(up.stop(), "{}", installation.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_tenants_survive_kills() {
    survives_kills("free").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_tenants_survive_kills() {
    survives_kills("business").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_tenants_survive_kills() {
    survives_kills("enterprise").await;
}

/// A file of so many tenants, and the command that imports them.
fn import(installation: &Installation, tenants: usize) -> Vec<String> {
    let key = |number| format!("01890000-0000-7000-8000-{number:012}");
    let lines = (0..tenants).map(|number| format!("{},t{number}\n", key(number))).collect::<Vec<_>>().concat();
    let file = installation.path("tenants.csv");
    std::fs::write(&file, format!("key,slug\n{lines}")).expect("write the file");
    ["tenant", "import", "--csv", &file.display().to_string(), "--tier", "free", "--json"].map(str::to_owned).into()
}

/// Every tenant of the file is active, can be entered, and is left as it is by another import.
async fn is_imported(installation: &Installation, command: &[String], tenants: usize) {
    let begun = std::time::Instant::now();
    let states = async |installation: &Installation| -> (i64, i64) {
        sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE state = 'active') FROM guardian_store.tenant")
            .fetch_one(&mut installation.control().connect().await)
            .await
            .expect("count the tenants")
    };
    let all = i64::try_from(tenants).expect("a small number");
    while states(installation).await != (all, all) {
        assert!(begun.elapsed().as_secs() < 60, "not all were finished: {}", installation.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let again = json(installation, &command[..command.len() - 1]);
    assert_eq!((again["created"].as_u64(), again["unchanged"].as_u64()), (Some(0), u64::try_from(tenants).ok()), "{again}");
    let insert = "INSERT INTO tag (name) VALUES ('a') ON CONFLICT DO NOTHING; SELECT count(*) FROM tag";
    for slug in ["t0".to_owned(), format!("t{}", tenants - 1)] {
        assert_eq!(psql(installation, &slug, insert), Ok("1".into()), "{slug}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_survives_kills_before_and_after_its_act() {
    const TENANTS: usize = 30;
    let installation = Installation::helpdesk(&Server::shared()).await;
    let up = installation.up_and_hardened();
    let command = import(&installation, TENANTS);
    let start = || {
        let mut command = installation.command(&command);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the import")
    };

    // The tenants are recorded, and the registry does not know them.
    let mut application = installation.server().connect(&installation.application).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE guardian.capability").execute(&mut application).await.expect("hold the registry");
    let mut child = start();
    let mut observer = installation.server().connect(&installation.application).await;
    let begun = std::time::Instant::now();
    loop {
        let sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'guardian.capability'::regclass AND NOT granted)";
        if sqlx::query_scalar(sql).fetch_one(&mut observer).await.expect("look at the locks") {
            break;
        }
        assert!(begun.elapsed().as_secs() < 30, "the import does not come to the registry: {}", installation.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    up.kill();
    let _ = child.kill();
    let _ = child.wait();
    sqlx::raw_sql("ROLLBACK").execute(&mut application).await.expect("let go of the registry");
    let up = installation.up();
    is_imported(&installation, &command, TENANTS).await;

    // The registry knows them, and that is not recorded. The others are there already.
    let command = import(&installation, 2 * TENANTS);
    let mut barrier = Barrier::at(installation.control(), 1).await;
    let mut child = installation.command(&command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
    assert!(barrier.is_reached(|| child.try_wait().expect("wait for the import").is_some()).await);
    up.kill();
    let _ = child.kill();
    let _ = child.wait();
    barrier.lift().await;
    let up = installation.up();
    is_imported(&installation, &command, 2 * TENANTS).await;
    assert!(up.stop(), "{}", installation.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_across_tenants_is_shut_in_time_by_the_next_process() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let up = installation.up_and_hardened();
    for slug in ["acme", "bravo"] {
        installation.run(["tenant", "create", slug, "--tier", "free"]);
        psql(&installation, slug, "INSERT INTO tag (name) VALUES ('a')").expect("insert");
    }
    let through = |more: &[&str], sql: &str| {
        let start = ["psql", "--all-tenants", "--reason", "a report"];
        installation.guardian([&start[..], more, &["--", "-X", "-A", "-t", "-q", "-c", sql]].concat())
    };
    let seen = through(&[], "SELECT count(*), count(DISTINCT tenant_id) FROM tag");
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "2|2", "{}", String::from_utf8_lossy(&seen.stderr));
    assert!(String::from_utf8_lossy(&seen.stderr).contains("reads the rows of every tenant"));
    let refused = through(&[], "DELETE FROM tag");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("read-only transaction"));
    let written = through(&["--write"], "UPDATE tag SET name = 'b' RETURNING 1");
    assert_eq!(String::from_utf8_lossy(&written.stdout).lines().count(), 2);
    assert!(!installation.guardian(["psql", "--all-tenants", "--", "-c", "SELECT 1"]).status.success(), "without a reason");

    // One that is open while Guardian dies.
    let long = ["psql", "--all-tenants", "--reason", "a long one", "--", "-X", "-c", "SELECT pg_sleep(600)"];
    let mut session = installation.command(long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start psql");
    let mut admin = installation.server().connect(&installation.application).await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'door\\_%' AND query LIKE '%pg_sleep(600)%' \
                    AND datname = current_database()";
    let begun = std::time::Instant::now();
    while sqlx::query_scalar::<_, i64>(sessions).fetch_one(&mut admin).await.expect("look") == 0 {
        assert!(begun.elapsed().as_secs() < 30, "the session does not begin: {}", installation.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let doors = json(&installation, &["status"])["doors"].clone();
    assert!(doors.as_array().is_some_and(|doors| doors.iter().any(|door| door["reason"] == "a long one")), "{doors}");
    up.kill();
    let mut control = installation.control().connect().await;
    let over = "UPDATE guardian_store.door SET ends_at = now(), expires_at = now()";
    sqlx::query(over).execute(&mut control).await.expect("let its time be over");
    let up = installation.up();
    let begun = std::time::Instant::now();
    while json(&installation, &["status"])["doors"].as_array().is_none_or(|doors| !doors.is_empty()) {
        assert!(begun.elapsed().as_secs() < 60, "the doors stay open: {}", installation.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!session.wait().expect("psql ends").success(), "its session was ended");
    let left: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
                                        WHERE r.rolname LIKE $1 || '\\_door%'",
    )
    .bind(&installation.application)
    .fetch_one(&mut admin)
    .await
    .expect("count the roles");
    assert_eq!(left, 0);
    let count = |action: &str| {
        let entries = json(&installation, &["audit-log", "list", "--action", action]);
        entries["items"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((count("door.open"), count("door.close")), (4, 4));
    assert!(up.stop(), "{}", installation.log());
}
