//! Opening a server connection: TCP or a unix socket, TLS, SCRAM, pinned settings, and the number of `guardian.enter`.

use std::{rc::Rc, sync::Arc, time::Duration};

use guardian_model::{Limits, snapshot::Secret};
use guardian_pgwire::{
    backend::{self, Auth},
    frame, frontend,
    scram::{MECHANISM, MECHANISM_PLUS},
    startup,
};
use mio::net::{TcpStream, UnixStream};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::{ClientConfig, pki_types::ServerName};

use super::{
    Job, Subject, Worker,
    state::{Line, Server, ServerState, Target},
};
use crate::sql::{
    refusal::Refusal,
    settings::Settings,
    shared::{Event, Route},
    socket::{Got, Socket, Stream},
    tls,
    upstream::{IDLE, Upstream},
};

/// How long after a failure nobody tries again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a server may take to let the gateway in.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Sent in the start-up packet, which outranks `ALTER ROLE … SET`, and is what RESET and DISCARD return to. With the search
/// path, which is the place's.
pub(crate) const PINNED: [(&str, &str); 13] = [
    ("application_name", ""),
    ("row_security", "on"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("debug_print_parse", "off"),
    ("debug_print_rewritten", "off"),
    ("debug_print_plan", "off"),
    ("client_min_messages", "notice"),
];

/// The lock timeout of a fresh connection: the default of all tiers, so that most tenants need no other.
pub(super) const LOCK_MS: u32 = Limits::DEFAULT.lock_wait_ms_max;

/// Roles' settings that `apply` and the provisioning of places make; only superusers can change the last two.
const EXPECTED: &str = "('log_parameter_max_length', 'log_parameter_max_length_on_error', 'search_path', \
    'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')";

/// What separates the parts of the answer to [`setup`].
const SEPARATOR: char = '\u{1f}';

/// How far it is.
pub(super) struct Connecting {
    stage: Stage,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Settings the server reported so far.
    settings: Arc<Settings>,
    since: std::time::Instant,
    /// Which of the host's addresses is tried.
    attempt: usize,
    password: Secret,
}

impl std::fmt::Debug for Connecting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Connecting")
    }
}

enum Stage {
    /// The transport.
    Transport,
    /// The answer to the request for TLS.
    TlsAnswer,
    TlsHandshake,
    /// The proof, up to the first `ReadyForQuery`.
    Proof(Option<Box<ScramSha256>>),
    /// The answer to [`setup`].
    Setup {
        answer: Option<Vec<u8>>,
    },
    Done,
}

/// What went wrong, for a person; whether the password was refused.
struct Failure {
    problem: String,
    password_refused: bool,
}

impl<T: ToString + ?Sized> From<&T> for Failure {
    fn from(problem: &T) -> Self {
        Self { problem: problem.to_string(), password_refused: false }
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::from(error)
}

impl Worker {
    /// Begins a connection for a target.
    pub(super) fn open_server(&mut self, pool_at: usize, target: &Rc<Target>) {
        let password = target.passwords.borrow().now.clone();
        self.open_server_at(pool_at, target, 0, password);
    }

