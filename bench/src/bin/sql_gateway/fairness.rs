//! A quiet tenant beside one that floods: 60 clients over 4 server connections, every statement 10 ms of `pg_sleep`. The quiet
//! client sends the same statement and pauses 40 to 100 ms after each answer, so it wants about a thirtieth of the pool.
//!
//! A phase lasts 12 seconds, about 150 statements of the quiet client; its p99 is the second slowest of them. The figure of a
//! round is the ratio of two such p99s.

use std::time::Duration;

use anyhow::Result;
use guardian_bench::{
    Report, Summary, Target,
    load::{self, TEN_MS},
    report::Goal,
    summary::percentile,
};
use sqlx::PgConnection;

use super::{Bench, ROUNDS};

const POOL: u32 = 4;
const FLOOD: usize = 60;
const PHASE: Duration = Duration::from_secs(12);
const WARM_UP: Duration = Duration::from_secs(1);

/// A target with the quiet client and the flood connected to it.
struct Ends {
    quiet: PgConnection,
    flood: Vec<PgConnection>,
}

/// What one target did in one round.
struct Round {
    /// The quiet tenant's p99 alone, in milliseconds.
    alone_ms: f64,
    /// The same under the flood.
    flooded_ms: f64,
    /// The share of its time under the flood that it waited for more than its own 10 ms.
    waited: f64,
    /// Statements a second of the flood alone.
    flood_alone: f64,
    /// The same beside the quiet tenant.
    flood_beside: f64,
}

pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let settings =
        |reserved: u32| format!("workers = 1\nserver_connections = {POOL}\nserver_connections_reserved = {reserved}\n");
    let reserve = bench.house.gateway("reserve", &settings(1))?;
    let none = bench.house.gateway("none", &settings(0))?;
    let pgbouncer = bench.house.pgbouncer(POOL, "")?;
    let (quiet, flood) = (bench.house.user(0), bench.house.user(1));
    let peer = pgbouncer.target.user.clone();
    let mut all = bench.runtime.block_on(async {
        anyhow::Ok([
            Ends::open(&reserve.target, &quiet, &flood).await?,
            Ends::open(&none.target, &quiet, &flood).await?,
            Ends::open(&pgbouncer.target, &peer, &peer).await?,
        ])
    })?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for ends in &mut all {
            round.push(bench.runtime.block_on(ends.round())?);
        }
        show(&round);
        rounds.push(round);
    }
    figures(&rounds, report);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the progress of a bench")]
fn show(round: &[Round]) {
    for (name, round) in ["reserve", "none", "pgbouncer"].iter().zip(round) {
        let Round { alone_ms, flooded_ms, waited, flood_alone, flood_beside } = round;
        eprint!(
            "  {name}: {alone_ms:.1} → {flooded_ms:.1} ms, waited {waited:.2}, flood {flood_alone:.0} → {flood_beside:.0}/s"
        );
    }
    eprintln!();
}

fn figures(rounds: &[Vec<Round>], report: &mut Report) {
    let of = |place: usize, value: fn(&Round) -> f64| rounds.iter().map(|round| value(&round[place])).collect::<Vec<_>>();
    // What the flood keeps is against all four connections, whoever holds one in reserve.
    let kept =
        |place: usize| rounds.iter().map(|round| round[place].flood_beside / round[1].flood_alone).collect::<Vec<_>>();
    let slowed = |round: &Round| round.flooded_ms / round.alone_ms;
    let work = "a quiet tenant beside 60 clients that flood 4 connections: ";
    let mut add = |name: &str, values: &[f64], goal, what: &str| report.add(name, values, goal, &format!("{work}{what}"));
    add("quiet-p99-reserve", &of(0, slowed), Goal::AtMost(1.5), "its p99 against alone, one connection in reserve");
    add("flood-kept-reserve", &kept(0), Goal::AtLeast(0.7), "the flood's throughput against alone without reserve");
    add("quiet-p99", &of(1, slowed), Goal::AtMost(2.1), "its p99 against alone, no reserve");
    add("flood-kept", &kept(1), Goal::AtLeast(0.95), "the flood's throughput against alone, no reserve");
    add("quiet-p99-pgbouncer", &of(2, slowed), Goal::None, "its p99 against alone, the same pool in PgBouncer");
    add(
        "quiet-waited-pgbouncer",
        &of(2, |round| round.waited),
        Goal::None,
        "the share of its statements' time spent waiting in PgBouncer",
    );
    add("quiet-waited", &of(1, |round| round.waited), Goal::None, "the same in the gateway, no reserve");
}

impl Ends {
    async fn open(target: &Target, quiet: &str, flood: &str) -> Result<Self> {
        Ok(Self { quiet: load::connect(target, quiet).await?, flood: load::connect_all(target, vec![flood; FLOOD]).await? })
    }

    async fn round(&mut self) -> Result<Round> {
        let alone = load::with_pauses(&mut self.quiet, PHASE, TEN_MS).await?;
        let flood_alone = load::flood(&mut self.flood, PHASE, TEN_MS).await?;
        let flood = load::flood(&mut self.flood, PHASE + WARM_UP, TEN_MS);
        let quiet = async {
            tokio::time::sleep(WARM_UP).await;
            load::with_pauses(&mut self.quiet, PHASE, TEN_MS).await
        };
        let (flood_beside, flooded) = tokio::try_join!(flood, quiet)?;
        let own_ms = Summary::of(&alone).median;
        let total: f64 = flooded.iter().sum();
        let waited = flooded.iter().map(|ms| (ms - own_ms).max(0.0)).sum::<f64>() / total;
        let (alone_ms, flooded_ms) = (percentile(&alone, 0.99), percentile(&flooded, 0.99));
        Ok(Round { alone_ms, flooded_ms, waited, flood_alone, flood_beside })
    }
}
