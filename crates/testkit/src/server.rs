//! Throwaway servers: one shared by all test processes of a run, or one of the test's own.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use guardian_postgres::{
    binaries::Binaries,
    local::{LocalCluster, StateLock},
};
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use crate::{
    TestDatabase,
    hold::{Hold, Locks},
    or_panic, unique,
};

const SHARED_IDLE: Duration = Duration::from_secs(20);
const OWN_IDLE: Duration = Duration::from_secs(3);

/// Durability is no concern of a server that is thrown away.
const SETTINGS: [(&str, &str); 8] = [
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "400"),
    ("max_prepared_transactions", "20"),
    ("max_wal_size", "256MB"),
    ("max_locks_per_transaction", "256"),
    ("logging_collector", "off"),
];

/// A throwaway PostgreSQL server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    access: Access,
    major: u32,
    folder: PathBuf,
    _hold: Arc<Hold>,
}

/// How to get in, as kept in a file for the processes that come later.
#[derive(Debug, Clone)]
struct Access {
    port: u16,
    socket: PathBuf,
    password: String,
    home: PathBuf,
}

impl Server {
    /// The server that all test processes of this machine and user share. Its roles are shared too: see [`unique`].
    ///
    /// `GUARDIAN_TEST_POSTGRES=18` runs the tests on another version out of the matrix.
    pub fn shared() -> Self {
        static SHARED: LazyLock<Server> =
            LazyLock::new(|| or_panic("start the shared server", wanted().and_then(Server::share)));
        SHARED.clone()
    }

    /// A shared server of another major version out of the matrix (`make matrix`); `None`, loudly, when it is not there.
    pub fn of_version(major: u32) -> Option<Self> {
        match of_matrix(major) {
            Ok(binaries) => Some(or_panic("start a server of the matrix", Self::share(binaries))),
            Err(error) => {
                complain(&format!("SKIPPED on PostgreSQL {major}: {error:#}"));
                None
            }
        }
    }

    /// A server for this test alone, which may stop, kill and configure it.
    pub fn own() -> Self {
        Self::own_with(&[])
    }

    /// Like [`Server::own`], with more settings.
    pub fn own_with(settings: &[(&str, &str)]) -> Self {
        or_panic(
            "start a server",
            wanted().and_then(|binaries| {
                let folder = base().join(unique("guardian-own"));
                Self::obtain(binaries, folder, OWN_IDLE, settings)
            }),
        )
    }

    fn share(binaries: Binaries) -> anyhow::Result<Self> {
        let mut hasher = DefaultHasher::new();
        (&binaries.version, binaries.folder(), SETTINGS).hash(&mut hasher);
        let user = rustix::process::geteuid().as_raw();
        let folder = base().join(format!("guardian-test-{user}-{:x}", hasher.finish()));
        Self::obtain(binaries, folder, SHARED_IDLE, &[])
    }

    fn obtain(binaries: Binaries, folder: PathBuf, idle: Duration, more: &[(&str, &str)]) -> anyhow::Result<Self> {
        let major = binaries.major;
        let locks = Locks::of(&folder);
        let _starting = locks.start()?;
        let hold = Arc::new(locks.hold()?);
        let access = if let Some(access) = Access::read(&folder).filter(Access::answers) {
            access
        } else {
            // What a power cut left of a server without fsync is not worth recovering.
            if let Err(error) = fs::remove_dir_all(&folder) {
                ensure!(error.kind() == std::io::ErrorKind::NotFound, "cannot remove `{}`: {error}", folder.display());
            }
            fs::DirBuilder::new().mode(0o711).create(&folder)?;
            let settings: Vec<_> = SETTINGS.iter().chain(more).copied().collect();
            let cluster = LocalCluster::start_with(binaries, &StateLock::acquire(&folder)?, &settings)?;
            let access = Access::of(&cluster, &folder)?;
            access.write(&folder)?;
            access
        };
        ensure!(fs::metadata(&folder)?.uid() == rustix::process::geteuid().as_raw(), "`{}` is not ours", folder.display());
        locks.watch(idle, &[&access.home, &access.socket])?;
        Ok(Self { access, major, folder, _hold: hold })
    }

    /// A new, empty database that goes away with the value.
    pub async fn database(&self, hint: &str) -> TestDatabase {
        TestDatabase::create(self, hint, "template0").await
    }

    /// A new database with the migrations of `examples/helpdesk` applied.
    pub async fn helpdesk(&self) -> TestDatabase {
        TestDatabase::helpdesk_on(self).await
    }

