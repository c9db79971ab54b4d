//! Server connections: read, lent, given back, lost.

use guardian_pgwire::{backend, frame};

use super::{
    Job, Worker,
    state::{Client, ServerState},
};
use crate::sql::{
    refusal::Refusal,
    shared::Event,
    socket::Got,
    upstream::{LastWords, Traces, Violation},
};

impl Worker {
    pub(super) fn server_readable(&mut self, at: usize, ends: bool) {
        if let Some(server) = self.servers.get_mut(at) {
            server.line.has_more(ends);
            self.pump_server(at);
        }
    }

    pub(super) fn server_writable(&mut self, at: usize) {
        let Some(server) = self.servers.get_mut(at) else { return };
        if matches!(server.state, ServerState::Connecting(_)) {
            self.pump_server(at);
            return;
        }
        if !server.line.is_congested() {
            return;
        }
        if server.line.writable().is_err() {
            self.lose_server(at, "it broke");
            return;
        }
        if !server.line.is_congested()
            && let ServerState::Attached(client) = server.state
        {
            self.pump_client(client);
        }
    }

    /// Reads what there is, as far as whoever it is for can take it.
    pub(super) fn pump_server(&mut self, at: usize) {
        let mut scratch = self.scratch();
        while let Some(server) = self.servers.get_mut(at) {
            match server.state {
                ServerState::Connecting(_) => {
                    if !self.pump_connecting(at, &mut scratch) {
                        break;
                    }
                    continue;
                }
                ServerState::Attached(client)
                    if self.clients.get(client).is_some_and(|client| client.line.is_congested()) =>
                {
                    break;
                }
                _ => {}
            }
            let server = &mut self.servers[at];
            if !server.line.readable {
                break;
            }
            match server.line.socket.read(&mut scratch) {
                Ok(Got::Bytes { len, drained }) => {
                    server.line.readable = !drained;
                    self.server_bytes(at, &scratch[..len]);
                }
                Ok(Got::Nothing) => server.line.readable = false,
                Ok(Got::End) => {
                    self.lose_server(at, "the server closed it");
                    break;
                }
                Err(_) => {
                    self.lose_server(at, "it broke");
                    break;
                }
            }
        }
        self.scratches.push(scratch);
    }

