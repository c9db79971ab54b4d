//! A throwaway installation of Guardian: the real binary, a folder with `guardian.toml`, a control database of its own.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Server, TestDatabase, or_panic, unique};

/// How long a start may take before the test gives up; says nothing about how long it should take.
const START_PATIENCE: Duration = Duration::from_mins(1);

/// The helpdesk on a test server, with the `guardian` binary to drive it.
#[derive(Debug)]
pub struct Installation {
    /// The application's name, unique on the server; its database bears it too.
    pub application: String,
    server: Server,
    control: TestDatabase,
    folder: TempDir,
}

/// A `guardian up` that runs.
#[derive(Debug)]
pub struct Up {
    child: Child,
}

impl Installation {
    /// An installation of `examples/helpdesk`; nothing runs yet.
    pub async fn helpdesk(server: &Server) -> Self {
        let control = server.database("control").await;
        let application = unique("helpdesk");
        let folder = or_panic("make a folder", TempDir::new().map_err(Into::into));
        let installation = Self { application, server: server.clone(), control, folder };
        or_panic("write the configuration", installation.write());
        installation
    }

    fn write(&self) -> anyhow::Result<()> {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/helpdesk").canonicalize()?;
        let text = fs::read_to_string(example.join("guardian.toml"))?;
        let control = format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\n\n\
             [control]\nlisten = \"127.0.0.1:0\"\nlease_seconds = 1\nmaster_key_file = \"master.key\"\ndatabase_url = \"{}\"",
            self.control.url()
        );
        let cluster = format!("[clusters.main]\nurl = \"{}\"\n\n[application]", self.server.url("postgres"));
        let text = text
            .replace("[control]", &control)
            .replace("[application]", &cluster)
            .replace("name = \"helpdesk\"", &format!("name = \"{}\"", self.application))
            .replace("\"migrations\"", &format!("\"{}\"", example.join("migrations").display()));
        fs::write(self.config(), text)?;
        let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path("master.key"))?;
        key.write_all("0123456789abcdef".repeat(4).as_bytes())?;
        Ok(())
    }

    /// A path in the installation's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its `guardian.toml`.
    pub fn config(&self) -> PathBuf {
        self.path("guardian.toml")
    }

    /// The server that holds everything.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Guardian's own database.
    pub const fn control(&self) -> &TestDatabase {
        &self.control
    }

    /// The token of the first administrator and the address of the API, as `up` left them.
    pub fn access(&self) -> (String, String) {
        let read = |name: &str| {
            or_panic("read the state folder", fs::read_to_string(self.path(".guardian").join(name)).map_err(Into::into))
        };
        (read("api.addr").trim().to_owned(), read("admin.token").trim().to_owned())
    }

    /// Where the SQL gateway listens, as `up` left it.
    pub fn sql_address(&self) -> SocketAddr {
        let read = || Ok(fs::read_to_string(self.path(".guardian").join("sql.addr"))?.trim().parse()?);
        or_panic("read where the gateway listens", read())
    }

    /// Makes a login of the SQL gateway with these arguments of `login create`, and gives its password.
    pub fn login<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let mut command = self.command(["login", "create", "--json"]);
        let output = or_panic("run guardian", command.args(arguments).output().map_err(Into::into));
        assert!(output.status.success(), "guardian failed: {}", String::from_utf8_lossy(&output.stderr));
        let password = || {
            let made: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            made["password"].as_str().map(str::to_owned).context("it has no password")
        };
        or_panic("read the new login", password())
    }

    /// The binary with this installation's configuration; the environment names no other.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.config()).args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for variable in ["GUARDIAN_URL", "GUARDIAN_TOKEN", "GUARDIAN_MASTER_KEY"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs the binary to its end.
    pub fn guardian<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        or_panic("run guardian", self.command(arguments).output().map_err(Into::into))
    }

    /// Runs the binary, which must succeed, and gives its standard output.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let output = self.guardian(arguments);
        assert!(output.status.success(), "guardian failed: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts `guardian up` and waits until its API answers.
    pub fn up(&self) -> Up {
        or_panic("start guardian up", self.start(".guardian"))
    }

    /// Another `guardian up` on the same control database, with a state folder of its own. It prints into the same log.
    pub fn node(&self, name: &str) -> Up {
        or_panic("start guardian up", self.start(name))
    }

    /// The binary, speaking to the `up` of that name ([`Installation::up`] is `.guardian`) with the first administrator's
    /// token.
    pub fn command_on<A: AsRef<OsStr>>(&self, node: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command(["--state-dir"]);
        command.arg(self.path(node)).arg("--token-file").arg(self.path(".guardian").join("admin.token")).args(arguments);
        command
    }

    fn start(&self, node: &str) -> anyhow::Result<Up> {
        let address = self.path(node).join("api.addr");
        let _ = fs::remove_file(&address);
        let log = File::options().create(true).append(true).open(self.path("up.log"))?;
        let mut command = self.command(["--state-dir"]);
        let child = command.arg(self.path(node)).arg("up").stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut up = Up { child };
        let begun = Instant::now();
        loop {
            if let Some(status) = up.child.try_wait()? {
                bail!("it ended with {status}: {}", self.log());
            }
            if fs::read_to_string(&address).is_ok_and(|address| !address.trim().is_empty())
                && self.command_on(node, ["tier", "list"]).output()?.status.success()
            {
                return Ok(up);
            }
            ensure!(begun.elapsed() < START_PATIENCE, "it does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What every `guardian up` of this installation has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("up.log")).unwrap_or_default()
    }

    /// `up`, the application's tables made and hardened: ready for tenants.
    pub fn up_and_hardened(&self) -> Up {
        let up = self.up();
        self.run(["migrate"]);
        self.run(["apply", "--yes"]);
        up
    }
}

impl Up {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(mut self) {
        or_panic("kill guardian", self.child.kill().and_then(|()| self.child.wait()).map_err(Into::into));
    }

    /// Asks it to stop and waits until it has; says whether it left without an error.
    pub fn stop(mut self) -> bool {
        let stopped = || -> anyhow::Result<bool> {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
            kill_process(pid, Signal::TERM)?;
            Ok(self.child.wait()?.success())
        };
        or_panic("stop guardian", { stopped }())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `GUARDIAN_BIN`, or the binary in the folder that this test was built into.
fn binary() -> PathBuf {
    let built = || -> anyhow::Result<PathBuf> {
        let this = env::current_exe()?;
        let path = this.ancestors().skip(1).take(2).map(|folder| folder.join("guardian")).find(|path| path.is_file());
        path.context("build the binary first: `cargo build -p guardian`")
    };
    env::var_os("GUARDIAN_BIN").map_or_else(|| or_panic("find the binary", built()), PathBuf::from)
}
