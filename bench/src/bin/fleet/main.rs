//! `make bench-fleet`: what it takes to run many tenants, beside the bare SQL that does the same. `fleet ROW …` measures some
//! rows only and leaves `docs/performance.md` as it is.

mod enforce;
mod import;
mod migrate;
mod pool;

use std::env;

use anyhow::{Result, ensure};
use guardian_bench::Report;
use tokio::runtime::{Builder, Runtime};

/// Measures one row and adds its figures.
type Row = fn(&Runtime, &mut Report) -> Result<()>;

const ROWS: [(&str, Row); 4] =
    [("migrate", migrate::measure), ("pool", pool::measure), ("import", import::measure), ("enforce", enforce::measure)];

/// A PostgreSQL that keeps its promises: durability is part of what is compared.
const DURABLE: [(&str, &str); 4] =
    [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on"), ("max_wal_size", "4GB")];

#[expect(clippy::print_stderr, reason = "the progress of a bench")]
fn main() -> Result<()> {
    let wanted: Vec<String> = env::args().skip(1).collect();
    for name in &wanted {
        let names = ROWS.map(|(name, _)| name).join(", ");
        ensure!(ROWS.iter().any(|(known, _)| known == name), "there is no row `{name}`; there are {names}");
    }
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new("bench-fleet");
    for (name, measure) in ROWS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            eprintln!("{name} …");
            measure(&runtime, &mut report)?;
        }
    }
    if wanted.is_empty() {
        report.finish("docs/performance.md")
    } else {
        report.print();
        Ok(())
    }
}