    /// `attempt`: which of the host's addresses to try first.
    fn open_server_at(&mut self, pool_at: usize, target: &Rc<Target>, mut attempt: usize, password: Secret) {
        let route = self.shared.routes.get(&target.cluster);
        let opened = route.map_err(|problem| Failure::from(&problem)).and_then(|route| {
            let (stream, tls) = match route {
                Route::Tcp { addresses, host, tls } => {
                    let mut opened = Err(Failure::from("the host has no address"));
                    while let (Err(_), Some(address)) = (&opened, addresses.get(attempt)) {
                        opened = TcpStream::connect(*address).map_err(|error| broken(&error));
                        attempt += usize::from(opened.is_err());
                    }
                    let stream = opened?;
                    let name = tls.map(|config| {
                        let name = ServerName::try_from(host).map_err(|error| Failure::from(&error))?;
                        Ok::<_, Failure>((config, name))
                    });
                    (Stream::Tcp(stream), name.transpose()?)
                }
                Route::Unix(path) => (Stream::Unix(UnixStream::connect(path).map_err(|error| broken(&error))?), None),
            };
            Ok((Socket::new(stream), tls))
        });
        let (socket, tls) = match opened {
            Ok(opened) => opened,
            Err(failure) => return self.cannot_connect(pool_at, target, &failure),
        };
        let settings: Arc<Settings> = Arc::default();
        let connecting =
            Connecting { stage: Stage::Transport, tls, settings: Arc::clone(&settings), since: self.now, attempt, password };
        let at = self.servers.insert(Server {
            line: Line::new(socket),
            state: ServerState::Connecting(Box::new(connecting)),
            up: Upstream::new(settings),
            pool: pool_at,
            target: Rc::clone(target),
            spelling: None,
            base: Arc::default(),
            tag: None,
            holder: None,
            last_client: 0,
            wished: Rc::default(),
            lock_ms: Some(LOCK_MS),
            born: self.now,
            key: (0, Vec::new()),
            enter: 0,
            offered: None,
            cancels: 0,
            doomed: false,
            held_since: self.now,
            charged_to: self.now,
            busy_since: None,
            cut_at: None,
            idle_since: self.now,
            transaction_since: self.now,
        });
        let pool = &mut self.pools[pool_at];
        pool.servers.push(at);
        pool.connecting += 1;
        if self.servers[at].line.socket.register(&self.registry, Subject::Server(at).token()).is_err() {
            self.close_server(at);
        }
    }

    /// Gives up a connection that did not come about; nobody being there, the host's next address is tried.
    fn lose_connecting(&mut self, at: usize, failure: &Failure) {
        let server = &self.servers[at];
        let (pool, target) = (server.pool, Rc::clone(&server.target));
        let ServerState::Connecting(connecting) = &server.state else { return };
        let tried = connecting.password.clone();
        // It is being changed: the one to come is in force already, or came to be what is known since this began.
        let another = if failure.password_refused { target.passwords.borrow().besides(&tried) } else { None };
        if let Some(password) = another {
            self.close_server(at);
            return self.open_server_at(pool, &target, 0, password);
        }
        let next = if matches!(connecting.stage, Stage::Transport) { connecting.attempt + 1 } else { usize::MAX };
        let route = self.shared.routes.get(&target.cluster);
        let is_left = matches!(route, Ok(Route::Tcp { addresses, .. }) if next < addresses.len());
        self.close_server(at);
        if is_left {
            self.open_server_at(pool, &target, next, tried);
        } else {
            self.cannot_connect(pool, &target, failure);
        }
    }

    fn cannot_connect(&mut self, pool_at: usize, target: &Rc<Target>, failure: &Failure) {
        let problem = Refusal::Server(format!("cluster `{}`: {}", target.cluster, failure.problem));
        tracing::warn!(cluster = %target.cluster, role = target.role, database = target.database, problem = failure.problem,
            "cannot connect to a server");
        if failure.password_refused {
            let (cluster, role) = (target.cluster.clone(), target.role.clone());
            (self.shared.events)(Event::PasswordRefused { cluster, role });
        }
        let pool = &mut self.pools[pool_at];
        pool.retry_at = Some(self.now + RETRY_AFTER);
        pool.problem = Some(problem.clone());
        self.fail_welcomes(target, &problem);
        // With no connection of its kind left, waiting leads nowhere.
        let has_one = self.pools[pool_at].servers.iter().any(|&at| Rc::ptr_eq(&self.servers[at].target, target));
        if !has_one {
            let waiting = self.pools[pool_at].waiting.iter().map(|(_, tenant)| *tenant);
            let of_target = waiting.filter(|&tenant| Rc::ptr_eq(&self.tenants[tenant].target, target));
            for tenant in of_target.collect::<Vec<_>>() {
                while let Some(&client) = self.tenants[tenant].queue.front() {
                    self.refuse_waiting(client, &problem);
                }
            }
        }
    }

