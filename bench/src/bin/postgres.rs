//! `make bench-postgres`: what a statement costs under the register, against the same one with a hand-written filter.

use anyhow::{Context, Result};
use guardian_bench::{Report, Summary, cpu, report::Goal};
use guardian_model::{Capability, Config, KeyType, TenantKey};
use guardian_postgres::{Declaration, apply, collect, plan, registry};
use guardian_testkit::Server;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

const ROUNDS: usize = 15;
const WARM_UPS: usize = 3;
/// Wake-ups across cores cost as much as a point lookup: both server processes share a core, away from this one.
const SERVER_CORE: usize = 1;
/// A round alternates between the sessions this often and compares their middle slices: a disturbance of the machine strikes
/// both, or one slice.
const SLICES: u32 = 16;
const CONFIG: &str = r#"
[application]
name = "bench"
database = "bench"
"#;

/// One statement. `{tenant}` stands where the filter by hand goes, `{number}` for a number that varies.
struct Work {
    figure: &'static str,
    goal: Goal,
    what: &'static str,
    sql: &'static str,
    /// The filter by hand, of every table in the statement.
    by_hand: &'static str,
    /// Sent as text, planned each time.
    unprepared: bool,
    /// Executions in a round.
    batch: u32,
}

const OF_ITEM: &str = "tenant_id = {key}";

const WORKS: &[Work] = &[
    Work {
        figure: "register-point",
        goal: Goal::AtMost(1.10),
        what: "prepared point lookup by primary key",
        sql: "SELECT title, amount FROM item WHERE id = {number} AND {tenant}",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 8000,
    },
    Work {
        figure: "register-list",
        goal: Goal::AtMost(1.05),
        what: "prepared list of the 20 newest rows",
        sql: "SELECT id, account_id, created_at, title, amount, mood, attributes FROM item WHERE {tenant} \
              ORDER BY created_at DESC LIMIT 20",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 4000,
    },
    Work {
        figure: "register-aggregate",
        goal: Goal::AtMost(1.05),
        what: "prepared aggregate over 200 rows",
        sql: "SELECT mood, count(*), sum(amount) FROM item WHERE {tenant} GROUP BY mood",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 2000,
    },
    Work {
        figure: "register-scan",
        goal: Goal::AtMost(1.03),
        what: "prepared scan of 50,000 rows, most of them the tenant's",
        sql: "SELECT count(*), sum(value) FROM reading WHERE {tenant}",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 64,
    },
    Work {
        figure: "register-join",
        goal: Goal::AtMost(1.15),
        what: "prepared join of three tables by key",
        sql: "SELECT i.title, a.name, r.body FROM item i JOIN account a ON a.id = i.account_id \
              JOIN remark r ON r.item_id = i.id WHERE i.id = {number} AND {tenant}",
        by_hand: "i.tenant_id = {key} AND a.tenant_id = {key} AND r.tenant_id = {key}",
        unprepared: false,
        batch: 4000,
    },
    Work {
        figure: "register-point-unprepared",
        goal: Goal::AtMost(1.20),
        what: "point lookup as a simple query, planned each time",
        sql: "SELECT title, amount FROM item WHERE id = {number} AND {tenant}",
        by_hand: OF_ITEM,
        unprepared: true,
        batch: 4000,
    },
    Work {
        figure: "register-jsonb",
        goal: Goal::None,
        what: "jsonb `@>` (not leakproof: the GIN index is out of reach)",
        sql: "SELECT count(*) FROM item WHERE attributes @> '{\"colour\": \"red\", \"size\": 4}' AND {tenant}",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 500,
    },
    Work {
        figure: "register-text-search",
        goal: Goal::None,
        what: "`tsvector @@` (not leakproof: the GIN index is out of reach)",
        sql: "SELECT count(*) FROM item WHERE words @@ 'word7'::tsquery AND {tenant}",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 500,
    },
    Work {
        figure: "register-numeric",
        goal: Goal::None,
        what: "`numeric =` (not leakproof)",
        sql: "SELECT count(*) FROM item WHERE amount = 3.5 AND {tenant}",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 500,
    },
    Work {
        figure: "register-enum",
        goal: Goal::None,
        what: "enum `=` (not leakproof: the second column of the index is out of reach)",
        sql: "SELECT count(*) FROM item WHERE mood = 'high' AND {tenant}",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 500,
    },
    Work {
        figure: "register-like",
        goal: Goal::None,
        what: "`LIKE 'prefix%'` (not leakproof)",
        sql: "SELECT count(*) FROM item WHERE title LIKE 'item ab%' AND {tenant}",
        by_hand: OF_ITEM,
        unprepared: false,
        batch: 500,
    },
];

