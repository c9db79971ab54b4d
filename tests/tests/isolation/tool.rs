//! `guardian migrate --exec`: a real Alembic in every place, and a command line that is killed or told to stop while a tool runs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use guardian_testkit::{Installation, Server};
use guardian_tests::{json, psql, refusal};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

/// The helpdesk's configuration without its files and tables, and with the ledger of Alembic declared.
fn without_files(installation: &Installation, more: &str) {
    let text = fs::read_to_string(installation.config()).expect("read guardian.toml");
    let (application, rest) = text.split_once("# Tables that belong to no tenant").expect("the tables");
    let (_, tiers) = rest.split_once("[tiers.free]").expect("the tiers");
    let application = application.lines().filter(|line| !line.starts_with("migrations = ")).collect::<Vec<_>>().join("\n");
    let ledger = "[application.global]\nalembic_version = \"the ledger of the migration tool\"";
    fs::write(installation.config(), format!("{application}\n{ledger}\n{more}\n[tiers.free]{tiers}")).expect("write it");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a folder");
    for entry in fs::read_dir(from).expect("read the folder") {
        let entry = entry.expect("read the folder").path();
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() { copy(&entry, &target) } else { fs::copy(&entry, &target).map(drop).expect("copy a file") }
    }
}

/// Alembic and a project of its own; nothing where it was not fetched.
#[expect(clippy::print_stderr, reason = "what did not run has to be said where the person looks")]
fn alembic(installation: &Installation) -> Option<Vec<String>> {
    let cache = env::var_os("GUARDIAN_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/guardian")))?;
    let program = cache.join("drivers/alembic/venv/bin/alembic");
    if !program.is_file() {
        eprintln!("SKIPPED: alembic is not in {}; fetch it with `make drivers`.", cache.join("drivers").display());
        return None;
    }
    let project = installation.path("alembic");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/alembic"), &project);
    let words = [program, "-c".into(), project.join("alembic.ini"), "upgrade".into(), "head".into()];
    Some(words.map(|word| word.display().to_string()).into())
}

fn exec<'a>(options: &[&'a str], tool: &'a [String]) -> Vec<&'a str> {
    ["migrate", "--exec"]
        .into_iter()
        .chain(options.iter().copied())
        .chain(["--"])
        .chain(tool.iter().map(String::as_str))
        .collect()
}

fn states(report: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    report["places"].as_array().expect("places").iter().map(|place| (word(&place["ring"]), word(&place["state"]))).collect()
}

/// Who owns each table of the name, over all schemas of a database.
async fn owners(server: &Server, database: &str, table: &str) -> Vec<String> {
    let sql = "SELECT relnamespace::regnamespace::text || ' ' || pg_get_userbyid(relowner) FROM pg_class WHERE relname = $1 AND relnamespace::regnamespace::text <> 'guardian' ORDER BY 1";
    sqlx::query_scalar(sql).bind(table).fetch_all(&mut server.connect(database).await).await.expect("look for owners")
}

async fn logins(installation: &Installation) -> Vec<String> {
    let mut control = installation.control().connect().await;
    let sql = "SELECT opened_by FROM guardian_store.tool_login";
    sqlx::query_scalar(sql).fetch_all(&mut control).await.expect("look for logins")
}

