//! The other major versions of PostgreSQL, if `make matrix` has fetched them: the first flaw and the first near miss of each
//! group, and what an audit finds in the sound database. `make test-matrix` runs every case on each.

use std::collections::BTreeSet;

use guardian_testkit::Server;

use crate::{
    bench::{Bench, Case, NearMiss, run_on},
    cases::{CASES, NEAR_MISSES},
};

fn on(major: u32, of_every_database: &[&str]) {
    let Some(server) = Server::of_version(major) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async { Bench::on(&server).await.findings().await });
    let found: BTreeSet<&str> = found.iter().map(|finding| finding.rule).collect();
    assert_eq!(found, of_every_database.iter().copied().collect(), "the sound database on {major}");
    let cases: Vec<Case> =
        CASES.iter().filter_map(|group| group.iter().find(|case| case.settings.is_empty())).copied().collect();
    let near_misses: Vec<NearMiss> =
        NEAR_MISSES.iter().filter_map(|group| group.iter().find(|near| near.settings.is_empty())).copied().collect();
    run_on(&server, &cases, &near_misses);
}

#[test]
fn postgresql_13() {
    // 13 itself is a finding: flaws that were found after its last release stay open.
    on(13, &["GRD-PG-229", "GRD-PG-501"]);
}

#[test]
fn postgresql_14() {
    on(14, &["GRD-PG-229"]);
}

#[test]
fn postgresql_18() {
    on(18, &["GRD-PG-229"]);
}
