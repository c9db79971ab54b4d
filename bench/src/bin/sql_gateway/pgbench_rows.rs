//! The rows that pgbench measures: CPU of the proxy for a transaction, and throughput.

use std::fs;

use anyhow::{Context, Result};
use guardian_bench::{Contender, Report, Rounds, Taken, Target, guardian::ROWS, pgbench, proxy::Proxy, report::Goal};

use super::{Bench, POOL, ROUNDS, SLICES};

const CPU: fn(&Taken) -> f64 = |taken| taken.us;
const RATE: fn(&Taken) -> f64 = |taken| taken.rate;
/// Bytes of one of the `rows` row's rows: the header, two lengths, an id of four digits, 97 letters.
const ROW_BYTES: u32 = 116;

/// The gateway and those beside it.
struct Ways {
    gateway: Proxy,
    pgbouncer: Proxy,
    relay: Proxy,
    direct: Target,
}

impl Ways {
    fn open(bench: &Bench) -> Result<Self> {
        Ok(Self {
            gateway: bench.house.gateway("gateway", &Bench::pool_settings())?,
            pgbouncer: bench.house.pgbouncer(POOL, "")?,
            relay: bench.house.relay()?,
            direct: bench.house.direct()?,
        })
    }

    /// Everything under the same pgbench, except that PgBouncer may be asked something else.
    fn rounds(&self, arguments: &[&str], of_pgbouncer: &[&str]) -> Result<Rounds> {
        let contenders = vec![
            contender(&self.gateway.target, arguments),
            contender(&self.pgbouncer.target, of_pgbouncer),
            contender(&self.relay.target, arguments),
            contender(&self.direct, arguments),
        ];
        Rounds::run(contenders, ROUNDS, SLICES)
    }
}

fn contender<'a>(target: &'a Target, arguments: &'a [&str]) -> Contender<'a> {
    Contender::new(target.name, move || pgbench::run(target, arguments))
}

const SIMPLE: [&str; 3] = ["--select-only", "--client=8", "--time=1"];

/// `pgbench -S`.
pub(crate) fn simple(bench: &Bench, report: &mut Report) -> Result<()> {
    let rounds = Ways::open(bench)?.rounds(&SIMPLE, &SIMPLE)?;
    let work = "`pgbench -S`, 8 clients: ";
    let mut add = |name: &str, values: &[f64], goal, what: &str| report.add(name, values, goal, &format!("{work}{what}"));
    add("simple-cpu", &rounds.ratio("gateway", "pgbouncer", CPU), Goal::AtMost(0.9), "CPU against PgBouncer");
    add(
        "simple-throughput",
        &rounds.ratio("gateway", "pgbouncer", RATE),
        Goal::AtLeast(1.0),
        "throughput against PgBouncer",
    );
    add("simple-relay-cpu", &rounds.ratio("relay", "pgbouncer", CPU), Goal::None, "CPU of a bare relay against PgBouncer");
    add("simple-relay-throughput", &rounds.ratio("relay", "pgbouncer", RATE), Goal::None, "throughput of a bare relay");
    add("simple-direct-throughput", &rounds.ratio("direct", "pgbouncer", RATE), Goal::None, "throughput without a proxy");
    // Milliseconds for 1,000 are microseconds for one.
    add("simple-cpu-ms", &rounds.of("gateway", CPU), Goal::None, "CPU milliseconds of the gateway for 1,000 transactions");
    add("simple-pgbouncer-cpu-ms", &rounds.of("pgbouncer", CPU), Goal::None, "the same of PgBouncer");
    Ok(())
}

/// `pgbench -S -M prepared`, against PgBouncer's simple figure.
pub(crate) fn prepared(bench: &Bench, report: &mut Report) -> Result<()> {
    let prepared = ["--select-only", "--client=8", "--time=1", "--protocol=prepared"];
    let rounds = Ways::open(bench)?.rounds(&prepared, &SIMPLE)?;
    let work = "`pgbench -S -M prepared`, 8 clients, PgBouncer `-M simple`: ";
    let mut add = |name: &str, values: &[f64], goal, what: &str| report.add(name, values, goal, &format!("{work}{what}"));
    add("prepared-cpu", &rounds.ratio("gateway", "pgbouncer", CPU), Goal::AtMost(0.8), "CPU");
    add("prepared-throughput", &rounds.ratio("gateway", "pgbouncer", RATE), Goal::AtLeast(1.0), "throughput");
    add("prepared-relay-cpu", &rounds.ratio("relay", "pgbouncer", CPU), Goal::None, "CPU of a bare relay");
    add("prepared-relay-throughput", &rounds.ratio("relay", "pgbouncer", RATE), Goal::None, "throughput of a bare relay");
    Ok(())
}

