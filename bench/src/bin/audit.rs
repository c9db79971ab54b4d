//! `make bench-audit`: the static audit of a large schema, as a user runs it (a process that connects, reads and judges),
//! beside pgrls on the same database in turns; and how both its time and memory grow with the schema.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use guardian_bench::{Report, report::Goal};
use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::{AssertSqlSafe, PgConnection};

const ROUNDS: usize = 7;
const ROUNDS_LARGE: usize = 3;
const TABLES: usize = 1000;
const TABLES_LARGE: usize = 10_000;
/// Functions of a schema, by its tables.
const TABLES_A_FUNCTION: usize = 2;
/// Tables made in one transaction: each takes several locks.
const BATCH: usize = 200;
const MEMORY_POLL: Duration = Duration::from_millis(2);
/// As `scripts/install-pgrls.sh` has it.
const PGRLS: &str = "tools/pgrls-0.57.1/bin/pgrls";

/// What one run took.
struct Run {
    seconds: f64,
    /// The most memory that the process held, as far as the last look at it saw.
    megabytes: f64,
}

/// One in twenty tables lacks something, so that there is something to find.
fn table(n: usize, app: &str) -> String {
    let mut sql = format!(
        "CREATE TABLE t{n} (id bigint GENERATED ALWAYS AS IDENTITY, account_id bigint NOT NULL, name text, at timestamptz, \
           PRIMARY KEY (account_id, id));\
         CREATE INDEX t{n}_name ON t{n} (account_id, name); CREATE INDEX t{n}_at ON t{n} (account_id, at);\
         GRANT SELECT, INSERT, UPDATE, DELETE ON t{n} TO {app};\
         CREATE POLICY tenant ON t{n} USING (account_id = nullif(current_setting('app.account', true), '')::bigint);"
    );
    // Writing to a string cannot fail.
    if !n.is_multiple_of(20) {
        let _ = write!(sql, "ALTER TABLE t{n} ENABLE ROW LEVEL SECURITY; ALTER TABLE t{n} FORCE ROW LEVEL SECURITY;");
    }
    if n.is_multiple_of(TABLES_A_FUNCTION) {
        let _ = write!(
            sql,
            "CREATE FUNCTION f{n}(wanted bigint) RETURNS bigint LANGUAGE sql STABLE AS \
             'SELECT count(*) FROM public.t{n} WHERE id = wanted';"
        );
    }
    sql
}

async fn schema(server: &Server, tables: usize, app: &str) -> Result<TestDatabase> {
    let database = server.database("audit").await;
    let mut connection = database.connect().await;
    let numbers: Vec<usize> = (1..=tables).collect();
    for numbers in numbers.chunks(BATCH) {
        let sql: String = numbers.iter().map(|n| table(*n, app)).collect();
        execute(&mut connection, &sql).await?;
    }
    execute(&mut connection, "VACUUM ANALYZE").await?;
    Ok(database)
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Runs a program to its end. Findings make pgrls end with a code other than 0, so the report is looked at instead.
fn run(command: &mut Command, report: &Path) -> Result<Run> {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("starting a contender")?;
    let megabytes = watch(&mut child)?;
    let seconds = begun.elapsed().as_secs_f64();
    let length = fs::metadata(report).map_or(0, |file| file.len());
    ensure!(length > 1000, "{command:?} reported nothing");
    Ok(Run { seconds, megabytes })
}

fn watch(child: &mut Child) -> Result<f64> {
    let status = format!("/proc/{}/status", child.id());
    let mut kilobytes: f64 = 0.0;
    while child.try_wait()?.is_none() {
        if let Ok(status) = fs::read_to_string(&status) {
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<f64>().ok());
            kilobytes = kilobytes.max(peak.unwrap_or(0.0));
        }
        thread::sleep(MEMORY_POLL);
    }
    Ok(kilobytes / 1024.0)
}

struct Bench {
    guardian: PathBuf,
    pgrls: PathBuf,
    app: String,
    report: tempfile::TempDir,
}

impl Bench {
    fn guardian(&self, database: &TestDatabase) -> Result<Run> {
        let report = self.report.path().join("guardian.json");
        // Empty, so that an old report is not taken for a new one.
        fs::File::create(&report)?;
        let mut command = Command::new(&self.guardian);
        command.args(["audit", "--quiet", "--format", "json", "--fail-on", "never", "--app-role", &self.app]);
        command.args(["--url", &database.url(), "--output"]).arg(&report).stdout(Stdio::null());
        run(&mut command, &report)
    }

    fn pgrls(&self, database: &TestDatabase) -> Result<Run> {
        let report = self.report.path().join("pgrls.json");
        let mut command = Command::new(&self.pgrls);
        command.args(["lint", "--schemas", "public", "--format", "json", "--database-url", &database.url()]);
        // Not where a configuration of somebody's lies.
        command.current_dir(self.report.path()).stdout(fs::File::create(&report)?);
        run(&mut command, &report)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cache = env::var_os("GUARDIAN_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/guardian")));
    let pgrls = cache.context("neither GUARDIAN_CACHE nor HOME is set")?.join(PGRLS);
    ensure!(pgrls.is_file(), "install it first: scripts/install-pgrls.sh");
    let guardian = env::current_exe()?.with_file_name("guardian");
    ensure!(guardian.is_file(), "build it first: cargo build --release -p guardian");
    let bench = Bench { guardian, pgrls, app: unique("bench_app"), report: tempfile::tempdir()? };

    let server = Server::own_with(&[("max_locks_per_transaction", "1024")]);
    execute(&mut server.connect("postgres").await, &format!("CREATE ROLE {} LOGIN", bench.app)).await?;
    let small = schema(&server, TABLES, &bench.app).await?;
    let large = schema(&server, TABLES_LARGE, &bench.app).await?;

    // The first round warms the server's caches up.
    bench.guardian(&small)?;
    bench.pgrls(&small)?;
    let (mut ours, mut theirs, mut ratios, mut memory, mut their_memory) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (own, other) = (bench.guardian(&small)?, bench.pgrls(&small)?);
        ours.push(own.seconds);
        theirs.push(other.seconds);
        ratios.push(own.seconds / other.seconds);
        memory.push(own.megabytes);
        their_memory.push(other.megabytes);
    }
    bench.guardian(&large)?;
    let mut growth = Vec::new();
    let mut large_memory = Vec::new();
    for _ in 0..ROUNDS_LARGE {
        let (one, ten) = (bench.guardian(&small)?, bench.guardian(&large)?);
        growth.push(ten.seconds / one.seconds);
        large_memory.push(ten.megabytes);
    }

    let mut report = Report::new("bench-audit");
    let what = "seconds of `guardian audit`: 1,000 tables, 3,000 indexes, 1,000 policies, 500 functions";
    report.add("audit-seconds", &ours, Goal::AtMost(1.0), what);
    report.add("pgrls-seconds", &theirs, Goal::None, "the same of `pgrls lint` 0.57.1, in turns");
    report.add("audit-against-pgrls", &ratios, Goal::AtMost(0.5), "the first as a share of the second, round by round");
    report.add("audit-mb", &memory, Goal::AtMost(100.0), "the most memory that `guardian audit` held, in MB");
    report.add("pgrls-mb", &their_memory, Goal::None, "the same of pgrls");
    report.add("audit-growth", &growth, Goal::AtMost(10.0), "10,000 tables against 1,000: time");
    report.add("audit-large-mb", &large_memory, Goal::None, "memory with 10,000 tables, in MB");
    report.finish("docs/performance.md")
}
