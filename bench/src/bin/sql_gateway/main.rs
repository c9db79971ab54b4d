//! `make bench-sql-gateway`: what the SQL gateway costs and how fair it is, beside PgBouncer, a bare relay and a direct
//! connection, in one run. `sql_gateway ROW …` measures some rows only and leaves `docs/performance.md` as it is.
//!
//! The gateway runs as it would anywhere: `guardian gateway` on a control plane of its own, with isolation and metrics on. All
//! ways send the same statements to the same tables; the proxies have as many server connections as each other. The statements
//! of the rows about CPU read tables that belong to no tenant, because the peers know no tenants; the gateway's clients are
//! bound to one all the same.

mod fairness;
mod idle;
mod isolation;
mod pgbench_rows;

use anyhow::Result;
use guardian_bench::{
    House, cpu,
    rows::{self, Row},
};
use tokio::runtime::{Builder, Runtime};

/// Alternating rounds of each row.
const ROUNDS: usize = 6;
/// Slices of each contender in a round, where a round has slices.
const SLICES: usize = 5;
const TENANTS: u32 = 200;
/// The pool that most rows are measured with: eight server connections, one worker as PgBouncer has one.
const POOL: u32 = 8;

/// What a row works with.
struct Bench {
    runtime: Runtime,
    house: House,
}

const ROWS: [(&str, Row<Bench>); 8] = [
    ("simple", pgbench_rows::simple),
    ("prepared", pgbench_rows::prepared),
    ("rows", pgbench_rows::rows),
    ("tls", pgbench_rows::tls),
    ("workers", pgbench_rows::workers),
    ("idle", idle::measure),
    ("isolation", isolation::measure),
    ("fairness", fairness::measure),
];

impl Bench {
    /// `[gateway]` settings for the usual pool.
    fn pool_settings() -> String {
        format!("workers = 1\nserver_connections = {POOL}\nserver_connections_reserved = 0\n")
    }
}

fn main() -> Result<()> {
    rows::measure("bench-sql-gateway", &ROWS, open)
}

#[expect(clippy::print_stderr, reason = "the progress of a bench")]
fn open() -> Result<Bench> {
    cpu::allow_many_files()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    eprintln!("starting Guardian with {TENANTS} tenants …");
    let house = runtime.block_on(House::open(TENANTS))?;
    Ok(Bench { runtime, house })
}
