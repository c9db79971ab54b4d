//! A copy of a database to attack: schema and roles, no rows and no passwords, on a throwaway server or in a scratch database.
//!
//! PostgreSQL's own `pg_dump` and `pg_restore` copy. User mappings and subscriptions, which hold passwords of other servers,
//! are left out, so the copy reaches no other server. The dump is held in memory and never stands in a file.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use guardian_postgres::{
    binaries::{Binaries, BinariesError},
    local::{LocalError, Throwaway},
};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use super::session::text_of;
use crate::facts::Facts;

/// A copy that goes away with the value.
#[derive(Debug)]
pub struct Copy {
    administrator: PgConnectOptions,
    server: Option<Throwaway>,
    /// What could not be copied, as the programs said it.
    pub remarks: Vec<String>,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// No PostgreSQL of a fitting version.
    #[error("cannot copy the database to a throwaway server: {0}")]
    Binaries(#[from] BinariesError),
    /// The server programs are there, and what copies is not.
    #[error("`{folder}` has no `{program}`: install PostgreSQL's client programs of version {major} or newer", folder = .folder.display())]
    Program {
        /// What is missing.
        program: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
        /// The version that the source needs.
        major: u32,
    },
    /// Too old.
    #[error(
        "the newest PostgreSQL on this machine is {found}, and the database is on {wanted}: install PostgreSQL {wanted}"
    )]
    TooOld {
        /// What is here.
        found: u32,
        /// What is needed.
        wanted: u32,
    },
    /// No throwaway server.
    #[error("cannot start a throwaway server")]
    Server(#[from] LocalError),
    /// A program failed.
    #[error("`{program}` failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// A file operation failed.
    #[error("cannot {operation}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The scratch database has tables.
    #[error("the scratch database is not empty: it has {0} tables and views; make an empty one")]
    NotEmpty(String),
    /// The scratch database cannot be reached.
    #[error("cannot look into the scratch database")]
    Scratch(#[source] sqlx::Error),
}

fn file(operation: &'static str) -> impl FnOnce(std::io::Error) -> CloneError {
    move |source| CloneError::File { operation, source }
}

const PROGRAMS: [&str; 4] = ["pg_dump", "pg_dumpall", "pg_restore", "psql"];

impl Copy {
    /// Copies to a throwaway server on this machine. Blocks for some seconds.
    pub fn throwaway(source: &PgConnectOptions, facts: &Facts) -> Result<Self, CloneError> {
        let (binaries, programs) = fitting(facts)?;
        let throwaway = Throwaway::start_with(binaries)?;
        let server = throwaway.options();
        let mut copy = Self { administrator: server.clone(), server: Some(throwaway), remarks: Vec::new() };
        copy.roles(&programs, source, &server.clone().database("postgres"))?;
        let dump = dump(&programs, source)?;
        let list = copy.list(&programs, &dump)?;
        let name = facts.database.name.as_str();
        let created = Self::restore(&programs, &dump, list.path(), &server.clone().database("postgres"), true)?;
        if !created.iter().any(|line| line.contains("could not execute query") && line.contains("CREATE DATABASE")) {
            copy.administrator = server.database(name);
        }
        copy.remarks.extend(created);
        Ok(copy)
    }

    /// Copies into an empty scratch database; roles that its server lacks are made there, without passwords, and stay.
    pub async fn scratch(source: &PgConnectOptions, facts: &Facts, target: &PgConnectOptions) -> Result<Self, CloneError> {
        const TABLES: &str = "SELECT nullif(count(*), 0)::text FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
            ON n.oid = c.relnamespace WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname !~ '^pg_' \
            AND n.nspname <> 'information_schema'";
        let mut connection = target.clone().disable_statement_logging().connect().await.map_err(CloneError::Scratch)?;
        if let Some(tables) = text_of(&mut connection, TABLES).await.map_err(CloneError::Scratch)? {
            return Err(CloneError::NotEmpty(tables));
        }
        let roles = "SELECT coalesce(json_agg(rolname), '[]')::text FROM pg_catalog.pg_roles";
        let roles = text_of(&mut connection, roles).await.map_err(CloneError::Scratch)?.unwrap_or_default();
        let roles: Vec<String> = serde_json::from_str(&roles).unwrap_or_default();
        let (_, programs) = fitting(facts)?;
        let mut copy = Self {
            administrator: target.clone(),
            server: None,
            remarks: vec!["the copy stays in the scratch database, canaries included".to_owned()],
        };
        if facts.roles.iter().any(|role| !roles.contains(&role.name)) {
            copy.roles(&programs, source, target)?;
            copy.remarks
                .push("roles that the scratch server lacked were made there, without passwords, and stay".to_owned());
        }
        let dump = dump(&programs, source)?;
        let list = copy.list(&programs, &dump)?;
        let said = Self::restore(&programs, &dump, list.path(), target, false)?;
        copy.remarks.extend(said);
        Ok(copy)
    }

    /// A superuser's way in.
    pub const fn administrator(&self) -> &PgConnectOptions {
        &self.administrator
    }

    /// Whether the server is our own, roles included.
    pub const fn is_throwaway(&self) -> bool {
        self.server.is_some()
    }

    fn roles(&mut self, programs: &Path, source: &PgConnectOptions, target: &PgConnectOptions) -> Result<(), CloneError> {
        let mut command = program(programs, "pg_dumpall", source);
        command.args(["--globals-only", "--no-role-passwords", "--no-tablespaces", "--no-password"]);
        if let Some(database) = source.get_database() {
            command.arg(format!("--database={database}"));
        }
        let output = run("pg_dumpall", &mut command, &[])?;
        let mut command = program(programs, "psql", target);
        command.args(["--no-psqlrc", "--quiet", "--no-password", "--output=/dev/null"]);
        // Roles that both servers have are refused, and that is all right.
        let said = run_whatever("psql", &mut command, &output.stdout)?;
        self.remarks.extend(complaints(&said).into_iter().filter(|line| !line.contains("already exists")));
        Ok(())
    }

    /// The dump's contents without what holds other servers' passwords.
    fn list(&mut self, programs: &Path, dump: &[u8]) -> Result<tempfile::NamedTempFile, CloneError> {
        let mut command = Command::new(programs.join("pg_restore"));
        command.arg("--list");
        let output = run("pg_restore", &mut command, dump)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (left_out, kept): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| holds_passwords(line));
        if !left_out.is_empty() {
            self.remarks.push(format!(
                "{} user mappings and subscriptions were not copied, because they hold passwords: foreign tables are not shown",
                left_out.len()
            ));
        }
        let mut list = tempfile::NamedTempFile::new().map_err(file("make a list of what is copied"))?;
        list.write_all(kept.join("\n").as_bytes()).map_err(file("write the list of what is copied"))?;
        Ok(list)
    }

    fn restore(
        programs: &Path,
        dump: &[u8],
        list: &Path,
        target: &PgConnectOptions,
        create: bool,
    ) -> Result<Vec<String>, CloneError> {
        let mut command = program(programs, "pg_restore", target);
        command.arg("--use-list").arg(list).args(["--no-tablespaces", "--no-password"]);
        command.arg(format!("--dbname={}", target.get_database().unwrap_or("postgres")));
        if create {
            command.arg("--create");
        }
        let output = run_whatever("pg_restore", &mut command, dump)?;
        Ok(complaints(&output))
    }
}

