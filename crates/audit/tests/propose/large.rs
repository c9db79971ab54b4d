//! A schema of a thousand tables.

use std::fmt::Write as _;

use guardian_model::Config;

use crate::adopt::{Existing, classes};
use guardian_audit::propose::Surroundings;

const TABLES: usize = 1000;

#[tokio::test]
async fn a_thousand_tables_are_classed() {
    let mut sql = "CREATE TABLE accounts (id bigint PRIMARY KEY);".to_owned();
    for n in 1..TABLES {
        match n % 10 {
            0 => write!(sql, "CREATE TABLE kind_{n}_types (code text PRIMARY KEY, name text);").unwrap(),
            1 => write!(
                sql,
                "CREATE TABLE t{n} (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, name text UNIQUE);"
            )
            .unwrap(),
            _ => write!(
                sql,
                "CREATE TABLE t{n} (id bigint PRIMARY KEY, up_id bigint NOT NULL REFERENCES t{} (id), note text);",
                n - 1
            )
            .unwrap(),
        }
    }
    let existing = Existing::new(&sql).await;
    let proposal = existing.propose();
    let found = classes(&proposal);
    let count = |class: &str| found.values().filter(|one| **one == class).count();
    assert_eq!(
        [count("tenants"), count("tenant-owned"), count("through parent"), count("global"), count("undecided")],
        [1, 100, 800, 99, 0]
    );
    let text = proposal.config(Surroundings::default());
    let config = Config::parse("guardian.toml", &text).unwrap();
    assert_eq!(config.application.global.len(), 99);
    assert_eq!(proposal.migration(&existing.facts).matches("ADD COLUMN IF NOT EXISTS").count(), 1 + 800);
}
