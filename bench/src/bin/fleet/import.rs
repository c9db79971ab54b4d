//! The import of 100,000 tenants, beside `COPY` of the rows that it leaves behind into tables of the same shape.

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use guardian_bench::{Report, report::Goal};
use guardian_testkit::{Installation, Server};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::runtime::Runtime;

use crate::DURABLE;

const TENANTS: usize = 100_000;
const ROUNDS: usize = 3;

/// What an import leaves: the columns that are written, of the table and its copy. The copy has the same indexes and checks.
const LEFT: [(&str, &str); 4] = [
    (
        "guardian_store.tenant",
        "id, slug, key, tier, state, isolation, cluster, database, schema, role, sealed_capability, created_at, changed_at",
    ),
    (
        "guardian_store.operation",
        "id, kind, tenant, state, tenant_state_before, plan, steps_done, durations, requested_by, next_at, finished_at",
    ),
    ("guardian_store.audit_entry", "actor, action, tenant, outcome, detail"),
    ("guardian.capability", "hash, register"),
];

pub(crate) fn measure(runtime: &Runtime, report: &mut Report) -> Result<()> {
    runtime.block_on(rounds(report))
}

#[expect(clippy::print_stderr, reason = "the progress of a bench")]
async fn rounds(report: &mut Report) -> Result<()> {
    let (mut ratios, mut bare, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let server = Server::own_with(&DURABLE);
        let installation = Installation::helpdesk(&server).await;
        let up = installation.up_and_hardened();
        let folder = tempfile::tempdir()?;
        // The server runs as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let file = folder.path().join("accounts.csv");
        fs::write(&file, accounts())?;
        let path = file.to_str().context("a path is UTF-8")?;
        let begun = Instant::now();
        let told = installation.run(["tenant", "import", "--csv", path, "--tier", "free", "--json"]);
        let ours = begun.elapsed().as_secs_f64();
        let told: serde_json::Value = serde_json::from_str(&told)?;
        ensure!(told["created"] == TENANTS && told["pending"] == 0, "not all were imported: {told}");

        let mut control = server.connect(&installation.control().name).await;
        let mut application = server.connect(&installation.application).await;
        let mut copied = 0.0;
        for (table, columns) in LEFT {
            let of_application = table == "guardian.capability";
            let connection = if of_application { &mut application } else { &mut control };
            copied += copy_again(connection, table, columns, folder.path()).await?;
        }
        let plain = plain_copy(&mut application, &file).await?;
        eprintln!("  {ours:.2} s beside {copied:.2} s and {plain:.2} s");
        ratios.push(ours / copied);
        bare.push(ours / plain);
        seconds.push(ours);
        ensure!(up.stop(), "Guardian did not stop: {}", installation.log());
    }
    let what = "import of 100,000 tenants from CSV, against server-side COPY of the rows that it leaves (tenants, operations, \
                audit log, registry) into tables with the same indexes";
    report.add("import", &ratios, Goal::AtMost(10.0), what);
    let what = "the same against server-side COPY of the CSV file into a table of two columns, both unique";
    report.add("import-plain", &bare, Goal::None, what);
    report.add("import-seconds", &seconds, Goal::AtMost(60.0), "seconds of the import, from the command's start to its end");
    Ok(())
}

fn accounts() -> String {
    (0..TENANTS).fold("key,slug\n".to_owned(), |mut text, number| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "01890000-0000-7000-8000-{number:012x},tenant-{number}");
        text
    })
}

/// Seconds to copy the rows of a table into a new one of its shape.
async fn copy_again(connection: &mut PgConnection, table: &str, columns: &str, folder: &Path) -> Result<f64> {
    let file = folder.join(table);
    let file = file.display();
    let prepare = format!(
        "COPY {table} ({columns}) TO '{file}';
         CREATE TABLE {table}_copied (LIKE {table} INCLUDING ALL EXCLUDING STATISTICS);"
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(prepare))).await?;
    let begun = Instant::now();
    let copy = format!("COPY {table}_copied ({columns}) FROM '{file}'");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(copy))).await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn plain_copy(connection: &mut PgConnection, file: &Path) -> Result<f64> {
    connection.execute("CREATE TABLE public.plain (key uuid PRIMARY KEY, slug text UNIQUE)").await?;
    let begun = Instant::now();
    let copy = format!("COPY public.plain FROM '{}' CSV HEADER", file.display());
    connection.execute(sqlx::raw_sql(AssertSqlSafe(copy))).await?;
    Ok(begun.elapsed().as_secs_f64())
}
