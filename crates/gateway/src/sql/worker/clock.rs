//! Deadlines, by the gateway's own clock: a session can undo the server's with SET.

use std::time::{Duration, Instant};

use guardian_model::Pooling;

use super::{
    Job, TICK_BUSY, TICK_IDLE, Worker,
    state::{Client, ServerState, Stage},
};
use crate::sql::refusal::Refusal;

/// After a cancel request for a limit, how long until the connection is closed instead.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long an idle connection is kept.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// How long a reset or an entry may take.
const HANDOVER_MAX: Duration = Duration::from_secs(10);
/// How long a client counts as a newcomer.
const NEWCOMER: Duration = Duration::from_secs(2);
/// How often what is slow to change is looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What a deadline asks for.
enum Due {
    /// Cancel the statement, and say so in place of the server's error.
    Cancel(Refusal),
    /// End the client, and its server connection with it.
    End(Refusal),
    /// The server does not react.
    Lose(&'static str),
}

impl Worker {
    pub(super) fn tick(&mut self) {
        self.tick_at = self.now + TICK_IDLE;
        self.look_at_servers();
        self.look_at_queues();
        if self.now >= self.housekeeping_at {
            self.housekeeping_at = self.now + HOUSEKEEPING;
            self.end_slow_logins();
            self.end_slow_connecting();
            self.end_slow_cancellers();
            self.close_idle_servers();
            self.open_for_unwelcomed();
            let pools = 0..self.pools.len();
            self.jobs.extend(pools.map(Job::Dispatch));
        }
        if let Some(until) = self.drain_until {
            self.tick_at = self.now + TICK_BUSY;
            self.drain_clients(until);
        }
    }

    fn look_at_servers(&mut self) {
        let all: Vec<usize> = self.servers.iter().map(|(at, _)| at).collect();
        for at in all {
            if self.servers.get(at).is_some_and(|server| server.holder.is_some()) {
                self.charge(at);
            }
            if let Some(due) = self.due(at) {
                self.enforce(at, due);
            }
        }
    }

    /// The deadline that a server connection has passed, if any.
    fn due(&self, at: usize) -> Option<Due> {
        let server = self.servers.get(at)?;
        let passed = |since: Instant, max_ms: u32| max_ms > 0 && self.now - since > Duration::from_millis(max_ms.into());
        match server.state {
            ServerState::Attached(_) => {}
            ServerState::Preparing { .. } => {
                let is_late = server.busy_since.is_some_and(|since| self.now - since > HANDOVER_MAX);
                return is_late.then_some(Due::Lose("a reset or an entry takes too long"));
            }
            ServerState::Connecting(_) | ServerState::Idle | ServerState::Quarantined => return None,
        }
        let tenant = self.tenants.get(server.holder?)?;
        let limits = &tenant.limits;
        // Where it is lent for a transaction, having it is being in one, whatever the client has sent of it yet.
        let in_transaction = server.up.is_in_transaction() || tenant.pooling == Pooling::Transaction;
        if (in_transaction || server.up.is_busy()) && passed(server.transaction_since, limits.transaction_ms_max) {
            let (name, value) = ("transaction_ms_max", limits.transaction_ms_max);
            return Some(Due::End(Refusal::Limit { name, value, unit: " ms" }));
        }
        match server.busy_since {
            Some(since) if server.up.cut.is_some() || server.cut_at.is_some() => {
                let at = server.cut_at.unwrap_or(since);
                (self.now - at > CANCEL_GRACE).then_some(Due::Lose("it does not heed a cancel request"))
            }
            Some(since) if passed(since, limits.statement_ms_max) => {
                let (name, value) = ("statement_ms_max", limits.statement_ms_max);
                Some(Due::Cancel(Refusal::Limit { name, value, unit: " ms" }))
            }
            None if in_transaction && passed(server.idle_since, limits.idle_in_transaction_ms_max) => {
                let (name, value) = ("idle_in_transaction_ms_max", limits.idle_in_transaction_ms_max);
                Some(Due::End(Refusal::Limit { name, value, unit: " ms" }))
            }
            Some(_) | None => None,
        }
    }

