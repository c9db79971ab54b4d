//! Making a server connection ready for a client: reset, entry into the tenant's context, the client's settings.
//!
//! Each is a committed step of its own, and all are answered without error before the client's first byte is sent. They go out
//! together: a round trip costs as much as a reset. On anything but the expected answers the connection is closed: a reset
//! that fails must not leave the previous tenant's context to the next one's statements.

use std::{rc::Rc, sync::Arc};

use guardian_model::snapshot::Secret;
use guardian_pgwire::{backend, frame, frontend};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Job, Worker,
    state::{Client, Server, ServerState, Session},
};
use crate::sql::{
    settings::{self, Settings},
    upstream::{IDLE, Traces},
};

/// What ends a session's state. Not one of its parts is left out by a guess at what the session did.
const RESET: &[u8] = b"DISCARD ALL";

/// Answers that are still to come, in this order.
#[expect(clippy::struct_excessive_bools, reason = "answers that may still come, each by itself")]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    /// All of the answer to `DISCARD ALL`.
    pub(super) reset: bool,
    /// The result of `guardian.enter`.
    entry: bool,
    /// `ReadyForQuery` of what was sent behind the reset.
    readies: u8,
    /// The reset returned to settings other than those of the beginning: what was sent for the client may not suffice.
    moved: bool,
    /// The capability that was used is the next one.
    by_next: bool,
    /// The present one was refused: once more, with the next.
    again: bool,
}

impl Owed {
    const RESET: Self = Self { reset: true, entry: false, readies: 0, moved: false, by_next: false, again: false };
}

