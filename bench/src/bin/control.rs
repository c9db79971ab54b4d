//! `make bench-control`: how fast tenants are made, against the bare work that they need, and how the control plane bears
//! 100,000 of them. Everything is measured from outside, over the API of the real binary.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use guardian_bench::{Report, cpu, report::Goal, summary::percentile};
use guardian_client::{Client, ClientError};
use guardian_model::{
    Isolation, LimitOverrides, Role, Slug, TenantState,
    api::{CreateTenant, CreateToken, TenantChange},
    query::{ChangesQuery, TenantQuery},
};
use guardian_testkit::{Installation, Server};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const CLIENTS: usize = 8;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(4);
const SILO_ROUNDS: u32 = 9;
const FLEET: u32 = 100_000;
const PAGES: u32 = 400;
const CHANGES: u32 = 500;

/// A PostgreSQL that keeps its promises: durability is part of what is compared.
const DURABLE: [(&str, &str); 4] =
    [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on"), ("max_wal_size", "4GB")];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Creates row tenants until told to stop; gives the milliseconds that each took.
async fn create_until(client: Client, stop: Arc<AtomicBool>) -> Result<Vec<f64>> {
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        taken.push(create(&client, "free").await?.1);
    }
    Ok(taken)
}

async fn create(client: &Client, tier: &str) -> Result<(TenantChange, f64)> {
    let slug: Slug = format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed)).parse()?;
    let begun = Instant::now();
    let change = client.create_tenant(&CreateTenant { slug, tier: tier.parse()?, key: None }, None).await?;
    let taken = begun.elapsed().as_secs_f64() * 1000.0;
    if tier == "free" {
        ensure!(change.tenant.state == TenantState::Active, "a row tenant was answered before it was active");
    }
    Ok((change, taken))
}

/// Row tenants a second over all clients, and each one's milliseconds.
async fn row_round(client: &Client, length: Duration) -> Result<(f64, Vec<f64>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(create_until(client.clone(), stop.clone()))).collect();
    tokio::time::sleep(length).await;
    stop.store(true, Ordering::Relaxed);
    let mut taken = Vec::new();
    for client in clients {
        taken.extend(client.await??);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of tenants")]
    Ok((taken.len() as f64 / begun.elapsed().as_secs_f64(), taken))
}

/// Bare transactions of two inserts a second, by pgbench.
fn pgbench_round(server: &Server, database: &str, script: &std::path::Path) -> Result<f64> {
    let output = Command::new("pgbench")
        .args(["-n", "-c", &CLIENTS.to_string(), "-j", "2", "-T", &ROUND.as_secs().to_string(), "-f"])
        .arg(script)
        .arg(server.url(database))
        .output()
        .context("pgbench, which comes with PostgreSQL, must be in PATH")?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("tps = ")).context("pgbench printed no rate")?;
    Ok(line.split_whitespace().nth(2).context("pgbench printed no rate")?.parse()?)
}

/// Milliseconds from the request until the tenant is active.
async fn guardian_silo(client: &Client, tier: &str) -> Result<f64> {
    let begun = Instant::now();
    let (change, _) = create(client, tier).await?;
    let slug = change.tenant.slug.to_string();
    loop {
        match client.tenant(&slug).await?.state {
            TenantState::Active => return Ok(begun.elapsed().as_secs_f64() * 1000.0),
            TenantState::Creating => tokio::time::sleep(Duration::from_millis(2)).await,
            state => anyhow::bail!("the tenant became {state}: {:?}", client.operation(change.operation.id).await?.error),
        }
    }
}

/// What such a tenant needs at the least: a role, its place, the migrations, grants; by one client that knows what it does.
async fn bare_silo(server: &Server, shared: &str, isolation: Isolation, number: u32) -> Result<f64> {
    let name = format!("bare_{isolation}_{number}");
    let begun = Instant::now();
    let mut connection = PgConnection::connect_with(&server.options(shared)).await?;
    let role = format!("CREATE ROLE {name} LOGIN NOINHERIT CONNECTION LIMIT 20 PASSWORD 'a{number}'");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(role))).await?;
    let schema = if isolation == Isolation::Schema {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {name}")))).await?;
        name.clone()
    } else {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0")))).await?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC")))).await?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("GRANT CONNECT ON DATABASE {name} TO {name}")))).await?;
        connection = PgConnection::connect_with(&server.options(&name)).await?;
        "public".to_owned()
    };
    let path = format!("SET search_path = {schema}");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(path))).await?;
    let mut files: Vec<_> = std::fs::read_dir("examples/helpdesk/migrations")?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::path);
    for file in files {
        connection
            .execute(sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {}; COMMIT", std::fs::read_to_string(file.path())?))))
            .await?;
    }
    let grants = format!(
        "BEGIN; GRANT USAGE ON SCHEMA {schema} TO {name}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {name}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {name}; \
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {name}; \
         DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT attrelid::regclass FROM pg_attribute JOIN pg_class c ON c.oid = attrelid \
         WHERE attname = 'tenant_id' AND relnamespace = '{schema}'::regnamespace AND relkind IN ('r', 'p') LOOP \
         EXECUTE format('ALTER TABLE %s ALTER COLUMN tenant_id SET DEFAULT %L', t, md5('{name}')::uuid); END LOOP; END $$; \
         ALTER ROLE {name} SET search_path = {schema}; COMMIT"
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(grants))).await?;
    connection.close().await?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// Milliseconds from the request for a change until a follower over HTTP has it; each change in its turn.
