//! What a worker knows of clients, servers, tenants and pools.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, VecDeque},
    io,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use guardian_model::{
    ClusterName, Limits, Pooling, TenantId,
    snapshot::{Secret, SnapshotLogin, SnapshotTenant},
};

use super::console::Console;
use crate::sql::{
    downstream::Downstream,
    login::{Channel, Login},
    metrics::Measured,
    observe::Tap,
    refusal::Refusal,
    settings::Settings,
    socket::Socket,
    upstream::Upstream,
};

/// Bytes that the other side is too slow to take. Bounded by who writes into it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    at: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Sends what the socket takes. An empty outbox owns no memory.
    pub(super) fn drain(&mut self, socket: &mut Socket) -> io::Result<()> {
        self.at += socket.write(&self.bytes[self.at..])?;
        if self.at == self.bytes.len() {
            *self = Self::default();
        }
        Ok(())
    }
}

/// A connection and what is on its way.
pub(super) struct Line {
    pub(super) socket: Socket,
    /// There may be something to read: the event for it was seen, and the socket was not read empty since.
    pub(super) readable: bool,
    /// Bytes that were read and not used up.
    pub(super) inbox: Vec<u8>,
    pub(super) outbox: Outbox,
    /// TLS holds bytes back.
    pub(super) unflushed: bool,
}

impl Line {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, readable: true, inbox: Vec::new(), outbox: Outbox::default(), unflushed: false }
    }

    /// Something can be read; with `ends`, the end of it as well.
    pub(super) fn has_more(&mut self, ends: bool) {
        self.readable = true;
        if ends {
            self.socket.announce_end();
        }
    }

    /// Sends, or keeps what does not fit.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let sent = if self.outbox.is_empty() { self.socket.write(bytes)? } else { 0 };
        if sent < bytes.len() {
            self.outbox.push(&bytes[sent..]);
        }
        self.unflushed = self.socket.tls().is_some_and(|tls| tls.wants_write());
        Ok(())
    }

    /// The other side takes bytes again.
    pub(super) fn writable(&mut self) -> io::Result<()> {
        self.unflushed = !self.socket.flush()?;
        if !self.unflushed && !self.outbox.is_empty() {
            self.outbox.drain(&mut self.socket)?;
            self.unflushed = self.socket.tls().is_some_and(|tls| tls.wants_write());
        }
        Ok(())
    }

    /// The other side is slower than what is meant for it.
    pub(super) fn is_congested(&self) -> bool {
        self.unflushed || !self.outbox.is_empty()
    }
}

/// A client.
pub(super) struct Client {
    pub(super) line: Line,
    pub(super) stage: Stage,
    /// What it sends to cancel a statement of its own.
    pub(super) process: u32,
    pub(super) secret: u32,
    pub(super) since: Instant,
    /// Ends once the outbox is empty.
    pub(super) closing: bool,
}

/// How far a client is.
pub(super) enum Stage {
    /// The turn to TLS; `direct`: without a request in clear in front.
    TlsHandshake {
        login: Box<Login>,
        channel: Box<Channel>,
        direct: bool,
    },
    Login(Box<Login>, Box<Channel>),
    Session(Box<Session>),
    Console(Box<Console>),
    /// Being taken apart, or moved to another worker.
    Gone,
}

/// Settings of start-up packets, as names and values.
pub(super) type Wishes = Rc<Vec<(String, String)>>;

/// A client that is in.
pub(super) struct Session {
    pub(super) login: Arc<SnapshotLogin>,
    /// The tenant it is bound to, by its place in the worker's list.
    pub(super) tenant: Option<usize>,
    /// Seconds since 1970 at which the identity that it is bound by expires.
    pub(super) bound_until_s: Option<u64>,
    pub(super) down: Downstream,
    /// The settings that it was told.
    pub(super) told: Arc<Settings>,
    /// Settings of its start-up packet, which a server connection is given with every hand-over.
    pub(super) wished: Wishes,
    pub(super) server: Option<usize>,
    /// Listens while the application is observed.
    pub(super) tap: Option<Box<Tap>>,
    /// Waits for a server connection, since.
    pub(super) queued: Option<Instant>,
    /// Was told that it is in.
    pub(super) welcomed: bool,
    pub(super) transactions: u64,
}

impl Client {
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            Stage::Session(session) => Some(session),
            Stage::TlsHandshake { .. } | Stage::Login(..) | Stage::Console(_) | Stage::Gone => None,
        }
    }
}

