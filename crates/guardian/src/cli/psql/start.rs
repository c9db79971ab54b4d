//! Finds psql and starts it with the grant in its environment.

use std::{
    env,
    fs::File,
    io::PipeReader,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use guardian_model::{api::TicketGrant, door::DoorGrant};
use guardian_postgres::binaries::Binaries;

use super::{arguments::Arguments, bind};
use crate::output::Failure;

const RC_VARIABLE: &str = "PSQLRC";
/// The first with `\warn`.
const PSQL_MAJOR_MIN: u32 = 13;

/// What libpq would otherwise take from the environment, to connect elsewhere or otherwise than the grant says.
pub(in crate::cli) const CONNECTION_VARIABLES: [&str; 12] = [
    "PGHOSTADDR",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGREALM",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGDATESTYLE",
    "PGGEQO",
];

/// Where the session goes, and as whom.
pub(super) struct Way {
    host: String,
    port: u16,
    database: String,
    user: String,
    password: String,
    ticket: Option<String>,
}

impl From<TicketGrant> for Way {
    fn from(TicketGrant { host, port, database, user, password, ticket, .. }: TicketGrant) -> Self {
        Self { host, port, database, user, password, ticket }
    }
}

impl From<DoorGrant> for Way {
    fn from(DoorGrant { host, port, database, user, password, .. }: DoorGrant) -> Self {
        Self { host, port, database, user, password, ticket: None }
    }
}

/// A psql on this machine.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    /// `15.4`, as start-up files for one version are named.
    version: String,
}

impl Program {
    /// The psql of the PATH, else that of the newest PostgreSQL on this machine.
    pub(super) fn find() -> anyhow::Result<Self> {
        if let Ok(program) = Self::at(PathBuf::from("psql")) {
            return program.new_enough();
        }
        let advice = "install PostgreSQL's client programs (Debian and Ubuntu: apt install postgresql-client)";
        let binaries = Binaries::newest().map_err(|_| Failure::new("there is no psql on this machine").advise(advice))?;
        Self::at(binaries.program("psql"))?.new_enough()
    }

    fn at(path: PathBuf) -> anyhow::Result<Self> {
        let output =
            Command::new(&path).arg("--version").output().with_context(|| format!("cannot run `{}`", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version(&text).with_context(|| format!("`{}` does not say its version: {text}", path.display()))?;
        Ok(Self { path, version: version.to_owned() })
    }

    fn major(&self) -> &str {
        self.version.split_once('.').map_or(&self.version, |(major, _)| major)
    }

    fn new_enough(self) -> anyhow::Result<Self> {
        let major = self.major().split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        if major.parse::<u32>().is_ok_and(|major| major >= PSQL_MAJOR_MIN) {
            return Ok(self);
        }
        Err(Failure::new(format!("psql is of version {}; {PSQL_MAJOR_MIN} or newer is needed", self.version)).into())
    }

    /// The user's start-up file as psql would choose it: the one of this very version first.
    fn user_rc(&self) -> Option<PathBuf> {
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".psqlrc").into_os_string());
        let base = env::var_os(RC_VARIABLE).filter(|path| !path.is_empty()).or_else(home)?;
        let versioned = |version: &str| {
            let mut path = base.clone();
            path.push("-");
            path.push(version);
            path
        };
        let candidates = [versioned(&self.version), versioned(self.major()), base.clone()];
        candidates.into_iter().find(|path| File::open(path).is_ok()).map(PathBuf::from)
    }
}

/// `psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`
fn version(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(" (PostgreSQL) ")?;
    (name == "psql").then(|| rest.split_whitespace().next()).flatten()
}

/// Becomes psql; comes back only with the reason why that failed.
pub(super) fn replace_process(program: &Program, arguments: Arguments, way: &Way) -> anyhow::Error {
    let user_rc = if arguments.skip_rc { None } else { program.user_rc() };
    // The pipe has to stay open until psql has taken over.
    let (mut command, _pipe) = match prepare(&program.path, arguments, way, user_rc.as_deref()) {
        Ok(prepared) => prepared,
        Err(error) => return error,
    };
    anyhow::Error::new(command.exec()).context(format!("cannot start `{}`", program.path.display()))
}

/// psql with everything it needs, and the start-up file that it is going to read.
fn prepare(
    program: &Path,
    arguments: Arguments,
    way: &Way,
    user_rc: Option<&Path>,
) -> anyhow::Result<(Command, Option<PipeReader>)> {
    let mut command = Command::new(program);
    for variable in CONNECTION_VARIABLES {
        command.env_remove(variable);
    }
    command
        .env("PGHOST", &way.host)
        .env("PGPORT", way.port.to_string())
        .env("PGDATABASE", &way.database)
        .env("PGUSER", &way.user)
        .env("PGPASSWORD", &way.password)
        .env("PGAPPNAME", "guardian psql");
    let mut pipe = None;
    if let Some(ticket) = &way.ticket {
        let script = bind::start_up_file(user_rc, env::var_os(RC_VARIABLE).as_deref())?;
        command.env(bind::TICKET_VARIABLE, ticket).env(RC_VARIABLE, format!("/dev/fd/{}", script.as_raw_fd()));
        pipe = Some(script);
    } else if arguments.skip_rc {
        command.arg("--no-psqlrc");
    }
    command.args(arguments.passed);
    Ok((command, pipe))
}

#[cfg(test)]
mod tests;
