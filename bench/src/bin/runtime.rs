//! What the gateway's event loop should be built on: a loop of its own over `mio`, or tokio. Bare relays of both kinds, beside
//! PgBouncer and a direct connection, under `pgbench -S`. The figures stand in `docs/adr/0007-own-event-loop.md`.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use guardian_bench::{
    Address, Contender, Rounds, Summary, Target, cpu, pgbench,
    proxy::{self, PgBouncer, Proxy},
};
use guardian_testkit::Server;
use sqlx::{Executor as _, Row as _};

const ROUNDS: usize = 8;
const SLICES: usize = 9;
/// Transactions of each client in a slice: about half a second.
const SLICE: &str = "1500";
const IDLE: usize = 1000;
const PASSWORD: &str = "bench";

/// All ways to one server over one kind of socket.
struct Ways {
    kind: &'static str,
    direct: Target,
    proxies: Vec<Proxy>,
}

impl Ways {
    fn all(&self) -> Vec<&Target> {
        self.proxies.iter().map(|proxy| &proxy.target).chain([&self.direct]).collect()
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "figures are the output of a bench")]
async fn main() -> Result<()> {
    cpu::allow_many_files()?;
    let server = Server::own_with(&[("autovacuum", "off")]);
    let database = server.database("relay").await;
    let mut admin = database.connect().await;
    admin.execute(sqlx::raw_sql("CREATE ROLE bench LOGIN PASSWORD 'bench'; GRANT CREATE ON SCHEMA public TO bench")).await?;
    let verifier: String =
        sqlx::query("SELECT rolpassword FROM pg_authid WHERE rolname = 'bench'").fetch_one(&mut admin).await?.get(0);
    let users = format!("\"bench\" \"{verifier}\"\n");
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;

    let direct = |address| Target {
        name: "direct",
        address,
        database: database.name.clone(),
        user: "bench".to_owned(),
        password: PASSWORD.to_owned(),
        tls: false,
        proxy: None,
    };
    let socket = server.options(&database.name).get_socket().context("a server has a socket")?.clone();
    let by_tcp = direct(format!("127.0.0.1:{}", server.port()).parse()?);
    let by_unix = direct(Address::Unix(socket.join(format!(".s.PGSQL.{}", server.port()))));
    initialise(&by_tcp)?;

    let setup = PgBouncer { pool_size: 8, settings: "", database: "", users: &users };
    let mut port = 6000;
    let mut all = Vec::new();
    for (kind, direct) in [("127.0.0.1", by_tcp), ("unix sockets", by_unix)] {
        let mut at = || {
            port += 1;
            if kind == "127.0.0.1" { proxy::free_address() } else { proxy::socket_in(folder.path(), port) }
        };
        let proxies = vec![
            proxy::relay("--mio", "mio", &direct, &at()?)?,
            proxy::relay("--tokio", "tokio", &direct, &at()?)?,
            proxy::pgbouncer(folder.path(), &direct, &at()?, &setup)?,
        ];
        all.push(Ways { kind, direct, proxies });
    }
    for mode in ["--mio", "--tokio"] {
        println!("memory of {IDLE} idle clients on {mode}: {} kB", idle_kb(mode, &all[0].direct)?);
    }
    for protocol in ["simple", "prepared"] {
        for ways in &all {
            println!("\n`pgbench -S -M {protocol}`, 8 clients, {}\n", ways.kind);
            measure(ways, protocol)?;
        }
    }
    Ok(())
}

/// Makes pgbench's tables at scale 10.
fn initialise(target: &Target) -> Result<()> {
    let (host, port) = target.host_and_port();
    let output = Command::new("pgbench")
        .args(["--initialize", "--quiet", "--scale=10", "--host", &host, "--port", &port, "--username", &target.user])
        .arg(&target.database)
        .env("PGPASSWORD", &target.password)
        .output()
        .context("pgbench, which comes with PostgreSQL, must be in PATH")?;
    ensure!(output.status.success(), "pgbench --initialize: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What a relay grows by with idle clients, before a server that only accepts.
fn idle_kb(mode: &str, like: &Target) -> Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = Target { address: Address::Tcp(listener.local_addr()?), ..like.clone() };
    let held = std::thread::spawn(move || listener.incoming().take(IDLE + 1).collect::<Vec<_>>());
    let at = proxy::free_address()?;
    let relay = proxy::relay(mode, "idle", &server, &at)?;
    let Address::Tcp(at) = at else { bail!("a free address is a TCP address") };
    let pid = relay.target.proxy.context("a relay is a process")?;
    let before = cpu::proportional_kb(pid)?;
    // `relay` has looked in once already to see whether it listens.
    let clients = (0..IDLE).map(|_| TcpStream::connect(at)).collect::<Result<Vec<_>, _>>()?;
    let held = held.join().map_err(|_| anyhow!("the idle server panicked"))?;
    let after = cpu::proportional_kb(pid)?;
    ensure!(held.len() > clients.len(), "not every client reached the server");
    Ok(after - before)
}

/// PgBouncer is always asked simply: 1.18 does not track statements.
#[expect(clippy::print_stdout, reason = "figures are the output of a bench")]
fn measure(ways: &Ways, protocol: &str) -> Result<()> {
    let targets = ways.all();
    let contender = |target: &&'_ Target| {
        let target = (*target).clone();
        let mode = if target.name == "pgbouncer" { "simple" } else { protocol }.to_owned();
        Contender::new(target.name, move || {
            pgbench::run(&target, ["--select-only", "--client=8", "--transactions", SLICE, "--protocol", &mode])
        })
    };
    let rounds = Rounds::run(targets.iter().map(contender).collect(), ROUNDS, SLICES)?;
    let show = |digits: usize, values: &[f64]| {
        let Summary { min, median, max } = Summary::of(values);
        format!("{min:.digits$} / {median:.digits$} / {max:.digits$}")
    };
    println!(
        "| | CPU a transaction, µs | against PgBouncer | transactions a second | against PgBouncer |\n|---|---|---|---|---|"
    );
    for Target { name, .. } in &targets {
        println!(
            "| {name} | {} | {} | {} | {} |",
            show(2, &rounds.of(name, |taken| taken.us)),
            show(2, &rounds.ratio(name, "pgbouncer", |taken| taken.us)),
            show(0, &rounds.of(name, |taken| taken.rate)),
            show(2, &rounds.ratio(name, "pgbouncer", |taken| taken.rate)),
        );
    }
    println!("tokio against the own loop: {}", show(3, &rounds.ratio("tokio", "mio", |taken| taken.us)));
    Ok(())
}