#[tokio::test(flavor = "multi_thread")]
async fn alembic_migrates_every_place_and_its_tables_keep_tenants_apart() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let rings = "[migrations]\nshared = \"last\"\nrings = [{ name = \"canary\", tenants = [\"coyote\"] }]\n";
    without_files(&installation, rings);
    let Some(tool) = alembic(&installation) else { return };
    let second = installation.path("alembic/versions/0002_state.py");
    let (later, state) = (installation.path("0002_state.py"), fs::read_to_string(&second).expect("read the revision"));
    fs::rename(&second, &later).expect("keep the second revision for later");
    let up = installation.up();

    // From nothing: Alembic makes the tables of the shared place, and `apply` protects them.
    let told = installation.run(exec(&[], &tool));
    assert!(told.contains("the tool went through in 1 place"), "{told}");
    installation.run(["apply", "--yes"]);
    let mut ids = Vec::new();
    for (slug, tier) in
        [("acme", "free"), ("bravo", "free"), ("coyote", "business"), ("delta", "business"), ("echo", "enterprise")]
    {
        let made = json(&installation, &["tenant", "create", slug, "--tier", tier]);
        ids.push(made["tenant"]["id"].as_str().expect("an id").to_owned());
    }
    let report = json(&installation, &exec(&["--tenant", "coyote", "--tenant", &ids[3], "--tenant", "echo"], &tool));
    assert_eq!(states(&report).len(), 3, "{report}");
    let (application, server) = (&installation.application, installation.server());
    let expected =
        [format!("public {application}_migrator"), format!("{0} {0}_migrator", ids[2]), format!("{0} {0}_migrator", ids[3])];
    for table in ["ticket", "alembic_version"] {
        assert_eq!(owners(server, application, table).await, expected, "{table}");
        assert_eq!(owners(server, &ids[4], table).await, [format!("public {}_migrator", ids[4])]);
    }
    for slug in ["acme", "bravo", "coyote", "delta", "echo"] {
        let insert = format!("INSERT INTO ticket (title) VALUES ('of {slug}'), ('done: of {slug}')");
        psql(&installation, slug, &insert).unwrap_or_else(|error| panic!("{slug}: {error}"));
    }

    // A revision that fails in the canary goes no further, and names the place.
    fs::write(&second, state.replace("    state.create", "    op.execute('SELECT 1/0')\n    state.create")).expect("write");
    let output = installation.guardian([&["--json"], &exec(&[], &tool)[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let state_of = |ring: &str, state: &str| (ring.to_owned(), state.to_owned());
    let halted = [("canary", "failed"), ("rest", "waiting"), ("rest", "waiting"), ("shared", "waiting")];
    assert_eq!(states(&report), halted.map(|(ring, state)| state_of(ring, state)), "{report}");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("(coyote)") && error.contains("it stopped in ring canary"), "{error}");
    assert!(report["places"][0]["output"].as_str().is_some_and(|text| text.contains("division by zero")), "{report}");
    let message = refusal(&installation, &exec(&["--ring", "canary"], &tool));
    assert!(message.contains("division by zero") && message.contains("1 of 1 place failed"), "{message}");
    assert_eq!(logins(&installation).await, [""; 0]);

    // Mended, it goes on; what it prints is kept, without the password; and the next time there is nothing to do.
    fs::write(&second, &state).expect("write the revision");
    let logs = installation.path("logs").display().to_string();
    let report = json(&installation, &exec(&["--output-dir", &logs, "--parallel", "2"], &tool));
    assert!(report["places"].as_array().expect("places").iter().all(|place| place["exit_status"] == 0), "{report}");
    for name in ["coyote", "delta", "echo", "_shared"] {
        let log = fs::read_to_string(Path::new(&logs).join(format!("{name}.log"))).expect("a log");
        assert!(log.contains("********@"), "{log}");
        assert!(log.contains(if name == "_shared" { "/public by" } else { name }), "{name}: {log}");
    }
    let upgraded = |report: &Value| {
        report["places"]
            .as_array()
            .expect("places")
            .iter()
            .filter(|place| place["output"].as_str().is_some_and(|text| text.contains("upgrade to 0002")))
            .count()
    };
    let again = json(&installation, &exec(&[], &tool));
    assert_eq!((upgraded(&report), upgraded(&again), states(&again).len()), (4, 0, 4), "{again}");
    installation.run(["apply", "--yes"]);

    // Everybody has the new column, filled with what the revision wrote, and nobody else's rows.
    for slug in ["acme", "bravo", "coyote", "delta", "echo"] {
        let seen = psql(&installation, slug, "SELECT string_agg(title || ' ' || state, ',' ORDER BY title) FROM ticket");
        assert_eq!(seen, Ok(format!("done: of {slug} closed,of {slug} open")), "{slug}");
    }
    let url = server.url(application);
    let role = format!("{application}_app");
    let audit = ["audit", "--url", &url, "--app-role", &role, "--tenant-column", "tenant_id", "--fail-on", "high"];
    let audited = installation.guardian(audit);
    let audited = String::from_utf8_lossy(&audited.stdout);
    assert!(audited.contains("rules ran on database"), "{audited}");
    // How old the server's release is has nothing to do with who owns tables.
    let mut grave = audited.lines().filter(|line| line.starts_with("critical") || line.starts_with("high"));
    assert!(grave.all(|line| line.contains(" GRD-PG-501 ")), "{audited}");
    let verified = json(&installation, &["audit-log", "verify"]);
    assert_eq!(verified["intact"], true, "{verified}");
    assert!(up.stop(), "{}", installation.log());
}

/// A tool that makes a table, says how it connected, and stays in the middle of making another one while there is a certain file.
const SLOW: &str = "psql -Xqc 'CREATE TABLE IF NOT EXISTS whole (n int)' || exit 1
    if [ -e hold ]; then
        echo $$ > pid; echo \"$DATABASE_URL\" > url
        psql -Xqc 'BEGIN; CREATE TABLE half (n int); SELECT pg_sleep(600); COMMIT'
    fi";

async fn sleeps(installation: &Installation) -> bool {
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'BEGIN; CREATE TABLE half%' AND state = 'active')";
    let mut admin = installation.server().connect("postgres").await;
    sqlx::query_scalar(sql).bind(&installation.application).fetch_one(&mut admin).await.expect("look at sessions")
}