/// A server connection.
pub(super) struct Server {
    pub(super) line: Line,
    pub(super) state: ServerState,
    pub(super) up: Upstream,
    pub(super) pool: usize,
    pub(super) target: Rc<Target>,
    /// What it is asked about a new client's settings.
    pub(super) spelling: Option<Box<super::welcome::Spelling>>,
    /// What it reports after a reset.
    pub(super) base: Arc<Settings>,
    /// Whose context it is in, once what it owes has been answered.
    pub(super) tag: Option<usize>,
    /// Whose client has it: pays for it.
    pub(super) holder: Option<usize>,
    /// The client that used it last, by serial number.
    pub(super) last_client: u64,
    /// Settings beyond the reported ones that were given to it.
    pub(super) wished: Wishes,
    /// The lock timeout that it has; `None`: unknown.
    pub(super) lock_ms: Option<u32>,
    pub(super) born: Instant,
    pub(super) key: (u32, Vec<u8>),
    /// The number of `guardian.enter` in its database (row tenants).
    pub(super) enter: u32,
    /// The tenant that it was last told to enter, as it was known then.
    pub(super) offered: Option<Arc<SnapshotTenant>>,
    /// Cancel requests that are on their way to it.
    pub(super) cancels: u32,
    /// Not to be used again.
    pub(super) doomed: bool,
    /// Since when the present client has it.
    pub(super) held_since: Instant,
    /// Up to when the tenant was charged for it.
    pub(super) charged_to: Instant,
    /// Since when it works on a statement.
    pub(super) busy_since: Option<Instant>,
    /// When its statement was cut short.
    pub(super) cut_at: Option<Instant>,
    /// Since when it is idle in a transaction, or at all.
    pub(super) idle_since: Instant,
    /// Since when it is in the present transaction.
    pub(super) transaction_since: Instant,
}

impl Server {
    /// A reset leaves nothing of what the gateway had set.
    pub(super) fn forget_settings(&mut self) {
        self.wished = Rc::default();
        self.lock_ms = Some(super::connect::LOCK_MS);
    }

    /// The client that has it.
    pub(super) const fn client(&self) -> Option<usize> {
        match self.state {
            ServerState::Attached(client) => Some(client),
            ServerState::Preparing { client, .. } => client,
            ServerState::Connecting(_) | ServerState::Idle | ServerState::Quarantined => None,
        }
    }
}

/// What a server connection is at.
#[derive(Debug)]
pub(super) enum ServerState {
    Connecting(Box<super::connect::Connecting>),
    /// Nobody's.
    Idle,
    /// Made ready: for a client, or ahead of need.
    Preparing {
        client: Option<usize>,
        owed: super::handover::Owed,
    },
    Attached(usize),
    /// Settled, but a cancel request may still hit it.
    Quarantined,
}

/// What a role proves itself with, and what it will from some moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passwords {
    pub(super) now: Secret,
    pub(super) next: Option<Secret>,
}

impl Passwords {
    /// The one to try when this one was refused. The order is now, next: whoever tried the next has tried both, unless another
    /// one was heard of meanwhile.
    pub(super) fn besides(&self, refused: &Secret) -> Option<Secret> {
        if self.now == *refused {
            self.next.clone()
        } else if self.next.as_ref() == Some(refused) {
            None
        } else {
            Some(self.now.clone())
        }
    }
}

/// Where server connections lead.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) cluster: ClusterName,
    pub(super) database: String,
    pub(super) role: String,
    pub(super) schema: String,
    pub(super) is_row: bool,
    /// As the role that the application used before: not everything is enforced there.
    pub(super) observed: bool,
    pub(super) passwords: RefCell<Passwords>,
    /// What servers report before anybody sets anything; known from the first connection on.
    pub(super) base: RefCell<Option<Arc<Settings>>>,
    /// Settings that some session made the role's default, with the values to send against them.
    pub(super) pins: RefCell<Vec<(String, String)>>,
    /// What servers make of settings of start-up packets.
    pub(super) spelled: RefCell<HashMap<(String, String), Box<str>>>,
    /// What the client that came last was told, and what its servers are given.
    pub(super) last_settings: RefCell<(Arc<Settings>, Wishes)>,
    /// Clients that wait to be told they are in.
    pub(super) welcomes: RefCell<Vec<usize>>,
}

impl Target {
    /// One value for clients that come one after the other with the same settings, as those of one application do.
    pub(super) fn share(&self, told: Arc<Settings>, wished: Vec<(String, String)>) -> (Arc<Settings>, Wishes) {
        let mut last = self.last_settings.borrow_mut();
        if last.0 != told {
            last.0 = told;
        }
        if *last.1 != wished {
            last.1 = Rc::new(wished);
        }
        last.clone()
    }
}

/// A tenant that has or had clients here.
pub(super) struct Tenant {
    pub(super) id: TenantId,
    /// Nobody: clients of an application that is being observed which named no tenant. It has no context to enter.
    pub(super) nobody: bool,
    pub(super) entry: Arc<SnapshotTenant>,
    /// Its capability was refused, and the next one was not.
    pub(super) next_is_in_force: bool,
    pub(super) limits: Limits,
    pub(super) weight: u16,
    pub(super) pooling: Pooling,
    pub(super) pool: usize,
    pub(super) target: Rc<Target>,
    pub(super) clients: u32,
    /// Server connections that its clients have.
    pub(super) held: u32,
    pub(super) queue: VecDeque<usize>,
    /// Server time it had, in microseconds divided by its weight.
    pub(super) virtual_us: u64,
    pub(super) paused: bool,
    pub(super) counts: Measured,
}

/// The server connections of one cluster, or of one shard of it.
pub(super) struct Pool {
    pub(super) cluster: ClusterName,
    pub(super) shard: u16,
    pub(super) servers: Vec<usize>,
    pub(super) idle: u32,
    pub(super) connecting: u32,
    pub(super) len_max: usize,
    pub(super) reserved: usize,
    /// Tenants with clients in their queue, by virtual server time.
    pub(super) waiting: BTreeSet<(u64, usize)>,
    pub(super) paused: bool,
    /// After a failure to connect: not before, and why.
    pub(super) retry_at: Option<Instant>,
    pub(super) problem: Option<Refusal>,
}
