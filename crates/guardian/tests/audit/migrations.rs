//! `guardian audit --migrations`: a server of its own, of which nothing is left.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{guardian, text};

fn migrations(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("m")).unwrap();
    for (name, sql) in files {
        fs::write(folder.path().join("m").join(name), sql).unwrap();
    }
    folder
}

#[test]
fn migrations_are_audited_on_a_server_of_their_own() {
    let folder = migrations(&[
        ("V2__grant.sql", "GRANT SELECT ON orders TO shop_app;\nCREATE INDEX CONCURRENTLY ON orders (id);"),
        (
            "V10__lines.sql",
            "BEGIN; CREATE TABLE lines (tenant_id uuid, order_id uuid); COMMIT; GRANT SELECT ON lines TO shop_app",
        ),
        ("V1__orders.sql", "CREATE TABLE orders (tenant_id uuid NOT NULL, id uuid, PRIMARY KEY (tenant_id, id));"),
        ("V2__grant.down.sql", "DROP TABLE orders;"),
        ("README.md", "not SQL"),
    ]);
    let output = guardian(folder.path(), &["--migrations", "m", "--app-role", "shop_app", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let open: Vec<_> = report["findings"].as_array().unwrap().iter().filter(|it| it["rule"] == "GRD-PG-001").collect();
    let objects: Vec<_> = open.iter().map(|it| it["object"]["identity"].as_str().unwrap()).collect();
    assert_eq!(objects, ["public.lines", "public.orders"]);
    let left_out: Vec<_> = report["left_out"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    let about_the_server = |id: &str| left_out.iter().any(|left| left == id);
    for judged in ["GRD-PG-001", "GRD-PG-101", "GRD-PG-205", "GRD-PG-213"] {
        assert!(!about_the_server(judged), "{left_out:?}");
    }
    assert!(about_the_server("GRD-PG-507"), "{left_out:?}");
    let of_left_out =
        report["findings"].as_array().unwrap().iter().filter(|it| about_the_server(it["rule"].as_str().unwrap()));
    assert_eq!(of_left_out.count(), 0);
}

#[test]
fn a_migration_that_fails_is_named_with_its_line() {
    let fails = |files: &[(&str, &str)]| {
        let folder = migrations(files);
        let output = guardian(folder.path(), &["--migrations", "m", "--app-role", "shop_app", "--quiet"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    let told = fails(&[("1.sql", "CREATE TABLE a ();\n\nCREATE TABLE b (\n  c integr\n);")]);
    assert!(told.contains("m/1.sql:4: type \"integr\" does not exist"), "{told}");
    let told = fails(&[("1.sql", "CREATE TABLE a ();"), ("2.sql", "GRANT SELECT ON a TO other_role;")]);
    assert!(told.contains("m/2.sql:1: role \"other_role\" does not exist") && told.contains("--app-role"), "{told}");
    let told = fails(&[("1.sql", "SELECT 1;\n\\i other.sql\n")]);
    assert!(told.contains("m/1.sql:2: a line that begins with a backslash is psql's"), "{told}");
    assert!(fails(&[("1.txt", "")]).contains("there is no `.sql` file in `m`"));
}

#[test]
fn a_killed_audit_leaves_no_server_behind() {
    let folder = migrations(&[("1.sql", "SELECT pg_sleep(600)")]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_guardian"));
    command.args(["audit", "--migrations", "m", "--app-role", "shop_app"]).current_dir(folder.path());
    let mut audit =
        command.env("TMPDIR", "/tmp").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let asleep = wait_for(|| servers_below(audit.id()));
    let [server, home] = asleep.expect("a server is started, and runs the file");
    audit.kill().unwrap();
    audit.wait().unwrap();
    let gone = || (!Path::new(&format!("/proc/{server}")).exists() && !Path::new(&home).exists()).then_some(());
    assert!(wait_for(gone).is_some(), "server {server} or its folder {home} is still there");
}

/// Asks every tenth of a second, for a minute.
fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    (0..600).find_map(|_| {
        let answer = ask();
        if answer.is_none() {
            thread::sleep(Duration::from_millis(100));
        }
        answer
    })
}

/// The process and the folder of the throwaway server that the audit of this process started, once a statement sleeps in it.
///
/// The server is no child of the audit's, but the folder that it has locked names the audit.
fn servers_below(audit: u32) -> Option<[String; 2]> {
    let processes = || fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let command = |process: &str| fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let folders = fs::read_dir("/tmp").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let mut mine = folders.filter(|path| {
        let is_throwaway = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("guardian-throwaway-"));
        is_throwaway && fs::read_to_string(path.join("lock")).is_ok_and(|text| text.trim() == audit.to_string())
    });
    let home = mine.next()?.to_str()?.to_owned();
    let pid = fs::read_to_string(format!("{home}/cluster/data/postmaster.pid")).ok()?;
    let server = pid.lines().next()?.to_owned();
    let sleeps = |process: String| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.lines().any(|line| line.split_whitespace().eq(["PPid:", &server])) && command(&process).contains("SELECT")
    };
    processes().any(sleeps).then_some([server, home])
}
