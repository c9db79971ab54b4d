//! Clients coming and going: accepting, logging in, moving to the worker of their tenant, being told they are in.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use aws_lc_rs::rand;
use guardian_model::snapshot::{SnapshotLogin, SnapshotTenant};

use super::{
    Message, Subject, Worker,
    console::Console,
    state::{Client, Line, Session, Stage},
};
use crate::sql::{
    downstream::Downstream,
    login::{Admitted, Channel, Login, Progress, Role},
    refusal::Refusal,
    settings::Settings,
    socket::{Got, Socket, Stream},
    tls,
};

/// A record that begins a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// Connections accepted before other events are looked at again.
const ACCEPTED_AT_ONCE: usize = 64;

/// A client on its way to another worker.
pub(crate) struct Arrival {
    line: Line,
    process: u32,
    secret: u32,
    since: std::time::Instant,
    login: Arc<SnapshotLogin>,
    tenant: Option<Arc<SnapshotTenant>>,
    bound_until_s: Option<u64>,
    wished: Vec<(String, String)>,
    down: Downstream,
    /// What it was told, when it was in already.
    told: Option<Arc<Settings>>,
}

impl Worker {
    pub(super) fn accept(&mut self, at: usize) {
        for _ in 0..ACCEPTED_AT_ONCE {
            let Some(listener) = self.listeners.get(at) else { return };
            match listener.accept() {
                Ok(stream) => {
                    // Counted before it is handed on, so that no worker ends while a client is on its way there.
                    let others = self.shared.clients.fetch_add(1, Ordering::SeqCst);
                    let worker = self.next_seat % self.shared.mailboxes.len();
                    self.next_seat = self.next_seat.wrapping_add(1);
                    let accepted = Message::Accepted { stream, others };
                    let kept =
                        if worker == self.number { Err(accepted) } else { self.shared.mailboxes[worker].hand(accepted) };
                    // Also when that worker has ended, because the gateway is being drained.
                    if let Err(Message::Accepted { stream, others }) = kept {
                        self.begin_client(stream, others);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // One connection that broke is no reason to leave the next one waiting.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    return;
                }
            }
        }
        // There may be more; edges are not repeated.
        self.shared.mailboxes[self.number].tell(Message::AcceptMore(at));
    }

    /// `others`: how many clients the gateway had before this one.
    pub(super) fn begin_client(&mut self, stream: Stream, others: usize) {
        let socket = Socket::new(stream);
        let channel = Channel { tls_required: self.shared.options.tls_required && !socket.is_unix(), ..Channel::default() };
        let login = Login::new(self.shared.mock_secret);
        let client = Client {
            line: Line::new(socket),
            stage: Stage::Login(Box::new(login), Box::new(channel)),
            process: 0,
            secret: 0,
            since: self.now,
            closing: false,
        };
        let at = self.clients.insert(client);
        let client = &mut self.clients[at];
        if client.line.socket.register(&self.registry, Subject::Client(at).token()).is_err() {
            self.remove_client(at);
            return;
        }
        if others >= self.shared.options.clients_max {
            let value = u32::try_from(self.shared.options.clients_max).unwrap_or(u32::MAX);
            self.end_client(at, &Refusal::GatewayLimit { name: "clients_max", value, unit: "" });
            return;
        }
        self.pump_client(at);
    }

    pub(super) fn client_readable(&mut self, at: usize, ends: bool) {
        if let Some(client) = self.clients.get_mut(at) {
            client.line.has_more(ends);
            self.pump_client(at);
        }
    }

    pub(super) fn client_writable(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if !client.line.is_congested() && !matches!(client.stage, Stage::TlsHandshake { .. }) {
            return;
        }
        if client.line.writable().is_err() {
            self.lose_client(at);
            return;
        }
        if client.line.is_congested() {
            return;
        }
        if client.closing {
            self.remove_client(at);
            return;
        }
        let server = client.session().and_then(|session| session.server);
        self.jobs.extend(server.map(super::Job::Server));
        self.pump_client(at);
    }

    /// Goes on with a login; false when there is nothing more to do for now.
    pub(super) fn pump_login(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        if matches!(client.stage, Stage::TlsHandshake { .. }) {
            return self.pump_tls(at);
        }
        let Stage::Login(_, channel) = &client.stage else { return false };
        let is_fresh = client.line.inbox.is_empty() && !channel.is_tls;
        if is_fresh && self.shared.acceptor.is_some() && client.line.socket.peek().ok().flatten() == Some(TLS_HANDSHAKE) {
            return self.turn_to_tls(at, true);
        }
        let mut scratch = self.scratch();
        let client = &mut self.clients[at];
        let got = client.line.socket.read(&mut scratch);
        if let Ok(Got::Bytes { len, .. }) = got {
            client.line.inbox.extend_from_slice(&scratch[..len]);
        }
        self.scratches.push(scratch);
        match got {
            Ok(Got::Bytes { drained, .. }) => {
                self.clients[at].line.readable = !drained;
                self.feed_login(at);
                self.clients.contains(at)
            }
            Ok(Got::Nothing) => {
                self.clients[at].line.readable = false;
                false
            }
            Ok(Got::End) | Err(_) => {
                self.lose_client(at);
                false
            }
        }
    }

    fn feed_login(&mut self, at: usize) {
        let view = Arc::clone(&self.view);
        let mut out = Vec::new();
        let client = &mut self.clients[at];
        let Stage::Login(login, channel) = &mut client.stage else { return };
        let progress = login.feed(&mut client.line.inbox, channel, &view, &mut out);
        match progress {
            Ok(Progress::More) => self.send_client(at, &out),
            Ok(Progress::Tls) => {
                if self.shared.acceptor.is_none() {
                    self.send_client(at, b"N");
                    return;
                }
                self.send_client(at, b"S");
                self.turn_to_tls(at, false);
            }
            Ok(Progress::Gone) => self.lose_client(at),
            Ok(Progress::Cancel { process, secret }) => {
                if let Ok(secret) = <[u8; 4]>::try_from(secret.as_slice()) {
                    self.pass_cancel(at, process, u32::from_be_bytes(secret));
                } else {
                    self.remove_client(at);
                }
            }
            Ok(Progress::Admitted(admitted)) => {
                self.send_client(at, &out);
                self.admit(at, *admitted);
            }
            Err(refusal) => {
                self.send_client(at, &out);
                tracing::debug!(reason = refusal.label(), "refused a login");
                self.end_client(at, &refusal);
            }
        }
    }

    /// `direct`: without a request in clear in front, which PostgreSQL allows only with ALPN.
    fn turn_to_tls(&mut self, at: usize, direct: bool) -> bool {
        let Some(acceptor) = &self.shared.acceptor else { return false };
        let accepting = acceptor.current();
        let Some(client) = self.clients.get_mut(at) else { return false };
        if client.line.socket.accept_tls(Arc::clone(&accepting.config)).is_err() {
            self.lose_client(at);
            return false;
        }
        let Stage::Login(login, channel) = std::mem::replace(&mut client.stage, Stage::Gone) else { return false };
        drop(login);
        let channel = Channel { is_tls: true, end_point: accepting.end_point.clone(), ..*channel };
        let login = Login::new(self.shared.mock_secret);
        client.stage = Stage::TlsHandshake { login: Box::new(login), channel: Box::new(channel), direct };
        true
    }

    fn pump_tls(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        match client.line.socket.handshake() {
            Ok(true) => {}
            Ok(false) => {
                client.line.readable = false;
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, "a client's TLS handshake failed");
                self.lose_client(at);
                return false;
            }
        }
        let Stage::TlsHandshake { login, mut channel, direct } = std::mem::replace(&mut client.stage, Stage::Gone) else {
            return false;
        };
        let socket = &client.line.socket;
        let alpn = socket.tls().and_then(|connection| connection.alpn_protocol());
        if direct && alpn != Some(tls::ALPN) {
            self.lose_client(at);
            return false;
        }
        if let (Some(suffix), Some(name)) = (&self.shared.options.server_name_suffix, socket.server_name()) {
            let label = name.strip_suffix(suffix.as_str()).and_then(|rest| rest.strip_suffix('.'));
            channel.server_name_tenant = label.map(str::to_owned);
        }
        let certificates = socket.tls().and_then(|connection| connection.peer_certificates());
        channel.certificate_name = certificates.and_then(|chain| tls::common_name(chain.first()?));
        client.line.readable = true;
        client.stage = Stage::Login(login, channel);
        true
    }

