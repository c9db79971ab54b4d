//! `guardian audit` as a user runs it: the real binary on real databases, its exit codes and what it says.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod history;
mod migrations;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use guardian_testkit::{Server, TestDatabase, unique};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

const OPEN: &str = "CREATE TABLE orders (tenant_id uuid NOT NULL, id uuid NOT NULL, PRIMARY KEY (tenant_id, id)); \
    GRANT SELECT ON orders TO ";

fn guardian(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guardian"));
    command.arg("audit").args(arguments).current_dir(folder).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A table of tenants without row-level security, and the role that reads it.
struct Shop {
    database: TestDatabase,
    role: String,
    folder: TempDir,
}

impl Shop {
    async fn new() -> Self {
        let (database, role) = (Server::shared().database("audit").await, unique("shop"));
        let mut connection = database.connect().await;
        let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; {OPEN} {role}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        Self { database, role, folder: tempfile::tempdir().unwrap() }
    }

    fn audit(&self, arguments: &[&str]) -> Output {
        let url = self.database.url();
        guardian(self.folder.path(), &[&["--url", &url, "--app-role", &self.role], arguments].concat())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let (options, role) = (self.database.options(), self.role.clone());
        let dropping = std::thread::spawn(move || {
            use sqlx::ConnectOptions as _;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut connection = options.connect().await.ok()?;
                let sql = format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.ok()
            })
        });
        let _ = dropping.join();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_whether_something_is_bad_enough() {
    let shop = Shop::new().await;
    let bad = shop.audit(&[]);
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad.stderr));
    let report = text(&bad.stdout);
    assert!(report.contains("critical GRD-PG-001  table public.orders"), "{report}");
    assert!(report.contains("SELECT on public.orders") && report.contains("ENABLE ROW LEVEL SECURITY"), "{report}");
    assert!(text(&bad.stderr).contains("or worse"));
    assert_eq!(shop.audit(&["--fail-on", "never"]).status.code(), Some(0));
    let unknown = shop.audit(&["--app-role", "no such role"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("there is no role `no such role`"), "{}", text(&unknown.stderr));
    assert!(unknown.stdout.is_empty(), "no verdict, no report");
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_facts_give_the_same_report_without_the_database() {
    let shop = Shop::new().await;
    let online = shop.audit(&["--save", "facts.json", "--json", "--fail-on", "never"]);
    assert_eq!(online.status.code(), Some(0), "{}", text(&online.stderr));
    let arguments = ["--facts", "facts.json", "--app-role", &shop.role, "--format", "json"];
    let offline = guardian(shop.folder.path(), &arguments);
    assert_eq!(offline.status.code(), Some(1), "{}", text(&offline.stderr));
    assert_eq!(text(&offline.stdout), text(&online.stdout));
    fs::write(shop.folder.path().join("cut.json"), &shop.read("facts.json")[..1000]).unwrap();
    let cut = guardian(shop.folder.path(), &["--facts", "cut.json", "--app-role", &shop.role]);
    assert_eq!(cut.status.code(), Some(2));
    assert!(text(&cut.stderr).contains("cut.json"), "{}", text(&cut.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_goes_into_a_file() {
    let shop = Shop::new().await;
    for (format, sign) in
        [("json", "\"GRD-PG-001\""), ("sarif", "\"2.1.0\""), ("junit", "<testsuites"), ("markdown", "# Guardian audit")]
    {
        let output = shop.audit(&["--format", format, "--output", "report"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
        assert!(shop.read("report").contains(sign), "{format}");
        assert!(text(&output.stderr).contains("wrote the report to report"), "{}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_and_baselines_make_it_pass() {
    let shop = Shop::new().await;
    let written = shop.audit(&["--write-baseline", "baseline.json", "--quiet"]);
    assert_eq!(written.status.code(), Some(0), "{}", text(&written.stderr));
    let same = shop.audit(&["--baseline", "baseline.json"]);
    assert_eq!(same.status.code(), Some(0), "{}{}", text(&same.stdout), text(&same.stderr));
    assert!(text(&same.stdout).contains("in the baseline"));

    let report: Value = serde_json::from_slice(&shop.audit(&["--json"]).stdout).unwrap();
    let severe = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| ["high", "critical"].contains(&it["severity"].as_str().unwrap()));
    let entries: String = severe
        .map(|it| {
            format!(
                "[[exception]]\nrule = {}\nobject = {}\nuntil = 9999-12-31\nreason = \"a test\"\n",
                it["rule"], it["object"]["identity"]
            )
        })
        .collect::<Vec<_>>()
        .concat();
    fs::write(shop.folder.path().join("allow.toml"), &entries).unwrap();
    let allowed = shop.audit(&["--exceptions", "allow.toml"]);
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed.stdout));
    assert!(text(&allowed.stdout).contains("accepted GRD-PG-001 public.orders: a test (until 9999-12-31, allow.toml:"));

    fs::write(shop.folder.path().join("allow.toml"), entries.replace("9999-12-31", "2020-01-31")).unwrap();
    let expired = shop.audit(&["--exceptions", "allow.toml"]);
    assert_eq!(expired.status.code(), Some(1));
    assert!(text(&expired.stdout).contains("GRD-PG-901"), "{}", text(&expired.stdout));

    fs::write(shop.folder.path().join("allow.toml"), entries.replace("\"a test\"", "\"\"")).unwrap();
    let wrong = shop.audit(&["--exceptions", "allow.toml"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("allow.toml:1: `reason` is empty"), "{}", text(&wrong.stderr));
}

#[test]
fn a_password_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::shared();
    for url in [
        format!("postgres://guardian_admin:s3cr3t-w0rd@127.0.0.1:{}/postgres", server.port()),
        "postgres://u:s3cr3t-w0rd@127.0.0.1:1/postgres".to_owned(),
        "postgres://u:s3cr3t-w0rd@[::1/postgres".to_owned(),
        "mysql://u:s3cr3t-w0rd@127.0.0.1/postgres".to_owned(),
    ] {
        let output = guardian(folder.path(), &["--url", &url, "--app-role", "app"]);
        assert_eq!(output.status.code(), Some(2), "no verdict");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.is_empty() && !said.contains("s3cr3t-w0rd"), "{said}");
    }
}

#[test]
fn a_rule_is_explained_and_an_unknown_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let explained = guardian(folder.path(), &["--explain", "grd-pg-001"]);
    assert_eq!(explained.status.code(), Some(0));
    assert!(text(&explained.stdout).starts_with("# GRD-PG-001: ") && text(&explained.stdout).contains("## Near miss"));
    assert_eq!(guardian(folder.path(), &["--explain", "GRD-PG-000"]).status.code(), Some(2));
}
