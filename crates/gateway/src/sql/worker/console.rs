//! The admin console: a database of its own over psql, with the names that people know from other poolers.
//!
//! What it shows is spread over the workers: a question goes to all of them, and the answer is put together as parts arrive.

use std::sync::{Arc, mpsc};

use guardian_model::snapshot::SnapshotLogin;
use guardian_pgwire::{
    backend::{self, Report, Severity},
    frame, frontend,
};

use super::{
    Job, Message, Worker,
    state::{Client, ServerState, Stage, Tenant},
};
use crate::sql::{refusal::Refusal, socket::Got};

/// The longest command.
const COMMAND_LEN_MAX: usize = 16 * 1024;

/// What a console or the metrics ask of every worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Pools,
    Clients,
    Servers,
    Stats,
    Tenants,
    /// A tenant by its slug or id; `None`: everything.
    Pause(Option<String>),
    Resume(Option<String>),
    /// A tenant, or a client by its process number.
    Kill(String),
    Reload,
}

/// A question and where its answer goes.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) question: Question,
    pub(crate) answer: Answer,
}

/// Where an answer goes.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Console { worker: usize, client: usize, serial: u64 },
    Channel(mpsc::Sender<Part>),
}

/// One worker's part of an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub(crate) serial: u64,
    pub(crate) rows: Vec<Vec<String>>,
    /// How many it applied to.
    pub(crate) affected: usize,
    /// Why it could not be done.
    pub(crate) problem: Option<String>,
}

/// A client at the console.
pub(super) struct Console {
    pub(super) login: Arc<SnapshotLogin>,
    pending: Option<Pending>,
    serial: u64,
    /// Discards a group of the extended protocol up to its Sync.
    skipping: bool,
}

struct Pending {
    question: Question,
    waiting: usize,
    rows: Vec<Vec<String>>,
    affected: usize,
    problem: Option<String>,
}

/// The tenant, then what [`Measured::values`] has.
const STATS: [&str; 9] =
    ["tenant", "transactions", "server_us", "waits", "wait_us", "handovers", "refusals", "received", "sent"];

impl Question {
    const fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Pools => &[
                "cluster",
                "shard",
                "database",
                "user",
                "tenants",
                "cl_active",
                "cl_waiting",
                "sv_active",
                "sv_idle",
                "sv_preparing",
                "sv_login",
                "maxwait_us",
                "paused",
            ],
            Self::Clients => {
                &["client", "user", "tenant", "state", "address", "tls", "age_s", "wait_us", "transactions", "worker"]
            }
            Self::Servers => &[
                "server",
                "cluster",
                "database",
                "user",
                "tenant",
                "state",
                "transaction",
                "age_s",
                "state_us",
                "prepared",
                "worker",
            ],
            Self::Stats => &STATS,
            Self::Tenants => &[
                "tenant",
                "id",
                "tier",
                "isolation",
                "pool_mode",
                "clients",
                "servers",
                "waiting",
                "weight",
                "virtual_us",
                "paused",
            ],
            Self::Pause(_) | Self::Resume(_) | Self::Kill(_) | Self::Reload => &[],
        }
    }

    const fn tag(&self) -> &'static str {
        match self {
            Self::Pools | Self::Clients | Self::Servers | Self::Stats | Self::Tenants => "SHOW",
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Kill(_) => "KILL",
            Self::Reload => "RELOAD",
        }
    }
}

const HELP: &str = "SHOW HELP | VERSION | POOLS | CLIENTS | SERVERS | STATS | TENANTS; \
    PAUSE [tenant]; RESUME [tenant]; KILL tenant | client; RELOAD";

enum Command {
    Ask(Question),
    Show(&'static [&'static str], Vec<Vec<String>>),
    Nothing,
    Unknown,
}

