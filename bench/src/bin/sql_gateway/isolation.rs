//! What it costs to keep tenants apart: 200 tenants at random over 8 server connections, beside a PgBouncer that resets each
//! server connection after each transaction. CPU is the proxy's and the server's together.

use std::time::Duration;

use anyhow::{Context, Result};
use guardian_bench::{Contender, Report, Rounds, Taken, Target, cpu, guardian::ACCOUNTS, load, report::Goal};
use sqlx::PgConnection;

use super::{Bench, POOL, ROUNDS, SLICES};

/// Connections at work at once; the others wait for their turn to be picked.
const WIDTH: usize = 8;
const SLICE: Duration = Duration::from_secs(1);
const STATEMENT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = {number}";
const RESET: &str = "server_reset_query = DISCARD ALL\nserver_reset_query_always = 1";

/// Clients of one target.
struct Clients {
    name: &'static str,
    proxy: i32,
    connections: Vec<PgConnection>,
}

pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let house = &bench.house;
    let count = house.tenants.len();
    let gateway = house.gateway("gateway", &Bench::pool_settings())?;
    let resetting = house.pgbouncer(POOL, RESET)?;
    let plain = house.pgbouncer(POOL, "")?;
    let peers = |target: &Target| vec![target.user.clone(); count];
    let contenders = vec![
        clients(bench, "tenants", &gateway.target, (0..count).map(|tenant| house.user(tenant)).collect())?,
        clients(bench, "one tenant", &gateway.target, vec![house.user(0); count])?,
        clients(bench, "resetting", &resetting.target, peers(&resetting.target))?,
        clients(bench, "plain", &plain.target, peers(&plain.target))?,
    ];
    let contenders = contenders.into_iter().map(|clients| contender(bench, clients)).collect();
    let rounds = Rounds::run(contenders, ROUNDS, SLICES)?;
    let cpu = |taken: &Taken| taken.us;
    let rate = |taken: &Taken| taken.rate;
    let work = "200 tenants at random over 8 server connections, CPU of proxy and server: ";
    let mut add = |name: &str, values: &[f64], goal, what: &str| report.add(name, values, goal, &format!("{work}{what}"));
    let peer = "against PgBouncer with DISCARD ALL after each transaction";
    add("isolation-cpu", &rounds.ratio("tenants", "resetting", cpu), Goal::AtMost(1.2), peer);
    add("isolation-cpu-one-tenant", &rounds.ratio("tenants", "one tenant", cpu), Goal::None, "against one tenant's clients");
    add("isolation-cpu-plain", &rounds.ratio("tenants", "plain", cpu), Goal::None, "against PgBouncer that resets nothing");
    add(
        "isolation-throughput",
        &rounds.ratio("tenants", "resetting", rate),
        Goal::None,
        "throughput against that resetting PgBouncer",
    );
    Ok(())
}

fn clients(bench: &Bench, name: &'static str, target: &Target, users: Vec<String>) -> Result<Clients> {
    let connections = bench.runtime.block_on(load::connect_all(target, users))?;
    Ok(Clients { name, proxy: target.proxy.context("a proxy is a process")?, connections })
}

fn contender(bench: &Bench, mut clients: Clients) -> Contender<'_> {
    let spent =
        move |proxy: i32| Ok::<_, anyhow::Error>(cpu::process_ns(proxy)? + cpu::children_ns(bench.house.postmaster)?);
    Contender::new(clients.name, move || {
        let before = spent(clients.proxy)?;
        let work = load::at_random(&mut clients.connections, WIDTH, SLICE, STATEMENT, ACCOUNTS);
        let transactions = bench.runtime.block_on(work)?;
        let after = spent(clients.proxy)?;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds and transactions of a second")]
        Ok(Taken {
            us: (after - before) as f64 / 1e3 / transactions as f64,
            rate: transactions as f64 / SLICE.as_secs_f64(),
        })
    })
}
