//! What idle clients cost in memory: the growth of a fresh process, from one client that has come and gone to 1,000 that have
//! logged in, had one answer, and wait.

use std::time::Duration;

use anyhow::{Context, Result};
use guardian_bench::{Report, Target, cpu, load, proxy::Proxy, report::Goal};
use sqlx::Executor as _;

use super::{Bench, POOL, ROUNDS};

const CLIENTS: usize = 1000;
const SETTLE: Duration = Duration::from_millis(700);

pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let house = &bench.house;
    let one_tenant: Vec<_> = (0..CLIENTS).map(|_| house.user(0)).collect();
    let all_tenants: Vec<_> = (0..CLIENTS).map(|client| house.user(client % house.tenants.len())).collect();
    let peer: Vec<_> = (0..CLIENTS).map(|_| house.direct().map(|peer| peer.user)).collect::<Result<_>>()?;
    let (mut of_one, mut of_all, mut of_pgbouncer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_one.push(growth_mb(bench, &house.gateway("gateway", &Bench::pool_settings())?, &one_tenant)?);
        of_pgbouncer.push(growth_mb(bench, &house.pgbouncer(POOL, "")?, &peer)?);
        of_all.push(growth_mb(bench, &house.gateway("gateway", &Bench::pool_settings())?, &all_tenants)?);
    }
    let work = "memory of 1,000 idle clients, MB: ";
    let mut add = |name: &str, values: &[f64], goal, what: &str| report.add(name, values, goal, &format!("{work}{what}"));
    add("idle-mb", &of_one, Goal::AtMost(1.5), "the gateway, one tenant");
    add("idle-mb-tenants", &of_all, Goal::None, "the gateway, 200 tenants that it had not seen before");
    add("idle-mb-pgbouncer", &of_pgbouncer, Goal::None, "PgBouncer");
    Ok(())
}

fn growth_mb(bench: &Bench, proxy: &Proxy, users: &[String]) -> Result<f64> {
    let target = &proxy.target;
    let pid = target.proxy.context("a proxy is a process")?;
    bench.runtime.block_on(async {
        drop(come(target, &users[..1]).await?);
        tokio::time::sleep(SETTLE).await;
        let before = cpu::proportional_kb(pid)?;
        let clients = come(target, users).await?;
        tokio::time::sleep(SETTLE).await;
        let after = cpu::proportional_kb(pid)?;
        drop(clients);
        #[expect(clippy::cast_precision_loss, reason = "kilobytes")]
        Ok((after as f64 - before as f64) / 1024.0)
    })
}

async fn come(target: &Target, users: &[String]) -> Result<Vec<sqlx::PgConnection>> {
    let mut clients = load::connect_all(target, users).await?;
    for client in &mut clients {
        client.execute("SELECT 1").await?;
    }
    Ok(clients)
}