    fn server_bytes(&mut self, at: usize, bytes: &[u8]) {
        let server = &mut self.servers[at];
        if server.line.inbox.is_empty() {
            let used = self.take_server_bytes(at, bytes);
            if let Some(server) = self.servers.get_mut(at) {
                server.line.inbox.extend_from_slice(&bytes[used..]);
            }
            return;
        }
        server.line.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut server.line.inbox);
        let used = self.take_server_bytes(at, &inbox);
        if let Some(server) = self.servers.get_mut(at) {
            // A vector of nothing owns no memory.
            server.line.inbox = inbox[used..].to_vec();
        }
    }

    /// Works through bytes of a server; yields how many were used up.
    fn take_server_bytes(&mut self, at: usize, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let Some(server) = self.servers.get(at) else { return bytes.len() };
            let step = match server.state {
                ServerState::Attached(client) => self.answer_client(at, client, &bytes[used..]),
                ServerState::Preparing { .. } if server.spelling.is_some() => self.take_spelling(at, &bytes[used..]),
                ServerState::Preparing { .. } => {
                    self.servers[at].up.overhear(&bytes[used..]);
                    self.take_preparing(at, &bytes[used..])
                }
                ServerState::Idle | ServerState::Quarantined => self.take_idle(at, &bytes[used..]),
                // Its own bytes are read where it is driven.
                ServerState::Connecting(_) => return used,
            };
            if step == 0 {
                break;
            }
            used += step;
        }
        used
    }

    fn answer_client(&mut self, at: usize, client_at: usize, bytes: &[u8]) -> usize {
        let mut out = self.out();
        let server = &mut self.servers[at];
        let answered = match server.up.answer(bytes, &mut out) {
            Ok(answered) => answered,
            Err(violation) => {
                self.violated(at, violation);
                return bytes.len();
            }
        };
        let (consumed, settled) = (answered.consumed, answered.settled);
        let sent = answered.bytes.len() as u64;
        let Some(client) = self.clients.get_mut(client_at) else { return bytes.len() };
        let failed = client.line.send(answered.bytes).is_err();
        let wants_more = client.line.readable || !client.line.inbox.is_empty();
        if let Some(session) = client.session() {
            if answered.prepared > 0 || answered.failed {
                session.down.answered(answered.prepared, answered.failed);
            }
            if answered.reported {
                session.told = server.up.settings.clone();
            }
            if let Some(tap) = &mut session.tap {
                let tenant = session.tenant.and_then(|tenant| self.tenants.get(tenant));
                let tenant = tenant.filter(|tenant| !tenant.nobody).map(|tenant| &*tenant.entry);
                tap.answered(answered.bytes, |heard, end| self.shared.observer.saw(tenant, heard, end));
            }
        }
        if let Some(tenant) = server.holder {
            self.tenants[tenant].counts.sent += sent;
        }
        if !server.up.is_busy() {
            server.busy_since = None;
            server.cut_at = None;
            server.up.cut = None;
            server.idle_since = self.now;
        } else if settled || server.up.is_in_transaction() {
            server.busy_since = Some(self.now);
        }
        self.keep_out(out);
        if failed {
            self.lose_client(client_at);
            return bytes.len();
        }
        if settled {
            self.settled(at, client_at);
        }
        if wants_more {
            self.jobs.push_back(Job::Client(client_at));
        }
        consumed
    }

    fn violated(&mut self, at: usize, violation: Violation) {
        let server = &self.servers[at];
        tracing::warn!(cluster = %server.target.cluster, %violation, "dropped a server connection");
        self.lose_server(at, "its answers do not add up");
    }

    /// The server owes nothing and is outside a transaction.
    pub(super) fn settled(&mut self, at: usize, client_at: usize) {
        let server = &mut self.servers[at];
        if std::mem::take(&mut server.up.traces.altered_role) {
            let tenant = server.holder.map(|tenant| self.tenants[tenant].id);
            let (cluster, role) = (server.target.cluster.clone(), server.target.role.clone());
            tracing::warn!(%cluster, role, "a session altered its own role");
            (self.shared.events)(Event::RoleAltered { cluster, role, tenant });
        }
        if let Some(tenant) = server.holder {
            self.tenants[tenant].counts.transactions += 1;
        }
        let server = &mut self.servers[at];
        server.transaction_since = self.now;
        let Some(session) = self.clients.get_mut(client_at).and_then(Client::session) else { return };
        session.transactions += 1;
        if let Some(tap) = &mut session.tap {
            tap.settled();
        }
        if session.down.is_within_message() {
            return;
        }
        if std::mem::take(&mut server.up.traces.discarded) {
            session.down.forget_statements();
        }
        let is_suspect = server.up.traces.suspect && server.target.is_row;
        let is_session =
            session.tenant.is_some_and(|tenant| self.tenants[tenant].pooling == guardian_model::Pooling::Session);
        if !is_session {
            self.release(at, client_at);
        } else if self.is_outdated(at) {
            // What its session holds cannot be taken along to another role.
            self.end_client(client_at, &Refusal::Changed);
        } else if is_suspect {
            self.enter_again(at, client_at);
        }
    }

    /// Takes a settled connection from its client.
    pub(super) fn release(&mut self, at: usize, client_at: usize) {
        self.charge(at);
        if let Some(session) = self.clients.get_mut(client_at).and_then(Client::session) {
            session.server = None;
            session.down.rest();
        }
        let server = &mut self.servers[at];
        if let Some(tenant) = server.holder.take() {
            self.tenants[tenant].held -= 1;
        }
        server.busy_since = None;
        self.rest_server(at);
    }

    /// Puts a settled connection that nobody has to rest, or closes it.
    pub(super) fn rest_server(&mut self, at: usize) {
        let pool_at = self.servers[at].pool;
        let server = &mut self.servers[at];
        server.idle_since = self.now;
        server.up.cut = None;
        if server.cancels > 0 {
            server.state = ServerState::Quarantined;
            return;
        }
        let too_old = self.age_max_s(at).is_some_and(|max_s| (self.now - self.servers[at].born).as_secs() >= max_s.into());
        let server = &mut self.servers[at];
        if server.doomed || server.up.is_doubtful() || too_old || self.drain_until.is_some() {
            self.close_server(at);
            self.jobs.push_back(Job::Dispatch(pool_at));
            return;
        }
        server.state = ServerState::Idle;
        self.pools[pool_at].idle += 1;
        if !self.pools[pool_at].waiting.is_empty() {
            self.jobs.push_back(Job::Dispatch(pool_at));
        } else if self.is_spoilt(at) {
            self.reset_ahead(at);
        }
    }

    fn age_max_s(&self, at: usize) -> Option<u32> {
        let tag = self.servers[at].tag?;
        self.tenants.get(tag).map(|tenant| tenant.limits.server_connection_age_s_max)
    }

    /// What a server may send unasked between two uses. Notifications are nobody's by now.
    fn take_idle(&mut self, at: usize, bytes: &[u8]) -> usize {
        let Ok(header) = frame::header(bytes) else {
            self.violated(at, Violation::Malformed);
            return bytes.len();
        };
        let Some(header) = header.filter(|header| bytes.len() >= header.total()) else { return 0 };
        let body = &bytes[frame::HEADER_LEN..header.total()];
        match header.tag {
            b'N' | b'A' => {}
            b'S' => {
                let Ok((name, value)) = backend::parameter_status(body) else {
                    self.violated(at, Violation::Malformed);
                    return bytes.len();
                };
                let server = &mut self.servers[at];
                server.up.settings = server.up.settings.with(name, value);
            }
            b'E' => {
                self.lose_server(at, "the server ended it");
                return bytes.len();
            }
            tag => {
                self.violated(at, Violation::Unasked(tag));
                return bytes.len();
            }
        }
        header.total()
    }

    /// A client lets go of its connection, at whatever point: a settled one is given back, any other is closed.
    pub(super) fn leave_server(&mut self, client_at: usize) {
        let Some(session) = self.clients.get_mut(client_at).and_then(Client::session) else { return };
        let within = session.down.is_within_message();
        let Some(at) = session.server.take() else { return };
        let server = &mut self.servers[at];
        let is_attached = matches!(server.state, ServerState::Attached(_));
        if is_attached && server.up.is_settled() && !within && !server.line.is_congested() {
            // A session's own state must not wait for its next user.
            server.up.traces = Traces { suspect: true, ..server.up.traces };
            self.release(at, client_at);
        } else if let ServerState::Preparing { client, .. } = &mut server.state {
            // Nothing of the client's was sent; what was begun goes on, for nobody.
            *client = None;
            self.unhold(at);
        } else {
            // A statement that goes on for nobody would take the server's time past every limit.
            self.cancel_server(at, None);
            self.close_server(at);
        }
    }

    /// Takes a connection off the account of its holder.
    pub(super) fn unhold(&mut self, at: usize) {
        self.charge(at);
        if let Some(tenant) = self.servers[at].holder.take() {
            self.tenants[tenant].held -= 1;
        }
    }

    /// The connection is of no use any more; a client that has it is told and let go.
    pub(super) fn lose_server(&mut self, at: usize, how: &str) {
        let Some(server) = self.servers.get_mut(at) else { return };
        tracing::debug!(cluster = %server.target.cluster, how, "lost a server connection");
        let client = server.client();
        let pool = server.pool;
        let last_words = std::mem::take(&mut server.up.last_words);
        self.close_server(at);
        match (client, last_words) {
            (Some(client), LastWords::None) => self.end_client(client, &Refusal::ServerLost),
            (Some(client), LastWords::Told) => self.end_client_saying(client, &Refusal::ServerLost, &[]),
            (Some(client), LastWords::Kept(words)) => self.end_client_saying(client, &Refusal::ServerLost, &words),
            (None, _) => {}
        }
        self.jobs.push_back(Job::Dispatch(pool));
    }

    /// Closes a connection and forgets it. What becomes of its client, if it has one, is up to the caller.
    pub(super) fn close_server(&mut self, at: usize) {
        if !self.servers.contains(at) {
            return;
        }
        self.unhold(at);
        let mut server = self.servers.remove(at);
        if let Some(client) = server.client()
            && let Some(session) = self.clients.get_mut(client).and_then(Client::session)
            && session.server == Some(at)
        {
            session.server = None;
        }
        let pool = &mut self.pools[server.pool];
        pool.servers.retain(|other| *other != at);
        match server.state {
            ServerState::Idle => pool.idle -= 1,
            ServerState::Connecting(_) => pool.connecting -= 1,
            _ => {}
        }
        if !matches!(server.state, ServerState::Connecting(_)) && !server.line.is_congested() {
            let mut out = Vec::new();
            guardian_pgwire::frontend::write_terminate(&mut out);
            let _ = server.line.send(&out);
        }
        server.line.socket.close();
        server.line.socket.deregister(&self.registry);
        self.forget_cancels(at);
        self.jobs.push_back(Job::Dispatch(server.pool));
        if let Some(spelling) = server.spelling {
            self.was_not_spelled(&spelling);
        }
    }

    pub(super) fn send_server(&mut self, at: usize, bytes: &[u8]) -> bool {
        let Some(server) = self.servers.get_mut(at) else { return false };
        if server.line.send(bytes).is_err() {
            self.lose_server(at, "it broke");
            return false;
        }
        true
    }
}
