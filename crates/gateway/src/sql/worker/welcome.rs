//! Telling a client that it is in, with the settings that its servers report.
//!
//! The settings of its start-up packet are shown to a server first: it says how they are spelled (`utf-8` is `UTF8`), or refuses
//! them. What it said is remembered. With no connection at rest the client is told its own words; it meets the server's with its
//! first transaction.

use std::{rc::Rc, sync::Arc};

use guardian_pgwire::{backend, frame, frontend};

use super::{
    Job, Worker,
    handover::Owed,
    state::{Client, ServerState, Stage, Target},
};
use crate::sql::{
    refusal::Refusal,
    settings::{self, Settings},
    upstream::{IDLE, LastWords},
};

/// Settings whose spelling is remembered for one target.
const SPELLED_MAX: usize = 1000;
/// The longest values of these.
const SPELLED_LEN_MAX: usize = 256;

/// Settings that a server is asked about at once: PostgreSQL has a limit of arguments.
const ASKED_MAX: usize = 50;

/// Settings of a client that a server is asked about.
#[derive(Debug)]
pub(super) struct Spelling {
    client: usize,
    /// Tells the client from another one in its place.
    process: u32,
    wishes: Vec<(String, String)>,
    answer: Option<Vec<u8>>,
    /// The error, as the last word to the client.
    refused: Option<Vec<u8>>,
}

impl Worker {
    /// Tells a client that it is in, once it is known what its servers report and make of its settings.
    pub(super) fn welcome(&mut self, at: usize) {
        self.welcome_with(at, true);
    }