    /// A client has proved who it is.
    fn admit(&mut self, at: usize, admitted: Admitted) {
        let Admitted { login, role, settings } = admitted;
        let Some(client) = self.clients.get_mut(at) else { return };
        let mut key = [0; 8];
        if rand::fill(&mut key).is_err() {
            self.lose_client(at);
            return;
        }
        let (process, secret) = key.split_at(4);
        // The sign bit stays clear: some drivers read a process number as signed.
        client.process = u32::from_be_bytes(process.try_into().unwrap_or_default()) & 0x7fff_ffff;
        client.secret = u32::from_be_bytes(secret.try_into().unwrap_or_default());
        let tenant = match role {
            Role::Admin => {
                client.stage = Stage::Console(Box::new(Console::new(login)));
                self.welcome_to_console(at);
                return;
            }
            Role::Tenant(tenant) => Some(tenant),
            Role::Unbound => None,
        };
        client.stage = Stage::Gone;
        let Some(arrival) = self.depart(at, login, tenant, None, settings, Downstream::default(), None) else { return };
        self.send_off(arrival);
    }

    /// Takes a client out of this worker.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of an arrival")]
    pub(super) fn depart(
        &mut self,
        at: usize,
        login: Arc<SnapshotLogin>,
        tenant: Option<Arc<SnapshotTenant>>,
        bound_until_s: Option<u64>,
        wished: Vec<(String, String)>,
        down: Downstream,
        told: Option<Arc<Settings>>,
    ) -> Option<Arrival> {
        let mut client = self.clients.try_remove(at)?;
        self.by_process.remove(&client.process);
        client.line.socket.deregister(&self.registry);
        let Client { line, process, secret, since, .. } = client;
        Some(Arrival { line, process, secret, since, login, tenant, bound_until_s, wished, down, told })
    }

