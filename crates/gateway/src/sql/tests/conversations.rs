//! Random conversations of two clients over three server connections, cut anywhere: each client receives what it would from a
//! server of its own, and a connection is settled exactly when its server is idle.

use std::sync::Arc;

use guardian_pgwire::{
    frame,
    frontend::{self, TargetKind},
};
use proptest::prelude::*;

use super::model::{Server, frame_of};
use crate::sql::{
    downstream::{Downstream, Names, Opening},
    prepared::Statements,
    settings::Settings,
    upstream::Upstream,
};

const NAMES: [&[u8]; 3] = [b"", b"one", b"two"];
const TEXTS: [&str; 13] = [
    "rows",
    "rows",
    "many",
    "fails",
    "bad",
    "begin",
    "commit",
    "rollback",
    "set",
    "in",
    "out",
    "",
    "SET guardian.tenant = 'x'",
];
const BATCHES: [&str; 4] = ["rows;rows", "in;in;rows", "begin;fails", "rows;bad"];

/// What happens next. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Event {
    Send(usize, Message),
    /// So many bytes of a client arrive.
    Arrives(usize, usize),
    /// A server reads so many bytes.
    Reads(usize, usize),
    /// So many bytes of a server come back.
    Returns(usize, usize),
    /// A client that is within nothing changes its tenant, and in a session of its own the connection.
    Switch(usize),
}

#[derive(Debug, Clone)]
enum Message {
    Query(usize),
    Parse(usize, usize),
    Bind(usize, usize),
    DescribeStatement(usize),
    DescribePortal(usize),
    CloseStatement(usize),
    ClosePortal(usize),
    Execute(usize),
    Sync,
    Flush,
    Function,
    CopyLine(bool),
    CopyDone,
    CopyFail,
}

struct Client {
    down: Downstream,
    direct: Server,
    /// Sent, and not arrived at the gateway.
    wire: Vec<u8>,
    inbox: Vec<u8>,
    received: Vec<u8>,
    server: Option<usize>,
    /// It began a COPY FROM STDIN and has not ended it.
    owes_copy_end: bool,
    /// Which unnamed statement there is hangs on a Parse that was discarded: a client that goes on with it is left alone.
    is_unnamed_doubtful: bool,
    /// It changed the connection of its session: there a name may be given anew that PostgreSQL would call taken.
    has_switched: bool,
}

struct Connection {
    up: Upstream,
    model: Server,
    to_server: Vec<u8>,
    to_gateway: Vec<u8>,
    inbox: Vec<u8>,
    client: Option<usize>,
}

struct World {
    clients: Vec<Client>,
    connections: Vec<Connection>,
    statements: Statements,
    next: usize,
    names: Names,
}

