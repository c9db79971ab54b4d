//! Real drivers through the gateway: short scripts that do what an application does, and the drivers' own test suites.
//!
//! The scripts stand in `tests/drivers`; what they need is fetched by `make drivers`. What is not there is skipped, loudly.

#[path = "drivers/ledger.rs"]
mod ledger;
#[path = "drivers/rust.rs"]
mod rust;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use guardian_testkit::{Server, Up};
use guardian_tests::{Gateway, json};
use serde_json::json;
use tempfile::TempDir;

/// A runner's exit code when what it needs is not there.
const NOT_HERE: i32 = 77;

/// The guide's table of drivers, and where each stands here.
const GUIDE: &str = include_str!("../../docs/guide/sql-gateway.md");
const SCRIPTS: [(&str, &str); 9] = [
    ("psql", include_str!("../drivers/psql.sh")),
    ("psycopg 3", include_str!("../drivers/python/drive_psycopg.py")),
    ("asyncpg", include_str!("../drivers/python/drive_asyncpg.py")),
    ("SQLAlchemy", include_str!("../drivers/python/drive_sqlalchemy.py")),
    ("node-postgres", include_str!("../drivers/node/drive-pg.mjs")),
    ("postgres.js", include_str!("../drivers/node/drive-postgres-js.mjs")),
    ("sqlx", include_str!("drivers/rust.rs")),
    ("tokio-postgres", include_str!("drivers/rust.rs")),
    ("pgjdbc", include_str!("../drivers/jdbc/Drive.java")),
];

/// A gateway with two tenants, and a login that may serve and change both.
struct Target {
    gateway: Gateway,
    password: String,
    /// The database of the first one, where the tenant has its own.
    database: String,
    mode: &'static str,
    /// Of the gateway's certificate.
    _folder: TempDir,
}

impl Target {
    /// Two tenants of this tier.
    async fn of_tier(tier: &str, mode: &'static str) -> Self {
        let server = Server::shared();
        let folder = tempfile::tempdir().expect("make a folder");
        let tls = certificate(folder.path());
        let gateway = Gateway::start(&server, &format!("server_connections = 60\ntls = {tls}")).await;
        let id = |slug: &str| {
            let tenant = json(&gateway.installation, &["tenant", "create", slug, "--tier", tier]);
            tenant["tenant"]["id"].as_str().expect("an id").to_owned()
        };
        let database = id("acme");
        id("bravo");
        let limits = json!({ "server_connections_max": 50 });
        for slug in ["acme", "bravo"] {
            gateway.api("PUT", &format!("/v1/tenants/{slug}/limits"), &limits);
        }
        let password = gateway.login("app", &json!({ "kind": "any_tenant", "switch": "tenant" }));
        gateway.connect_as("app.acme", &password);
        Self { gateway, password, database, mode, _folder: folder }
    }

    fn port(&self) -> &str {
        self.gateway.address.rsplit(':').next().expect("a port")
    }

    /// Runs a script of `tests/drivers` against it. Its last line has the counts.
    #[expect(clippy::print_stderr, reason = "how many tests ran, and which did not, has to be said where the person looks")]
    fn run(&self, script: &str, environment: &[(&str, &str)]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(script);
        let output = Command::new("bash")
            .arg(path)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port())
            .env("PGUSER", "app.acme")
            .env("PGPASSWORD", &self.password)
            .env("PGDATABASE", "acme")
            .env("POOL_MODE", self.mode)
            .env("OTHER_TENANT", "bravo")
            .env("ADMINISTRATOR_URL", self.gateway.installation.server().url(&self.database))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("run bash");
        let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        let counts = text.lines().filter(|line| line.contains(" passed") || line.starts_with("SKIPPED"));
        eprintln!("{script}: {}", counts.collect::<Vec<_>>().join("; "));
        if output.status.code() == Some(NOT_HERE) {
            return;
        }
        assert!(output.status.success(), "{script} in {} mode:\n{text}\n{}", self.mode, self.gateway.installation.log());
        assert!(text.contains(" passed"), "{script} ran no test: {text}");
    }

    fn stop(self) {
        let up: Option<Up> = self.gateway.up.lock().expect("no test has failed here").take();
        assert!(up.is_some_and(Up::stop), "{}", self.gateway.installation.log());
    }
}

/// A self-signed certificate, as the configuration wants it.
fn certificate(folder: &Path) -> String {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(folder)
        .output()
        .expect("run openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = folder.display();
    format!("{{ certificate_file = \"{folder}/certificate.pem\", key_file = \"{folder}/key.pem\", required = false }}")
}

/// Each line of the guide's table is in the driver's script, letter by letter.
#[test]
fn the_guide_has_the_lines_that_the_scripts_run() {
    for (driver, script) in SCRIPTS {
        let start = format!("| {driver} | ");
        let row = GUIDE.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("no row {driver}"));
        let lines: Vec<_> = row.trim_end_matches(" |").split("<br>").map(|code| code.trim_matches(['`', ' '])).collect();
        assert!((1..=2).contains(&lines.len()), "{driver}: {lines:?}");
        for line in lines {
            // A line of JavaScript in double backticks ends with one of its own.
            assert!(!line.is_empty() && script.contains(line), "{driver}: the script does not have `{line}`");
        }
    }
}

/// Everything that an application does with its driver.
async fn short_scripts(tier: &str, mode: &'static str) {
    let target = Target::of_tier(tier, mode).await;
    rust::sqlx(target.port(), &target.password).await;
    rust::tokio_postgres(target.port(), &target.password).await;
    for script in ["psql.sh", "python.sh", "node.sh", "jdbc.sh"] {
        target.run(script, &[]);
    }
    target.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_on_shared_tables_a_transaction_at_a_time() {
    short_scripts("free", "transaction").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_on_shared_tables_a_session_at_a_time() {
    short_scripts("row-session", "session").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_in_a_schema_a_transaction_at_a_time() {
    short_scripts("business", "transaction").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_in_a_schema_a_session_at_a_time() {
    short_scripts("schema-session", "session").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_in_a_database_a_transaction_at_a_time() {
    short_scripts("enterprise", "transaction").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_in_a_database_a_session_at_a_time() {
    short_scripts("database-session", "session").await;
}

async fn suite(script: &str, mode: &'static str, environment: &[(&str, &str)]) {
    let tier = if mode == "session" { "database-session" } else { "enterprise" };
    let target = Target::of_tier(tier, mode).await;
    target.run(script, environment);
    target.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn asyncpg_passes_its_own_tests_in_session_mode() {
    suite("asyncpg.sh", "session", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asyncpg_passes_its_own_tests_in_transaction_mode() {
    suite("asyncpg.sh", "transaction", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg2_passes_its_own_tests_in_session_mode() {
    suite("psycopg2.sh", "session", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg2_passes_its_own_tests_in_transaction_mode() {
    suite("psycopg2.sh", "transaction", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_postgres_passes_its_own_tests_in_session_mode() {
    suite("node-postgres.sh", "session", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_postgres_passes_its_own_tests_in_transaction_mode() {
    suite("node-postgres.sh", "transaction", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy_passes_its_own_tests_on_psycopg_in_session_mode() {
    suite("sqlalchemy.sh", "session", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy_passes_its_own_tests_on_psycopg_in_transaction_mode() {
    suite("sqlalchemy.sh", "transaction", &[]).await;
}

/// Minutes long, so that it runs only when asked for: `make drivers-full`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; `make drivers-full` runs it"]
async fn sqlalchemy_passes_all_of_its_own_tests_on_psycopg() {
    suite("sqlalchemy.sh", "session", &[("ALL", "1")]).await;
}
