//! Making a server connection ready for a client: reset, entry into the tenant's context, the client's settings.
//!
//! Each is a step of its own, answered without error before the client's first byte is sent. On anything else the connection
//! is closed: a reset that fails must not leave the previous tenant's context to the next one's statements.

use std::rc::Rc;

use guardian_model::snapshot::Secret;
use guardian_pgwire::{backend, frame, frontend};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Job, Worker,
    connect::LOCK_MS,
    pool::AFFINITY_ONE,
    state::{Client, ServerState},
};
use crate::sql::{
    settings,
    upstream::{IDLE, Traces},
};

/// What ends a session's state. Not one of its parts is left out by a guess at what the session did.
const RESET: &[u8] = b"DISCARD ALL";

/// What is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreparingStep {
    /// The answer to `DISCARD ALL`.
    Reset,
    /// The answers to `guardian.enter` and to the settings, as far as they were sent.
    Enter {
        /// The result of `guardian.enter` is still to come.
        result: bool,
        /// Answers still to come.
        readies: u8,
    },
}

/// What an answer to a step means.
enum Verdict {
    /// As it should be.
    Fine,
    WasReset,
    WasEntered,
    Failed,
}

impl Worker {
    /// Lends an idle connection to a client. Ready at once when nothing has to be changed.
    pub(super) fn use_server(&mut self, at: usize, client_at: usize, tenant_at: usize) {
        let pool_at = self.servers[at].pool;
        self.pools[pool_at].idle -= 1;
        let Some(session) = self.clients.get_mut(client_at).and_then(Client::session) else { return };
        session.server = Some(at);
        let (serial, wished) = (session.down.serial, Rc::clone(&session.wished));
        self.tenants[tenant_at].held += 1;
        let server = &mut self.servers[at];
        server.holder = Some(tenant_at);
        (server.held_since, server.charged_to, server.transaction_since) = (self.now, self.now, self.now);
        server.idle_since = self.now;
        let Traces { suspect, dirty, cancelled, .. } = server.up.traces;
        let is_another_s = server.tag.is_some_and(|tag| tag != tenant_at);
        let is_dirty = dirty && server.last_client != serial;
        let has_other_wishes = !server.wished.is_empty() && *server.wished != *wished;
        let needs_reset =
            is_another_s || suspect || cancelled || is_dirty || has_other_wishes || server.up.prepared.is_full();
        server.last_client = serial;
        if needs_reset {
            self.send_reset(at, Some(client_at));
        } else {
            self.enter(at, client_at);
        }
    }

    /// Whether resetting now is better than waiting for the next user: its state is spoilt, or tenants rarely come back to
    /// the connection they had.
    pub(super) fn is_better_reset(&self, at: usize) -> bool {
        let server = &self.servers[at];
        let Traces { suspect, dirty, cancelled, .. } = server.up.traces;
        server.tag.is_some() && (suspect || dirty || cancelled || self.pools[server.pool].affinity < AFFINITY_ONE / 2)
    }

    /// Resets an idle connection ahead of need.
    pub(super) fn reset_ahead(&mut self, at: usize) {
        let pool = self.servers[at].pool;
        self.pools[pool].idle -= 1;
        self.send_reset(at, None);
    }

    fn send_reset(&mut self, at: usize, client: Option<usize>) {
        self.servers[at].state = ServerState::Preparing { client, step: PreparingStep::Reset };
        self.servers[at].busy_since = Some(self.now);
        let mut out = self.out();
        frontend::write_query(&mut out, RESET);
        self.send_server(at, &out);
        self.keep_out(out);
    }

    /// Enters the tenant's context, if that is needed, and gives the client its settings. Both may be on their way at once:
    /// nothing of the client's is sent before both have been answered.
    fn enter(&mut self, at: usize, client_at: usize) {
        let server = &self.servers[at];
        let Some(tenant_at) = server.holder else { return };
        let tenant = &self.tenants[tenant_at];
        let must_enter = server.target.is_row && server.tag != Some(tenant_at);
        let Some(session) = self.clients.get_mut(client_at).and_then(Client::session) else { return };
        let mut out = self.outs.pop().unwrap_or_default();
        let mut readies = 0;
        if must_enter {
            let Some(capability) = tenant.entry.secret.as_ref().and_then(capability) else {
                self.keep_out(out);
                self.fail_handover(at, "the tenant's capability is malformed");
                return;
            };
            frontend::write_function_call(&mut out, server.enter, &*capability);
            readies += 1;
        }
        if let Some(text) = settings_statement(session, server, tenant.limits.lock_wait_ms_max) {
            frontend::write_query(&mut out, text.as_bytes());
            readies += 1;
        }
        let (wished, lock_ms) = (Rc::clone(&session.wished), tenant.limits.lock_wait_ms_max);
        let server = &mut self.servers[at];
        server.wished = wished;
        server.lock_ms = Some(lock_ms);
        server.tag = Some(tenant_at);
        if readies == 0 {
            self.keep_out(out);
            self.attach(at, client_at);
            return;
        }
        if must_enter {
            self.tenants[tenant_at].counts.handovers += 1;
        }
        let step = PreparingStep::Enter { result: must_enter, readies };
        server.state = ServerState::Preparing { client: Some(client_at), step };
        server.busy_since = Some(self.now);
        self.send_server(at, &out);
        out.zeroize();
        self.keep_out(out);
    }