impl World {
    fn new(names: Names) -> Self {
        let client = |serial| {
            let mut down = Downstream::default();
            down.serial = serial;
            Client {
                down,
                direct: Server::direct(),
                wire: Vec::new(),
                inbox: Vec::new(),
                received: Vec::new(),
                server: None,
                owes_copy_end: false,
                is_unnamed_doubtful: false,
                has_switched: false,
            }
        };
        Self {
            clients: vec![client(1), client(2)],
            connections: (0..3).map(|_| Connection::new()).collect(),
            statements: Statements::starting_at(0),
            next: 0,
            names,
        }
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Send(at, message) => self.clients[at % 2].send(message),
            Event::Arrives(at, len) => {
                let client = &mut self.clients[at % 2];
                let len = (*len).min(client.wire.len());
                client.inbox.extend(client.wire.drain(..len));
                self.pump(at % 2);
            }
            Event::Reads(at, len) => {
                let connection = &mut self.connections[at % 3];
                let len = (*len).min(connection.to_server.len());
                let bytes: Vec<u8> = connection.to_server.drain(..len).collect();
                connection.model.feed(&bytes);
                connection.to_gateway.append(&mut connection.model.out);
            }
            Event::Returns(at, len) => self.returns(at % 3, *len),
            Event::Switch(at) => self.switches(at % 2),
        }
    }

    fn switches(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some(server) = client.server.filter(|_| client.wire.is_empty() && client.inbox.is_empty()) else { return };
        let connection = &mut self.connections[server];
        if connection.up.is_settled() && !client.down.is_within_message() {
            connection.check_settled();
            *connection = Connection::new();
            client.server = None;
            (client.is_unnamed_doubtful, client.has_switched) = (true, true);
        }
    }

    /// What a worker does with what has arrived of a client.
    fn pump(&mut self, at: usize) {
        loop {
            let client = &mut self.clients[at];
            if client.inbox.is_empty() {
                return;
            }
            let Some(server) = client.server else {
                if !self.opens(at) {
                    return;
                }
                continue;
            };
            let connection = &mut self.connections[server];
            let mut out = Vec::new();
            let forwarded =
                client.down.forward(&client.inbox, &mut connection.up, &mut self.statements, self.names, &mut out);
            let forwarded = forwarded.expect("a client that keeps to the protocol is not refused");
            connection.to_server.extend_from_slice(forwarded.bytes);
            let consumed = forwarded.consumed;
            client.inbox.drain(..consumed);
            if consumed == 0 {
                return;
            }
            // All that was sent is what a server ignores, such as data of a COPY that failed.
            if connection.up.is_settled() && !client.down.is_within_message() {
                self.release(server, at);
            }
        }
    }

    fn release(&mut self, server: usize, client: usize) {
        self.connections[server].check_settled();
        if self.names == Names::Own {
            return;
        }
        self.connections[server].client = None;
        self.clients[client].server = None;
    }

    /// Whether something came of the next message of a client without a connection.
    fn opens(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        if client.down.is_within_message() {
            let used = client.down.discard_remaining(&client.inbox);
            client.inbox.drain(..used);
            return used > 0;
        }
        match client.down.open(&client.inbox, &mut client.received).unwrap() {
            Opening::Incomplete => false,
            Opening::Consumed(len) => {
                client.inbox.drain(..len);
                true
            }
            Opening::Server => {
                // Another one each time, so that what was prepared is looked for where it is not.
                let free = (0..3).map(|step| (self.next + step) % 3).find(|&at| self.connections[at].client.is_none());
                let server = free.unwrap();
                self.next = server + 1;
                client.server = Some(server);
                self.connections[server].client = Some(at);
                true
            }
            other => panic!("{other:?}"),
        }
    }

    fn returns(&mut self, at: usize, len: usize) {
        let connection = &mut self.connections[at];
        let len = len.min(connection.to_gateway.len());
        connection.inbox.extend(connection.to_gateway.drain(..len));
        loop {
            let connection = &mut self.connections[at];
            if connection.inbox.is_empty() {
                return;
            }
            let Some(client_at) = connection.client else { panic!("a connection that nobody has sent something") };
            let client = &mut self.clients[client_at];
            let mut out = Vec::new();
            let answered = connection.up.answer(&connection.inbox, &mut out).expect("every answer was asked for");
            client.received.extend_from_slice(answered.bytes);
            let (consumed, settled) = (answered.consumed, answered.settled);
            if answered.prepared > 0 || answered.failed {
                client.down.answered(answered.prepared, answered.failed);
            }
            connection.inbox.drain(..consumed);
            if settled && !client.down.is_within_message() {
                self.release(at, client_at);
            }
            self.pump(client_at);
            if consumed == 0 {
                return;
            }
        }
    }

    fn settles(&mut self) {
        for _ in 0..100 {
            for at in 0..3 {
                self.happens(&Event::Arrives(at, usize::MAX));
                self.happens(&Event::Reads(at, usize::MAX));
                self.happens(&Event::Returns(at, usize::MAX));
            }
        }
    }
}

impl Connection {
    fn new() -> Self {
        Self {
            up: Upstream::new(Arc::new(Settings::default())),
            model: Server::default(),
            to_server: Vec::new(),
            to_gateway: Vec::new(),
            inbox: Vec::new(),
            client: None,
        }
    }

    /// Nothing is on its way that would be answered, and the server is outside of everything.
    fn check_settled(&self) {
        assert!(self.inbox.is_empty() && self.to_gateway.is_empty());
        let mut model = self.model.clone();
        model.feed(&self.to_server);
        assert!(model.is_idle() && model.out.is_empty() && !model.broken);
    }
}

impl Client {
    /// Sends a message, unless a client that keeps to the protocol would not.
    fn send(&mut self, message: &Message) {
        let may_come_in_copy =
            matches!(message, Message::CopyLine(_) | Message::CopyDone | Message::CopyFail | Message::Flush);
        // A Sync that comes before the end of the data is read as part of them, as long as there are any.
        let is_early_sync = matches!(message, Message::Sync) && self.direct.is_copying();
        if self.owes_copy_end && !may_come_in_copy && !is_early_sync {
            return;
        }
        let is_of_unnamed = match message {
            Message::Bind(_, name) | Message::DescribeStatement(name) => name % 3 == 0,
            _ => false,
        };
        if is_of_unnamed && self.is_unnamed_doubtful {
            return;
        }
        if self.has_switched && matches!(message, Message::Parse(name, _) if self.direct.has(NAMES[name % 3])) {
            return;
        }
        let text = match message {
            Message::Parse(_, text) | Message::Query(text) => TEXTS.iter().chain(&BATCHES).nth(text % 17).copied(),
            _ => None,
        };
        let text = text.unwrap_or_default();
        // At the front it would be the gateway's to carry out.
        if text.starts_with("SET") && !self.direct.is_in_transaction() {
            return;
        }
        if matches!(message, Message::Parse(..)) && text.contains(';') {
            return;
        }
        match message {
            Message::Parse(name, _) | Message::CloseStatement(name) if name % 3 == 0 => {
                self.is_unnamed_doubtful = self.direct.is_discarding();
            }
            Message::Query(_) => self.is_unnamed_doubtful = self.direct.is_discarding(),
            _ => {}
        }
        let bytes = message.write(text);
        self.direct.feed(&bytes);
        assert!(!self.direct.broken);
        self.owes_copy_end = match message {
            Message::CopyDone | Message::CopyFail => self.direct.is_copying(),
            _ => self.owes_copy_end || self.direct.is_copying(),
        };
        self.wire.extend_from_slice(&bytes);
    }
}