    fn enforce(&mut self, at: usize, due: Due) {
        let ServerState::Attached(client) = self.servers[at].state else {
            if let Due::Lose(how) = due {
                self.lose_server(at, how);
            }
            return;
        };
        match due {
            Due::Cancel(refusal) => {
                let now = self.now;
                let server = &mut self.servers[at];
                server.cut_at = Some(now);
                if let Some(tenant) = server.holder {
                    self.tenants[tenant].counts.refusals += 1;
                }
                self.shared.refused(&refusal);
                self.cancel_server(at, None);
                self.servers[at].up.cut = Some(refusal);
            }
            Due::End(refusal) => self.end_client(client, &refusal),
            Due::Lose(how) => self.lose_server(at, how),
        }
    }

    fn look_at_queues(&mut self) {
        for pool in 0..self.pools.len() {
            let waiting: Vec<usize> = self.pools[pool].waiting.iter().map(|(_, tenant)| *tenant).collect();
            for tenant in waiting {
                let max_ms = self.tenants[tenant].limits.queue_wait_ms_max;
                let refusal = Refusal::Limit { name: "queue_wait_ms_max", value: max_ms, unit: " ms" };
                // Those in front wait longest.
                while let Some(&client) = self.tenants[tenant].queue.front() {
                    let queued = self.clients.get_mut(client).and_then(Client::session).and_then(|session| session.queued);
                    let is_late = queued.is_none_or(|since| self.now - since > Duration::from_millis(max_ms.into()));
                    if max_ms == 0 || !is_late || self.is_paused(tenant) {
                        break;
                    }
                    self.refuse_waiting(client, &refusal);
                }
            }
        }
    }

    /// Refuses what a waiting client waits with; it may go on with something else.
    pub(super) fn refuse_waiting(&mut self, at: usize, refusal: &Refusal) {
        self.leave_queue(at);
        let Some(client) = self.clients.get_mut(at) else { return };
        let inbox = std::mem::take(&mut client.line.inbox);
        let flow = self.refuse_message(at, &inbox, refusal);
        if let super::traffic::Flow::Used(used) = flow
            && let Some(client) = self.clients.get_mut(at)
        {
            client.line.inbox = inbox[used..].to_vec();
            self.jobs.push_back(Job::Client(at));
        }
    }

    fn end_slow_logins(&mut self) {
        let max = self.shared.options.login;
        let slow: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| {
                let is_on_its_way = match &client.stage {
                    Stage::Login(..) | Stage::TlsHandshake { .. } => true,
                    Stage::Session(session) => !session.welcomed,
                    Stage::Gone => client.closing,
                    Stage::Console(_) => false,
                };
                is_on_its_way && self.now - client.since > max
            })
            .map(|(at, _)| at)
            .collect();
        for at in slow {
            self.lose_client(at);
        }
    }

    fn close_idle_servers(&mut self) {
        let idle: Vec<usize> = self
            .servers
            .iter()
            .filter(|(_, server)| {
                let max_s =
                    server.tag.and_then(|tag| self.tenants.get(tag)).map(|tag| tag.limits.server_connection_age_s_max);
                let too_old = max_s.is_some_and(|max_s| (self.now - server.born).as_secs() >= max_s.into());
                matches!(server.state, ServerState::Idle) && (too_old || self.now - server.idle_since > IDLE_MAX)
            })
            .map(|(at, _)| at)
            .collect();
        for at in idle {
            self.close_server(at);
        }
    }

    /// Lets go of clients that are between two transactions; of all, once their time is up.
    fn drain_clients(&mut self, until: Instant) {
        let all: Vec<usize> = self.clients.iter().map(|(at, _)| at).collect();
        for at in all {
            let Some(client) = self.clients.get_mut(at) else { continue };
            // Whoever has only just come gets to say what it came for.
            let is_new = self.now - client.since < NEWCOMER;
            let is_between = match &client.stage {
                Stage::Session(session) => {
                    let is_idle = session.queued.is_none() && session.server.is_none() && !session.down.is_within_message();
                    is_idle && !(is_new && session.transactions == 0)
                }
                Stage::Login(..) | Stage::TlsHandshake { .. } => !is_new,
                Stage::Console(_) | Stage::Gone => true,
            };
            if self.now >= until && client.closing {
                self.remove_client(at);
            } else if is_between || self.now >= until || self.is_session_at_rest(at) {
                self.end_client(at, &Refusal::Stopping);
            }
        }
    }

    /// A client of session mode that is outside a transaction.
    fn is_session_at_rest(&mut self, at: usize) -> bool {
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return false };
        let within = session.down.is_within_message();
        session.server.and_then(|server| self.servers.get(server)).is_some_and(|server| server.up.is_settled() && !within)
    }
}