    /// Hands a client to the worker that serves its tenant.
    pub(super) fn send_off(&mut self, arrival: Arrival) {
        let cluster = match &arrival.tenant {
            Some(tenant) => &tenant.placement.place.cluster,
            None => &self.view.installation.shared.cluster,
        };
        let (worker, _) = self.shared.home(cluster, arrival.tenant.as_ref().map(|tenant| tenant.id));
        let arrived = Message::Arrived(Box::new(arrival));
        let kept = if worker == self.number { Err(arrived) } else { self.shared.mailboxes[worker].hand(arrived) };
        if let Err(Message::Arrived(arrival)) = kept {
            self.arrive(*arrival);
        }
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { line, process, secret, since, login, tenant, bound_until_s, wished, mut down, told } = arrival;
        self.serial += 1;
        down.serial = self.serial;
        let session = Session {
            login,
            tenant: None,
            bound_until_s,
            down,
            welcomed: told.is_some(),
            told: told.unwrap_or_default(),
            wished: Rc::new(wished),
            server: None,
            tap: None,
            queued: None,
            transactions: 0,
        };
        let stage = Stage::Session(Box::new(session));
        let at = self.clients.insert(Client { line, stage, process, secret, since, closing: false });
        self.by_process.insert(process, at);
        if self.clients[at].line.socket.register(&self.registry, Subject::Client(at).token()).is_err() {
            self.remove_client(at);
            return;
        }
        self.clients[at].line.readable = true;
        let home = match tenant {
            Some(tenant) => self.bind(at, &tenant),
            None => Ok(()),
        };
        if let Err(refusal) = home {
            // Also one that was told that its tenant changed: it must not go on without.
            self.end_client(at, &refusal);
            return;
        }
        if self.is_welcomed(at) {
            self.jobs.push_back(super::Job::Client(at));
        } else {
            self.welcome(at);
        }
    }

    fn is_welcomed(&mut self, at: usize) -> bool {
        self.clients.get_mut(at).and_then(Client::session).is_some_and(|session| session.welcomed)
    }

    pub(super) fn send_client(&mut self, at: usize, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(at)
            && client.line.send(bytes).is_err()
        {
            self.lose_client(at);
        }
    }

    /// Sends the reason and closes.
    pub(super) fn end_client(&mut self, at: usize, refusal: &Refusal) {
        let mut out = Vec::new();
        refusal.write_fatal(&mut out);
        self.end_client_saying(at, refusal, &out);
    }

    /// Sends what there is to say, and closes.
    pub(super) fn end_client_saying(&mut self, at: usize, refusal: &Refusal, last_words: &[u8]) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if client.closing {
            return;
        }
        let tenant = client.session().and_then(|session| session.tenant);
        if let Some(tenant) = tenant.and_then(|tenant| self.tenants.get_mut(tenant)) {
            tenant.counts.refusals += 1;
        }
        self.shared.refused(refusal);
        self.detach_client(at);
        self.send_client(at, last_words);
        let Some(client) = self.clients.get_mut(at) else { return };
        if client.line.is_congested() {
            client.closing = true;
            client.stage = Stage::Gone;
        } else {
            self.remove_client(at);
        }
    }

    /// The client went away, or cannot be written to.
    pub(super) fn lose_client(&mut self, at: usize) {
        self.detach_client(at);
        self.remove_client(at);
    }

    /// Takes a client from its server, its queue and its tenant.
    pub(super) fn detach_client(&mut self, at: usize) {
        self.leave_server(at);
        self.leave_queue(at);
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return };
        if let Some(tenant) = session.tenant.take().and_then(|tenant| self.tenants.get_mut(tenant)) {
            tenant.clients -= 1;
        }
    }

    pub(super) fn remove_client(&mut self, at: usize) {
        let Some(mut client) = self.clients.try_remove(at) else { return };
        self.by_process.remove(&client.process);
        client.line.socket.close();
        client.line.socket.deregister(&self.registry);
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