    /// A superuser's way into a database, by the unix socket.
    pub fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.access.port)
            .socket(&self.access.socket)
            .username("guardian_admin")
            .password(&self.access.password)
            .database(database)
            .disable_statement_logging()
    }

    /// The same as a URL over TCP, for programs.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://guardian_admin:{}@127.0.0.1:{}/{database}", self.access.password, self.access.port)
    }

    /// A superuser's connection.
    pub async fn connect(&self, database: &str) -> PgConnection {
        or_panic("connect", self.options(database).connect().await.map_err(Into::into))
    }

    /// The TCP port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.access.port
    }

    /// The major version.
    pub const fn major(&self) -> u32 {
        self.major
    }

    /// All that the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.access.home.join("postgres.log")).unwrap_or_default()
    }

    /// Stops the server at once, as a power cut would. Only for [`Server::own`].
    pub fn kill(&self) {
        let text = fs::read_to_string(self.access.home.join("data/postmaster.pid")).unwrap_or_default();
        let pid = text.lines().next().and_then(|pid| pid.trim().parse().ok()).and_then(rustix::process::Pid::from_raw);
        let pid = pid.unwrap_or_else(|| panic!("testkit: the server does not run"));
        let killed = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        or_panic("kill the server", killed.map_err(Into::into));
        while rustix::process::test_kill_process(pid).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it again after [`Server::kill`], on the same port.
    pub fn restart(&self) {
        let started = wanted()
            .and_then(|binaries| Ok(LocalCluster::start_with(binaries, &StateLock::acquire(&self.folder)?, &SETTINGS)?));
        assert_eq!(or_panic("restart the server", started).port(), self.access.port, "the port was taken meanwhile");
    }
}

impl Access {
    fn of(cluster: &LocalCluster, folder: &Path) -> anyhow::Result<Self> {
        let options = cluster.options();
        let socket = options.get_socket().context("a local cluster has a socket")?.clone();
        let password = fs::read_to_string(folder.join("superuser.password"))?;
        Ok(Self { port: cluster.port(), socket, password: password.trim().to_owned(), home: cluster.home().to_owned() })
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let Self { port, socket, password, home } = self;
        let text = format!("{port}\n{}\n{password}\n{}\n", socket.display(), home.display());
        let file = tempfile::NamedTempFile::new_in(folder)?;
        fs::write(file.path(), text)?;
        file.persist(folder.join("access"))?;
        Ok(())
    }

    fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join("access")).ok()?;
        let mut lines = text.lines();
        Some(Self {
            port: lines.next()?.parse().ok()?,
            socket: lines.next()?.into(),
            password: lines.next()?.to_owned(),
            home: lines.next()?.into(),
        })
    }

    fn answers(&self) -> bool {
        UnixStream::connect(self.socket.join(format!(".s.PGSQL.{}", self.port))).is_ok()
    }
}

/// Root's TMPDIR may be out of reach for the user that runs PostgreSQL.
fn base() -> PathBuf {
    if rustix::process::geteuid().is_root() { PathBuf::from("/tmp") } else { env::temp_dir() }
}

/// The PostgreSQL that the tests run on: the newest that is installed, or the one that `GUARDIAN_TEST_POSTGRES` names.
fn wanted() -> anyhow::Result<Binaries> {
    match env::var("GUARDIAN_TEST_POSTGRES").ok().filter(|major| !major.is_empty()) {
        Some(major) => of_matrix(major.parse().context("GUARDIAN_TEST_POSTGRES is no major version")?),
        None => Ok(Binaries::newest()?),
    }
}

/// The folder that `make matrix` fills: `<folder>/<major>/bin`.
fn of_matrix(major: u32) -> anyhow::Result<Binaries> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cache/guardian/postgres"));
    let folders: Vec<PathBuf> = env::var_os("GUARDIAN_PG_MATRIX").map_or_else(
        || ["/var/cache/guardian/postgres".into()].into_iter().chain(home).collect(),
        |folder| vec![folder.into()],
    );
    let Some(folder) = folders.iter().map(|folder| folder.join(major.to_string()).join("bin")).find(|bin| bin.is_dir())
    else {
        bail!("it is not in `{}`; fetch it with `make matrix`", folders[0].display());
    };
    Ok(Binaries::at(&folder)?)
}

#[expect(clippy::print_stderr, reason = "a test that is skipped has to say so where the person looks")]
fn complain(message: &str) {
    eprintln!("{message}");
}