async fn snapshot_latency(client: &Client, gateway: &Client) -> Result<Vec<f64>> {
    let tenant = create(client, "free").await?.0.tenant;
    let mut taken = Vec::new();
    let mut since = gateway.snapshot().await?.cursor;
    for change in 0..CHANGES {
        let own = LimitOverrides { queue_len_max: Some(change), ..LimitOverrides::default() };
        let begun = Instant::now();
        let follow = async {
            loop {
                let delta = gateway.snapshot_changes(&ChangesQuery { since: since.0, wait_seconds: None }).await?;
                since = delta.cursor;
                if delta.tenants.iter().any(|found| found.id == tenant.id && found.limits == own) {
                    return Ok::<_, ClientError>(begun.elapsed().as_secs_f64() * 1000.0);
                }
            }
        };
        let (changed, latency) = tokio::join!(client.set_limits(tenant.slug.as_str(), &own), follow);
        changed?;
        taken.push(latency?);
    }
    Ok(taken)
}

async fn pages(client: &Client, query: &TenantQuery) -> Result<Vec<f64>> {
    let mut taken = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES {
        let begun = Instant::now();
        let page = client.tenants(&TenantQuery { limit: Some(100), cursor, ..query.clone() }).await?;
        taken.push(begun.elapsed().as_secs_f64() * 1000.0);
        // At the end, from the start again: the last page counts as well as the first.
        cursor = page.next_cursor;
    }
    Ok(taken)
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "the progress of a bench")]
#[expect(clippy::too_many_lines, reason = "one experiment after the other, read from top to bottom")]
async fn main() -> Result<()> {
    let server = Server::own_with(&DURABLE);
    let installation = Installation::helpdesk(&server).await;
    let up = installation.up_and_hardened();
    let connect = || -> Result<Client> {
        let (address, token) = installation.access();
        Ok(Client::new(&format!("http://{address}"), &token)?)
    };
    let client = connect()?;
    let mut report = Report::new("bench-control");

    // Before the row tenants: the sealing of their audit entries would go on in the background.
    for (isolation, tier, figure) in
        [(Isolation::Schema, "business", "schema-tenant"), (Isolation::Database, "enterprise", "database-tenant")]
    {
        eprintln!("{isolation} tenants beside bare SQL …");
        guardian_silo(&client, tier).await?;
        let mut ratios = Vec::new();
        for number in 0..SILO_ROUNDS {
            let bare = bare_silo(&server, &installation.application, isolation, number).await?;
            let ours = guardian_silo(&client, tier).await?;
            eprintln!("  {ours:.0} ms beside {bare:.0} ms");
            ratios.push(ours / bare);
        }
        report.add(
            figure,
            &ratios,
            Goal::AtMost(1.1),
            &format!("time until a {isolation} tenant is active, against the bare SQL it needs"),
        );
    }

    eprintln!("row tenants beside pgbench …");
    let peer = server.database("peer").await;
    peer.connect().await.execute("CREATE TABLE a (id bigint PRIMARY KEY, t text); CREATE TABLE b (id bigint PRIMARY KEY, t text); CREATE SEQUENCE s").await?;
    let script = installation.path("two-inserts.sql");
    std::fs::write(
        &script,
        "SELECT nextval('s') AS n \\gset\nBEGIN;\nINSERT INTO a VALUES (:n, 'tenant');\nINSERT INTO b VALUES (:n, 'tenant');\nCOMMIT;\n",
    )?;
    row_round(&client, Duration::from_secs(1)).await?;
    let (mut ratios, mut first) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let bare = pgbench_round(&server, &peer.name, &script)?;
        let (rate, taken) = row_round(&client, ROUND).await?;
        eprintln!("  {rate:.0} tenants/s beside {bare:.0} bare transactions/s");
        ratios.push(rate / bare);
        first.extend(taken);
    }
    report.add(
        "row-tenant-rate",
        &ratios,
        Goal::AtLeast(0.25),
        "row tenants made active with 8 clients, as a share of pgbench's rate of bare two-row transactions",
    );
    report.add("row-tenant-p50-ms", &[percentile(&first, 0.5)], Goal::None, "milliseconds a row tenant, median, 8 clients");
    report.add(
        "row-tenant-p99-ms",
        &[percentile(&first, 0.99)],
        Goal::None,
        "milliseconds a row tenant, 99th percentile, 8 clients",
    );

    eprintln!("{FLEET} row tenants …");
    while NEXT.load(Ordering::Relaxed) < FLEET {
        row_round(&client, Duration::from_secs(5)).await?;
        eprintln!("  {}", NEXT.load(Ordering::Relaxed));
    }
    installation.control().connect().await.execute("VACUUM ANALYZE").await?;
    drop(client);
    up.stop();

    let mut ready = Vec::new();
    let mut up = None;
    for _ in 0..5 {
        drop(up.take());
        let begun = Instant::now();
        up = Some(installation.up());
        ready.push(begun.elapsed().as_secs_f64());
    }
    let up = up.context("no round was run")?;
    report.add(
        "ready-seconds",
        &ready,
        Goal::AtMost(2.0),
        "from the start of the process until it answers, with 100,000 row tenants",
    );

    let client = connect()?;
    let any = TenantQuery::default();
    let queries = [
        any.clone(),
        TenantQuery { state: Some(TenantState::Active), ..any.clone() },
        TenantQuery { state: Some(TenantState::Suspended), ..any.clone() },
        TenantQuery { tier: Some("free".parse()?), ..any.clone() },
        TenantQuery { tier: Some("enterprise".parse()?), state: Some(TenantState::Active), ..any.clone() },
        TenantQuery { isolation: Some(Isolation::Row), ..any.clone() },
        TenantQuery { isolation: Some(Isolation::Schema), tier: Some("free".parse()?), ..any.clone() },
        TenantQuery { slug_prefix: Some("bench-99".to_owned()), ..any.clone() },
        TenantQuery { slug_prefix: Some("bench".to_owned()), state: Some(TenantState::Active), ..any },
    ];
    let mut slowest = Vec::new();
    for query in &queries {
        slowest.push(percentile(&pages(&client, query).await?, 0.99));
    }
    // The worst filter is the figure; its median over the filters would hide it.
    let worst = slowest.iter().copied().fold(0.0, f64::max);
    report.add(
        "page-p99-ms",
        &[worst],
        Goal::AtMost(20.0),
        "99th percentile of a page of 100 out of 100,000, the slowest of nine filters",
    );

    eprintln!("changes on their way to a gateway …");
    let made = client.create_token(&CreateToken { name: "bench".to_owned(), role: Role::Gateway, tenant: None }).await?;
    let gateway = Client::new(&format!("http://{}", installation.access().0), &made.secret)?;
    let mut read = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let tenants = gateway.snapshot().await?.tenants.len();
        ensure!(tenants >= FLEET as usize, "the snapshot has {tenants} tenants only");
        read.push(begun.elapsed().as_secs_f64());
    }
    report.add("snapshot-seconds", &read, Goal::None, "reading the whole snapshot of 100,000 tenants over HTTP");
    let idle = snapshot_latency(&client, &gateway).await?;
    report.add(
        "snapshot-latency",
        &[percentile(&idle, 0.99)],
        Goal::AtMost(100.0),
        "99th percentile, in milliseconds, from the request for a change until a gateway has it",
    );
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(create_until(client.clone(), stop.clone()))).collect();
    let busy = snapshot_latency(&client, &gateway).await;
    stop.store(true, Ordering::Relaxed);
    for client in load {
        client.await??;
    }
    report.add(
        "snapshot-latency-busy",
        &[percentile(&busy?, 0.99)],
        Goal::AtMost(100.0),
        "the same while 8 clients make row tenants as fast as they can",
    );

    row_round(&client, Duration::from_secs(1)).await?;
    let (_, late) = row_round(&client, ROUND).await?;
    let growth = percentile(&late, 0.5) / percentile(&first, 0.5);
    report.add(
        "one-more-tenant",
        &[growth],
        Goal::AtMost(1.1),
        "median time of a row tenant after 100,000, against the first ones",
    );
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    report.add(
        "resident-mb",
        &[cpu::resident_kb(up.pid())? as f64 / 1024.0],
        Goal::AtMost(150.0),
        "memory of the control plane's process after all that",
    );
    report.finish("docs/performance.md")
}