/// 2,000 rows in an answer.
pub(crate) fn rows(bench: &Bench, report: &mut Report) -> Result<()> {
    let script = bench.house.path("rows.sql");
    fs::write(&script, "SELECT id, words FROM bench_row;\n")?;
    let script = script.to_str().context("a path that is no text")?;
    let arguments = ["--client=8", "--time=1", "--file", script];
    let rounds = Ways::open(bench)?.rounds(&arguments, &arguments)?;
    let megabytes = f64::from(ROWS * ROW_BYTES) / 1e6;
    let ms_a_megabyte = |name: &str| rounds.of(name, CPU).iter().map(|us| us / 1e3 / megabytes).collect::<Vec<_>>();
    let work = "2,000 rows, 232 KB: ";
    let mut add = |name: &str, values: &[f64], goal, what: &str| report.add(name, values, goal, &format!("{work}{what}"));
    add("rows-cpu", &rounds.ratio("gateway", "pgbouncer", CPU), Goal::AtMost(0.4), "CPU a megabyte against PgBouncer");
    add("rows-relay-cpu", &rounds.ratio("relay", "pgbouncer", CPU), Goal::None, "CPU of a bare relay against PgBouncer");
    add("rows-throughput", &rounds.ratio("gateway", "pgbouncer", RATE), Goal::None, "throughput against PgBouncer");
    add("rows-cpu-ms", &ms_a_megabyte("gateway"), Goal::None, "CPU milliseconds of the gateway for a megabyte");
    Ok(())
}

/// `pgbench -S` under TLS from client to proxy.
pub(crate) fn tls(bench: &Bench, report: &mut Report) -> Result<()> {
    let (certificate, key) = bench.house.certificate()?;
    let (certificate, key) = (certificate.display(), key.display());
    let settings =
        format!("{}\n[gateway.tls]\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n", Bench::pool_settings());
    let gateway = bench.house.gateway("gateway", &settings)?;
    let settings =
        format!("client_tls_sslmode = require\nclient_tls_cert_file = {certificate}\nclient_tls_key_file = {key}");
    let pgbouncer = bench.house.pgbouncer(POOL, &settings)?;
    let contenders = vec![contender(&gateway.target, &SIMPLE), contender(&pgbouncer.target, &SIMPLE)];
    let rounds = Rounds::run(contenders, ROUNDS, SLICES)?;
    let work = "`pgbench -S`, 8 clients under TLS: ";
    let mut add = |name: &str, values: &[f64], goal, what: &str| report.add(name, values, goal, &format!("{work}{what}"));
    add("tls-cpu", &rounds.ratio("gateway", "pgbouncer", CPU), Goal::AtMost(0.9), "CPU against PgBouncer under TLS");
    add("tls-throughput", &rounds.ratio("gateway", "pgbouncer", RATE), Goal::None, "throughput against PgBouncer under TLS");
    Ok(())
}

/// Two workers that share a cluster, against one: the same two tenants, one a shard.
pub(crate) fn workers(bench: &Bench, report: &mut Report) -> Result<()> {
    // Which shard a tenant belongs to is in the last bit of its id.
    let of_shard = |shard: u128| {
        let place = bench.house.tenants.iter().position(|tenant| tenant.id.uuid().as_u128() % 2 == shard);
        place.map(|place| bench.house.user(place)).context("no tenant of that shard")
    };
    let users = [of_shard(0)?, of_shard(1)?];
    let users = [users[0].as_str(), users[1].as_str()];
    let pool = format!("server_connections = {POOL}\nserver_connections_reserved = 0\n");
    let one = bench.house.gateway("one", &format!("workers = 1\n{pool}"))?;
    let two = bench.house.gateway("two", &format!("workers = 2\nshards = 2\n{pool}"))?;
    let contender = |target: &'_ Target| {
        let target = target.clone();
        Contender::new(target.name, move || pgbench::run_as(&target, &users, ["--select-only", "--client=4", "--time=1"]))
    };
    let rounds = Rounds::run(vec![contender(&one.target), contender(&two.target)], ROUNDS, SLICES)?;
    let work = "`pgbench -S`, two tenants of 4 clients, two workers against one: ";
    let mut add = |name: &str, values: &[f64], goal, what: &str| report.add(name, values, goal, &format!("{work}{what}"));
    add("two-workers-cpu", &rounds.ratio("two", "one", CPU), Goal::AtMost(1.1), "CPU a transaction");
    add("two-workers-throughput", &rounds.ratio("two", "one", RATE), Goal::None, "throughput");
    Ok(())
}
