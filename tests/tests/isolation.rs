//! The main job: tenants in every isolation model on one server, and no way from one to another.

#[path = "isolation/tool.rs"]
mod tool;

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use guardian_testkit::{Installation, Server};
use guardian_tests::{Remains, json, psql, refusal};
use serde_json::Value;

/// What a tenant of the shared tables can send to reach another one; each must end in an error. In a place of its own these
/// reach nothing but its own rows.
const CROSSINGS_IN_SHARED_TABLES: &[(&str, &str)] = &[
    ("forge the register", "SET backtrace_functions = 'KEY'; SELECT count(*) FROM tag"),
    ("forge it for a transaction", "BEGIN; SET LOCAL backtrace_functions = 'KEY'; SELECT count(*) FROM tag"),
    (
        "forge it in a query",
        "SELECT count(*) FROM set_config('backtrace_functions', 'KEY', false) s, LATERAL (SELECT * FROM tag) t",
    ),
    ("forge it through the settings view", "UPDATE pg_settings SET setting = 'KEY' WHERE name = 'backtrace_functions'"),
    (
        "forge it in a block",
        "DO $$ BEGIN PERFORM set_config('backtrace_functions', 'KEY', false); END $$; SELECT count(*) FROM tag",
    ),
    ("reset everything", "RESET ALL; SELECT count(*) FROM tag"),
    ("discard everything", "DISCARD ALL; SELECT count(*) FROM tag"),
    ("read a partition directly", "SELECT count(*) FROM public.ticket_event_default"),
    ("read a materialised view", "SELECT count(*) FROM public.ticket_daily"),
    ("turn the policies off", "SET row_security = off; SELECT count(*) FROM public.tag"),
    ("write a row of the other tenant", "INSERT INTO tag (tenant_id, name) VALUES ('UUID', 'x')"),
    ("give a row to the other tenant", "UPDATE tag SET tenant_id = 'UUID'"),
];

