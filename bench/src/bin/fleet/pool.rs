//! A database tenant out of the prepared databases, beside the bare copy of a template that holds the same tables.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use guardian_bench::{Report, report::Goal};
use guardian_client::Client;
use guardian_model::{TenantState, api::CreateTenant};
use guardian_testkit::{Installation, Server};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::{runtime::Runtime, time::sleep};

use crate::DURABLE;

const ROUNDS: usize = 15;
const STOCK: usize = 3;
/// How often somebody who waits for the tenant asks.
const ASK_INTERVAL: Duration = Duration::from_millis(1);

pub(crate) fn measure(runtime: &Runtime, report: &mut Report) -> Result<()> {
    runtime.block_on(rounds(report))
}

#[expect(clippy::print_stderr, reason = "the progress of a bench")]
async fn rounds(report: &mut Report) -> Result<()> {
    let server = Server::own_with(&DURABLE);
    let installation = Installation::helpdesk(&server).await;
    let text = fs::read_to_string(installation.config())?;
    let stocked = text.replace("[clusters.main]", &format!("[clusters.main]\nwarm_databases = {STOCK}"));
    ensure!(stocked != text, "the installation's configuration changed");
    fs::write(installation.config(), stocked)?;
    let up = installation.up_and_hardened();
    let (address, token) = installation.access();
    let client = Client::new(&format!("http://{address}"), &token)?;
    let template = server.helpdesk().await;
    let mut admin = server.connect("postgres").await;
    let (mut ratios, mut milliseconds) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        full(&client).await?;
        let bare = bare(&mut admin, &template.name, round).await?;
        let ours = from_stock(&client, round).await?;
        eprintln!("  {:.1} ms beside {:.1} ms", ours * 1000.0, bare * 1000.0);
        // The first warms up.
        if round > 0 {
            ratios.push(ours / bare);
            milliseconds.push(ours * 1000.0);
        }
    }
    let what =
        "time until a database tenant out of the prepared databases is active, against a bare CREATE DATABASE … TEMPLATE";
    report.add("pool-database", &ratios, Goal::AtMost(0.25), what);
    report.add("pool-database-ms", &milliseconds, Goal::None, "milliseconds of the former");
    ensure!(up.stop(), "Guardian did not stop: {}", installation.log());
    Ok(())
}

/// Waits until the stock is full: its filling is not what is measured.
async fn full(client: &Client) -> Result<()> {
    loop {
        let status = client.status().await?;
        let ready = status.clusters.iter().find_map(|cluster| cluster.warm_databases.as_ref()?.ready);
        if ready == Some(STOCK) {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Seconds of the copy alone, on a connection that is open.
async fn bare(admin: &mut PgConnection, template: &str, round: usize) -> Result<f64> {
    let begun = Instant::now();
    let sql = format!("CREATE DATABASE bare_{round} TEMPLATE \"{template}\"");
    admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.context("copying a template")?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds from the request until the tenant is active.
async fn from_stock(client: &Client, round: usize) -> Result<f64> {
    let slug = format!("warm-{round}").parse()?;
    let begun = Instant::now();
    let change = client.create_tenant(&CreateTenant { slug, tier: "enterprise".parse()?, key: None }, None).await?;
    let slug = change.tenant.slug.to_string();
    loop {
        match client.tenant(&slug).await?.state {
            TenantState::Active => return Ok(begun.elapsed().as_secs_f64()),
            TenantState::Creating => sleep(ASK_INTERVAL).await,
            state => bail!("the tenant became {state}: {:?}", client.operation(change.operation.id).await?.error),
        }
    }
}