fn command(text: &str) -> Command {
    let text = text.trim().trim_end_matches(';').trim();
    let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let name = |word: &str| word.trim_matches('"').to_owned();
    match words[..] {
        [] => Command::Nothing,
        ["show", "help"] => Command::Show(&["commands"], vec![vec![HELP.to_owned()]]),
        ["show", "version"] => Command::Show(&["version"], vec![vec![format!("guardian {}", env!("CARGO_PKG_VERSION"))]]),
        ["show", "pools"] => Command::Ask(Question::Pools),
        ["show", "clients"] => Command::Ask(Question::Clients),
        ["show", "servers"] => Command::Ask(Question::Servers),
        ["show", "stats"] => Command::Ask(Question::Stats),
        ["show", "tenants"] => Command::Ask(Question::Tenants),
        ["pause"] => Command::Ask(Question::Pause(None)),
        ["pause", tenant] => Command::Ask(Question::Pause(Some(name(tenant)))),
        ["resume"] => Command::Ask(Question::Resume(None)),
        ["resume", tenant] => Command::Ask(Question::Resume(Some(name(tenant)))),
        ["kill", what] => Command::Ask(Question::Kill(name(what))),
        ["reload"] => Command::Ask(Question::Reload),
        _ => Command::Unknown,
    }
}

impl Console {
    pub(super) fn new(login: Arc<SnapshotLogin>) -> Self {
        Self { login, pending: None, serial: 0, skipping: false }
    }
}

