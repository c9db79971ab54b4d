//! One migration to every place of a fleet, by `guardian migrate` and by a loop of psql processes with the same parallelism.
//!
//! Both change the same schemas, in turns, by files of the same statements under other names. The loop only runs the file: it
//! keeps no ledger and grants nothing, which Guardian does within its time.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use guardian_bench::{Report, report::Goal};
use guardian_client::Client;
use guardian_model::{Isolation, Place, TenantState, api::CreateTenant, query::TenantQuery};
use guardian_testkit::{Installation, Server};
use tokio::runtime::Runtime;

use crate::DURABLE;

const SCHEMAS: usize = 400;
const DATABASES: usize = 100;
const PARALLEL: usize = 4;
const ROUNDS: usize = 5;

pub(crate) fn measure(runtime: &Runtime, report: &mut Report) -> Result<()> {
    for (tier, count, figure, what) in [
        ("business", SCHEMAS, "fleet-schemas", "one migration to 400 schemas, against an `xargs -P 4 psql` loop"),
        ("enterprise", DATABASES, "fleet-databases", "the same to 100 databases"),
    ] {
        let ratios = runtime.block_on(fleet(tier, count))?;
        report.add(figure, &ratios, Goal::AtMost(1.0), what);
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the progress of a bench")]
async fn fleet(tier: &str, count: usize) -> Result<Vec<f64>> {
    let server = Server::own_with(&DURABLE);
    let installation = Installation::helpdesk(&server).await;
    let folder = installation.path("files");
    own_migrations(&installation)?;
    let _up = installation.up_and_hardened();
    let (address, token) = installation.access();
    let client = Client::new(&format!("http://{address}"), &token)?;
    let places = populate(&client, tier, count).await?;
    eprintln!("  {} {} tenants", places.len(), tier);
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let theirs = loop_of_psql(&installation, &places, &statements(&format!("loop_{round}")))?;
        fs::write(folder.join(format!("{:04}_round.sql", 100 + round)), statements(&format!("guardian_{round}")))?;
        let begun = Instant::now();
        installation.run(["migrate", "--quiet", "--parallel", &PARALLEL.to_string()]);
        let ours = begun.elapsed().as_secs_f64();
        eprintln!("  {ours:.3} s beside {theirs:.3} s");
        // The first one warms the server's caches up.
        if round > 0 {
            ratios.push(ours / theirs);
        }
    }
    Ok(ratios)
}

/// A folder with the helpdesk's files that can be added to.
fn own_migrations(installation: &Installation) -> Result<()> {
    let folder = installation.path("files");
    fs::create_dir(&folder)?;
    let mut text = fs::read_to_string(installation.config())?;
    let line =
        text.lines().find(|line| line.starts_with("migrations = ")).context("no migrations are configured")?.to_owned();
    let from = line.split('"').nth(1).context("no folder is configured")?.to_owned();
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    text = text.replace(&line, &format!("migrations = \"{}\"", folder.display()));
    Ok(fs::write(installation.config(), text)?)
}

/// What an ordinary release does: a table, its index, a column.
fn statements(suffix: &str) -> String {
    format!(
        "CREATE TABLE note_{suffix} (tenant_id uuid NOT NULL, id bigint NOT NULL, body text NOT NULL DEFAULT '', \
         PRIMARY KEY (tenant_id, id));\n\
         CREATE INDEX note_{suffix}_body ON note_{suffix} (tenant_id, body);\n\
         ALTER TABLE ticket ADD COLUMN {suffix} text;\n"
    )
}

/// Makes the tenants and gives the places of all, the shared one included.
async fn populate(client: &Client, tier: &str, count: usize) -> Result<Vec<Place>> {
    for number in 0..count {
        let create = CreateTenant { slug: format!("fleet-{number}").parse()?, tier: tier.parse()?, key: None };
        client.create_tenant(&create, None).await?;
    }
    loop {
        let mut query = TenantQuery { limit: Some(500), ..TenantQuery::default() };
        let (mut places, mut creating) = (Vec::new(), 0);
        loop {
            let page = client.tenants(&query).await?;
            for tenant in page.items {
                ensure!(tenant.placement.isolation != Isolation::Row, "the tier `{tier}` has places of its own");
                match tenant.state {
                    TenantState::Active => places.push(tenant.placement.place),
                    TenantState::Creating => creating += 1,
                    state => anyhow::bail!("tenant {} became {state}", tenant.slug),
                }
            }
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        if creating == 0 && places.len() == count {
            return Ok(places);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Seconds that a loop of psql takes for the file in the shared place and in each of `places`.
fn loop_of_psql(installation: &Installation, places: &[Place], sql: &str) -> Result<f64> {
    let file = installation.path("loop.sql");
    fs::write(&file, sql)?;
    let server = installation.server();
    let mut lines = format!("{} public\n", server.url(&installation.application));
    for place in places {
        writeln!(lines, "{} {}", server.url(&place.database), place.schema)?;
    }
    let script = "xargs -P \"$1\" -L 1 sh -c 'exec psql -X -q -v ON_ERROR_STOP=1 -1 -c \"SET LOCAL search_path = $2\" -f \"$0\" \"$1\"' \"$2\"";
    let begun = Instant::now();
    let mut child = Command::new("bash")
        .args(["-c", script, "loop", &PARALLEL.to_string()])
        .arg(&file)
        .stdin(Stdio::piped())
        .spawn()
        .context("starting xargs")?;
    child.stdin.take().context("no pipe")?.write_all(lines.as_bytes())?;
    let status = child.wait()?;
    let taken = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "psql failed in a place");
    Ok(taken)
}