    /// Goes on with a connection; false when there is nothing more to do for now.
    pub(super) fn pump_connecting(&mut self, at: usize, scratch: &mut [u8]) -> bool {
        match self.step_connecting(at, scratch) {
            Ok(goes_on) => goes_on,
            Err(failure) => {
                self.lose_connecting(at, &failure);
                false
            }
        }
    }

    fn step_connecting(&mut self, at: usize, scratch: &mut [u8]) -> Result<bool, Failure> {
        let server = &mut self.servers[at];
        let ServerState::Connecting(connecting) = &mut server.state else { return Ok(false) };
        let line = &mut server.line;
        match &mut connecting.stage {
            Stage::Transport => {
                if !line.socket.connected().map_err(|error| broken(&error))? {
                    return Ok(false);
                }
                line.readable = true;
                if connecting.tls.is_some() {
                    let mut out = Vec::new();
                    startup::write_ssl_request(&mut out);
                    line.send(&out).map_err(|error| broken(&error))?;
                    connecting.stage = Stage::TlsAnswer;
                } else {
                    connecting.stage = Stage::Proof(None);
                    send_startup(line, &server.target).map_err(|error| broken(&error))?;
                }
                Ok(true)
            }
            Stage::TlsAnswer => {
                // One byte and no more: what comes in clear behind it must not be taken for what comes under TLS.
                match line.socket.read(&mut scratch[..1]).map_err(|error| broken(&error))? {
                    Got::Nothing => {
                        line.readable = false;
                        return Ok(false);
                    }
                    Got::End => return Err(Failure::from("the server closed the connection")),
                    Got::Bytes { .. } if scratch[0] != b'S' => {
                        return Err(Failure::from(
                            "the server does not offer TLS; set sslmode=disable in its URL if that is meant",
                        ));
                    }
                    Got::Bytes { .. } => {}
                }
                let Some((config, name)) = connecting.tls.take() else { return Err(Failure::from("no TLS was asked for")) };
                line.socket.begin_tls(config, name).map_err(|error| broken(&error))?;
                connecting.stage = Stage::TlsHandshake;
                Ok(true)
            }
            Stage::TlsHandshake => {
                if !line.socket.handshake().map_err(|error| broken(&error))? {
                    line.readable = false;
                    return Ok(false);
                }
                connecting.stage = Stage::Proof(None);
                line.readable = true;
                send_startup(line, &server.target).map_err(|error| broken(&error))?;
                Ok(true)
            }
            Stage::Proof(_) | Stage::Setup { .. } => {
                if !line.readable {
                    return Ok(false);
                }
                match line.socket.read(scratch).map_err(|error| broken(&error))? {
                    Got::Nothing => {
                        line.readable = false;
                        return Ok(false);
                    }
                    Got::End => return Err(Failure::from("the server closed the connection")),
                    Got::Bytes { len, drained } => {
                        line.readable = !drained;
                        line.inbox.extend_from_slice(&scratch[..len]);
                    }
                }
                self.connecting_messages(at)?;
                Ok(true)
            }
            Stage::Done => Ok(false),
        }
    }

    fn connecting_messages(&mut self, at: usize) -> Result<(), Failure> {
        loop {
            let server = &mut self.servers[at];
            let Some(header) = frame::header(&server.line.inbox).map_err(|error| Failure::from(&error))? else {
                return Ok(());
            };
            if header.total() > 64 * 1024 {
                return Err(Failure::from("the server sent something that is too long"));
            }
            if server.line.inbox.len() < header.total() {
                return Ok(());
            }
            let message: Vec<u8> = server.line.inbox.drain(..header.total()).collect();
            let body = &message[frame::HEADER_LEN..];
            if connecting_message(server, header.tag, body)? {
                self.connected(at)?;
                return Ok(());
            }
        }
    }

