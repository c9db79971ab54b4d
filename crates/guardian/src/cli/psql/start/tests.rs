//! A real psql against a real server. `guardian.redeem` is a stand-in of a few lines: what `apply` installs is tested where
//! it is made.

use std::{
    fs,
    io::Write as _,
    process::{Output, Stdio},
};

use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::AssertSqlSafe;

use super::*;

const TICKET: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
const WHO: &str = "SELECT 'bound to ' || pg_catalog.current_setting('backtrace_functions')";

fn grant(ticket: Option<&str>) -> Way {
    Way::from(TicketGrant {
        id: "tkt_01jd8v1n2c3p4q5r6s7t8v9w0x".parse().unwrap(),
        host: "127.0.0.1".to_owned(),
        port: 5432,
        database: "helpdesk".to_owned(),
        schema: "public".to_owned(),
        user: "tkt_01jd8v1n2c3p4q5r6s7t8v9w0x".to_owned(),
        password: "hunter2".to_owned(),
        ticket: ticket.map(ToOwned::to_owned),
        expires_at: jiff::Timestamp::UNIX_EPOCH,
    })
}

#[test]
fn the_version_is_read_from_what_psql_prints() {
    assert_eq!(version("psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some("15.18"));
    assert_eq!(version("psql (PostgreSQL) 18beta1\n"), Some("18beta1"));
    assert_eq!(version("postgres (PostgreSQL) 15.18\n"), None);
    let at = |version: &str| Program { path: "psql".into(), version: version.to_owned() }.new_enough();
    assert!(at("18beta1").is_ok());
    assert!(at("12.9").is_err());
}

#[test]
fn no_secret_is_among_the_arguments() {
    let arguments = Arguments::read(vec!["-c".into(), "SELECT 1".into()]).unwrap();
    let (command, pipe) = prepare(Path::new("psql"), arguments, &grant(Some(TICKET)), None).unwrap();
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["-c", "SELECT 1"]);
    assert!(pipe.is_some());
}

#[test]
fn only_row_tenants_need_a_start_up_file() {
    let arguments = Arguments::read(vec!["-X".into()]).unwrap();
    let (command, pipe) = prepare(Path::new("psql"), arguments, &grant(None), None).unwrap();
    assert!(pipe.is_none());
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["--no-psqlrc"]);
}

/// A database that takes tickets, and a psql to try on it.
struct Bench {
    database: TestDatabase,
    program: Program,
    grant: Way,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let database = Server::shared().database("psql").await;
        let user = unique("tkt");
        let grant = Way {
            port: database.server().port(),
            database: database.name.clone(),
            user: user.clone(),
            ..grant(Some(TICKET))
        };
        let password = &grant.password;
        let sql = format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{password}';
             CREATE SCHEMA guardian;
             GRANT USAGE ON SCHEMA guardian TO {user};
             CREATE TABLE guardian.ticket (secret bytea);
             CREATE FUNCTION guardian.redeem(ticket bytea) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
             BEGIN
                 DELETE FROM guardian.ticket AS issued WHERE issued.secret = redeem.ticket;
                 RETURN CASE WHEN FOUND THEN pg_catalog.set_config('backtrace_functions', 'acme', false) END;
             END $$"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut database.connect().await).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rc"), format!("\\echo rc was read\n{WHO} AS rc \\gset\n\\echo rc: :rc\n")).unwrap();
        fs::write(folder.path().join("who.sql"), WHO).unwrap();
        Self { database, program: Program::find().unwrap(), grant, folder }
    }

    async fn issue_ticket(&self) {
        let sql = format!("INSERT INTO guardian.ticket VALUES ('\\x{TICKET}')");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.database.connect().await).await.unwrap();
    }

    /// psql to its end: exit code, standard output, standard error.
    fn psql(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        let arguments = Arguments::read(arguments.iter().map(Into::into).collect()).unwrap();
        let user_rc = (!arguments.skip_rc).then(|| self.folder.path().join("rc"));
        let (mut command, _pipe) = prepare(&self.program.path, arguments, &self.grant, user_rc.as_deref()).unwrap();
        command.current_dir(self.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A psql that was refused does not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

#[tokio::test]
async fn every_way_to_give_psql_commands_is_bound() {
    let bench = Bench::new().await;
    let by_input = format!("{WHO};\n");
    for (arguments, input) in [
        (&["-XAtc", WHO][..], ""),
        (&["-XAt", "-f", "who.sql"], ""),
        (&["-XAt"], &by_input),
        (&["-XAt", "-f", "-"], &by_input),
        (&["-XAt1", "-c", "SELECT 1", "-c", "ROLLBACK", "-c", WHO], ""),
        (&["-XAtS", "-c", WHO], ""),
        (&["-XAts", "-v", "SINGLESTEP=off", "-c", WHO], ""),
        (&["-XAt", "-v", "AUTOCOMMIT=off", "-c", "ROLLBACK", "-c", WHO], ""),
        (&["-XAt", "-v", "ON_ERROR_STOP=1", "-v", "guardian_bound=false", "-c", WHO], ""),
    ] {
        bench.issue_ticket().await;
        let (code, out, err) = bench.psql(arguments, input);
        assert_eq!(code, Some(0), "{arguments:?}: {err}");
        assert!(out.ends_with("bound to acme\n"), "{arguments:?}: {out}{err}");
    }
}

#[tokio::test]
async fn the_users_start_up_file_comes_after_the_binding() {
    let bench = Bench::new().await;
    bench.issue_ticket().await;
    assert_eq!(bench.psql(&["-c", r"\echo done"], "").1, "rc was read\nrc: bound to acme\ndone\n");
    bench.issue_ticket().await;
    assert_eq!(bench.psql(&["-Xc", r"\echo done"], "").1, "done\n");
}

#[tokio::test]
async fn a_refused_ticket_ends_psql_before_anything_else() {
    let bench = Bench::new().await;
    for (arguments, input) in [
        (&["-c", r"\echo went on"][..], ""),
        (&["-v", "ON_ERROR_STOP=1", "-c", r"\echo went on"], ""),
        (&["-v", "guardian_bound=true"], "\\echo went on\n"),
    ] {
        let (code, out, err) = bench.psql(arguments, input);
        assert_ne!(code, Some(0), "{arguments:?}: {err}");
        assert_eq!(out, "", "{arguments:?}");
        assert!(err.contains("refused the ticket"), "{arguments:?}: {err}");
    }
    // A redemption that raises is none, either.
    let sql = "DROP FUNCTION guardian.redeem";
    sqlx::raw_sql(sql).execute(&mut bench.database.connect().await).await.unwrap();
    let (code, out, err) = bench.psql(&["-c", r"\echo went on"], "");
    assert!(code != Some(0) && out.is_empty(), "{out}{err}");
}

#[tokio::test]
async fn what_psql_leaves_to_others_is_clean() {
    let bench = Bench::new().await;
    bench.issue_ticket().await;
    let (code, out, _) = bench.psql(&["-eac", r"\! env", "-c", r"\set"], "");
    assert_eq!(code, Some(0));
    assert!(!out.contains(TICKET) && !out.contains("hunter2") && !out.contains("/dev/fd"), "{out}");
    assert!(!out.contains("redeem") && !out.contains("guardian_bound"), "{out}");
    bench.issue_ticket().await;
    assert_eq!(bench.psql(&["-v", "ON_ERROR_STOP=1", "-f", "-"], "SELECT 1/0;").0, Some(3), "exit codes are psql's own");
}
