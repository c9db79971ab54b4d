//! `make bench-postgres`: what a statement costs under the register, against the same one with a hand-written filter.

use anyhow::{Context, Result};
use guardian_bench::{Report, cpu, report::Goal};
use guardian_model::{Capability, Config, KeyType, TenantKey};
use guardian_postgres::{Declaration, apply, collect, plan, registry};
use guardian_testkit::Server;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

const ROUNDS: usize = 15;
/// A round alternates between the sessions this often, so that a disturbance of the machine strikes both.
const SLICES: u32 = 8;
const CONFIG: &str = r#"
[application]
name = "bench"
database = "bench"
"#;

/// One statement in its two forms. `$T` stands for the tenant's literal, `$N` for a number that varies.
struct Work {
    figure: &'static str,
    goal: Goal,
    what: &'static str,
    guarded: &'static str,
    by_hand: &'static str,
    /// Sent as text, planned each time.
    unprepared: bool,
    /// Executions in a round.
    batch: u32,
}

const WORKS: &[Work] = &[
    Work {
        figure: "register-point",
        goal: Goal::AtMost(1.10),
        what: "prepared point lookup by primary key",
        guarded: "SELECT title, amount FROM item WHERE id = $1",
        by_hand: "SELECT title, amount FROM item WHERE id = $1 AND tenant_id = $2",
        unprepared: false,
        batch: 4000,
    },
    Work {
        figure: "register-list",
        goal: Goal::AtMost(1.05),
        what: "prepared list of the 20 newest rows",
        guarded: "SELECT id, title, created_at FROM item WHERE id > $1 ORDER BY created_at DESC LIMIT 20",
        by_hand: "SELECT id, title, created_at FROM item WHERE id > $1 AND tenant_id = $2 ORDER BY created_at DESC LIMIT 20",
        unprepared: false,
        batch: 2000,
    },
    Work {
        figure: "register-aggregate",
        goal: Goal::AtMost(1.05),
        what: "prepared aggregate over 200 rows",
        guarded: "SELECT mood, count(*), sum(amount) FROM item WHERE id > $1 GROUP BY mood",
        by_hand: "SELECT mood, count(*), sum(amount) FROM item WHERE id > $1 AND tenant_id = $2 GROUP BY mood",
        unprepared: false,
        batch: 1000,
    },
    Work {
        figure: "register-scan",
        goal: Goal::AtMost(1.03),
        what: "prepared scan of 50,000 rows, most of them the tenant's",
        guarded: "SELECT count(*), sum(value) FROM reading WHERE value > $1",
        by_hand: "SELECT count(*), sum(value) FROM reading WHERE value > $1 AND tenant_id = $2",
        unprepared: false,
        batch: 30,
    },
    Work {
        figure: "register-join",
        goal: Goal::AtMost(1.15),
        what: "prepared join of three tables by key",
        guarded: "SELECT i.title, a.name, r.body FROM item i JOIN account a ON a.id = i.account_id \
                  JOIN remark r ON r.item_id = i.id WHERE i.id = $1",
        by_hand: "SELECT i.title, a.name, r.body FROM item i JOIN account a ON a.id = i.account_id AND a.tenant_id = $2 \
                  JOIN remark r ON r.item_id = i.id AND r.tenant_id = $2 WHERE i.id = $1 AND i.tenant_id = $2",
        unprepared: false,
        batch: 2000,
    },
    Work {
        figure: "register-point-unprepared",
        goal: Goal::AtMost(1.20),
        what: "point lookup as a simple query, planned each time",
        guarded: "SELECT title, amount FROM item WHERE id = $N",
        by_hand: "SELECT title, amount FROM item WHERE id = $N AND tenant_id = $T",
        unprepared: true,
        batch: 2000,
    },
    Work {
        figure: "register-jsonb",
        goal: Goal::None,
        what: "jsonb `@>` (not leakproof: the GIN index is out of reach)",
        guarded: "SELECT count(*) FROM item WHERE id > $1 AND attributes @> '{\"colour\": \"red\", \"size\": 4}'",
        by_hand: "SELECT count(*) FROM item WHERE id > $1 AND attributes @> '{\"colour\": \"red\", \"size\": 4}' AND tenant_id = $2",
        unprepared: false,
        batch: 500,
    },
    Work {
        figure: "register-text-search",
        goal: Goal::None,
        what: "`tsvector @@` (not leakproof: the GIN index is out of reach)",
        guarded: "SELECT count(*) FROM item WHERE id > $1 AND words @@ 'word7'::tsquery",
        by_hand: "SELECT count(*) FROM item WHERE id > $1 AND words @@ 'word7'::tsquery AND tenant_id = $2",
        unprepared: false,
        batch: 500,
    },
    Work {
        figure: "register-numeric",
        goal: Goal::None,
        what: "`numeric =` (not leakproof)",
        guarded: "SELECT count(*) FROM item WHERE id > $1 AND amount = 3.5",
        by_hand: "SELECT count(*) FROM item WHERE id > $1 AND amount = 3.5 AND tenant_id = $2",
        unprepared: false,
        batch: 500,
    },
    Work {
        figure: "register-enum",
        goal: Goal::None,
        what: "enum `=`",
        guarded: "SELECT count(*) FROM item WHERE id > $1 AND mood = 'high'",
        by_hand: "SELECT count(*) FROM item WHERE id > $1 AND mood = 'high' AND tenant_id = $2",
        unprepared: false,
        batch: 500,
    },
    Work {
        figure: "register-like",
        goal: Goal::None,
        what: "`LIKE 'prefix%'` (not leakproof)",
        guarded: "SELECT count(*) FROM item WHERE id > $1 AND title LIKE 'item ab%'",
        by_hand: "SELECT count(*) FROM item WHERE id > $1 AND title LIKE 'item ab%' AND tenant_id = $2",
        unprepared: false,
        batch: 500,
    },
];

