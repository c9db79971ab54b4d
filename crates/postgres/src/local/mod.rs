//! A PostgreSQL cluster of Guardian's own, for machines where nobody runs one.
//!
//! It lives in the state folder, takes passwords only (no `trust`), and listens on a unix socket and on 127.0.0.1.
//! The calls block for up to a few seconds; no async here, so that tests and `main` can use them alike. Deliberately
//! absent: replication, backups, tuning, upgrades between major versions.

mod error;
mod folder;
mod lock;
mod throwaway;
mod watch;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Output,
};

use sqlx::postgres::PgConnectOptions;

pub use error::LocalError;
pub use lock::StateLock;
pub use throwaway::Throwaway;

use self::{
    error::file_error,
    folder::{HOME, check, initialise, password, prepare_home, socket_folder},
};
use crate::{binaries::Binaries, run_as::RunAs};

/// The superuser of the cluster.
const SUPERUSER: &str = "guardian_admin";
/// Attempts at a free port, which another process may take in between.
const PORT_ATTEMPTS: u32 = 5;

/// What a server logs at any start.
const NOISE: [&str; 5] = ["starting PostgreSQL", "listening on", "database system", "log output", "Future log"];

/// A running local cluster. Dropping the value leaves it running; [`LocalCluster::stop`] stops it.
pub struct LocalCluster {
    binaries: Binaries,
    run_as: RunAs,
    home: PathBuf,
    socket: PathBuf,
    port: u16,
    password: String,
    adopted: bool,
}

impl fmt::Debug for LocalCluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalCluster").field("home", &self.home).field("port", &self.port).finish_non_exhaustive()
    }
}

impl LocalCluster {
    /// Starts the cluster of a state folder, making it when there is none, or adopts the one that a killed process left
    /// running. `settings` are added to `postgresql.conf`.
    pub fn start(state: &StateLock, settings: &[(&str, &str)]) -> Result<Self, LocalError> {
        let binaries = match fs::read_to_string(state.folder().join(HOME).join("data/PG_VERSION")) {
            Ok(major) => Binaries::of_major(major.trim().parse().unwrap_or_default())?,
            Err(_) => Binaries::newest()?,
        };
        Self::start_with(binaries, state, settings)
    }

    /// Like [`LocalCluster::start`], with given programs.
    pub fn start_with(binaries: Binaries, state: &StateLock, settings: &[(&str, &str)]) -> Result<Self, LocalError> {
        let state = state.folder();
        let (home, run_as) = prepare_home(state)?;
        let data = home.join("data");
        let password = password(state, data.exists())?;
        if data.exists() {
            check(&data, &binaries)?;
        } else {
            initialise(&binaries, &run_as, &home, &password)?;
        }
        let socket = socket_folder(&home, &run_as)?;
        let mut cluster = Self { binaries, run_as, home, socket, port: 0, password, adopted: false };
        if let Some(port) = cluster.running_port()? {
            cluster.port = port;
            cluster.adopted = true;
        } else {
            cluster.launch(settings)?;
        }
        Ok(cluster)
    }

