//! The proxies beside which the gateway is measured: Debian's PgBouncer, and the bare relay of this package.

use std::{
    env, fs,
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{Address, Target};

/// How long a proxy may take to listen; says nothing about how long it should take.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Where Debian puts PgBouncer, for those whose PATH lacks `sbin`.
const PGBOUNCER: [&str; 2] = ["/usr/sbin/pgbouncer", "pgbouncer"];

/// A proxy that runs until the value is dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// The way through it.
    pub target: Target,
}

/// What makes one PgBouncer differ from another.
#[derive(Debug, Clone)]
pub struct PgBouncer<'a> {
    /// Server connections.
    pub pool_size: u32,
    /// More lines for the `[pgbouncer]` section.
    pub settings: &'a str,
    /// More words for the connection string of its database.
    pub database: &'a str,
    /// Lines `"user" "secret"`: SCRAM verifiers as in `pg_authid`, so that both logins cost it no key derivation.
    pub users: &'a str,
}

/// Starts Debian's PgBouncer in transaction mode before a server. `folder` must be reachable for everybody.
pub fn pgbouncer(folder: &Path, server: &Target, at: &Address, setup: &PgBouncer<'_>) -> Result<Proxy> {
    let listen = match at {
        Address::Tcp(address) => {
            format!("listen_addr = {}\nlisten_port = {}\nunix_socket_dir =", address.ip(), address.port())
        }
        Address::Unix(_) => {
            let (socket_folder, port) = Target { address: at.clone(), ..server.clone() }.host_and_port();
            format!("listen_port = {port}\nunix_socket_dir = {socket_folder}")
        }
    };
    let (host, port) = server.host_and_port();
    let name = at.to_string().replace(['/', ':'], "_");
    let users = folder.join(format!("users{name}"));
    fs::write(&users, setup.users)?;
    let config = folder.join(format!("pgbouncer{name}.ini"));
    let text = format!(
        "[databases]\n* = host={host} port={port} {}\n[pgbouncer]\n{listen}\nauth_type = scram-sha-256\nauth_file = {}\n\
         pool_mode = transaction\ndefault_pool_size = {}\nmax_client_conn = 10000\nserver_idle_timeout = 0\n\
         log_connections = 0\nlog_disconnections = 0\nignore_startup_parameters = extra_float_digits\n{}\n",
        setup.database,
        users.display(),
        setup.pool_size,
        setup.settings,
    );
    fs::write(&config, text)?;
    let program = PGBOUNCER.iter().find(|path| Command::new(path).arg("--version").output().is_ok());
    let mut command = Command::new(program.context("pgbouncer is not there: apt-get install pgbouncer")?);
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "postgres"]);
    }
    start(command.arg("--quiet").arg(&config), Target { name: "pgbouncer", address: at.clone(), ..server.clone() })
}

/// Starts the bare relay of this package; the mode is `--mio` or `--tokio`.
pub fn relay(mode: &str, name: &'static str, server: &Target, at: &Address) -> Result<Proxy> {
    let program = env::current_exe()?.with_file_name("relay");
    ensure!(program.is_file(), "build it first: cargo build --release -p guardian-bench");
    let mut command = Command::new(program);
    command.args([mode, &at.to_string(), &server.address.to_string()]);
    start(&mut command, Target { name, address: at.clone(), ..server.clone() })
}

/// Starts a proxy and waits until it listens at the target's address.
pub(crate) fn start(command: &mut Command, mut target: Target) -> Result<Proxy> {
    let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("starting {}", target.name))?;
    target.proxy = Some(i32::try_from(child.id())?);
    let mut proxy = Proxy { child, target };
    let begun = Instant::now();
    while !answers(&proxy.target.address) {
        if let Some(status) = proxy.child.try_wait()? {
            bail!("{} ended with {status}", proxy.target.name);
        }
        ensure!(begun.elapsed() < START_PATIENCE, "{} does not listen", proxy.target.name);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(proxy)
}

fn answers(address: &Address) -> bool {
    match address {
        Address::Tcp(address) => TcpStream::connect(address).is_ok(),
        Address::Unix(path) => UnixStream::connect(path).is_ok(),
    }
}

/// An address on 127.0.0.1 that nobody listens on.
pub fn free_address() -> Result<Address> {
    Ok(Address::Tcp(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?))
}

/// A path for a socket in a folder, named as PostgreSQL does.
pub fn socket_in(folder: &Path, port: u16) -> Result<Address> {
    let path: PathBuf = folder.join(format!(".s.PGSQL.{port}"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(Address::Unix(path)),
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
