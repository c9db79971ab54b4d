//! Enforcing 200 tables of a million rows in all while writers go on: how long one of them ever waits, and how much of the
//! work gets done meanwhile.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use guardian_bench::{Report, report::Goal};
use guardian_model::{Capability, Config, KeyType, TenantKey};
use guardian_postgres::{
    Declaration,
    adopt::{self, Step},
    apply::{Patience, apply_patiently},
    collect, registry, scram,
};
use guardian_testkit::{Server, TestDatabase};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};
use tokio::{runtime::Runtime, task::JoinHandle, time::sleep};

use crate::DURABLE;

const TABLES: usize = 200;
const ROWS_A_TABLE: usize = 5_000;
const WRITERS: usize = 4;
const ROUNDS: usize = 5;
/// How long the load is measured by itself.
const BEFORE: Duration = Duration::from_secs(8);
const TENANT: &str = "0190b6a0-0000-7000-8000-00000000000a";
const PASSWORD: &str = "bench";

pub(crate) fn measure(runtime: &Runtime, report: &mut Report) -> Result<()> {
    runtime.block_on(rounds(report))
}

#[expect(clippy::print_stderr, reason = "the progress of a bench")]
async fn rounds(report: &mut Report) -> Result<()> {
    let server = Server::own_with(&DURABLE);
    let database = server.database("enforce").await;
    let mut admin = database.connect().await;
    let declaration = tables(&mut admin).await?;
    step(&mut admin, &declaration, Step::Prepare { serve: true }).await?;
    let key = TenantKey::parse(KeyType::Uuid, TENANT)?;
    registry::admit(&mut admin, &key, &capability()).await?;
    let verifier = scram::verifier(PASSWORD);
    run(&mut admin, &format!("ALTER ROLE shop_adopt PASSWORD '{verifier}'; VACUUM ANALYZE")).await?;
    let (mut stalls, mut ratios, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let load = Load::start(&database).await?;
        sleep(Duration::from_secs(1)).await;
        let (before, stall_before) = load
            .over(async {
                sleep(BEFORE).await;
                Ok(())
            })
            .await?;
        let begun = Instant::now();
        let (during, stall) = load
            .over(async {
                // Twice the way there and back: once is over before there is much to count.
                for _ in 0..2 {
                    step(&mut admin, &declaration, Step::Enforce(&[])).await?;
                    step(&mut admin, &declaration, Step::Release(&[])).await?;
                }
                step(&mut admin, &declaration, Step::Enforce(&[])).await
            })
            .await?;
        let took = begun.elapsed().as_secs_f64();
        load.end().await?;
        step(&mut admin, &declaration, Step::Release(&[])).await?;
        eprintln!(
            "  {took:.1} s; {during:.0} statements a second beside {before:.0}; longest {stall:.1} ms beside {stall_before:.1} ms"
        );
        // The first warms up.
        if round > 0 {
            stalls.push(stall);
            ratios.push(during / before);
            seconds.push(took / 5.0);
        }
    }
    let what = "milliseconds that a writer's slowest statement took while 200 tables of a million rows in all were enforced";
    report.add("enforce-stall-ms", &stalls, Goal::AtMost(200.0), what);
    report.add("enforce-throughput", &ratios, Goal::AtLeast(0.8), "writes a second meanwhile, against those before");
    report.add("enforce-seconds", &seconds, Goal::None, "seconds that enforcing or releasing all of them took");
    Ok(())
}

/// The application as it is: its own role owns the tables.
async fn tables(admin: &mut PgConnection) -> Result<Declaration> {
    let mut sql = String::from("CREATE ROLE shop_owner LOGIN; SET search_path = public;");
    let mut keys = String::new();
    for number in 0..TABLES {
        write!(
            sql,
            "CREATE TABLE t{number} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL, n int NOT NULL);
             INSERT INTO t{number} (tenant_id, n) SELECT '{TENANT}', n FROM generate_series(1, {ROWS_A_TABLE}) AS n;
             ALTER TABLE t{number} OWNER TO shop_owner;"
        )?;
        writeln!(keys, "t{number}_pkey = \"composite\"")?;
    }
    run(admin, &sql).await.context("making the tables")?;
    let toml =
        format!("[application]\nname = \"shop\"\n[application.keys]\n{keys}[adoption]\nexisting_role = \"shop_owner\"\n");
    Ok(Declaration::from(&Config::parse("guardian.toml", &toml)?))
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<()> {
    // One statement after the other: VACUUM refuses a transaction.
    for sql in sql.split_inclusive("; ") {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn step(admin: &mut PgConnection, declaration: &Declaration, step: Step<'_>) -> Result<()> {
    let facts = collect(admin, declaration).await?;
    let plan = adopt::plan(&facts, declaration, step);
    let lock_wait_ms_max = declaration.adoption.as_ref().context("an adoption")?.lock_wait_ms_max;
    // As an adoption run has it.
    let patience = Patience { lock_wait_ms_max, attempts_max: 100, rests: true };
    apply_patiently(admin, &plan, patience, &mut |_, _, _| {}).await?;
    Ok(())
}

fn capability() -> Capability {
    Capability::from_bytes([7; 32])
}

/// Writers that time each of their statements.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    longest_us: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    async fn start(database: &TestDatabase) -> Result<Self> {
        let (stop, done, longest_us) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut connection = database.options().username("shop_adopt").password(PASSWORD).connect().await?;
            let entered: Option<String> = sqlx::query_scalar("SELECT guardian.enter($1)")
                .bind(&capability().expose()[..])
                .fetch_one(&mut connection)
                .await?;
            ensure!(entered.is_some(), "the capability opens nothing");
            let (stop, done, longest_us) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&longest_us));
            writers.push(tokio::spawn(async move {
                let mut round = writer * 17;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let begun = Instant::now();
                    write_once(&mut connection, round).await?;
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    longest_us.fetch_max(took, Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        Ok(Self { stop, done, longest_us, writers })
    }

    /// Statements a second while `work` is done, and milliseconds of the longest.
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench")]
    async fn over(&self, work: impl Future<Output = Result<()>>) -> Result<(f64, f64)> {
        self.done.store(0, Ordering::Relaxed);
        self.longest_us.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        work.await?;
        let rate = self.done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        Ok((rate, self.longest_us.load(Ordering::Relaxed) as f64 / 1000.0))
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await??;
        }
        Ok(())
    }
}

async fn write_once(connection: &mut PgConnection, round: usize) -> Result<()> {
    let table = round % TABLES;
    let sql = if round.is_multiple_of(2) {
        format!("INSERT INTO public.t{table} (tenant_id, n) VALUES ('{TENANT}', {round})")
    } else {
        format!("UPDATE public.t{table} SET n = n + 1 WHERE id = {}", 1 + round % ROWS_A_TABLE)
    };
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.context("a writer was refused")?;
    Ok(())
}