    fn attach(&mut self, at: usize, client_at: usize) {
        let server = &mut self.servers[at];
        server.state = ServerState::Attached(client_at);
        server.busy_since = None;
        server.idle_since = self.now;
        let newest = server.up.settings.clone();
        // What the server made of the client's own words (`ISO` is `ISO, MDY`) is news to the client.
        if let Some(session) = self.clients.get_mut(client_at).and_then(Client::session)
            && !std::sync::Arc::ptr_eq(&session.told, &newest)
        {
            let mut out = Vec::new();
            for (name, value) in newest.differing_from(&session.told) {
                backend::write_parameter_status(&mut out, name, value);
            }
            session.told = newest;
            self.send_client(client_at, &out);
        }
    }

    /// A client's own RESET ALL or DISCARD ALL took the context away: it is entered again before the next message.
    pub(super) fn enter_again(&mut self, at: usize, client_at: usize) {
        let server = &mut self.servers[at];
        server.tag = None;
        server.up.traces.suspect = false;
        server.lock_ms = None;
        server.wished = Rc::default();
        self.enter(at, client_at);
        self.jobs.push_back(Job::Client(client_at));
    }

    /// Works through answers to the steps; yields how many bytes were used up.
    pub(super) fn take_preparing(&mut self, at: usize, bytes: &[u8]) -> usize {
        let Ok(header) = frame::header(bytes) else {
            self.fail_handover(at, "a malformed message");
            return bytes.len();
        };
        let Some(header) = header.filter(|header| bytes.len() >= header.total()) else { return 0 };
        let body = &bytes[frame::HEADER_LEN..header.total()];
        match self.judge(at, header.tag, body) {
            Verdict::Fine => {}
            Verdict::WasReset => self.was_reset(at),
            Verdict::WasEntered => self.was_entered(at),
            Verdict::Failed => {
                let problem = if header.tag == b'E' { "an error" } else { "an unexpected answer" };
                self.fail_handover(at, problem);
                return bytes.len();
            }
        }
        header.total()
    }

    fn judge(&mut self, at: usize, tag: u8, body: &[u8]) -> Verdict {
        let server = &mut self.servers[at];
        let owner = server.tag;
        let ServerState::Preparing { step, .. } = &mut server.state else { return Verdict::Failed };
        match (tag, step) {
            // Notices, and notifications of the tenant before: nobody's.
            (b'N' | b'A', _) | (b'T' | b'D' | b'C', PreparingStep::Enter { result: false, .. }) => Verdict::Fine,
            (b'S', _) => match backend::parameter_status(body) {
                Ok((name, value)) => {
                    server.up.settings = server.up.settings.with(name, value);
                    Verdict::Fine
                }
                Err(_) => Verdict::Failed,
            },
            (b'C', PreparingStep::Reset) if body == b"DISCARD ALL\0" => Verdict::Fine,
            (b'Z', PreparingStep::Reset) if body == [IDLE] => Verdict::WasReset,
            (b'V', PreparingStep::Enter { result: result @ true, .. }) => {
                *result = false;
                // The very tenant that was meant, by what the server says.
                let register = owner.map(|tenant| self.tenants[tenant].entry.register.as_bytes());
                let entered = backend::function_result(body).ok().flatten();
                if register.is_some() && entered == register { Verdict::Fine } else { Verdict::Failed }
            }
            (b'Z', PreparingStep::Enter { result: false, readies }) if body == [IDLE] => {
                *readies -= 1;
                if *readies == 0 { Verdict::WasEntered } else { Verdict::Fine }
            }
            _ => Verdict::Failed,
        }
    }

    fn was_reset(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.tag = None;
        server.wished = Rc::default();
        server.lock_ms = Some(LOCK_MS);
        server.up.traces = Traces::default();
        server.up.prepared.clear();
        server.busy_since = None;
        match server.state {
            ServerState::Preparing { client: Some(client), .. } => {
                self.enter(at, client);
                // It may be ready without a further answer.
                self.jobs.push_back(Job::Client(client));
            }
            _ => self.rest_server(at),
        }
    }

    fn was_entered(&mut self, at: usize) {
        self.servers[at].busy_since = None;
        match self.servers[at].state {
            ServerState::Preparing { client: Some(client), .. } => {
                self.attach(at, client);
                self.jobs.push_back(Job::Client(client));
            }
            _ => self.rest_server(at),
        }
    }

    pub(super) fn fail_handover(&mut self, at: usize, problem: &'static str) {
        let server = &self.servers[at];
        tracing::warn!(cluster = %server.target.cluster, role = server.target.role, problem, "a hand-over failed");
        self.lose_server(at, problem);
    }
}

/// The bytes of a capability.
fn capability(secret: &Secret) -> Option<Zeroizing<[u8; 32]>> {
    let digits = secret.expose().as_bytes();
    let mut bytes = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

/// What has to be set for the client, if anything.
fn settings_statement(session: &super::state::Session, server: &super::state::Server, lock_ms: u32) -> Option<String> {
    let same_settings = std::sync::Arc::ptr_eq(&session.told, &server.up.settings) || session.told == server.up.settings;
    let same_wishes = Rc::ptr_eq(&server.wished, &session.wished) || *server.wished == *session.wished;
    let same_lock = server.lock_ms == Some(lock_ms);
    if same_settings && same_wishes && same_lock {
        return None;
    }
    let lock = format!("{lock_ms}ms");
    let reported = session.told.differing_from(&server.up.settings);
    let wished = session.wished.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|_| !same_wishes);
    let locks = std::iter::once(("lock_timeout", lock.as_str())).filter(|_| !same_lock);
    let text = settings::statement(locks.chain(wished).chain(reported));
    Some(text).filter(|text| !text.is_empty())
}