/// What an answer means.
enum Verdict {
    /// As it should be.
    Fine,
    WasReset,
    /// The last one.
    Done,
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
        server.state = ServerState::Preparing { client: Some(client_at), owed: Owed::default() };
        self.hand_over(at, client_at, needs_reset);
    }

    /// Whether an idle connection holds state that must not wait for its next user.
    pub(super) fn is_spoilt(&self, at: usize) -> bool {
        let server = &self.servers[at];
        let Traces { suspect, dirty, cancelled, .. } = server.up.traces;
        server.tag.is_some() && (suspect || dirty || cancelled)
    }

    /// Resets an idle connection ahead of need.
    pub(super) fn reset_ahead(&mut self, at: usize) {
        let pool = self.servers[at].pool;
        self.pools[pool].idle -= 1;
        let server = &mut self.servers[at];
        server.forget_settings();
        server.tag = None;
        server.state = ServerState::Preparing { client: None, owed: Owed::RESET };
        server.busy_since = Some(self.now);
        let mut out = self.out();
        frontend::write_query(&mut out, RESET);
        self.send_server(at, &out);
        self.keep_out(out);
    }

    /// Resets the connection if need be, enters the tenant's context, and gives the client its settings, as far as they differ.
    fn hand_over(&mut self, at: usize, client_at: usize, needs_reset: bool) {
        let mut out = self.outs.pop().unwrap_or_default();
        let server = &mut self.servers[at];
        let Some(tenant_at) = server.holder else { return };
        let tenant = &mut self.tenants[tenant_at];
        let Some(session) = self.clients.get_mut(client_at).and_then(Client::session) else { return };
        let mut owed = Owed { reset: needs_reset, ..Owed::default() };
        if needs_reset {
            frontend::write_query(&mut out, RESET);
            server.forget_settings();
        }
        if tenant.nobody && !server.target.observed {
            self.keep_out(out);
            self.fail_handover(at, "a client without a tenant, where nothing is observed");
            return;
        }
        if server.target.is_row && !tenant.nobody && (needs_reset || server.tag != Some(tenant_at)) {
            owed.by_next = tenant.next_is_in_force && tenant.entry.next_secret.is_some();
            let secret = if owed.by_next { &tenant.entry.next_secret } else { &tenant.entry.secret };
            let Some(capability) = secret.as_ref().and_then(capability) else {
                self.keep_out(out);
                self.fail_handover(at, "the tenant's capability is malformed");
                return;
            };
            frontend::write_function_call(&mut out, server.enter, &*capability);
            tenant.counts.handovers += 1;
            server.offered = Some(Arc::clone(&tenant.entry));
            owed.entry = true;
            owed.readies += 1;
        }
        let given = if needs_reset { &server.base } else { &server.up.settings };
        let lock_ms = tenant.limits.lock_wait_ms_max;
        if let Some(text) = settings_statement(session, server, given, lock_ms) {
            frontend::write_query(&mut out, text.as_bytes());
            owed.readies += 1;
        }
        server.wished = Rc::clone(&session.wished);
        server.lock_ms = Some(lock_ms);
        server.tag = Some(tenant_at);
        if out.is_empty() {
            self.keep_out(out);
            self.attach(at, client_at);
            return;
        }
        server.state = ServerState::Preparing { client: Some(client_at), owed };
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
        server.forget_settings();
        server.lock_ms = None;
        self.hand_over(at, client_at, false);
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
            Verdict::Done => self.was_prepared(at),
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
        let ServerState::Preparing { owed, .. } = &mut server.state else { return Verdict::Failed };
        let is_settings = !owed.reset && !owed.entry && owed.readies > 0;
        match tag {
            // Notices, and notifications of the tenant before: nobody's.
            b'N' | b'A' => Verdict::Fine,
            b'S' => match backend::parameter_status(body) {
                Ok((name, value)) => {
                    server.up.settings = server.up.settings.with(name, value);
                    Verdict::Fine
                }
                Err(_) => Verdict::Failed,
            },
            b'T' | b'D' | b'C' if is_settings => Verdict::Fine,
            b'C' if owed.reset && body == b"DISCARD ALL\0" => Verdict::Fine,
            b'Z' if owed.reset && body == [IDLE] => Verdict::WasReset,
            b'V' if owed.entry && !owed.reset => {
                owed.entry = false;
                // The very tenant that was meant, by what the server says.
                let register = owner.map(|tenant| self.tenants[tenant].entry.register.as_bytes());
                let entered = backend::function_result(body);
                // Nobody's context, while the tenant's capability is being changed: the next one is in force by now.
                let newest = owner.map(|tenant| &self.tenants[tenant].entry);
                let has_another = newest
                    .zip(server.offered.as_ref())
                    .is_some_and(|(newest, offered)| newest.next_secret.is_some() || newest.secret != offered.secret);
                if matches!(entered, Ok(None)) && has_another && !owed.by_next {
                    owed.again = true;
                    return Verdict::Fine;
                }
                let entered = entered.ok().flatten();
                if register.is_some() && entered == register { Verdict::Fine } else { Verdict::Failed }
            }
            b'Z' if is_settings && body == [IDLE] => {
                owed.readies -= 1;
                if owed.readies == 0 { Verdict::Done } else { Verdict::Fine }
            }
            _ => Verdict::Failed,
        }
    }

    fn was_reset(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let ServerState::Preparing { owed, .. } = &mut server.state else { return };
        owed.reset = false;
        // A server whose configuration was changed returns to other settings than it began with.
        if *server.base != *server.up.settings {
            server.base = Arc::clone(&server.up.settings);
            owed.moved = true;
        }
        let is_all = owed.readies == 0;
        server.up.traces = Traces::default();
        server.up.prepared.clear();
        if is_all {
            self.was_prepared(at);
        }
    }

    /// Everything was answered.
    fn was_prepared(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.busy_since = None;
        let ServerState::Preparing { client, owed } = server.state else { return };
        if owed.again
            && let Some(tenant) = server.tag.take()
        {
            self.tenants[tenant].next_is_in_force = true;
        }
        let Some(client) = client else { return self.rest_server(at) };
        if owed.again {
            self.hand_over(at, client, false);
        } else if owed.moved {
            server.lock_ms = None;
            server.wished = Rc::default();
            self.hand_over(at, client, false);
        } else {
            self.attach(at, client);
        }
        self.jobs.push_back(Job::Client(client));
    }

    pub(super) fn fail_handover(&mut self, at: usize, problem: &'static str) {
        let server = &self.servers[at];
        tracing::warn!(cluster = %server.target.cluster, role = server.target.role, problem, "a hand-over failed");
        self.lose_server(at, problem);
    }
}

/// The bytes of a capability.
pub(crate) fn capability(secret: &Secret) -> Option<Zeroizing<[u8; 32]>> {
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

/// What has to be set for the client, if anything, where the server's reported settings are `given`.
fn settings_statement(session: &Session, server: &Server, given: &Arc<Settings>, lock_ms: u32) -> Option<String> {
    let same_settings = Arc::ptr_eq(&session.told, given) || session.told == *given;
    let same_wishes = Rc::ptr_eq(&server.wished, &session.wished) || *server.wished == *session.wished;
    let same_lock = server.lock_ms == Some(lock_ms);
    if same_settings && same_wishes && same_lock {
        return None;
    }
    let lock = format!("{lock_ms}ms");
    let reported = session.told.differing_from(given);
    let wished = session.wished.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|_| !same_wishes);
    let locks = std::iter::once(("lock_timeout", lock.as_str())).filter(|_| !same_lock);
    let text = settings::statement(locks.chain(wished).chain(reported));
    Some(text).filter(|text| !text.is_empty())
}