/// The command line with a tool that is in the middle of its work.
async fn in_the_middle(installation: &Installation, tool: &[String]) -> (Child, Pid) {
    fs::write(installation.path("hold"), "").expect("write a file");
    let mut child = installation.command(exec(&[], tool)).stdout(Stdio::null()).spawn().expect("start the run");
    let begun = Instant::now();
    while !sleeps(installation).await {
        let ended = child.try_wait().expect("look after the run");
        assert!(ended.is_none() && begun.elapsed().as_secs() < 60, "the tool does not begin: {ended:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    fs::remove_file(installation.path("hold")).expect("remove the file");
    let pid = fs::read_to_string(installation.path("pid")).expect("the tool's process");
    (child, Pid::from_raw(pid.trim().parse().expect("a number")).expect("a process"))
}

/// Whether the address that the tool had still opens anything.
fn opens(installation: &Installation) -> bool {
    let url = fs::read_to_string(installation.path("url")).expect("the tool's address");
    Command::new("psql").args(["-Xqc", "SELECT 1", url.trim()]).output().expect("run psql").status.success()
}

async fn tables(installation: &Installation) -> Vec<String> {
    let sql =
        "SELECT relname::text FROM pg_class WHERE relname IN ('half', 'whole') AND relnamespace = 'public'::regnamespace";
    let mut admin = installation.server().connect(&installation.application).await;
    sqlx::query_scalar(sql).fetch_all(&mut admin).await.expect("look for tables")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_is_killed_leaves_no_login_and_the_next_run_goes_on() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    without_files(&installation, "[migrations]\ntool_login_seconds = 3\n");
    let up = installation.up();
    let tool: Vec<String> = ["sh", "-c", SLOW].map(str::to_owned).into();

    // Told to stop, it ends the tool and its login.
    let (mut child, pid) = in_the_middle(&installation, &tool).await;
    assert!(opens(&installation), "the address is none");
    let own = Pid::from_raw(i32::try_from(child.id()).expect("a process")).expect("a process");
    kill_process(own, Signal::TERM).expect("tell it to stop");
    assert_eq!(child.wait().expect("wait for it").code(), Some(1));
    assert!(test_kill_process(pid).is_err(), "the tool goes on");
    assert!(!opens(&installation) && logins(&installation).await.is_empty());
    assert_eq!(tables(&installation).await, ["whole"]);

    // A run that takes longer than a login lasts has it renewed; killed, it takes the login with it, and the tool's work.
    let (mut child, pid) = in_the_middle(&installation, &tool).await;
    let renewed = "SELECT count(*) FROM guardian_store.audit_entry WHERE action = 'migration.renew'";
    let mut control = installation.control().connect().await;
    let begun = Instant::now();
    while sqlx::query_scalar::<_, i64>(renewed).fetch_one(&mut control).await.expect("count") < 4 {
        assert!(begun.elapsed().as_secs() < 60, "nothing is renewed");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(sleeps(&installation).await && opens(&installation), "it was ended although it was renewed");
    child.kill().expect("kill it");
    child.wait().expect("wait for it");
    assert_eq!(logins(&installation).await.len(), 1, "there is nothing to be cleared up");
    // At once: it waits until the place is free.
    let report = json(&installation, &exec(&[], &tool));
    assert_eq!(report["places"][0]["state"], json!("done"), "{report}");
    assert!(!opens(&installation) && !sleeps(&installation).await && logins(&installation).await.is_empty());
    assert_eq!(tables(&installation).await, ["whole"]);
    // The shell may take a moment to notice that its psql has ended.
    let begun = Instant::now();
    while test_kill_process(pid).is_ok() && begun.elapsed().as_secs() < 30 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    // Nothing that is not there runs, and nothing is left of the attempt.
    let message = refusal(&installation, &["migrate", "--exec", "--", "no-such-tool"]);
    assert!(message.contains("cannot start `no-such-tool`"), "{message}");
    for (arguments, expected) in [
        (&["migrate", "--exec", "--ring", "x", "--", "true"][..], "there is no ring `x`; there are `shared`, `rest`"),
        (&["migrate", "--exec", "--tenant", "nobody", "--", "true"], "there is no tenant `nobody` with a place of its own"),
        (&["migrate", "--exec"], "required"),
        (&["migrate", "--", "true"], "--exec"),
    ] {
        let output = installation.guardian(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && message.contains(expected), "{arguments:?}: {message}");
    }
    assert_eq!(logins(&installation).await, [""; 0]);
    assert!(up.stop(), "{}", installation.log());
}
