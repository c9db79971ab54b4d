//! One thread of the gateway: an event loop over its clients and servers.
//!
//! A cluster's pool (or one shard of it) belongs to one worker, and so do its tenants' clients: queues, limits and fairness
//! need no lock. Clients log in wherever they were accepted and move to their worker then.

mod cancel;
mod change;
mod clients;
mod clock;
mod connect;
mod console;
mod handover;
mod observed;
mod pool;
mod servers;
mod state;
mod switching;
mod traffic;
mod welcome;

use std::{
    collections::{HashMap, VecDeque},
    io,
    rc::Rc,
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use guardian_model::TenantId;
use mio::{Events, Poll, Registry, Token, Waker};
use slab::Slab;

use self::{
    cancel::Canceller,
    state::{Client, Pool, Server, Target, Tenant},
};
pub(crate) use self::{
    clients::Arrival,
    connect::{PINNED, quoted},
    console::{Answer, Ask, Part, Question},
    handover::capability,
};
use super::{
    listener::Listener,
    observe,
    prepared::Statements,
    shared::{Shared, WAKER},
};
use crate::View;

/// Bytes read at once.
const READ_LEN: usize = 64 * 1024;
/// How often clocks are looked at while something runs or waits.
const TICK_BUSY: Duration = Duration::from_millis(10);
/// How often at other times.
const TICK_IDLE: Duration = Duration::from_secs(1);

/// What other threads tell a worker.
pub(crate) enum Message {
    /// The directory has a new view.
    Changed,
    /// A connection that was accepted elsewhere.
    Accepted {
        stream: super::socket::Stream,
        /// How many clients the gateway had before.
        others: usize,
    },
    /// A client that logged in elsewhere, or changed to a tenant of this worker.
    Arrived(Box<Arrival>),
    /// A cancel request, for whichever worker has the client.
    Cancel { process: u32, secret: u32, asker: Arc<cancel::Asker> },
    /// A question of an administrator or of the metrics.
    Ask(Ask),
    /// A part of the answer to a question of a client here.
    Answered { client: usize, part: Part },
    /// Stop accepting, let transactions end, then end.
    Drain,
    /// Another process accepts from here on.
    StopAccepting,
    /// More connections may wait at a listener.
    AcceptMore(usize),
}

/// What is to be looked at again before the loop waits.
#[derive(Debug, Clone, Copy)]
enum Job {
    Client(usize),
    Server(usize),
    Dispatch(usize),
}

/// What an event is about.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Waker,
    Listener(usize),
    Client(usize),
    Server(usize),
    Canceller(usize),
}

const KINDS: usize = 4;

impl Subject {
    fn token(self) -> Token {
        Token(match self {
            Self::Waker => WAKER.0,
            Self::Listener(at) => (at + 1) * KINDS,
            Self::Client(at) => at * KINDS + 1,
            Self::Server(at) => at * KINDS + 2,
            Self::Canceller(at) => at * KINDS + 3,
        })
    }

    fn of(token: Token) -> Self {
        let at = token.0 / KINDS;
        match token.0 % KINDS {
            0 if at == 0 => Self::Waker,
            0 => Self::Listener(at - 1),
            1 => Self::Client(at),
            2 => Self::Server(at),
            _ => Self::Canceller(at),
        }
    }
}

