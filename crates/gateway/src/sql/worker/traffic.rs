//! What clients send, on its way to a server or answered here.

use super::{
    Worker,
    pool::Acquired,
    state::{Client, ServerState, Session, Stage},
};
use crate::sql::{
    downstream::{Names, Opening, Step},
    refusal::Refusal,
    shared::now_s,
    socket::Got,
};

/// Past this, a client has to read its answers before more is read of it.
const ANSWERS_LEN_MAX: usize = 256 * 1024;

/// Why no more of a client is worked on for now.
enum Pause {
    /// The input is used up, or ends within a message.
    Input,
    /// Something else has to happen first: the rest waits.
    Waits,
    /// The client is gone, or moved.
    Gone,
}

impl Worker {
    /// Works on what the client sent and what there is to read of it.
    pub(super) fn pump_client(&mut self, at: usize) {
        loop {
            let Some(client) = self.clients.get_mut(at) else { return };
            if client.closing {
                return;
            }
            match &mut client.stage {
                Stage::Gone => return,
                Stage::Login(..) | Stage::TlsHandshake { .. } => {
                    if !client.line.readable || !self.pump_login(at) {
                        return;
                    }
                    continue;
                }
                Stage::Console(_) => {
                    if !self.pump_console(at) {
                        return;
                    }
                    continue;
                }
                Stage::Session(_) => {}
            }
            if !self.may_read(at) {
                return;
            }
            let client = &mut self.clients[at];
            if !client.line.inbox.is_empty() {
                let inbox = std::mem::take(&mut client.line.inbox);
                let (used, pause) = self.client_bytes(at, &inbox);
                if let Some(client) = self.clients.get_mut(at).filter(|_| !matches!(pause, Pause::Gone)) {
                    client.line.inbox = if used == 0 { inbox } else { inbox[used..].to_vec() };
                }
                match pause {
                    Pause::Input => {}
                    Pause::Waits | Pause::Gone => return,
                }
            }
            let Some(client) = self.clients.get_mut(at) else { return };
            if !client.line.readable {
                return;
            }
            let mut scratch = self.scratch();
            let client = &mut self.clients[at];
            match client.line.socket.read(&mut scratch) {
                Ok(Got::Bytes { len, drained }) => {
                    client.line.readable = !drained;
                    self.received(at, &scratch[..len]);
                }
                Ok(Got::Nothing) => client.line.readable = false,
                Ok(Got::End) | Err(_) => {
                    self.scratches.push(scratch);
                    self.lose_client(at);
                    return;
                }
            }
            self.scratches.push(scratch);
        }
    }

    /// Whether more of the client may be taken in: it does not wait for a server, and neither side is behind.
    fn may_read(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        if client.line.outbox.len() > ANSWERS_LEN_MAX {
            return false;
        }
        let Some(session) = client.session() else { return false };
        if session.queued.is_some() || !session.welcomed {
            return false;
        }
        match session.server.and_then(|server| self.servers.get(server)) {
            None => true,
            Some(server) => {
                matches!(server.state, ServerState::Attached(client) if client == at) && !server.line.is_congested()
            }
        }
    }

    fn received(&mut self, at: usize, bytes: &[u8]) {
        let client = &mut self.clients[at];
        if client.line.inbox.is_empty() {
            let (used, pause) = self.client_bytes(at, bytes);
            if let Some(client) = self.clients.get_mut(at).filter(|_| !matches!(pause, Pause::Gone)) {
                client.line.inbox.extend_from_slice(&bytes[used..]);
            }
        } else {
            // The loop that called takes it up from there.
            client.line.inbox.extend_from_slice(bytes);
        }
    }