impl Message {
    fn write(&self, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let name = |name: usize| NAMES[name % 3];
        match self {
            Self::Query(_) => frontend::write_query(&mut out, text.as_bytes()),
            Self::Parse(at, _) => frontend::write_parse(&mut out, name(*at), &[text.as_bytes(), &[0; 3]].concat()),
            Self::Bind(portal, statement) => {
                frontend::write_bind_prefix(&mut out, name(*portal), name(*statement), 6);
                out.extend_from_slice(&[0; 6]);
            }
            Self::DescribeStatement(at) => frontend::write_describe(&mut out, TargetKind::Statement, name(*at)),
            Self::DescribePortal(at) => frontend::write_describe(&mut out, TargetKind::Portal, name(*at)),
            Self::CloseStatement(at) => frontend::write_close(&mut out, TargetKind::Statement, name(*at)),
            Self::ClosePortal(at) => frontend::write_close(&mut out, TargetKind::Portal, name(*at)),
            Self::Execute(at) => frame_of(&mut out, b'E', &[name(*at), &[0; 5]].concat()),
            Self::Sync => frontend::write_sync(&mut out),
            Self::Flush => frame_of(&mut out, b'H', &[]),
            Self::Function => frontend::write_function_call(&mut out, 1, b"x"),
            Self::CopyLine(true) => frame_of(&mut out, b'd', b"line\n"),
            Self::CopyLine(false) => frame_of(&mut out, b'd', b"poison"),
            Self::CopyDone => frame_of(&mut out, b'c', &[]),
            Self::CopyFail => frame_of(&mut out, b'f', b"no\0"),
        }
        out
    }
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        2 => (0..17usize).prop_map(Message::Query),
        4 => (0..3usize, 0..13usize).prop_map(|(name, text)| Message::Parse(name, text)),
        4 => (0..2usize, 0..3usize).prop_map(|(portal, name)| Message::Bind(portal, name)),
        1 => (0..3usize).prop_map(Message::DescribeStatement),
        1 => (0..2usize).prop_map(Message::DescribePortal),
        1 => (0..3usize).prop_map(Message::CloseStatement),
        1 => (0..2usize).prop_map(Message::ClosePortal),
        4 => (0..2usize).prop_map(Message::Execute),
        5 => Just(Message::Sync),
        1 => Just(Message::Flush),
        1 => Just(Message::Function),
        1 => prop::bool::weighted(0.7).prop_map(Message::CopyLine),
        1 => Just(Message::CopyDone),
        1 => Just(Message::CopyFail),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let len = || prop_oneof![Just(1usize), 1..12usize, Just(usize::MAX), Just(usize::MAX)];
    prop_oneof![
        6 => (0..2usize, message()).prop_map(|(client, message)| Event::Send(client, message)),
        3 => (0..2usize, len()).prop_map(|(client, len)| Event::Arrives(client, len)),
        2 => (0..3usize, len()).prop_map(|(server, len)| Event::Reads(server, len)),
        2 => (0..3usize, len()).prop_map(|(server, len)| Event::Returns(server, len)),
        1 => (0..2usize).prop_map(Event::Switch),
    ]
}

/// The messages in a stream, for a reader of a failure.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(header) = frame::header(bytes).unwrap() {
        let (message, rest) = bytes.split_at(header.total());
        texts.push(String::from_utf8_lossy(message).replace(|c: char| c.is_control(), "."));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    texts
}

fn holds(names: Names, events: &[Event]) {
    let mut world = World::new(names);
    for event in events {
        world.happens(event);
    }
    world.settles();
    for client in &world.clients {
        assert_eq!(messages(&client.received), messages(&client.direct.out));
        // Names that it gave up take no connection.
        let is_held = (client.server.is_some() || client.down.is_apart()) && names == Names::Translated;
        assert!(names == Names::Own || is_held != client.direct.is_idle(), "held exactly while it is within something");
    }
    for connection in &world.connections {
        assert!(connection.client.is_some() || connection.up.is_settled());
        let is_idle = connection.model.is_idle();
        assert_eq!(connection.up.is_settled(), is_idle);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_receives_what_its_own_server_would_send(events in prop::collection::vec(event(), 1..120)) {
        holds(Names::Translated, &events);
    }

    #[test]
    fn in_a_session_of_its_own_it_is_the_same(events in prop::collection::vec(event(), 1..120)) {
        holds(Names::Own, &events);
    }

    #[test]
    fn cut_into_single_bytes_it_is_the_same(sent in prop::collection::vec((0..2usize, message()), 1..25)) {
        let mut events = Vec::new();
        for (client, message) in sent {
            events.push(Event::Send(client, message));
            for at in 0..40 {
                events.push(Event::Arrives(client, 1));
                events.push(Event::Reads(at, 1));
                events.push(Event::Returns(at + 1, 1));
            }
        }
        holds(Names::Translated, &events);
    }
}

/// As many as `PROPTEST_CASES` says, for long runs.
fn cases() -> u32 {
    ProptestConfig::default().cases.max(1500)
}
