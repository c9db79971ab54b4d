//! One run of a tool of the user's own in one place: with a login that is made for it, renewed while the tool runs, and closed when
//! it has ended.
//!
//! The password goes to the tool in its environment, never in its arguments, which every user of the machine can read.

use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use guardian_client::{Client, ClientError};
use guardian_model::{
    query::CloseToolLogin,
    tool::{FleetPlace, OpenToolLogin, ToolLogin},
};
use guardian_postgres::quote::ident;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::cli::{connect::TOKEN_VARIABLE, psql::CONNECTION_VARIABLES};

/// How long a place is waited for in which another tool is at work: one that was killed keeps it for less, unless
/// `tool_login_seconds` is raised.
const BUSY_MAX: Duration = Duration::from_secs(90);
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// How often the end of a login is asked for while the control plane is away.
const CLOSE_ATTEMPTS: u32 = 5;
/// How long a tool that is told to end may take.
const END_MAX: Duration = Duration::from_secs(5);
/// How long output is waited for that a process left behind may still write.
const OUTPUT_WAIT: Duration = Duration::from_secs(1);
/// What is kept of a tool's output: its end.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// The tool, and where it is run.
pub(super) struct Tool {
    pub(super) client: Client,
    /// The program and its arguments; at least one.
    pub(super) command: Vec<OsString>,
    /// Where output is kept.
    pub(super) folder: Option<PathBuf>,
    /// Cancelled when everything is to end.
    pub(super) stop: CancellationToken,
}

/// How the tool ended in one place.
#[derive(Debug, Default, Serialize)]
pub(super) struct Ended {
    /// What it exited with; none when it was killed or never ran.
    exit_status: Option<i32>,
    /// Why the place counts as failed.
    pub(super) error: Option<String>,
    /// What it printed.
    pub(super) output: String,
}

impl Ended {
    fn failed(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

impl Tool {
    /// Runs the tool in a place.
    pub(super) async fn run(&self, place: &FleetPlace) -> Ended {
        let login = match self.open(place).await {
            Ok(login) => login,
            Err(error) => return Ended::failed(error),
        };
        let mut ended = self.run_with(place, &login).await;
        let closed = self.close(&login, ended.exit_status).await;
        ended.error = ended.error.or(closed.err());
        if let Some(folder) = &self.folder {
            // No slug begins with an underscore.
            let name = place.tenant.as_ref().map_or("_shared", |slug| slug.as_str());
            let path = folder.join(format!("{name}.log"));
            let written = tokio::fs::write(&path, &ended.output).await;
            let unwritten = written.err().map(|error| format!("cannot write `{}`: {error}", path.display()));
            ended.error = ended.error.or(unwritten);
        }
        ended
    }

    async fn open(&self, place: &FleetPlace) -> Result<ToolLogin, String> {
        let asked = OpenToolLogin { tenant: place.tenant.as_ref().map(ToString::to_string) };
        let begun = Instant::now();
        loop {
            match self.client.open_tool_login(&asked).await {
                Err(ClientError::Problem(problem))
                    if problem.kind.ends_with("/tool-busy") && begun.elapsed() < BUSY_MAX && !self.stop.is_cancelled() =>
                {
                    sleep(BUSY_PAUSE).await;
                }
                opened => return opened.map_err(|error| told(&error)),
            }
        }
    }

    async fn close(&self, login: &ToolLogin, exit_status: Option<i32>) -> Result<(), String> {
        let mut pause = Duration::from_millis(250);
        for _ in 1..CLOSE_ATTEMPTS {
            match self.client.close_tool_login(login.id, &CloseToolLogin { exit_status }).await {
                Err(error) if error.status().is_none_or(|status| status >= 500) => sleep(pause).await,
                closed => return closed.map_err(|error| told(&error)),
            }
            pause *= 2;
        }
        self.client.close_tool_login(login.id, &CloseToolLogin { exit_status }).await.map_err(|error| told(&error))
    }

    async fn run_with(&self, place: &FleetPlace, login: &ToolLogin) -> Ended {
        let (mut child, pipe) = match self.start(place, login) {
            Ok(started) => started,
            Err(error) => {
                return Ended::failed(format!("cannot start `{}`: {error}", self.command[0].to_string_lossy()));
            }
        };
        let printed = Arc::new(Mutex::new(Vec::new()));
        let reading = tokio::spawn(read(pipe, Arc::clone(&printed)));
        let (status, reason) = tokio::select! {
            status = child.wait() => (status.ok(), None),
            reason = self.keep(login) => (end(&mut child).await, Some(reason)),
            () = self.stop.cancelled() => (end(&mut child).await, Some("it was told to stop".to_owned())),
        };
        let reader = reading.abort_handle();
        if timeout(OUTPUT_WAIT, reading).await.is_err() {
            reader.abort();
        }
        let printed = std::mem::take(&mut *printed.lock().unwrap_or_else(PoisonError::into_inner));
        // A tool that prints how it connects must not leave the password in a log, short as its life is.
        let output = String::from_utf8_lossy(&printed).replace(&login.password, "********");
        let exit_status = status.and_then(|status| status.code());
        let error = reason.or_else(|| match status {
            Some(status) if status.success() => None,
            Some(status) => Some(status.to_string()),
            None => Some("how it ended cannot be told".to_owned()),
        });
        Ended { exit_status, error, output }
    }

    fn start(&self, place: &FleetPlace, login: &ToolLogin) -> io::Result<(Child, pipe::Receiver)> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).kill_on_drop(true);
        // A group of its own, so that what a tool started can be ended with it.
        command.process_group(0);
        for variable in CONNECTION_VARIABLES.into_iter().chain([TOKEN_VARIABLE, "GUARDIAN_TENANT"]) {
            command.env_remove(variable);
        }
        command.envs(environment(login)).env("GUARDIAN_PLACE", &place.place).env("GUARDIAN_RING", &place.ring);
        if let Some(tenant) = &place.tenant {
            command.env("GUARDIAN_TENANT", tenant.as_str());
        }
        Ok((command.spawn()?, pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?))
    }