    fn welcome_with(&mut self, at: usize, may_ask: bool) {
        let Some(tenant) = self.clients.get_mut(at).and_then(Client::session).map(|session| session.tenant) else { return };
        let (target, pool) = match tenant {
            Some(tenant) => (Rc::clone(&self.tenants[tenant].target), self.tenants[tenant].pool),
            None => match self.shared_target() {
                Ok(found) => found,
                Err(refusal) => return self.end_client(at, &refusal),
            },
        };
        let base = target.base.borrow().clone();
        let Some(base) = base else {
            target.welcomes.borrow_mut().push(at);
            self.open_for_welcome(pool, &target);
            return;
        };
        let Some(client) = self.clients.get_mut(at) else { return };
        let (process, secret) = (client.process, client.secret);
        let Some(session) = client.session() else { return };
        if session.welcomed {
            return;
        }
        let is_unknown = |wish: &&(String, String)| {
            // Whatever it is, it is taken, and spelled so.
            !wish.0.eq_ignore_ascii_case("application_name") && !target.spelled.borrow().contains_key(*wish)
        };
        let unknown: Vec<_> = session.wished.iter().filter(is_unknown).cloned().collect();
        if may_ask
            && (1..=ASKED_MAX).contains(&unknown.len())
            && self.ask_spelling(at, process, pool, &target, &base, unknown)
        {
            return;
        }
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return };
        session.welcomed = true;
        // Settings that servers report are restored for the client wherever it goes; the others are given with a hand-over.
        let mut told = base;
        let mut others = Vec::new();
        for wish in session.wished.iter() {
            let (name, value) = wish;
            let reported = told.iter().map(|(known, _)| known).find(|known| known.eq_ignore_ascii_case(name));
            match reported.map(str::to_owned) {
                Some(known) => {
                    let spelled = target.spelled.borrow().get(wish).cloned();
                    told = told.with(known.as_bytes(), spelled.as_deref().unwrap_or(value).as_bytes());
                }
                None => others.push(wish.clone()),
            }
        }
        (session.told, session.wished) = target.share(told, others);
        let told = Arc::clone(&session.told);
        let mut out = Vec::with_capacity(512);
        backend::write_auth_ok(&mut out);
        for (name, value) in told.iter() {
            backend::write_parameter_status(&mut out, name, value);
        }
        backend::write_key(&mut out, process, &secret.to_be_bytes());
        backend::write_ready(&mut out, b'I');
        self.send_client(at, &out);
        self.jobs.push_back(Job::Client(at));
    }

    /// When there was no room for the first connection of a kind, there may be now.
    pub(super) fn open_for_unwelcomed(&mut self) {
        let waiting = self.clients.iter().filter_map(|(_, client)| match &client.stage {
            Stage::Session(session) if !session.welcomed => Some(session.tenant),
            _ => None,
        });
        for tenant in waiting.collect::<std::collections::HashSet<_>>() {
            let found = match tenant {
                Some(tenant) => Ok((Rc::clone(&self.tenants[tenant].target), self.tenants[tenant].pool)),
                None => self.shared_target(),
            };
            if let Ok((target, pool)) = found
                && target.base.borrow().is_none()
            {
                self.open_for_welcome(pool, &target);
            }
        }
    }

    /// Asks a server at rest what it makes of these; false if there is none.
    fn ask_spelling(
        &mut self,
        client: usize,
        process: u32,
        pool_at: usize,
        target: &Rc<Target>,
        base: &Settings,
        wishes: Vec<(String, String)>,
    ) -> bool {
        let at_rest = self.pools[pool_at].servers.iter().copied().find(|&at| {
            let server = &self.servers[at];
            matches!(server.state, ServerState::Idle) && Rc::ptr_eq(&server.target, target)
        });
        let Some(at) = at_rest else { return false };
        self.pools[pool_at].idle -= 1;
        let mut out = self.out();
        frontend::write_query(&mut out, settings::question(base.get("DateStyle"), &wishes).as_bytes());
        let server = &mut self.servers[at];
        server.spelling = Some(Box::new(Spelling { client, process, wishes, answer: None, refused: None }));
        server.state = ServerState::Preparing { client: None, owed: Owed::default() };
        server.busy_since = Some(self.now);
        self.send_server(at, &out);
        self.keep_out(out);
        true
    }

    /// Works through the answer; yields how many bytes were used up.
    pub(super) fn take_spelling(&mut self, at: usize, bytes: &[u8]) -> usize {
        let header = frame::header(bytes);
        let Ok(Some(header)) = header else {
            if header.is_err() {
                self.lose_server(at, "a malformed message");
                return bytes.len();
            }
            return 0;
        };
        if bytes.len() < header.total() {
            return 0;
        }
        let body = &bytes[frame::HEADER_LEN..header.total()];
        let server = &mut self.servers[at];
        let Some(spelling) = &mut server.spelling else { return 0 };
        match header.tag {
            b'N' | b'A' | b'T' | b'C' => {}
            b'S' => {
                if let Ok((name, value)) = backend::parameter_status(body) {
                    server.up.settings = server.up.settings.with(name, value);
                }
            }
            b'D' => spelling.answer = backend::first_column(body).ok().flatten().map(<[u8]>::to_vec),
            b'E' if !backend::is_fatal(body) => {
                // An error of any other kind says nothing of the settings.
                server.up.overhear(bytes);
                if let LastWords::Kept(words) = std::mem::take(&mut server.up.last_words) {
                    spelling.refused = Some(words);
                }
            }
            b'Z' if body == [IDLE] => {
                let spelling = server.spelling.take();
                server.busy_since = None;
                self.rest_server(at);
                if let Some(spelling) = spelling {
                    self.was_spelled(*spelling, at);
                }
            }
            _ => {
                self.lose_server(at, "the server did not answer for a client's settings");
                return bytes.len();
            }
        }
        header.total()
    }

    fn was_spelled(&mut self, spelling: Spelling, at: usize) {
        let Spelling { client, process, wishes, answer, refused } = spelling;
        let answer = answer.and_then(|answer| String::from_utf8(answer).ok()).unwrap_or_default();
        // The first one is no wish's.
        let values: Vec<&str> = answer.split(settings::SEPARATOR).skip(1).collect();
        if let Some(server) = self.servers.get(at).filter(|_| refused.is_none() && values.len() == wishes.len()) {
            let mut spelled = server.target.spelled.borrow_mut();
            if spelled.len() + wishes.len() > SPELLED_MAX {
                spelled.clear();
            }
            let short = wishes.into_iter().zip(values).filter(|(wish, _)| wish.0.len() + wish.1.len() <= SPELLED_LEN_MAX);
            spelled.extend(short.map(|(wish, value)| (wish, value.into())));
        }
        match refused {
            Some(words) if self.is_unwelcomed(client, process) => {
                self.end_client_saying(client, &Refusal::Parameter(String::new()), &words);
            }
            _ => self.welcome_unasked(client, process),
        }
    }

    /// The server that was asked is gone.
    pub(super) fn was_not_spelled(&mut self, spelling: &Spelling) {
        self.welcome_unasked(spelling.client, spelling.process);
    }

    fn welcome_unasked(&mut self, client: usize, process: u32) {
        if self.is_unwelcomed(client, process) {
            self.welcome_with(client, false);
        }
    }

    /// Whether the client is still there, and waits.
    fn is_unwelcomed(&mut self, at: usize, process: u32) -> bool {
        self.clients
            .get_mut(at)
            .is_some_and(|client| client.process == process && client.session().is_some_and(|session| !session.welcomed))
    }
}
