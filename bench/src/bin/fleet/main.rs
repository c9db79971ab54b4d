//! `make bench-fleet`: what it takes to run many tenants, beside the bare SQL that does the same. `fleet ROW …` measures some
//! rows only and leaves `docs/performance.md` as it is.

mod enforce;
mod import;
mod migrate;
mod pool;

use anyhow::Result;
use guardian_bench::rows::{self, Row};
use tokio::runtime::{Builder, Runtime};

const ROWS: [(&str, Row<Runtime>); 4] =
    [("migrate", migrate::measure), ("pool", pool::measure), ("import", import::measure), ("enforce", enforce::measure)];

/// A PostgreSQL that keeps its promises: durability is part of what is compared.
const DURABLE: [(&str, &str); 4] =
    [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on"), ("max_wal_size", "4GB")];

fn main() -> Result<()> {
    rows::measure("bench-fleet", &ROWS, || Ok(Builder::new_multi_thread().enable_all().build()?))
}