impl Work {
    /// What the application sends under the policies.
    fn guarded(&self) -> String {
        self.sql.replace(" AND {tenant}", "").replace(" WHERE {tenant}", "")
    }

    /// What it sends without them.
    fn by_hand(&self) -> String {
        self.sql.replace("{tenant}", self.by_hand)
    }
}

/// A session and the process that serves it.
struct Session {
    connection: PgConnection,
    pid: i32,
}

impl Session {
    async fn open(options: &sqlx::postgres::PgConnectOptions) -> Result<Self> {
        let mut connection = PgConnection::connect_with(options).await?;
        let pid = sqlx::query("SELECT pg_backend_pid()").fetch_one(&mut connection).await?.get(0);
        cpu::pin(Some(pid), SERVER_CORE)?;
        Ok(Self { connection, pid })
    }

    /// CPU nanoseconds of the server process for one execution, over a slice.
    async fn run(&mut self, sql: &str, key: uuid::Uuid, work: &Work) -> Result<f64> {
        let count = work.batch / SLICES + 1;
        let (has_key, has_number) = (sql.contains("{key}"), sql.contains("{number}"));
        let prepared = sql.replace("{key}", "$1").replace("{number}", if has_key { "$2" } else { "$1" });
        let before = cpu::thread_ns(self.pid)?;
        for turn in 0..count {
            let number = i64::from(1 + turn % 200);
            if work.unprepared {
                let text = sql.replace("{number}", &number.to_string()).replace("{key}", &format!("'{key}'"));
                self.connection.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
            } else {
                let query = sqlx::query(AssertSqlSafe(prepared.clone()));
                let query = if has_key { query.bind(key) } else { query };
                let query = if has_number { query.bind(number) } else { query };
                query.fetch_all(&mut self.connection).await?;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a slice")]
        Ok((cpu::thread_ns(self.pid)? - before) as f64 / f64::from(count))
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "the progress of a bench")]
async fn main() -> Result<()> {
    let server = Server::own();
    cpu::pin(None, 0)?;
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

    let _awake = cpu::Awake::keep()?;
    let mut report = Report::new("bench-postgres");
    for work in WORKS {
        let (by_policy, by_filter) = (work.guarded(), work.by_hand());
        let mut ratios = Vec::with_capacity(ROUNDS);
        // The first rounds warm caches and generic plans.
        for round in 0..ROUNDS + WARM_UPS {
            let (mut guarded_ns, mut by_hand_ns) = (Vec::new(), Vec::new());
            for slice in 0..SLICES {
                if slice % 2 == 0 {
                    guarded_ns.push(guarded.run(&by_policy, tenant, work).await?);
                    by_hand_ns.push(by_hand.run(&by_filter, tenant, work).await?);
                } else {
                    by_hand_ns.push(by_hand.run(&by_filter, tenant, work).await?);
                    guarded_ns.push(guarded.run(&by_policy, tenant, work).await?);
                }
            }
            if round >= WARM_UPS {
                ratios.push(Summary::of(&guarded_ns).median / Summary::of(&by_hand_ns).median);
            }
        }
        report.add(work.figure, &ratios, work.goal, work.what);
    }
    report.finish("docs/performance.md")
}