    /// Renews the login for as long as that works; then says why it does not any more.
    async fn keep(&self, login: &ToolLogin) -> String {
        let lasts = Duration::from_secs(login.lasts_seconds.into());
        let mut renewed = Instant::now();
        loop {
            sleep(lasts / 3).await;
            let asked = Instant::now();
            let left = lasts.saturating_sub(renewed.elapsed());
            match timeout(left, self.client.renew_tool_login(login.id)).await {
                Ok(Ok(())) => renewed = asked,
                Ok(Err(error)) if error.status() == Some(404) => return told(&error),
                Ok(Err(error)) if renewed.elapsed() >= lasts => {
                    return format!("its login could not be renewed: {}", told(&error));
                }
                Ok(Err(_)) => {}
                Err(_) => return "its login could not be renewed: the control plane does not answer".to_owned(),
            }
        }
    }
}

/// How a tool connects.
fn environment(login: &ToolLogin) -> [(&'static str, String); 9] {
    let ToolLogin { host, port, database, schema, user, password, .. } = login;
    // Backslashes and blanks part the options.
    let path = ident(schema).replace('\\', r"\\").replace(' ', r"\ ");
    [
        ("DATABASE_URL", url(login)),
        ("PGHOST", host.clone()),
        ("PGPORT", port.to_string()),
        ("PGDATABASE", database.clone()),
        ("PGUSER", user.clone()),
        ("PGPASSWORD", password.clone()),
        ("PGOPTIONS", format!("-c search_path={path}")),
        ("PGAPPNAME", "guardian migrate".to_owned()),
        ("GUARDIAN_SCHEMA", schema.clone()),
    ]
}

/// As libpq, JDBC-like and most other drivers read it. The login itself knows its search path.
fn url(ToolLogin { host, port, database, user, password, .. }: &ToolLogin) -> String {
    let (user, password, database) = (escaped(user), escaped(password), escaped(database));
    match host {
        socket if socket.starts_with('/') => {
            format!("postgresql://{user}:{password}@/{database}?host={}&port={port}", escaped(socket))
        }
        host if host.contains(':') => format!("postgresql://{user}:{password}@[{host}]:{port}/{database}"),
        host => format!("postgresql://{user}:{password}@{host}:{port}/{database}"),
    }
}

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Takes in what is printed, of which the end is kept.
async fn read(mut pipe: pipe::Receiver, printed: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        printed.extend_from_slice(&buffer[..count]);
        let surplus = printed.len().saturating_sub(OUTPUT_BYTES_MAX);
        printed.drain(..surplus);
    }
}

/// Ends a tool with all that it started: asked first, then killed.
async fn end(child: &mut Child) -> Option<ExitStatus> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let send = |signal| group.map(|group| kill_process_group(group, signal));
    send(Signal::TERM);
    let ended = timeout(END_MAX, child.wait()).await;
    send(Signal::KILL);
    match ended {
        Ok(status) => status.ok(),
        Err(_) => child.wait().await.ok(),
    }
}

fn told(error: &ClientError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(host: &str) -> ToolLogin {
        ToolLogin {
            id: "tool_01jd8v1n2c3p4q5r6s7t8v9w0x".parse().unwrap(),
            host: host.to_owned(),
            port: 5432,
            database: "help desk".to_owned(),
            schema: "a b".to_owned(),
            user: "tool_1".to_owned(),
            password: "p/w".to_owned(),
            lasts_seconds: 60,
        }
    }

    #[test]
    fn addresses_of_every_kind_make_a_url() {
        assert_eq!(url(&login("db.example")), "postgresql://tool_1:p%2Fw@db.example:5432/help%20desk");
        assert_eq!(url(&login("::1")), "postgresql://tool_1:p%2Fw@[::1]:5432/help%20desk");
        assert_eq!(url(&login("/run/pg")), "postgresql://tool_1:p%2Fw@/help%20desk?host=%2Frun%2Fpg&port=5432");
    }

    #[test]
    fn a_schema_is_one_option() {
        let (_, options) = environment(&login("h")).into_iter().find(|(name, _)| *name == "PGOPTIONS").unwrap();
        assert_eq!(options, r#"-c search_path="a\ b""#);
    }
}
