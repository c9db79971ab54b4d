//! Two `guardian up` on one control database: they share the work, no place is worked on twice at once, and each finishes
//! what the other was killed in.

use std::{fs, process::Stdio, time::Instant};

use guardian_testkit::{Installation, Server, Up};
use guardian_tests::Barrier;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const A: &str = ".guardian";
const B: &str = "b";

fn other(node: &str) -> &'static str {
    if node == A { B } else { A }
}

/// What the node says as JSON; `None` when it refuses.
fn ask(installation: &Installation, node: &str, arguments: &[&str]) -> Option<Value> {
    let output = installation.command_on(node, [&["--json"], arguments].concat()).output().expect("run guardian");
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("read what guardian says"))
}

async fn wait_until(installation: &Installation, what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed().as_secs() < 90, "{what}: {}", installation.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Lets the database catch two sessions that make tables in one schema at once: whoever comes second fails.
async fn catch_two_at_once(installation: &Installation) -> PgConnection {
    let mut connection = installation.server().connect(&installation.application).await;
    let sql = "CREATE FUNCTION public.test_alone() RETURNS event_trigger LANGUAGE plpgsql AS $$
        DECLARE place text;
        BEGIN
            FOR place IN SELECT DISTINCT coalesce(schema_name, object_identity) FROM pg_event_trigger_ddl_commands()
                         WHERE command_tag IN ('CREATE TABLE', 'CREATE SCHEMA') LOOP
                IF NOT pg_try_advisory_xact_lock(4712, hashtext(place)) THEN
                    RAISE EXCEPTION 'two at once in %', place;
                END IF;
            END LOOP;
        END $$;
        CREATE EVENT TRIGGER test_alone ON ddl_command_end EXECUTE FUNCTION public.test_alone()";
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("set the trap");
    connection
}

/// The trap catches what it is for.
async fn the_trap_works(installation: &Installation, first: &mut PgConnection) {
    let mut second = installation.server().connect(&installation.application).await;
    sqlx::raw_sql("CREATE SCHEMA test_trap").execute(&mut *first).await.expect("make a schema");
    let mut one = first.begin().await.expect("begin");
    sqlx::raw_sql("CREATE TABLE test_trap.a ()").execute(&mut *one).await.expect("make a table");
    let caught = sqlx::raw_sql("CREATE TABLE test_trap.b ()").execute(&mut second).await;
    assert!(caught.is_err_and(|error| error.to_string().contains("two at once")), "the trap catches nobody");
    one.rollback().await.expect("roll back");
    sqlx::raw_sql("DROP SCHEMA test_trap CASCADE").execute(first).await.expect("drop the schema");
}

/// The node that is to be killed, by its name.
fn take(nodes: &mut [Option<Up>; 2], name: &str) -> Up {
    nodes[usize::from(name == B)].take().expect("the node runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_nodes_finishes_what_the_other_was_killed_in() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let mut nodes = [Some(installation.up_and_hardened()), Some(installation.node(B))];
    assert!(ask(&installation, A, &["tier", "list"]).is_some(), "the second node took the first one's token away");
    let mut trap = catch_two_at_once(&installation).await;
    the_trap_works(&installation, &mut trap).await;

    let mut killed = 0;
    for steps in 1.. {
        let slug = format!("t{steps}");
        let victim = if steps % 2 == 0 { A } else { B };
        let mut barrier = Barrier::at(installation.control(), steps).await;
        let create = ["tenant", "create", slug.as_str(), "--tier", "business"];
        let mut child = installation.command_on(victim, create);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the creation");
        let reached = barrier.is_reached(|| child.try_wait().expect("wait for it").is_some()).await;
        if !reached {
            barrier.lift().await;
            assert!(child.wait().expect("wait for it").success());
            break;
        }
        // Whoever took the operation up stands at the barrier: most often the node that was asked.
        take(&mut nodes, victim).kill();
        let _ = child.kill();
        let _ = child.wait();
        barrier.lift().await;
        killed += 1;
        wait_until(&installation, &format!("step {steps} of {slug} was not finished by the other node"), || {
            ask(&installation, other(victim), &["tenant", "show", &slug]).is_some_and(|tenant| tenant["state"] == "active")
        })
        .await;
        nodes[usize::from(victim == B)] = Some(if victim == A { installation.up() } else { installation.node(B) });
    }
    assert!(killed > 2, "only {killed} steps were interrupted");

    // A load on both, one of which is killed in the middle of it.
    let children: Vec<_> = (0..12)
        .map(|number| {
            let node = if number % 2 == 0 { A } else { B };
            let slug = format!("load{number}");
            let mut command = installation.command_on(node, ["tenant", "create", &slug, "--tier", "business"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a creation")
        })
        .collect();
    wait_until(&installation, "no creation began", || {
        ask(&installation, A, &["tenant", "show", "load1"]).is_some()
            || ask(&installation, A, &["tenant", "show", "load3"]).is_some()
    })
    .await;
    take(&mut nodes, B).kill();
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    wait_until(&installation, "an operation was orphaned", || {
        ask(&installation, A, &["operation", "list", "--state", "running"])
            .is_some_and(|list| list["items"].as_array().is_some_and(Vec::is_empty))
    })
    .await;
    let incidents = ask(&installation, A, &["incident", "list"]).expect("list the incidents");
    assert_eq!(incidents["items"].as_array().map(Vec::len), Some(0), "{incidents}");
    assert!(!installation.log().contains("two at once"), "{}", installation.log());
    assert!(take(&mut nodes, A).stop(), "{}", installation.log());
}

/// Waits for the end of the newest run of the kind.
async fn ended(installation: &Installation, node: &str, kind: &str) -> Value {
    let mut control = installation.control().connect().await;
    let sql =
        format!("SELECT id::text, state, fence FROM guardian_store.run WHERE kind = '{kind}' ORDER BY id DESC LIMIT 1");
    let begun = Instant::now();
    loop {
        let (_, state, fence): (String, String, i64) =
            sqlx::query_as(AssertSqlSafe(sql.clone())).fetch_one(&mut control).await.expect("look at the run");
        if state != "running" {
            let items: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT name, state, detail FROM guardian_store.run_item WHERE run = (SELECT id FROM guardian_store.run \
                 WHERE kind = '{kind}' ORDER BY id DESC LIMIT 1) ORDER BY position"
            )))
            .fetch_all(&mut control)
            .await
            .expect("read the items");
            return serde_json::json!({ "state": state, "fence": fence, "items": items, "node": node });
        }
        assert!(begun.elapsed().as_secs() < 90, "nobody went on with it: {}", installation.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn assert_done(run: &Value, fence: i64) {
    assert_eq!((&run["state"], &run["fence"]), (&"done".into(), &fence.into()), "{run}");
    let items = run["items"].as_array().expect("items");
    assert!(!items.is_empty() && items.iter().all(|item| item[1] == "done"), "{run}");
}

/// Starts a run on a node and kills the node at the record of an item.
async fn kill_in_run(installation: &Installation, node: &str, up: Up, command: &[&str], item: usize) {
    let mut barrier = Barrier::at_item(installation.control(), item).await;
    let mut child = installation.command_on(node, command);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the run");
    assert!(barrier.is_reached(|| child.try_wait().expect("wait for it").is_some()).await, "{}", installation.log());
    up.kill();
    let _ = child.kill();
    let _ = child.wait();
    barrier.lift().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_the_nodes_that_are_killed_in_it() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let folder = installation.path("migrations");
    let text = fs::read_to_string(installation.config()).expect("read the configuration");
    let named = text.lines().find_map(|line| line.strip_prefix("migrations = \"")?.strip_suffix('"')).expect("a folder");
    fs::create_dir(&folder).expect("make a folder");
    for file in fs::read_dir(named).expect("read the migrations") {
        let file = file.expect("read the migrations");
        fs::copy(file.path(), folder.join(file.file_name())).expect("copy a migration");
    }
    let text = text.replace(&format!("\"{named}\""), "\"migrations\"");
    fs::write(installation.config(), text).expect("write the configuration");

    // The first hardening: one node is killed in it, and then the node that went on with it.
    let (a, b) = (installation.up(), installation.node(B));
    installation.run(["migrate"]);
    let mut barrier = Barrier::at_item(installation.control(), 3).await;
    let mut child = installation.command_on(A, ["apply", "--yes"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the run");
    assert!(barrier.is_reached(|| child.try_wait().expect("wait for it").is_some()).await, "{}", installation.log());
    a.kill();
    let _ = child.kill();
    let _ = child.wait();
    barrier.lift().await;
    let mut barrier = Barrier::at_item(installation.control(), 3).await;
    assert!(barrier.is_reached(|| false).await);
    b.kill();
    barrier.lift().await;
    let (a, b) = (installation.up(), installation.node(B));
    assert_done(&ended(&installation, A, "apply").await, 3);
    let plan = ask(&installation, A, &["plan"]).expect("plan");
    assert_eq!(plan["statements"].as_array().map(Vec::len), Some(0), "{plan}");

    // A fleet migration.
    for number in 0..4 {
        installation.run(["tenant", "create", &format!("t{number}"), "--tier", "business"]);
    }
    let mut trap = catch_two_at_once(&installation).await;
    the_trap_works(&installation, &mut trap).await;
    fs::write(folder.join("9000_fleet.sql"), "CREATE TABLE fleet (id bigint PRIMARY KEY);").expect("write a migration");
    kill_in_run(&installation, A, a, &["migrate", "--parallel", "2"], 2).await;
    let run = ended(&installation, B, "migrate").await;
    assert_done(&run, 2);
    let ledger: i64 = sqlx::query_scalar("SELECT count(*) FROM guardian.migration WHERE name = '9000_fleet.sql'")
        .fetch_one(&mut trap)
        .await
        .expect("read the ledger");
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_class WHERE relname = 'fleet'")
        .fetch_one(&mut trap)
        .await
        .expect("count the tables");
    assert_eq!((ledger, tables), (5, 5), "{run}");
    assert!(!installation.log().contains("two at once"), "{}", installation.log());
    assert!(b.stop(), "{}", installation.log());
}

/// Writes a line of the configuration anew, and starts both nodes with it.
fn restart(installation: &Installation, nodes: [Up; 2], from: &str, to: &str) -> [Up; 2] {
    let text = fs::read_to_string(installation.config()).expect("read the configuration");
    assert!(text.contains(from), "{text}");
    fs::write(installation.config(), text.replace(from, to)).expect("write the configuration");
    // One after the other, as an upgrade rolls.
    let [a, b] = nodes;
    assert!(a.stop(), "{}", installation.log());
    let a = installation.up();
    assert!(b.stop(), "{}", installation.log());
    [a, installation.node(B)]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_changed_although_nodes_are_killed() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let nodes = [installation.up_and_hardened(), installation.node(B)];
    for number in 0..3 {
        installation.run(["tenant", "create", &format!("t{number}"), "--tier", "free"]);
    }
    installation.run(["tenant", "create", "silo", "--tier", "business"]);
    let refused = guardian_tests::refusal(&installation, &["key", "rotate", "--yes"]);
    assert!(refused.contains("no other master key"), "{refused}");

    let new = "fedcba9876543210".repeat(4);
    let path = installation.path("new.key");
    fs::write(&path, &new).expect("write the key");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("close the key");
    let old_line = "master_key_file = \"master.key\"";
    let both = "master_key_file = \"new.key\"\nmaster_key_file_previous = \"master.key\"";
    let mut nodes = restart(&installation, nodes, old_line, both).map(Some);
    assert_eq!(ask(&installation, B, &["key", "status"]).expect("the keys")["nodes"].as_array().map(Vec::len), Some(2));

    // Killed when the switch is recorded, when the tenants are, and when the canary is.
    let mut barrier = Barrier::at_item(installation.control(), 0).await;
    let mut child = installation.command_on(A, ["key", "rotate", "--yes"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the rotation");
    let mut victim = A;
    for item in [1, 9] {
        assert!(barrier.is_reached(|| false).await, "{}", installation.log());
        take(&mut nodes, victim).kill();
        barrier.lift().await;
        barrier = Barrier::at_item(installation.control(), item).await;
        assert!(barrier.is_reached(|| false).await, "{}", installation.log());
        nodes[usize::from(victim == B)] = Some(if victim == A { installation.up() } else { installation.node(B) });
        victim = other(victim);
    }
    take(&mut nodes, victim).kill();
    let _ = child.kill();
    let _ = child.wait();
    barrier.lift().await;
    let run = ended(&installation, other(victim), "rotate_key").await;
    assert_done(&run, 4);
    let keys = ask(&installation, other(victim), &["key", "status"]).expect("the keys");
    assert_eq!(keys["previous"], Value::Null, "{keys}");

    // The old key is needed no more.
    fs::remove_file(installation.path("master.key")).expect("throw the old key away");
    let text = fs::read_to_string(installation.config()).expect("read the configuration");
    fs::write(installation.config(), text.replace(both, "master_key_file = \"new.key\"")).expect("write the configuration");
    for up in nodes.into_iter().flatten() {
        assert!(up.stop(), "{}", installation.log());
    }
    let up = installation.up();
    for slug in ["t0", "t1", "t2", "silo"] {
        assert_eq!(guardian_tests::psql(&installation, slug, "SELECT count(*) FROM tag"), Ok("0".into()), "{slug}");
    }
    assert!(ask(&installation, A, &["tenant", "show", "t0"]).is_some());
    let log = installation.log();
    assert!(!log.contains(&new) && !log.contains(&"0123456789abcdef".repeat(4)), "a key is in the log");
    assert!(up.stop(), "{log}");

    // Who left the new key out starts nothing.
    fs::write(installation.path("master.key"), "0123456789abcdef".repeat(4)).expect("write the old key");
    fs::set_permissions(installation.path("master.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("close it");
    let text = fs::read_to_string(installation.config()).expect("read the configuration");
    fs::write(installation.config(), text.replace("new.key", "master.key")).expect("write the configuration");
    let refused = guardian_tests::refusal(&installation, &["up"]);
    assert!(refused.contains("the master key is not the one"), "{refused}");
}
