//! Cancel requests: a client's, and the gateway's own when a limit is reached.
//!
//! A request reaches PostgreSQL on a connection of its own, and the signal may arrive late. A server connection with a request
//! on its way is lent to nobody; after it, it is reset first, which would meet the signal instead of anybody's statement.

use std::time::{Duration, Instant};

use guardian_pgwire::startup;
use mio::net::{TcpStream, UnixStream};

use super::{Subject, Worker, state::ServerState};
use crate::sql::{
    shared::Route,
    socket::{Got, Socket, Stream},
};

/// How long a request may take.
const CANCEL_MAX: Duration = Duration::from_secs(5);
/// Requests at once.
const CANCELLERS_MAX: usize = 256;

/// A request on its way.
pub(super) struct Canceller {
    socket: Socket,
    /// The server connection it is for, and the number of its process.
    server: usize,
    process: u32,
    request: Vec<u8>,
    since: Instant,
}

impl Worker {
    /// A client asks for its own statement to be cancelled. A wrong secret gets the same silence as a right one.
    pub(super) fn cancel(&mut self, process: u32, secret: u32) {
        let Some(&at) = self.by_process.get(&process) else { return };
        let Some(client) = self.clients.get_mut(at).filter(|client| client.secret == secret) else { return };
        let Some(session) = client.session() else { return };
        if session.queued.is_some() {
            self.refuse_waiting(at, &crate::sql::refusal::Refusal::Cancelled);
            return;
        }
        if let Some(server) = session.server
            && let ServerState::Attached(attached) = self.servers[server].state
            && attached == at
        {
            self.cancel_server(server);
        }
    }

    /// Asks a server to cancel what one of its connections does.
    pub(super) fn cancel_server(&mut self, at: usize) {
        let server = &mut self.servers[at];
        // One signal is as good as two.
        if server.cancels > 0 || !server.up.is_busy() || self.cancellers.len() >= CANCELLERS_MAX {
            return;
        }
        let stream = match self.shared.routes.get(&server.target.cluster) {
            // In clear also where TLS is in use: PostgreSQL takes it before any authentication, and the secret dies with
            // the connection.
            Ok(Route::Tcp { address, .. }) => TcpStream::connect(address).map(Stream::Tcp),
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
        let canceller = Canceller { socket: Socket::new(stream), server: at, process, request, since: self.now };
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