impl Worker {
    pub(super) fn welcome_to_console(&mut self, at: usize) {
        let Some(client) = self.clients.get(at) else { return };
        let (process, secret) = (client.process, client.secret);
        let mut out = Vec::new();
        backend::write_auth_ok(&mut out);
        let version = format!("15.0 (guardian {})", env!("CARGO_PKG_VERSION"));
        for (name, value) in [
            ("server_version", version.as_str()),
            ("client_encoding", "UTF8"),
            ("server_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
        ] {
            backend::write_parameter_status(&mut out, name, value);
        }
        backend::write_key(&mut out, process, &secret.to_be_bytes());
        backend::write_ready(&mut out, b'I');
        self.send_client(at, &out);
    }

    fn console(&mut self, at: usize) -> Option<&mut Console> {
        match &mut self.clients.get_mut(at)?.stage {
            Stage::Console(console) => Some(console),
            _ => None,
        }
    }

    /// Works on what a console sent; false when there is nothing more to do for now.
    pub(super) fn pump_console(&mut self, at: usize) -> bool {
        if self.console(at).is_none_or(|console| console.pending.is_some()) {
            return false;
        }
        let client = &mut self.clients[at];
        match frame::header(&client.line.inbox) {
            Ok(Some(header)) if header.body_len > COMMAND_LEN_MAX => {
                let refusal = Refusal::TooLarge { what: "a command", bytes_max: COMMAND_LEN_MAX };
                self.end_client(at, &refusal);
                return false;
            }
            Ok(Some(header)) if client.line.inbox.len() >= header.total() => {
                let message: Vec<u8> = client.line.inbox.drain(..header.total()).collect();
                self.console_message(at, header.tag, &message[frame::HEADER_LEN..]);
                return self.clients.contains(at);
            }
            Ok(_) => {}
            Err(error) => {
                self.end_client(at, &Refusal::Protocol(error.to_string()));
                return false;
            }
        }
        if !client.line.readable {
            return false;
        }
        let mut scratch = self.scratch();
        let client = &mut self.clients[at];
        let got = client.line.socket.read(&mut scratch);
        let goes_on = match got {
            Ok(Got::Bytes { len, drained }) => {
                client.line.readable = !drained;
                client.line.inbox.extend_from_slice(&scratch[..len]);
                true
            }
            Ok(Got::Nothing) => {
                client.line.readable = false;
                false
            }
            Ok(Got::End) | Err(_) => {
                self.lose_client(at);
                false
            }
        };
        self.scratches.push(scratch);
        goes_on
    }

    fn console_message(&mut self, at: usize, tag: u8, body: &[u8]) {
        let Some(console) = self.console(at) else { return };
        let mut out = Vec::new();
        match tag {
            b'X' => return self.lose_client(at),
            b'S' => {
                console.skipping = false;
                backend::write_ready(&mut out, b'I');
            }
            _ if console.skipping => return,
            b'Q' => match frontend::query(body).ok().and_then(|text| std::str::from_utf8(text).ok()).map(command) {
                Some(Command::Ask(question)) => return self.ask_all(at, &question),
                Some(Command::Show(columns, rows)) => {
                    write_table(&mut out, columns, &rows);
                    backend::write_ready(&mut out, b'I');
                }
                Some(Command::Nothing) => {
                    backend::write_empty_query(&mut out);
                    backend::write_ready(&mut out, b'I');
                }
                Some(Command::Unknown) | None => {
                    complain(&mut out, "42601", "the admin console does not know this command");
                    backend::write_ready(&mut out, b'I');
                }
            },
            _ => {
                console.skipping = true;
                complain(&mut out, "0A000", "the admin console takes simple queries only");
            }
        }
        self.send_client(at, &out);
    }

    fn ask_all(&mut self, at: usize, question: &Question) {
        let (worker, workers) = (self.number, self.shared.mailboxes.len());
        let Some(console) = self.console(at) else { return };
        console.serial += 1;
        let answer = Answer::Console { worker, client: at, serial: console.serial };
        let pending = Pending { question: question.clone(), waiting: workers, rows: Vec::new(), affected: 0, problem: None };
        console.pending = Some(pending);
        for other in 0..workers {
            self.tell(other, Message::Ask(Ask { question: question.clone(), answer: answer.clone() }));
        }
    }

    pub(super) fn answer_ask(&mut self, ask: &Ask) {
        let mut part = self.part(&ask.question);
        match &ask.answer {
            Answer::Console { worker, client, serial } => {
                part.serial = *serial;
                self.tell(*worker, Message::Answered { client: *client, part });
            }
            Answer::Channel(channel) => drop(channel.send(part)),
        }
    }

    /// A part of the answer to a console here.
    pub(super) fn answered(&mut self, at: usize, part: Part) {
        let Some(console) = self.console(at).filter(|console| console.serial == part.serial) else { return };
        let Some(pending) = &mut console.pending else { return };
        pending.rows.extend(part.rows);
        pending.affected += part.affected;
        pending.problem = pending.problem.take().or(part.problem);
        pending.waiting -= 1;
        if pending.waiting > 0 {
            return;
        }
        let Some(mut pending) = console.pending.take() else { return };
        let mut out = Vec::new();
        match &pending.question {
            _ if pending.problem.is_some() => complain(&mut out, "F0000", pending.problem.as_deref().unwrap_or_default()),
            Question::Kill(what) | Question::Pause(Some(what)) | Question::Resume(Some(what)) if pending.affected == 0 => {
                let what: String = what.chars().take(80).collect();
                complain(&mut out, "42704", &format!("nothing connected here is called \"{what}\""));
            }
            question if question.columns().is_empty() => backend::write_complete(&mut out, question.tag()),
            question => {
                pending.rows.sort();
                write_table(&mut out, question.columns(), &pending.rows);
            }
        }
        backend::write_ready(&mut out, b'I');
        self.send_client(at, &out);
        self.jobs.push_back(Job::Client(at));
    }

    fn part(&mut self, question: &Question) -> Part {
        let (mut affected, mut problem) = (0, None);
        let rows = match question {
            Question::Pools => self.pool_rows(),
            Question::Clients => self.client_rows(),
            Question::Servers => self.server_rows(),
            Question::Stats => self.stats_rows(),
            Question::Tenants => self.tenant_rows(),
            Question::Pause(what) | Question::Resume(what) => {
                affected = self.pause(what.as_deref(), matches!(question, Question::Pause(_)));
                Vec::new()
            }
            Question::Kill(what) => {
                affected = self.kill(what);
                Vec::new()
            }
            Question::Reload => {
                if let Some(acceptor) = self.shared.acceptor.as_ref().filter(|_| self.number == 0)
                    && let Err(error) = acceptor.reload(true)
                {
                    tracing::warn!(%error, "cannot take over the TLS files; the old ones stay in use");
                    problem = Some(format!("the TLS files cannot be taken over, and the old ones stay in use: {error}"));
                }
                Vec::new()
            }
        };
        Part { serial: 0, rows, affected, problem }
    }

    fn named(&self, what: &str) -> Option<usize> {
        let is = |tenant: &Tenant| tenant.entry.slug.as_str() == what || tenant.id.to_string() == what;
        self.tenants.iter().find(|(_, tenant)| is(tenant)).map(|(at, _)| at)
    }

    fn pause(&mut self, what: Option<&str>, paused: bool) -> usize {
        match what {
            None => self.pools.iter_mut().for_each(|pool| pool.paused = paused),
            Some(what) => match self.named(what) {
                Some(tenant) => self.tenants[tenant].paused = paused,
                None => return 0,
            },
        }
        let pools = 0..self.pools.len();
        self.jobs.extend(pools.map(Job::Dispatch));
        1
    }

    fn kill(&mut self, what: &str) -> usize {
        if let Ok(process) = what.parse::<u32>() {
            let Some(&client) = self.by_process.get(&process) else { return 0 };
            self.end_client(client, &Refusal::Killed);
            return 1;
        }
        let Some(tenant) = self.named(what) else { return 0 };
        self.evict(tenant, &Refusal::Killed);
        1
    }

    fn us_since(&self, since: std::time::Instant) -> String {
        (self.now - since).as_micros().to_string()
    }

    fn slug(&self, tenant: Option<usize>) -> String {
        tenant.and_then(|tenant| self.tenants.get(tenant)).map_or_else(String::new, |tenant| tenant.entry.slug.to_string())
    }

    fn pool_rows(&mut self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for (pool_at, pool) in self.pools.iter().enumerate() {
            let mut targets: Vec<_> = pool.servers.iter().map(|&at| &self.servers[at].target).collect();
            targets
                .extend(self.tenants.iter().filter(|(_, tenant)| tenant.pool == pool_at).map(|(_, tenant)| &tenant.target));
            targets.sort_by_key(|target| (target.database.clone(), target.role.clone()));
            targets.dedup_by(|a, b| std::rc::Rc::ptr_eq(a, b));
            for target in targets {
                let tenants: Vec<&Tenant> = self
                    .tenants
                    .iter()
                    .map(|(_, tenant)| tenant)
                    .filter(|tenant| tenant.pool == pool_at && std::rc::Rc::ptr_eq(&tenant.target, target))
                    .collect();
                let servers = || {
                    let of_target = |at: &&usize| std::rc::Rc::ptr_eq(&self.servers[**at].target, target);
                    pool.servers.iter().filter(of_target).map(|&at| &self.servers[at].state)
                };
                let count = |is: fn(&ServerState) -> bool| servers().filter(|state| is(state)).count().to_string();
                let waiting: usize = tenants.iter().map(|tenant| tenant.queue.len()).sum();
                let clients: u32 = tenants.iter().map(|tenant| tenant.clients).sum();
                let longest = tenants.iter().filter_map(|tenant| tenant.queue.front()).filter_map(|&client| {
                    match &self.clients.get(client)?.stage {
                        Stage::Session(session) => session.queued,
                        _ => None,
                    }
                });
                rows.push(vec![
                    pool.cluster.to_string(),
                    pool.shard.to_string(),
                    target.database.clone(),
                    target.role.clone(),
                    tenants.len().to_string(),
                    (clients as usize - waiting.min(clients as usize)).to_string(),
                    waiting.to_string(),
                    count(|state| matches!(state, ServerState::Attached(_))),
                    count(|state| matches!(state, ServerState::Idle)),
                    count(|state| matches!(state, ServerState::Preparing { .. } | ServerState::Quarantined)),
                    count(|state| matches!(state, ServerState::Connecting(_))),
                    longest.min().map_or_else(|| "0".to_owned(), |since| self.us_since(since)),
                    pool.paused.to_string(),
                ]);
            }
        }
        rows
    }

    fn client_rows(&mut self) -> Vec<Vec<String>> {
        let mut rows = Vec::with_capacity(self.clients.len());
        for (_, client) in &self.clients {
            let Client { line, stage, process, since, .. } = client;
            let (user, tenant, state, waits, transactions) = match stage {
                Stage::Session(session) => {
                    let state = match (session.queued, session.server) {
                        (Some(_), _) => "waiting",
                        (None, Some(_)) => "active",
                        (None, None) => "idle",
                    };
                    let waits = session.queued.map_or_else(|| "0".to_owned(), |since| self.us_since(since));
                    (session.login.name.to_string(), self.slug(session.tenant), state, waits, session.transactions)
                }
                Stage::Console(console) => (console.login.name.to_string(), String::new(), "console", "0".to_owned(), 0),
                Stage::Login(..) | Stage::TlsHandshake { .. } => (String::new(), String::new(), "login", "0".to_owned(), 0),
                Stage::Gone => continue,
            };
            rows.push(vec![
                process.to_string(),
                user,
                tenant,
                state.to_owned(),
                line.socket.peer().map_or_else(|| "unix".to_owned(), |peer| peer.to_string()),
                line.socket.tls().is_some().to_string(),
                (self.now - *since).as_secs().to_string(),
                waits,
                transactions.to_string(),
                self.number.to_string(),
            ]);
        }
        rows
    }

    fn server_rows(&self) -> Vec<Vec<String>> {
        let row = |server: &super::state::Server| {
            let (state, since) = match &server.state {
                ServerState::Connecting(_) => ("login", server.born),
                ServerState::Idle => ("idle", server.idle_since),
                ServerState::Preparing { .. } => ("preparing", server.busy_since.unwrap_or(server.idle_since)),
                ServerState::Attached(_) => ("active", server.held_since),
                ServerState::Quarantined => ("cancelling", server.idle_since),
            };
            vec![
                server.key.0.to_string(),
                server.target.cluster.to_string(),
                server.target.database.clone(),
                server.target.role.clone(),
                self.slug(server.tag),
                state.to_owned(),
                char::from(server.up.status).to_string(),
                (self.now - server.born).as_secs().to_string(),
                self.us_since(since),
                server.up.prepared.len().to_string(),
                self.number.to_string(),
            ]
        };
        self.servers.iter().map(|(_, server)| row(server)).collect()
    }

    fn stats_rows(&self) -> Vec<Vec<String>> {
        let row = |tenant: &Tenant| {
            let mut row = vec![tenant.entry.slug.to_string()];
            row.extend(tenant.counts.values().map(|count| count.to_string()));
            row
        };
        self.tenants.iter().map(|(_, tenant)| row(tenant)).collect()
    }

    fn tenant_rows(&self) -> Vec<Vec<String>> {
        let row = |tenant: &Tenant| {
            vec![
                tenant.entry.slug.to_string(),
                tenant.id.to_string(),
                tenant.entry.tier.to_string(),
                tenant.entry.placement.isolation.to_string(),
                tenant.pooling.to_string(),
                tenant.clients.to_string(),
                tenant.held.to_string(),
                tenant.queue.len().to_string(),
                tenant.weight.to_string(),
                tenant.virtual_us.to_string(),
                tenant.paused.to_string(),
            ]
        };
        self.tenants.iter().map(|(_, tenant)| row(tenant)).collect()
    }
}

fn write_table(out: &mut Vec<u8>, columns: &[&str], rows: &[Vec<String>]) {
    backend::write_row_description(out, columns);
    for row in rows {
        let values: Vec<Option<&str>> = row.iter().map(|value| Some(value.as_str())).collect();
        backend::write_row(out, &values);
    }
    backend::write_complete(out, "SHOW");
}

fn complain(out: &mut Vec<u8>, code: &str, message: &str) {
    let report =
        Report { severity: Severity::Error, code, message, detail: None, hint: Some("SHOW HELP lists the commands.") };
    backend::write_error(out, &report);
}
