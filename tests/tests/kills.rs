//! SIGKILL of `guardian up` between the act of any step and its record: the next start finishes, and nothing is orphaned.

#[path = "kills/adoption.rs"]
mod adoption;
#[path = "kills/nodes.rs"]
mod nodes;

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
    survive_kills(&Installation::helpdesk(&Server::shared()).await, tier).await;
}

async fn survive_kills(installation: &Installation, tier: &str) {
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

#[tokio::test(flavor = "multi_thread")]
async fn prepared_databases_survive_kills() {
    let installation = Installation::helpdesk(&Server::own()).await;
    let config = std::fs::read_to_string(installation.config()).expect("read guardian.toml");
    let stocked = config.replace("[clusters.main]", "[clusters.main]\nwarm_databases = 2");
    std::fs::write(installation.config(), stocked).expect("write guardian.toml");
    survive_kills(&installation, "enterprise").await;
    // Killed again and again while it was making them, it has as many as it shall, and nothing half made.
    let up = installation.up();
    let begun = std::time::Instant::now();
    while json(&installation, &["status"])["clusters"][0]["warm_databases"] != serde_json::json!({ "ready": 2, "wanted": 2 })
    {
        assert!(begun.elapsed().as_secs() < 60, "the stock stays short: {}", installation.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(up.stop(), "{}", installation.log());
    let mut admin = installation.server().connect("postgres").await;
    let kept: Vec<String> =
        sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname::text, 'guardian_') ORDER BY 1")
            .fetch_all(&mut admin)
            .await
            .expect("look for prepared databases");
    let word = |name: &String| name.split('_').nth(3).map(str::to_owned);
    let words: Vec<_> = kept.iter().filter_map(word).collect();
    assert_eq!(words, ["template", "warm", "warm"], "{kept:?}");
}