/// The worker.
pub(crate) struct Worker {
    number: usize,
    poll: Poll,
    registry: Registry,
    mailbox: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    view: Arc<View>,
    /// The application is being adopted, and observed: row tenants are served as its old role.
    observing: bool,
    listeners: Vec<Listener>,
    /// The worker that the next accepted connection goes to.
    next_seat: usize,
    clients: Slab<Client>,
    servers: Slab<Server>,
    cancellers: Slab<Canceller>,
    tenants: Slab<Tenant>,
    tenant_of: HashMap<TenantId, usize>,
    pools: Vec<Pool>,
    targets: HashMap<(guardian_model::ClusterName, String, String), Rc<Target>>,
    statements: Statements,
    by_process: HashMap<u32, usize>,
    serial: u64,
    jobs: VecDeque<Job>,
    scratches: Vec<Vec<u8>>,
    outs: Vec<Vec<u8>>,
    now: Instant,
    tick_at: Instant,
    housekeeping_at: Instant,
    drain_until: Option<Instant>,
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        poll: Poll,
        mailbox: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
        mut listeners: Vec<Listener>,
    ) -> io::Result<Self> {
        let registry = poll.registry().try_clone()?;
        for (at, listener) in listeners.iter_mut().enumerate() {
            listener.register(&registry, Subject::Listener(at).token())?;
        }
        let (now, view) = (Instant::now(), shared.directory.view());
        let first = (number as u64) << 48;
        Ok(Self {
            number,
            poll,
            registry,
            mailbox,
            observing: observe::is_observing(&view),
            view,
            shared,
            listeners,
            next_seat: 0,
            clients: Slab::new(),
            servers: Slab::new(),
            cancellers: Slab::new(),
            tenants: Slab::new(),
            tenant_of: HashMap::new(),
            pools: Vec::new(),
            targets: HashMap::new(),
            statements: Statements::starting_at(first),
            by_process: HashMap::new(),
            serial: first,
            jobs: VecDeque::new(),
            scratches: Vec::new(),
            outs: Vec::new(),
            now,
            tick_at: now,
            housekeeping_at: now,
            drain_until: None,
        })
    }

    /// Until drained.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            self.now = Instant::now();
            for event in &events {
                match Subject::of(event.token()) {
                    Subject::Waker => self.read_mailbox(),
                    Subject::Listener(at) => self.accept(at),
                    Subject::Client(at) => {
                        if event.is_writable() {
                            self.client_writable(at);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.client_readable(at, event.is_read_closed() || event.is_error());
                        }
                    }
                    Subject::Server(at) => {
                        if event.is_writable() {
                            self.server_writable(at);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.server_readable(at, event.is_read_closed() || event.is_error());
                        }
                    }
                    Subject::Canceller(at) => self.canceller_ready(at),
                }
                self.do_jobs();
            }
            if self.now >= self.tick_at {
                self.tick();
                self.do_jobs();
            }
            if self.is_drained() {
                return Ok(());
            }
        }
    }

    fn do_jobs(&mut self) {
        while let Some(job) = self.jobs.pop_front() {
            match job {
                Job::Client(at) => self.pump_client(at),
                Job::Server(at) => self.pump_server(at),
                Job::Dispatch(pool) => self.dispatch(pool),
            }
        }
    }

    /// How long the loop may wait for events.
    fn timeout(&mut self) -> Duration {
        let is_busy = self.drain_until.is_some()
            || self.pools.iter().any(|pool| (pool.idle as usize) < pool.servers.len() || !pool.waiting.is_empty());
        if is_busy {
            self.tick_at = self.tick_at.min(self.now + TICK_BUSY);
        }
        self.tick_at.saturating_duration_since(self.now)
    }

    fn read_mailbox(&mut self) {
        while let Ok(message) = self.mailbox.try_recv() {
            match message {
                Message::Changed => self.take_over_changes(),
                Message::Accepted { stream, others } => self.begin_client(stream, others),
                Message::Arrived(arrival) => self.arrive(*arrival),
                Message::Cancel { process, secret, asker } => self.cancel(process, secret, asker),
                Message::Ask(ask) => self.answer_ask(&ask),
                Message::Answered { client, part } => self.answered(client, part),
                Message::Drain => self.drain(),
                Message::StopAccepting => self.stop_accepting(),
                Message::AcceptMore(at) => self.accept(at),
            }
            self.do_jobs();
        }
    }

    fn stop_accepting(&mut self) {
        for mut listener in self.listeners.drain(..) {
            listener.deregister(&self.registry);
        }
    }

    fn drain(&mut self) {
        self.stop_accepting();
        self.drain_until.get_or_insert(self.now + self.shared.options.drain);
        self.tick_at = self.now;
    }

    /// A client may be on its way here as long as the gateway has one.
    fn is_drained(&self) -> bool {
        let is_over = |until| self.now >= until || self.shared.clients.load(Ordering::SeqCst) == 0;
        self.clients.is_empty() && self.drain_until.is_some_and(is_over)
    }

    fn scratch(&mut self) -> Vec<u8> {
        self.scratches.pop().unwrap_or_else(|| vec![0; READ_LEN])
    }

    fn out(&mut self) -> Vec<u8> {
        self.outs.pop().unwrap_or_default()
    }

    /// Gives back a buffer of [`Worker::out`].
    fn keep_out(&mut self, mut out: Vec<u8>) {
        if out.capacity() <= 4 * READ_LEN && self.outs.len() < 8 {
            out.clear();
            self.outs.push(out);
        }
    }

    fn tell(&self, worker: usize, message: Message) {
        self.shared.mailboxes[worker].tell(message);
    }
}

/// Where to reach a worker.
pub(crate) struct Mailbox {
    pub(crate) sender: mpsc::Sender<Message>,
    pub(crate) waker: Arc<Waker>,
}

impl Mailbox {
    /// Tells the worker; one that has ended is told nothing.
    pub(crate) fn tell(&self, message: Message) {
        let _ = self.hand(message);
    }

    /// The same; what one that has ended was to get comes back.
    pub(crate) fn hand(&self, message: Message) -> Result<(), Message> {
        self.sender.send(message).map_err(|mpsc::SendError(message)| message)?;
        let _ = self.waker.wake();
        Ok(())
    }
}