    /// The administrator's way in: the unix socket, with a password. `get_host` and `get_port` name the TCP address for clients.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .socket(&self.socket)
            .username(SUPERUSER)
            .password(&self.password)
            .database("postgres")
    }

    /// The TCP port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The installation that runs it.
    pub const fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Where data and log are: `cluster` in the state folder, or elsewhere when PostgreSQL's user cannot get there.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Whether it was running already.
    pub const fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Stops it: sessions end, nothing is lost (a fast shutdown).
    pub fn stop(self) -> Result<(), LocalError> {
        let output = self.pg_ctl(&["stop", "--mode=fast", "--wait", "--timeout=60"])?;
        if output.status.success() {
            Ok(())
        } else {
            Err(LocalError::Program { program: "pg_ctl stop", output: text_of(&output) })
        }
    }

    /// The port of a running postmaster of this data folder.
    fn running_port(&self) -> Result<Option<u16>, LocalError> {
        if !self.pg_ctl(&["status"])?.status.success() {
            return Ok(None);
        }
        // It may be in the middle of its own start or crash recovery: `postmaster.pid` is complete only after that.
        for _ in 0..100 {
            let text = fs::read_to_string(self.home.join("data/postmaster.pid")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            match (lines.get(3).and_then(|port| port.parse().ok()), lines.get(7)) {
                (Some(port), Some(&"ready")) => return Ok(Some(port)),
                _ if !self.pg_ctl(&["status"])?.status.success() => return Ok(None),
                _ => std::thread::sleep(std::time::Duration::from_millis(100)),
            }
        }
        Err(LocalError::Program { program: "postgres", output: "it is running, but does not get ready".to_owned() })
    }

    fn launch(&mut self, settings: &[(&str, &str)]) -> Result<(), LocalError> {
        let log = self.home.join("postgres.log");
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.port = self.choose_port()?;
            self.configure(settings)?;
            let before = self.log_lengths();
            let log_option = format!("--log={}", log.display());
            let output = self.pg_ctl(&["start", "--wait", "--timeout=60", "--silent", &log_option])?;
            if output.status.success() {
                return fs::write(self.port_file(), self.port.to_string()).map_err(file_error("write", &self.port_file()));
            }
            let said = self.log_since(&before);
            if attempt < PORT_ATTEMPTS && said.contains("Address already in use") {
                continue;
            }
            let output = if said.is_empty() { text_of(&output) } else { said };
            return Err(LocalError::Program { program: "postgres", output });
        }
    }

    /// The port of last time when it is still free, so that clients need not be told again.
    fn choose_port(&self) -> Result<u16, LocalError> {
        let last = fs::read_to_string(self.port_file()).ok().and_then(|port| port.trim().parse::<u16>().ok());
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
        let address = last.and_then(|port| free(port).ok()).map_or_else(|| free(0), Ok);
        Ok(address.map_err(file_error("listen on", Path::new("127.0.0.1")))?.port())
    }

    fn port_file(&self) -> PathBuf {
        self.home.join("port")
    }

    /// Writes the whole of `postgresql.conf`; what an administrator changes with `ALTER SYSTEM` outranks it and stays.
    fn configure(&self, settings: &[(&str, &str)]) -> Result<(), LocalError> {
        let mut text = "# Written by guardian at every start. Change settings with ALTER SYSTEM.\n".to_owned();
        let port = self.port.to_string();
        let socket = self.socket.to_string_lossy();
        let own = [
            ("port", port.as_str()),
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", &socket),
            ("unix_socket_permissions", "0700"),
            ("password_encryption", "scram-sha-256"),
            ("max_connections", "200"),
            ("shared_buffers", "128MB"),
            // Parameters of statements may be secrets.
            ("log_parameter_max_length", "0"),
            ("log_parameter_max_length_on_error", "0"),
            ("log_line_prefix", "%m [%p] %q%u@%d "),
            // At most a week of logs.
            ("logging_collector", "on"),
            ("log_directory", "log"),
            ("log_filename", "postgresql-%a.log"),
            ("log_truncate_on_rotation", "on"),
            ("log_rotation_age", "1d"),
            ("log_rotation_size", "0"),
        ];
        for (name, value) in own.iter().chain(settings) {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        let path = self.home.join("data/postgresql.conf");
        fs::write(&path, text).map_err(file_error("write", &path))?;
        self.run_as.give(&path).map_err(file_error("hand over", &path))
    }

    fn pg_ctl(&self, arguments: &[&str]) -> Result<Output, LocalError> {
        let program = self.binaries.program("pg_ctl");
        let mut command = self.run_as.command(&program);
        command.args(arguments).arg("--pgdata").arg(self.home.join("data"));
        command.output().map_err(file_error("run", &program))
    }

    /// The server writes to its own log once its collector runs, and to the one of `pg_ctl` before.
    fn log_lengths(&self) -> BTreeMap<PathBuf, u64> {
        let entries = fs::read_dir(self.home.join("data/log")).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).chain([self.home.join("postgres.log")]);
        paths.filter_map(|path| Some((path.clone(), fs::metadata(path).ok()?.len()))).collect()
    }

    /// What went wrong by the logs, without the noise of a normal start.
    fn log_since(&self, before: &BTreeMap<PathBuf, u64>) -> String {
        let mut telling = Vec::new();
        for path in self.log_lengths().keys() {
            let text = fs::read(path).unwrap_or_default();
            let start = before.get(path).and_then(|&length| usize::try_from(length).ok()).unwrap_or_default();
            let text = String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned();
            telling.extend(text.lines().filter(|line| !NOISE.iter().any(|noise| line.contains(noise))).map(str::to_owned));
        }
        telling.join("; ")
    }
}

fn text_of(output: &Output) -> String {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