    /// The server let us in and answered the set-up.
    fn connected(&mut self, at: usize) -> Result<(), Failure> {
        let server = &mut self.servers[at];
        let (pool_at, target) = (server.pool, Rc::clone(&server.target));
        let ServerState::Connecting(connecting) = &mut server.state else { return Ok(()) };
        let Stage::Setup { answer: Some(answer) } = std::mem::replace(&mut connecting.stage, Stage::Done) else {
            return Err(Failure::from("the server did not answer the set-up"));
        };
        let answer = String::from_utf8(answer).map_err(|error| Failure::from(&error))?;
        let mut parts = answer.split(SEPARATOR);
        let enter: u32 = parts.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        if target.is_row && enter == 0 {
            return Err(Failure::from("there is no guardian.enter in the database; run `guardian apply`"));
        }
        let poisoned: Vec<(String, String)> =
            parts.filter_map(|part| part.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // One value for all that report the same: then a glance tells that nothing has to be set.
        let settings = Arc::clone(&connecting.settings);
        let known = target.base.borrow().clone().filter(|base| **base == *settings);
        let settings = known.unwrap_or(settings);
        server.up.settings = Arc::clone(&settings);
        server.base = Arc::clone(&settings);
        server.enter = enter;
        let is_poisoned = poisoned.iter().any(|pin| !target.pins.borrow().contains(pin));
        if is_poisoned && target.pins.borrow().len() < 200 {
            let names: Vec<&str> = poisoned.iter().map(|(name, _)| name.as_str()).collect();
            tracing::warn!(cluster = %target.cluster, role = target.role, settings = names.join(", "),
                "some session made these settings its role's default; new connections are pinned against them");
            (self.shared.events)(Event::RoleAltered {
                cluster: target.cluster.clone(),
                role: target.role.clone(),
                tenant: None,
            });
            target.pins.borrow_mut().extend(poisoned);
            self.close_server(at);
            self.open_server(pool_at, &target);
            return Ok(());
        }
        target.base.borrow_mut().get_or_insert(settings);
        let pool = &mut self.pools[pool_at];
        pool.connecting -= 1;
        (pool.retry_at, pool.problem) = (None, None);
        self.servers[at].state = ServerState::Quarantined;
        self.rest_server(at);
        let waiting = target.welcomes.take();
        for client in waiting {
            self.welcome(client);
        }
        self.jobs.push_back(Job::Dispatch(pool_at));
        Ok(())
    }

    /// Connections that are taking too long.
    pub(super) fn end_slow_connecting(&mut self) {
        let slow: Vec<usize> = self
            .servers
            .iter()
            .filter(|(_, server)| match &server.state {
                ServerState::Connecting(connecting) => self.now - connecting.since > CONNECT_MAX,
                _ => false,
            })
            .map(|(at, _)| at)
            .collect();
        for at in slow {
            self.lose_connecting(at, &Failure::from("it does not answer"));
        }
    }
}

fn send_startup(line: &mut Line, target: &Target) -> std::io::Result<()> {
    let lock = format!("{LOCK_MS}ms");
    let path = format!("{}, pg_temp", quoted(&target.schema));
    let pins = target.pins.borrow();
    let mut parameters: Vec<(&str, &str)> =
        vec![("user", &target.role), ("database", &target.database), ("lock_timeout", &lock), ("search_path", &path)];
    parameters.extend(PINNED);
    parameters.extend(pins.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut out = Vec::with_capacity(512);
    startup::write_startup(&mut out, &parameters);
    line.send(&out)
}

/// An identifier within a search path.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What is asked of each new connection: the number of `guardian.enter` (row tenants; the others may not even look), and what
/// some session made its role's default.
fn setup(is_row: bool) -> String {
    let enter = if is_row {
        "coalesce(pg_catalog.to_regprocedure('guardian.enter(pg_catalog.bytea)')::pg_catalog.oid::pg_catalog.text, '0')"
    } else {
        "'0'"
    };
    format!(
        "SELECT pg_catalog.concat_ws(E'\\x1f', {enter}, \
           (SELECT pg_catalog.string_agg(pg_catalog.concat(name, '=', boot_val), E'\\x1f') FROM pg_catalog.pg_settings \
            WHERE source IN ('user', 'database user') AND context = 'user' AND name NOT IN {EXPECTED}))"
    )
}

/// Takes one message of a server that is letting us in; true once it is ready for use.
fn connecting_message(server: &mut Server, tag: u8, body: &[u8]) -> Result<bool, Failure> {
    let ServerState::Connecting(connecting) = &mut server.state else { return Ok(false) };
    let malformed = |error: frame::MessageError| Failure::from(&error);
    match (tag, &mut connecting.stage) {
        (b'N', _) | (b'T' | b'C', Stage::Setup { .. }) => {}
        (b'S', _) => {
            let (name, value) = backend::parameter_status(body).map_err(malformed)?;
            connecting.settings = connecting.settings.with(name, value);
        }
        (b'K', _) => {
            let (process, secret) = backend::key(body).map_err(malformed)?;
            server.key = (process, secret.to_vec());
        }
        (b'E', _) => {
            let text = |code| String::from_utf8_lossy(backend::field(body, code).unwrap_or_default()).into_owned();
            let code = text(b'C');
            return Err(Failure { problem: text(b'M'), password_refused: code == "28P01" });
        }
        (b'R', Stage::Proof(proof)) => answer_proof(&mut server.line, &connecting.password, proof, body)?,
        (b'Z', stage @ Stage::Proof(_)) => {
            *stage = Stage::Setup { answer: None };
            let mut out = Vec::new();
            frontend::write_query(&mut out, setup(server.target.is_row).as_bytes());
            server.line.send(&out).map_err(|error| broken(&error))?;
        }
        (b'D', Stage::Setup { answer }) => *answer = backend::first_column(body).map_err(malformed)?.map(<[u8]>::to_vec),
        (b'Z', Stage::Setup { .. }) if body == [IDLE] => return Ok(true),
        (other, _) => {
            return Err(Failure::from(&format!("the server sent {:?} while it let the gateway in", char::from(other))));
        }
    }
    Ok(false)
}

fn answer_proof(
    line: &mut Line,
    password: &Secret,
    proof: &mut Option<Box<ScramSha256>>,
    body: &[u8],
) -> Result<(), Failure> {
    let mut out = Vec::new();
    match (backend::auth(body).map_err(|error| Failure::from(&error))?, proof) {
        (Auth::Ok, _) => {}
        (Auth::Sasl(list), proof) => {
            let offered: Vec<&[u8]> = backend::mechanisms(list).collect();
            let end_point =
                line.socket.tls().and_then(|connection| tls::end_point(connection.peer_certificates()?.first()?));
            let (mechanism, binding) = match end_point {
                Some(end_point) if offered.contains(&MECHANISM_PLUS.as_bytes()) => {
                    (MECHANISM_PLUS, ChannelBinding::tls_server_end_point(end_point))
                }
                Some(_) => (MECHANISM, ChannelBinding::unrequested()),
                None => (MECHANISM, ChannelBinding::unsupported()),
            };
            if !offered.contains(&mechanism.as_bytes()) {
                return Err(Failure::from("the server does not offer SCRAM-SHA-256"));
            }
            let begun = ScramSha256::new(password.expose().as_bytes(), binding);
            frontend::write_sasl_initial(&mut out, mechanism, begun.message());
            *proof = Some(Box::new(begun));
        }
        (Auth::SaslContinue(challenge), Some(proof)) => {
            proof.update(challenge).map_err(|error| broken(&error))?;
            frontend::write_sasl_response(&mut out, proof.message());
        }
        (Auth::SaslFinal(last), Some(proof)) => proof.finish(last).map_err(|error| broken(&error))?,
        (Auth::Cleartext | Auth::Md5(_), _) => {
            return Err(Failure::from(
                "the server asks for a password in clear or as MD5; set password_encryption = 'scram-sha-256' and scram-sha-256 in pg_hba.conf",
            ));
        }
        (Auth::SaslContinue(_) | Auth::SaslFinal(_) | Auth::Other(_), _) => {
            return Err(Failure::from("the server asks for a proof that the gateway does not give"));
        }
    }
    line.send(&out).map_err(|error| broken(&error))
}