    fn client_bytes(&mut self, at: usize, bytes: &[u8]) -> (usize, Pause) {
        let mut used = 0;
        while used < bytes.len() {
            let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return (used, Pause::Gone) };
            if session.down.is_discarding() {
                used += session.down.discard_remaining(&bytes[used..]);
                continue;
            }
            let (server, is_apart) = (session.server, session.down.is_apart());
            let is_open = match server.and_then(|server| self.servers.get(server)) {
                None => true,
                // In session mode a client that owes and is owed nothing may change its tenant.
                Some(server) => server.up.is_settled() && !session.down.is_within_message(),
            };
            session.down.has_session = server.is_some();
            let may_be_own = matches!(bytes[used], b'Q' | b'P' | b'B' | b'D' | b'C');
            let step = if is_open && (server.is_none() || is_apart || may_be_own) {
                self.open_message(at, &bytes[used..])
            } else {
                Flow::Forward
            };
            match step {
                Flow::Used(0) => return (used, Pause::Input),
                Flow::Used(len) => {
                    used += len;
                    continue;
                }
                Flow::Waits => return (used, Pause::Waits),
                Flow::Gone => return (used, Pause::Gone),
                Flow::Forward => {}
            }
            match self.forward(at, &bytes[used..]) {
                Flow::Used(0) => return (used, Pause::Input),
                Flow::Used(len) => used += len,
                Flow::Forward | Flow::Waits => return (used, Pause::Waits),
                Flow::Gone => return (used, Pause::Gone),
            }
        }
        (used, Pause::Input)
    }

    /// The next message of a client that is owed nothing.
    fn open_message(&mut self, at: usize, bytes: &[u8]) -> Flow {
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return Flow::Gone };
        let mut out = Vec::new();
        let opened = session.down.open(bytes, &mut out);
        if !out.is_empty() {
            self.send_client(at, &out);
        }
        match opened {
            Ok(Opening::Incomplete) => Flow::Used(0),
            Ok(Opening::Consumed(len)) => Flow::Used(len),
            Ok(Opening::Refused { consumed, refusal, ready }) => {
                let mut out = Vec::new();
                refusal.write_error(&mut out);
                if ready {
                    guardian_pgwire::backend::write_ready(&mut out, b'I');
                }
                self.shared.refused(&refusal);
                self.send_client(at, &out);
                if consumed == 0 { Flow::Used(self.skip_now(at, bytes)) } else { Flow::Used(consumed) }
            }
            Ok(Opening::Own { consumed, text, group, closed, ready }) => {
                // What is there already goes along, should the client move to another worker.
                let client = &mut self.clients[at];
                let process = client.process;
                client.line.inbox = bytes[consumed..].to_vec();
                self.own_statement(at, &text, group, closed, ready);
                match self.clients.get_mut(at) {
                    Some(client) if client.process == process => {
                        client.line.inbox = Vec::new();
                        Flow::Used(consumed)
                    }
                    _ => Flow::Gone,
                }
            }
            Ok(Opening::Terminate) => {
                self.lose_client(at);
                Flow::Gone
            }
            Ok(Opening::Server) => self.want_server(at, bytes),
            Err(refusal) => {
                self.end_client(at, &refusal);
                Flow::Gone
            }
        }
    }

    /// Discards the message that was just refused; its group follows.
    fn skip_now(&mut self, at: usize, bytes: &[u8]) -> usize {
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return 0 };
        let mut out = Vec::new();
        match session.down.open(bytes, &mut out) {
            Ok(Opening::Consumed(len)) => {
                self.send_client(at, &out);
                len
            }
            _ => 0,
        }
    }

    fn want_server(&mut self, at: usize, bytes: &[u8]) -> Flow {
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return Flow::Gone };
        if session.server.is_some() {
            return Flow::Forward;
        }
        let expired = session.bound_until_s.is_some_and(|until| until <= now_s());
        let acquired = match session.tenant {
            None => self.bind_to_nobody(at).and_then(|nobody| self.acquire(at, nobody)),
            Some(_) if expired => Err(Refusal::IdentityExpired),
            Some(tenant) => self.acquire(at, tenant),
        };
        match acquired {
            Ok(Acquired::Server(server)) => match self.servers.get(server).map(|server| &server.state) {
                Some(ServerState::Attached(_)) => Flow::Forward,
                Some(_) => Flow::Waits,
                None => Flow::Gone,
            },
            Ok(Acquired::Queued) => Flow::Waits,
            Err(refusal) => self.refuse_message(at, bytes, &refusal),
        }
    }

    /// Refuses a message, and the group it begins; the client may go on.
    pub(super) fn refuse_message(&mut self, at: usize, bytes: &[u8], refusal: &Refusal) -> Flow {
        self.shared.refused(refusal);
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return Flow::Gone };
        let mut out = Vec::new();
        let used = session.down.refuse(bytes, refusal, &mut out);
        if let Some(tenant) = session.tenant {
            self.tenants[tenant].counts.refusals += 1;
        }
        self.send_client(at, &out);
        match used {
            Ok(0) => Flow::Used(self.skip_now(at, bytes)),
            Ok(len) => Flow::Used(len),
            Err(refusal) => {
                self.end_client(at, &refusal);
                Flow::Gone
            }
        }
    }

    fn forward(&mut self, at: usize, bytes: &[u8]) -> Flow {
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return Flow::Gone };
        let (Some(server_at), Some(tenant_at)) = (session.server, session.tenant) else { return Flow::Gone };
        let names = match self.tenants[tenant_at].pooling {
            guardian_model::Pooling::Transaction => Names::Translated,
            guardian_model::Pooling::Session => Names::Own,
        };
        let mut out = self.outs.pop().unwrap_or_default();
        // Nothing of a client's may ever reach a connection that is not lent to it.
        let Some(server) = self
            .servers
            .get_mut(server_at)
            .filter(|server| matches!(server.state, ServerState::Attached(client) if client == at))
        else {
            self.keep_out(out);
            self.end_client(at, &Refusal::ServerLost);
            return Flow::Gone;
        };
        if self.observing && server.target.observed {
            // Only from the beginning of something of its own on.
            if session.tap.is_none() && server.up.is_settled() && !session.down.is_within_message() {
                session.tap = Some(Box::default());
            }
        }
        let forwarded = session.down.forward(bytes, &mut server.up, &mut self.statements, names, &mut out);
        let (consumed, step, sent) = match forwarded {
            Ok(forwarded) => {
                if server.busy_since.is_none() && server.up.is_busy() {
                    server.busy_since = Some(self.now);
                }
                let sent = server.line.send(forwarded.bytes);
                self.tenants[tenant_at].counts.received += forwarded.bytes.len() as u64;
                (forwarded.consumed, forwarded.step, sent)
            }
            Err(refusal) => {
                self.keep_out(out);
                self.end_client(at, &refusal);
                return Flow::Gone;
            }
        };
        self.keep_out(out);
        if let Some(Session { tap: Some(tap), down, .. }) = self.clients.get_mut(at).and_then(Client::session) {
            tap.sent(&bytes[..consumed], |name| down.text_and_types(name));
        }
        if sent.is_err() {
            // Why the server closed the connection may still be there to be read.
            self.servers[server_at].line.has_more(true);
            self.pump_server(server_at);
            self.lose_server(server_at, "it broke");
            return Flow::Gone;
        }
        // The answer may have come before the end of a message that the server ignores (COPY data after an error).
        let has_ended = consumed > 0
            && self.servers[server_at].up.is_settled()
            && self.clients.get_mut(at).and_then(Client::session).is_some_and(|session| !session.down.is_within_message());
        if has_ended && step != Step::Terminate {
            self.settled(server_at, at);
        }
        match step {
            Step::Terminate => {
                self.lose_client(at);
                Flow::Gone
            }
            Step::Full if consumed == 0 => Flow::Waits,
            Step::Full | Step::Done => Flow::Used(consumed),
        }
    }
}

/// How a stretch of a client's bytes was taken.
pub(super) enum Flow {
    /// So many bytes of it; 0: more is needed.
    Used(usize),
    /// It goes to the client's server, which is ready.
    Forward,
    /// It has to wait.
    Waits,
    /// The client is gone, or went to another worker.
    Gone,
}