/// A server of the source's version, or the newest if that is newer, and the folder of programs that copy.
fn fitting(facts: &Facts) -> Result<(Binaries, PathBuf), CloneError> {
    let wanted = u32::try_from(facts.server.version / 10_000).unwrap_or_default();
    let binaries = match Binaries::of_major(wanted) {
        Ok(binaries) => binaries,
        Err(_) => Binaries::newest()?,
    };
    if binaries.major < wanted {
        return Err(CloneError::TooOld { found: binaries.major, wanted });
    }
    // Distributions link some of the programs into a folder of PATH, and keep all of them elsewhere.
    let linked = binaries.program("postgres").canonicalize().ok();
    let beside = linked.as_deref().and_then(Path::parent).map(Path::to_owned);
    let mut folders = [Some(binaries.folder().to_owned()), beside].into_iter().flatten();
    if let Some(folder) = folders.find(|folder| PROGRAMS.iter().all(|program| folder.join(program).is_file())) {
        return Ok((binaries, folder));
    }
    let is_missing = |program: &&str| !binaries.program(program).is_file();
    let program = PROGRAMS.into_iter().find(is_missing).unwrap_or(PROGRAMS[0]);
    Err(CloneError::Program { program, folder: binaries.folder().to_owned(), major: wanted })
}