/// A session and the process that serves it.
struct Session {
    connection: PgConnection,
    pid: i32,
}

impl Session {
    async fn open(options: &sqlx::postgres::PgConnectOptions) -> Result<Self> {
        let mut connection = PgConnection::connect_with(options).await?;
        let pid = sqlx::query("SELECT pg_backend_pid()").fetch_one(&mut connection).await?.get(0);
        Ok(Self { connection, pid })
    }

    /// CPU nanoseconds of the server process for one execution, over a batch.
    async fn run(&mut self, sql: &str, tenant: Option<uuid::Uuid>, work: &Work) -> Result<f64> {
        let before = cpu::thread_ns(self.pid)?;
        let count = work.batch / SLICES + 1;
        for number in 0..count {
            if work.unprepared {
                let mut text = sql.replace("$N", &(1 + number % 200).to_string());
                if let Some(tenant) = tenant {
                    text = text.replace("$T", &format!("'{tenant}'"));
                }
                self.connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
            } else {
                let first =
                    if work.figure == "register-point" || work.figure == "register-join" { 1 + number % 200 } else { 0 };
                let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
                let query = if sql.contains("value >") { query.bind(-1.0_f64) } else { query.bind(i64::from(first)) };
                let query = if let Some(tenant) = tenant { query.bind(tenant) } else { query };
                query.fetch_all(&mut self.connection).await?;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a batch")]
        Ok((cpu::thread_ns(self.pid)? - before) as f64 / f64::from(count))
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "the progress of a bench")]
async fn main() -> Result<()> {
    let server = Server::own();
    let database = server.database("bench").await;
    let mut admin = database.connect().await;
    eprintln!("loading 1,000 tenants …");
    admin.execute(sqlx::raw_sql(include_str!("../../schema.sql"))).await?;
    admin.execute("VACUUM ANALYZE").await?;

    eprintln!("hardening …");
    let declaration = Declaration::from(&Config::parse("guardian.toml", CONFIG)?);
    let facts = collect(&mut admin, &declaration).await?;
    let hardening = plan(&facts, &declaration);
    for statement in hardening.report().statements.iter().filter(|s| s.sql.contains("guardian_tenant")) {
        eprintln!("  {}", statement.reason);
    }
    apply(&mut admin, &hardening, &mut |_, _, _| {}).await?;
    admin.execute("VACUUM ANALYZE").await?;

    let tenant_text: String = sqlx::query("SELECT md5('tenant 1')::uuid::text").fetch_one(&mut admin).await?.get(0);
    let key = TenantKey::parse(KeyType::Uuid, &tenant_text)?;
    let TenantKey::Uuid(tenant) = key else { anyhow::bail!("the bench uses uuid keys") };
    let capability = Capability::from_bytes([7; 32]);
    registry::admit(&mut admin, &key, &capability).await?;

    let mut by_hand = Session::open(&database.options()).await?;
    let mut guarded = Session::open(&database.options()).await?;
    guarded.connection.execute("SET SESSION AUTHORIZATION bench_app").await?;
    let entered: Option<String> = sqlx::query("SELECT guardian.enter($1)")
        .bind(capability.expose().as_slice())
        .fetch_one(&mut guarded.connection)
        .await?
        .get(0);
    entered.context("the capability was not accepted")?;

    let mut report = Report::new("bench-postgres");
    for work in WORKS {
        let mut ratios = Vec::with_capacity(ROUNDS);
        // The first round warms caches and generic plans.
        for round in 0..=ROUNDS {
            let (mut guarded_ns, mut by_hand_ns) = (0.0, 0.0);
            for slice in 0..SLICES {
                if slice % 2 == 0 {
                    guarded_ns += guarded.run(work.guarded, None, work).await?;
                    by_hand_ns += by_hand.run(work.by_hand, Some(tenant), work).await?;
                } else {
                    by_hand_ns += by_hand.run(work.by_hand, Some(tenant), work).await?;
                    guarded_ns += guarded.run(work.guarded, None, work).await?;
                }
            }
            if round > 0 {
                ratios.push(guarded_ns / by_hand_ns);
            }
        }
        report.add(work.figure, &ratios, work.goal, work.what);
    }
    report.finish("docs/performance.md")
}