/// What any tenant can send; each must end in an error.
const CROSSINGS: &[(&str, &str)] = &[
    ("guess a capability", "SELECT guardian.enter(decode(repeat('00', 32), 'hex')); SELECT count(*) FROM tag"),
    ("read the registry", "SELECT count(*) FROM guardian.capability"),
    ("read the tickets", "SELECT count(*) FROM guardian.ticket"),
    ("become the superuser", "SET ROLE guardian_admin; SELECT count(*) FROM tag"),
    ("become the superuser for the session", "SET SESSION AUTHORIZATION guardian_admin; SELECT count(*) FROM tag"),
    ("empty a table", "TRUNCATE tag"),
    ("drop a policy", "DROP POLICY guardian_tenant ON public.tag"),
    ("switch row-level security off", "ALTER TABLE public.tag DISABLE ROW LEVEL SECURITY"),
    (
        "make a function that runs as its owner",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    ),
    ("make a temporary table", "CREATE TEMP TABLE tag (name text)"),
    ("read a file", "COPY tag FROM '/etc/passwd'"),
    ("run a program", "COPY tag TO PROGRAM 'true'"),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_tenant_reaches_another_in_any_isolation() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let up = installation.up_and_hardened();
    let tenants =
        [("acme", "free"), ("bravo", "pro"), ("coyote", "business"), ("delta", "business"), ("echo", "enterprise")];
    for (slug, tier) in tenants {
        let change = json(&installation, &["tenant", "create", slug, "--tier", tier]);
        assert_eq!(change["tenant"]["state"], "active", "{change}");
        let insert = format!("INSERT INTO tag (name) VALUES ('of {slug}'), ('another of {slug}')");
        psql(&installation, slug, &insert).expect("insert");
    }
    for (slug, _) in tenants {
        let seen = psql(&installation, slug, "SELECT string_agg(name, ',' ORDER BY name) FROM tag").expect("read");
        assert_eq!(seen, format!("another of {slug},of {slug}"));
        for (number, (other, _)) in tenants.iter().filter(|(other, _)| *other != slug).enumerate() {
            let uuid = json(&installation, &["tenant", "show", other])["key"].as_str().expect("a key").to_owned();
            let id = json(&installation, &["tenant", "show", other])["id"].as_str().expect("an id").to_owned();
            let in_shared_tables = matches!(slug, "acme" | "bravo");
            let crossings = CROSSINGS_IN_SHARED_TABLES.iter().filter(|_| in_shared_tables).chain(CROSSINGS);
            // What names the other one is tried against all; the rest would be the same again.
            for (what, sql) in crossings.filter(|(_, sql)| number == 0 || sql.contains("UUID")) {
                let sql = sql.replace("KEY", &uuid.replace('-', "")).replace("UUID", &uuid);
                let crossed = psql(&installation, slug, &sql);
                assert!(crossed.is_err(), "{slug} → {other}: {what} was allowed: {crossed:?}");
            }
            for sql in [
                format!("SELECT count(*) FROM {id}.tag"),
                format!("SET ROLE {id}"),
                format!("SET ROLE {}_app", installation.application),
            ] {
                let crossed = psql(&installation, slug, &sql);
                let own_role = sql.ends_with("_app") && in_shared_tables;
                assert!(crossed.is_err() || own_role, "{slug} → {other}: {sql} was allowed");
            }
        }
        let seen = psql(&installation, slug, "SELECT count(*) FROM tag").expect("read");
        assert_eq!(seen, "2", "somebody reached {slug}");
    }
    assert!(up.stop(), "{}", installation.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_lives_and_leaves_nothing_behind() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let _up = installation.up_and_hardened();
    for (slug, tier) in [("acme", "free"), ("bravo", "business"), ("coyote", "enterprise")] {
        let tenant = json(&installation, &["tenant", "create", slug, "--tier", tier])["tenant"].clone();
        let (id, key) = (tenant["id"].as_str().expect("an id"), tenant["key"].as_str().expect("a key"));
        psql(&installation, slug, "INSERT INTO organization (name) VALUES ('first')").expect("insert");
        assert!(!Remains::of(&installation, id, key).await.is_nothing(), "the search for remains finds nothing at all");

        json(&installation, &["tenant", "suspend", slug]);
        assert!(psql(&installation, slug, "SELECT 1").expect_err("suspended").contains("suspended"));
        json(&installation, &["tenant", "resume", slug]);
        assert_eq!(psql(&installation, slug, "SELECT count(*) FROM organization"), Ok("1".into()));

        assert!(refusal(&installation, &["tenant", "delete", slug, "--now", "--confirm", "wrong"]).contains(slug));
        let deleting = json(&installation, &["tenant", "delete", slug, "--confirm", slug, "--no-wait"]);
        assert_eq!(deleting["tenant"]["state"], "deleting");
        assert!(psql(&installation, slug, "SELECT 1").is_err());
        let operation = deleting["operation"]["id"].as_str().expect("an id");
        json(&installation, &["operation", "cancel", operation]);
        while json(&installation, &["operation", "show", operation])["state"] != "undone" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(psql(&installation, slug, "SELECT count(*) FROM organization"), Ok("1".into()));

        json(&installation, &["tenant", "delete", slug, "--now", "--confirm", slug]);
        let remains = Remains::of(&installation, id, key).await;
        assert!(remains.is_nothing(), "{slug} left {remains:?}");
        json(&installation, &["tenant", "create", slug, "--tier", tier]);
        assert_eq!(psql(&installation, slug, "SELECT count(*) FROM organization"), Ok("0".into()));
    }
    let verified = json(&installation, &["audit-log", "verify"]);
    assert_eq!(verified["intact"], true, "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_an_application_has_are_imported_with_their_rows() {
    const ACME: &str = "01890000-0000-7000-8000-000000000001";
    const GLOBEX: &str = "01890000-0000-7000-8000-000000000002";
    let installation = Installation::helpdesk(&Server::shared()).await;
    let up = installation.up_and_hardened();
    let mut admin = installation.server().connect(&installation.application).await;
    let old = format!(
        "CREATE SCHEMA old;
         CREATE TABLE old.account (id uuid PRIMARY KEY, title text, plan text);
         INSERT INTO old.account VALUES ('{ACME}', 'Acme, Inc.', 'pro'), ('{GLOBEX}', 'Globex', NULL);
         INSERT INTO tag (tenant_id, name) VALUES ('{ACME}', 'of acme'), ('{GLOBEX}', 'of globex');"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(old)).execute(&mut admin).await.expect("make the old application");
    let url = installation.server().url(&installation.application);
    let query = "SELECT id AS key, title AS name, plan AS tier FROM old.account ORDER BY id -- all of them";
    let arguments = ["tenant", "import", "--query", query, "--url", &url, "--tier", "free"];
    let dry = json(&installation, &[&arguments[..], &["--dry-run"]].concat());
    assert_eq!((dry["created"].as_u64(), dry["conflicts"].as_u64()), (Some(2), Some(0)), "{dry}");
    assert!(psql(&installation, "acme-inc", "SELECT 1").is_err(), "a dry run made a tenant");
    let told = installation.run(arguments);
    assert!(told.contains("2 tenants imported, 0 there already, 0 left out"), "{told}");
    for (slug, name, tier) in [("acme-inc", "of acme", "pro"), ("globex", "of globex", "free")] {
        assert_eq!(psql(&installation, slug, "SELECT string_agg(name, ',') FROM tag"), Ok(name.to_owned()), "{slug}");
        assert_eq!(json(&installation, &["tenant", "show", slug])["tier"], tier);
    }

    let file = installation.path("accounts.csv");
    let lines = format!("slug,key\nglobex,{GLOBEX}\nacme,{ACME}\nseven,7\n,01890000-0000-7000-8000-000000000003\n");
    std::fs::write(&file, lines).expect("write the file");
    let left_out = installation.path("left-out.csv");
    let (file, left_out) = (file.display().to_string(), left_out.display().to_string());
    let some = ["tenant", "import", "--csv", &file, "--tier", "free", "--conflicts", &left_out];
    let output = installation.guardian(some);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("1 tenant imported, 1 there already, 2 left out"), "{told}");
    let listed = std::fs::read_to_string(&left_out).expect("the file of conflicts");
    assert!(listed.contains("belongs to the tenant `acme-inc`") && listed.contains("is not a UUID"), "{listed}");
    assert_eq!(listed.lines().count(), 3, "{listed}");

    // The query changes nothing, whatever it says.
    for (query, expected) in [
        ("DELETE FROM tag RETURNING tenant_id AS key", "does not run"),
        ("SELECT id AS key FROM old.account) AS a; DELETE FROM public.tag; SELECT (1", "does not run"),
        ("SELECT pg_catalog.nextval('public.team_id_seq')::text AS key", "read-only transaction"),
        ("SELECT id FROM old.account", "names the column `id`"),
    ] {
        let message = refusal(&installation, &["tenant", "import", "--query", query, "--url", &url, "--tier", "free"]);
        assert!(message.contains(expected), "{query}: {message}");
        assert!(!message.contains("postgres://"), "the URL may hold a password: {message}");
    }
    let tags: i64 = sqlx::query_scalar("SELECT count(*) FROM tag").fetch_one(&mut admin).await.expect("count");
    assert_eq!(tags, 2);
    assert!(up.stop(), "{}", installation.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_exported_and_a_database_is_left_without_the_control_plane() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let up = installation.up_and_hardened();
    for (slug, tier) in [("acme", "free"), ("bravo", "pro"), ("coyote", "business")] {
        json(&installation, &["tenant", "create", slug, "--tier", tier]);
    }
    psql(&installation, "acme", "INSERT INTO tag (name) VALUES ('mine')").expect("insert");
    let password = installation.login(["app", "--any-tenant"]);

    let exported = json(&installation, &["export-config"]);
    assert_eq!(exported["format"], "guardian-export/1");
    let tenants = exported["tenants"].as_array().expect("tenants");
    let slugs: Vec<_> = tenants.iter().filter_map(|tenant| tenant["slug"].as_str()).collect();
    assert_eq!(slugs, ["acme", "bravo", "coyote"]);
    assert_eq!(
        (exported["logins"][0]["name"].as_str(), exported["tokens"].as_array().map(Vec::len)),
        (Some("app"), Some(1))
    );
    let (_, token) = installation.access();
    let text = exported.to_string();
    for secret in [password.as_str(), token.as_str(), "SCRAM-SHA-256", "capability\":"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let acme = tenants[0]["key"].as_str().expect("a key").to_owned();
    let csv = installation.run(["export-config", "--tenants-csv"]);
    assert_eq!(csv.lines().next(), Some("key,slug,tier"));
    assert_eq!(csv.lines().nth(1), Some(format!("{acme},acme,free").as_str()));
    assert_eq!(csv.lines().count(), 4);
    taken_in_elsewhere(&installation, &csv).await;
    assert!(up.stop(), "{}", installation.log());

    let url = installation.server().url(&installation.application);
    let leave = ["eject", "--url", url.as_str()];
    assert!(refusal(&installation, &leave).contains("there is no terminal to ask on"));
    let dry_run = installation.run([&leave[..], &["--dry-run"]].concat());
    assert!(dry_run.contains("DROP SCHEMA guardian") && dry_run.contains("any SQL can set it"), "{dry_run}");
    installation.run([&leave[..], &["--confirm", installation.application.as_str()]].concat());
    let again = installation.run([&leave[..], &["--dry-run"]].concat());
    assert!(again.contains("nothing to do"), "{again}");
    let mut left = installation.server().connect(&installation.application).await;
    let app = format!("SET ROLE {}_app", installation.application);
    sqlx::query(sqlx::AssertSqlSafe(app)).execute(&mut left).await.expect("become the application");
    let count = "SELECT count(*) FROM public.tag";
    let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut left).await.expect("count");
    assert_eq!(rows, 0, "rows without a tenant");
    sqlx::query("SELECT set_config('app.tenant_id', $1, false)").bind(&acme).execute(&mut left).await.expect("set");
    let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut left).await.expect("count");
    assert_eq!(rows, 1);
}

/// What was exported is imported: as it is where it came from, and into a Guardian that knows nothing of it. Tenants with a
/// place of their own are named and left out.
async fn taken_in_elsewhere(first: &Installation, csv: &str) {
    let second = Installation::helpdesk(&Server::shared()).await;
    let up = second.up_and_hardened();
    for (installation, imported) in [(first, 0), (&second, 2)] {
        let file = installation.path("tenants.csv");
        fs::write(&file, csv).expect("write the tenants");
        let import = ["--json", "tenant", "import", "--tier", "free", "--csv"];
        let output = installation.command(import).arg(&file).output().expect("run guardian");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["created"], imported, "{report}");
        assert_eq!(report["unchanged"], 2 - imported, "{report}");
        assert_eq!(output.status.code(), Some(3), "coyote has a schema of its own: {report}");
    }
    let keys = |installation: &Installation| -> Vec<(Value, Value, Value)> {
        let all = json(installation, &["tenant", "list", "--all"]);
        let items = all["items"].as_array().expect("tenants").iter().filter(|tenant| tenant["slug"] != "coyote");
        let mut keys: Vec<_> =
            items.map(|tenant| (tenant["slug"].clone(), tenant["key"].clone(), tenant["tier"].clone())).collect();
        keys.sort_by_key(|(slug, _, _)| slug.to_string());
        keys
    };
    assert_eq!(keys(&second), keys(first));
    assert!(up.stop(), "{}", second.log());
}

/// `guardian migrate --confirm-rings` at a terminal, with this typed; what the terminal shows, and whether it went well.
fn at_a_terminal(installation: &Installation, typed: &str) -> (String, bool) {
    let command = installation.command(["migrate", "--confirm-rings"]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"])
        .current_dir(installation.path("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run script");
    terminal.stdin.take().expect("its input").write_all(typed.as_bytes()).expect("type");
    let output = terminal.wait_with_output().expect("wait");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_asks_before_each_ring_but_the_first() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let text = fs::read_to_string(installation.config()).expect("read the configuration");
    let rings = "\n[migrations]\nshared = \"last\"\n[[migrations.rings]]\nname = \"canary\"\ntenants = [\"acme\"]\n";
    fs::write(installation.config(), text + rings).expect("write the configuration");
    let up = installation.up_and_hardened();
    for slug in ["acme", "bravo"] {
        json(&installation, &["tenant", "create", slug, "--tier", "business"]);
    }
    let (canary, rest, shared) = ("ring canary is up to date", "ring rest is up to date", "ring shared is up to date");
    let alone = refusal(&installation, &["migrate", "--confirm-rings"]);
    assert!(alone.contains(canary) && !alone.contains(rest) && alone.contains("say --ring"), "{alone}");
    let (stopped, is_well) = at_a_terminal(&installation, "n\n");
    assert!(!is_well && stopped.contains(canary) && !stopped.contains(rest), "{stopped}");
    let (halfway, is_well) = at_a_terminal(&installation, "y\nn\n");
    assert!(!is_well && halfway.contains(rest) && !halfway.contains(shared), "{halfway}");
    let (whole, is_well) = at_a_terminal(&installation, "y\ny\n");
    assert!(is_well && whole.contains("Go on with ring rest (1 place)?") && whole.contains(shared), "{whole}");
    assert!(up.stop(), "{}", installation.log());
}
