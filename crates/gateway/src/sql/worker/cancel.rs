//! Cancel requests: a client's, and the gateway's own when a limit is reached.
//!
//! A request reaches PostgreSQL on a connection of its own, and the signal may arrive late. A server connection with a request
//! on its way is lent to nobody; after it, it is reset first, which would meet the signal instead of anybody's statement.
//!
//! PostgreSQL closes the connection of a request once the signal is sent, and drivers wait for that before they go on. So does
//! the gateway: a client's connection is closed when its own is, or when there is nothing to cancel.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use guardian_model::Pooling;
use guardian_pgwire::startup;
use mio::net::{TcpStream, UnixStream};

use super::{Message, Subject, Worker, state::ServerState};
use crate::sql::{
    refusal::Refusal,
    shared::{Route, Shared},
    socket::{Got, Socket, Stream},
};

/// How long a request may take.
const CANCEL_MAX: Duration = Duration::from_secs(5);
/// Requests at once.
const CANCELLERS_MAX: usize = 256;

/// A client's connection with a request: closed when nobody is left that deals with it.
pub(crate) struct Asker {
    socket: Socket,
    shared: Arc<Shared>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.socket.close();
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request on its way.
pub(super) struct Canceller {
    socket: Socket,
    /// Clients that wait for it.
    askers: Vec<Arc<Asker>>,
    /// The server connection it is for, and the number of its process.
    server: usize,
    process: u32,
    request: Vec<u8>,
    since: Instant,
}

impl Worker {
    /// A client sent a request instead of a login: every worker is told, for any may have the client that it is about.
    pub(super) fn pass_cancel(&mut self, at: usize, process: u32, secret: u32) {
        let Some(mut client) = self.clients.try_remove(at) else { return };
        self.by_process.remove(&client.process);
        client.line.socket.deregister(&self.registry);
        let asker = Arc::new(Asker { socket: client.line.socket, shared: Arc::clone(&self.shared) });
        for worker in 0..self.shared.mailboxes.len() {
            self.tell(worker, Message::Cancel { process, secret, asker: Arc::clone(&asker) });
        }
    }

    /// A client asks for its own statement to be cancelled. A wrong secret gets the same silence as a right one.
    pub(super) fn cancel(&mut self, process: u32, secret: u32, asker: Arc<Asker>) {
        let Some(&at) = self.by_process.get(&process) else { return };
        let Some(client) = self.clients.get_mut(at).filter(|client| client.secret == secret) else { return };
        let is_waiting = !client.line.inbox.is_empty();
        let Some(session) = client.session() else { return };
        if session.queued.is_some() {
            self.refuse_waiting(at, &Refusal::Cancelled);
            return;
        }
        let (Some(server), Some(tenant)) = (session.server, session.tenant) else { return };
        match self.servers[server].state {
            ServerState::Attached(attached) if attached == at => self.cancel_server(server, Some(asker)),
            // The statement has not been sent, and a signal would meet something else.
            ServerState::Preparing { client: Some(client), .. } if client == at && is_waiting => {
                if self.tenants[tenant].pooling == Pooling::Transaction {
                    self.leave_server(at);
                }
                self.refuse_waiting(at, &Refusal::Cancelled);
            }
            _ => {}
        }
    }

    /// Asks a server to cancel what one of its connections does.
    pub(super) fn cancel_server(&mut self, at: usize, asker: Option<Arc<Asker>>) {
        let server = &mut self.servers[at];
        // One signal is as good as two.
        if server.cancels > 0 {
            let on_its_way = self.cancellers.iter_mut().find(|(_, canceller)| canceller.server == at);
            if let Some((_, canceller)) = on_its_way {
                canceller.askers.extend(asker);
            }
            return;
        }
        if !server.up.is_busy() || self.cancellers.len() >= CANCELLERS_MAX {
            return;
        }
        let stream = match self.shared.routes.get(&server.target.cluster) {
            // In clear also where TLS is in use: PostgreSQL takes it before any authentication, and the secret dies with
            // the connection.
            Ok(Route::Tcp { .. }) => match server.line.socket.peer() {
                Some(address) => TcpStream::connect(address).map(Stream::Tcp),
                None => return,
            },
            Ok(Route::Unix(path)) => UnixStream::connect(path).map(Stream::Unix),
            Err(_) => return,
        };
        let Ok(stream) = stream else { return };
        let mut request = Vec::new();
        startup::write_cancel(&mut request, server.key.0, &server.key.1);
        server.cancels += 1;
        // Whatever becomes of it, the next user gets the connection after a reset.
        server.up.traces.cancelled = true;
        let process = server.key.0;
        let (socket, askers) = (Socket::new(stream), asker.into_iter().collect());
        let canceller = Canceller { socket, askers, server: at, process, request, since: self.now };
        let at = self.cancellers.insert(canceller);
        if self.cancellers[at].socket.register(&self.registry, Subject::Canceller(at).token()).is_err() {
            self.end_canceller(at, false);
        }
    }

    pub(super) fn canceller_ready(&mut self, at: usize) {
        let Some(canceller) = self.cancellers.get_mut(at) else { return };
        if !canceller.request.is_empty() {
            match canceller.socket.connected() {
                Ok(false) => return,
                Ok(true) => {}
                Err(_) => return self.end_canceller(at, false),
            }
            match canceller.socket.write(&canceller.request) {
                Ok(sent) => drop(canceller.request.drain(..sent)),
                Err(_) => return self.end_canceller(at, false),
            }
        }
        // The server closes the connection once the signal is sent.
        let mut nothing = [0; 16];
        loop {
            match canceller.socket.read(&mut nothing) {
                Ok(Got::Nothing) => return,
                Ok(Got::Bytes { .. }) => {}
                Ok(Got::End) | Err(_) => break,
            }
        }
        let sent = canceller.request.is_empty();
        self.end_canceller(at, sent);
    }

    /// `sent`: the server has dealt with it. Otherwise nobody knows, and the connection it was for is not used again.
    fn end_canceller(&mut self, at: usize, sent: bool) {
        let Some(mut canceller) = self.cancellers.try_remove(at) else { return };
        canceller.socket.deregister(&self.registry);
        let Some(server) = self.servers.get_mut(canceller.server).filter(|server| server.key.0 == canceller.process) else {
            return;
        };
        server.cancels -= 1;
        server.doomed |= !sent;
        if server.cancels == 0 && matches!(server.state, ServerState::Quarantined) {
            self.rest_server(canceller.server);
        }
    }

    /// The server connection is gone; requests for it go on, because its server may be at work still.
    pub(super) fn forget_cancels(&mut self, server: usize) {
        for (_, canceller) in self.cancellers.iter_mut().filter(|(_, canceller)| canceller.server == server) {
            canceller.server = usize::MAX;
        }
    }

    pub(super) fn end_slow_cancellers(&mut self) {
        let slow: Vec<usize> = self
            .cancellers
            .iter()
            .filter(|(_, canceller)| self.now - canceller.since > CANCEL_MAX)
            .map(|(at, _)| at)
            .collect();
        for at in slow {
            self.end_canceller(at, false);
        }
    }
}
