//! What users get wrong: each is told what to do, and nothing is lost or half done.

use std::{fs, os::unix::fs::PermissionsExt as _};

use guardian_testkit::{Installation, Server};
use guardian_tests::{json, psql, refusal};
use sqlx::Executor as _;

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_are_refused_in_words() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let _up = installation.up_and_hardened();
    installation.run(["tenant", "create", "acme", "--tier", "free"]);
    for (arguments, expected) in [
        (vec!["tenant", "create", "Acme Corp", "--tier", "free"], "`acme-corp` would do"),
        (vec!["tenant", "create", "a'; DROP TABLE tenant; --", "--tier", "free"], "use a-z, 0-9 and -"),
        (vec!["tenant", "create", "аcme", "--tier", "free"], "use a-z, 0-9 and -"),
        (vec!["tenant", "create", "admin", "--tier", "free"], "reserved"),
        (vec!["tenant", "create", "acme", "--tier", "free"], "acme"),
        (vec!["tenant", "create", "bravo", "--tier", "gold"], "gold"),
        (vec!["tenant", "create", "bravo", "--tier", "free", "--key", "7"], "not a UUID"),
        (vec!["tenant", "show", "nobody"], "nobody"),
        (vec!["tenant", "set-tier", "acme", "business"], "isolation"),
        (vec!["tenant", "resume", "acme"], "active"),
        (vec!["operation", "show", "op_7"], "op_7"),
        (vec!["tier", "delete", "free"], "guardian.toml"),
    ] {
        let message = refusal(&installation, &arguments);
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    let tenants = json(&installation, &["tenant", "list"]);
    assert_eq!(tenants["items"].as_array().map(Vec::len), Some(1), "{tenants}");

    let wrong = installation.command(["tenant", "list"]).env("GUARDIAN_TOKEN", "grd_wrong").output().expect("run");
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("token"), "{}", String::from_utf8_lossy(&wrong.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_opens_no_port() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let text = fs::read_to_string(installation.config()).expect("read");
    fs::write(installation.config(), text.replace("tenant_column", "tenant_colum")).expect("write");
    let message = refusal(&installation, &["up"]);
    assert!(message.contains("guardian.toml:") && message.contains("did you mean `tenant_column`?"), "{message}");
    assert!(!installation.path(".guardian/api.addr").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_or_wrong_key_file_is_refused() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    assert!(installation.up().stop());
    let key = installation.path("master.key");
    fs::write(&key, "not a key").expect("write");
    let message = refusal(&installation, &["up"]);
    assert!(message.contains("master.key") && message.contains("64"), "{message}");
    assert!(!message.contains("not a key"), "the file's content is a secret: {message}");
    fs::write(&key, "f".repeat(64)).expect("write");
    let message = refusal(&installation, &["up"]);
    assert!(message.contains("master key"), "{message}");
    fs::write(&key, "0123456789abcdef".repeat(4)).expect("write");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
    let message = refusal(&installation, &["up"]);
    assert!(message.contains("600"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_database_of_a_newer_version_is_left_alone() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    assert!(installation.up().stop());
    let mut control = installation.control().connect().await;
    control
        .execute(
            "INSERT INTO guardian_store._sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', true, '\\x00', 0)",
        )
        .await
        .expect("pretend");
    let message = refusal(&installation, &["up"]);
    assert!(message.contains("newer"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_is_refused() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let up = installation.up();
    let message = refusal(&installation, &["up"]);
    assert!(message.contains(&up.pid().to_string()), "{message}");
    installation.run(["status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_in_the_middle_leaves_nothing_of_itself() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let migrations = installation.path("migrations");
    fs::create_dir(&migrations).expect("make a folder");
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/helpdesk/migrations")).expect("list") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), migrations.join(entry.file_name())).expect("copy");
    }
    let text = fs::read_to_string(installation.config()).expect("read");
    let text: Vec<_> = text
        .lines()
        .map(|line| if line.starts_with("migrations =") { "migrations = \"migrations\"" } else { line })
        .collect();
    fs::write(installation.config(), text.join("\n")).expect("write");
    let _up = installation.up_and_hardened();
    installation.run(["tenant", "create", "acme", "--tier", "business"]);

    let broken = migrations.join("0099_broken.sql");
    fs::write(&broken, "ALTER TABLE tag ADD COLUMN colour text;\nALTER TABLE no_such_table ADD COLUMN x int;\n")
        .expect("write");
    let message = refusal(&installation, &["migrate"]);
    assert!(message.contains("0099_broken.sql") && message.contains("no_such_table"), "{message}");
    let colour = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'tag' AND column_name = 'colour'";
    assert_eq!(psql(&installation, "acme", colour), Ok("0".into()));

    fs::write(&broken, "ALTER TABLE tag ADD COLUMN colour text;\n").expect("write");
    installation.run(["migrate"]);
    assert_eq!(psql(&installation, "acme", "SELECT count(colour) FROM tag"), Ok("0".into()));
    installation.run(["migrate"]);

    fs::write(&broken, "ALTER TABLE tag ADD COLUMN colour varchar;\n").expect("write");
    let message = refusal(&installation, &["migrate"]);
    assert!(message.contains("0099_broken.sql") && message.contains("changed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_changed_behind_our_back_shows_and_is_mended() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let _up = installation.up_and_hardened();
    let mut database = installation.server().connect(&installation.application).await;
    for change in [
        "ALTER TABLE public.tag DISABLE ROW LEVEL SECURITY".to_owned(),
        "CREATE TABLE public.invoice (tenant_id uuid NOT NULL, id bigint, PRIMARY KEY (tenant_id, id))".to_owned(),
        format!("GRANT TRUNCATE ON public.message TO {}_app", installation.application),
        "ALTER POLICY guardian_tenant ON public.ticket USING (true)".to_owned(),
    ] {
        database.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(change.clone()))).await.expect("change it");
        let plan = json(&installation, &["plan"]);
        assert_ne!(plan["statements"].as_array().map(Vec::len), Some(0), "`{change}` does not show");
        installation.run(["apply", "--yes"]);
        let plan = json(&installation, &["plan"]);
        assert_eq!(plan["statements"].as_array().map(Vec::len), Some(0), "`{change}` was not mended: {plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_cluster_undoes_a_creation_and_says_why() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let mut text = fs::read_to_string(installation.config()).expect("read");
    text += "\n[clusters.far]\nurl = \"postgres://nobody@127.0.0.1:1/postgres\"\nreserved_for = \"megacorp\"\n\n[tiers.sovereign]\nisolation = \"cluster\"\n";
    fs::write(installation.config(), text.replace("[application]", "[application]\ncluster = \"main\"")).expect("write");
    let _up = installation.up_and_hardened();
    let message = refusal(&installation, &["tenant", "create", "megacorp", "--tier", "sovereign"]);
    assert!(message.contains("far"), "{message}");
    let message = refusal(&installation, &["tenant", "create", "smallcorp", "--tier", "sovereign"]);
    assert!(message.contains("reserved_for"), "{message}");
    let tenants = json(&installation, &["tenant", "list"]);
    assert_eq!(tenants["items"].as_array().map(Vec::len), Some(0), "{tenants}");
    let status = installation.guardian(["--json", "status"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
    let far = status["clusters"].as_array().expect("clusters").iter().find(|cluster| cluster["name"] == "far");
    assert_eq!(far.expect("it is listed")["reachable"], false);
}