fn dump(programs: &Path, source: &PgConnectOptions) -> Result<Vec<u8>, CloneError> {
    let mut command = program(programs, "pg_dump", source);
    command.args(["--format=custom", "--schema-only", "--no-tablespaces", "--no-subscriptions", "--no-password"]);
    command.args(["--lock-wait-timeout=5s", "--no-security-labels"]);
    Ok(run("pg_dump", &mut command, &[])?.stdout)
}

/// A program that talks to this server. The password goes by the environment, which other users cannot read.
fn program(programs: &Path, name: &str, server: &PgConnectOptions) -> Command {
    let mut command = Command::new(programs.join(name));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    let host = server.get_socket().map_or_else(|| server.get_host().into(), |socket| socket.as_os_str().to_owned());
    command.env("PGHOST", host).env("PGPORT", server.get_port().to_string()).env("PGUSER", server.get_username());
    command.env("PGDATABASE", server.get_database().unwrap_or(server.get_username()));
    command.env("PGCONNECT_TIMEOUT", "10").env("LC_ALL", "C").env("PGAPPNAME", "guardian attack");
    let mode = format!("{:?}", server.get_ssl_mode()).to_lowercase();
    command.env("PGSSLMODE", mode.replace("verifyca", "verify-ca").replace("verifyfull", "verify-full"));
    if let Some(password) = server.to_url_lossy().password() {
        command.env("PGPASSWORD", percent_decoded(password));
    }
    command
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = text_of_two(tail).filter(|_| *first == b'%');
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text_of_two(bytes: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(bytes.get(..2)?).ok()?, 16).ok()
}

fn run(name: &'static str, command: &mut Command, input: &[u8]) -> Result<Output, CloneError> {
    let output = run_whatever(name, command, input)?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(CloneError::Failed { program: name, said: complaints(&output).join("; ") })
    }
}

fn run_whatever(name: &'static str, command: &mut Command, input: &[u8]) -> Result<Output, CloneError> {
    let failed = |source: std::io::Error| CloneError::Failed { program: name, said: source.to_string() };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // A program that gives up early closes its input; what it says then is the reason.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output().map_err(failed)
    })
}

/// Lines of complaint, a bounded number.
fn complaints(output: &Output) -> Vec<String> {
    const LINES_MAX: usize = 20;
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().filter(|line| line.contains("ERROR") || line.contains("error:") || line.contains("FATAL"));
    lines.take(LINES_MAX).map(|line| line.trim().to_owned()).collect()
}

/// `3456; 1418 16999 USER MAPPING public USER MAPPING app SERVER other owner`
fn holds_passwords(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [id, _, _, "USER", "MAPPING", ..] | [id, _, _, "SUBSCRIPTION", ..] => id.ends_with(';'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_passwords_is_told_by_its_place_in_the_list() {
        assert!(holds_passwords("3456; 1418 16999 USER MAPPING - USER MAPPING app SERVER loop owner"));
        assert!(holds_passwords("7; 6100 16999 SUBSCRIPTION - other owner"));
        assert!(!holds_passwords("8; 1259 16999 TABLE public USER MAPPING owner"));
        assert!(!holds_passwords(";     USER MAPPING"));
    }

    #[test]
    fn passwords_are_read_back_from_the_url() {
        assert_eq!(percent_decoded("a%40b%25c%zz%"), "a@b%c%zz%");
    }
}
