//! A PostgreSQL client that sends whatever bytes a test wants, and keeps whatever comes back.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use guardian_pgwire::{
    backend::{self, Auth},
    frame, frontend,
    scram::MECHANISM,
    startup,
};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::{ClientConnection, StreamOwned};

/// How long an answer may take before the test gives up; says nothing about how long it should take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: Line,
    inbox: Vec<u8>,
    /// Every byte received so far.
    pub seen: Vec<u8>,
    /// The number and the secret that a cancel request names.
    pub key: (u32, Vec<u8>),
}

/// What the bytes go over.
#[derive(Debug)]
enum Line {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    const fn socket(&self) -> &TcpStream {
        match self {
            Self::Clear(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A message from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// An `ErrorResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
}

/// What came back up to a `ReadyForQuery`, or to the end of the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Rows in text form.
    pub rows: Vec<Vec<Option<String>>>,
    /// Errors.
    pub failures: Vec<Failure>,
    /// Command tags.
    pub tags: Vec<String>,
    /// Payloads of notifications.
    pub notified: Vec<String>,
    /// The status of the `ReadyForQuery`; `None`: the connection was closed.
    pub status: Option<char>,
}

impl Answer {
    /// The first column of the first row.
    pub fn first(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }

    /// The SQLSTATE of the first error; empty without one.
    pub fn code(&self) -> &str {
        self.failures.first().map_or("", |failure| &failure.code)
    }
}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The other side closed the connection.
    Closed,
    /// Nothing came in time.
    Late,
}

impl Wire {
    /// A connection on which nothing has been said.
    pub fn open(address: &str) -> Self {
        Self::over(TcpStream::connect(address).expect("connect"))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("set an option");
        Self { stream: Line::Clear(stream), inbox: Vec::new(), seen: Vec::new(), key: (0, Vec::new()) }
    }

    /// A connection under TLS on which nothing has been said yet.
    pub fn under_tls(stream: StreamOwned<ClientConnection, TcpStream>) -> Self {
        stream.sock.set_nodelay(true).expect("set an option");
        Self { stream: Line::Tls(Box::new(stream)), inbox: Vec::new(), seen: Vec::new(), key: (0, Vec::new()) }
    }

    /// A client that is in, or the error that it met.
    pub fn login(address: &str, parameters: &[(&str, &str)], password: &str) -> Result<Self, Failure> {
        let unreachable = |error: std::io::Error| Failure { code: String::new(), message: error.to_string() };
        let mut wire = Self::over(TcpStream::connect(address).map_err(unreachable)?);
        let mut out = Vec::new();
        startup::write_startup(&mut out, parameters);
        wire.send(&out);
        wire.prove(password).map(|()| wire)
    }

    /// Goes from a start-up packet that was sent to the first `ReadyForQuery`.
    pub fn prove(&mut self, password: &str) -> Result<(), Failure> {
        let mut scram = None;
        loop {
            let message = self
                .receive(PATIENCE)
                .map_err(|silence| Failure { code: String::new(), message: format!("{silence:?} during the login") })?;
            let mut out = Vec::new();
            match message.tag {
                b'R' => match backend::auth(&message.body).expect("a message of the authentication") {
                    Auth::Ok => {}
                    Auth::Sasl(_) => {
                        let begun = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                        frontend::write_sasl_initial(&mut out, MECHANISM, begun.message());
                        scram = Some(begun);
                    }
                    Auth::SaslContinue(challenge) => {
                        let scram: &mut ScramSha256 = scram.as_mut().expect("begun");
                        scram.update(challenge).expect("a challenge");
                        frontend::write_sasl_response(&mut out, scram.message());
                    }
                    Auth::SaslFinal(last) => {
                        let scram: &mut ScramSha256 = scram.as_mut().expect("begun");
                        scram.finish(last).expect("the gateway proves itself");
                    }
                    other => panic!("unexpected {other:?}"),
                },
                b'K' => {
                    let (process, secret) = backend::key(&message.body).expect("a key");
                    self.key = (process, secret.to_vec());
                }
                b'E' => return Err(failure(&message.body)),
                b'Z' => return Ok(()),
                b'S' | b'N' | b'v' => {}
                other => panic!("unexpected {:?} during the login", char::from(other)),
            }
            if !out.is_empty() {
                self.send(&out);
            }
        }
    }

    /// Sends bytes as they are. That the other side has closed is found out by reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// Sends bytes one by one, each in a packet of its own.
    pub fn trickle(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(std::slice::from_ref(byte));
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// The next message.
    pub fn receive(&mut self, patience: Duration) -> Result<Message, Silence> {
        let mut buffer = [0; 16 * 1024];
        self.stream.socket().set_read_timeout(Some(patience)).expect("set an option");
        loop {
            if let Some(header) = frame::header(&self.inbox).expect("a frame").filter(|h| h.total() <= self.inbox.len()) {
                let body = self.inbox[frame::HEADER_LEN..header.total()].to_vec();
                self.inbox.drain(..header.total());
                return Ok(Message { tag: header.tag, body });
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Silence::Closed),
                Ok(len) => {
                    self.inbox.extend_from_slice(&buffer[..len]);
                    self.seen.extend_from_slice(&buffer[..len]);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Silence::Late);
                }
                Err(_) => return Err(Silence::Closed),
            }
        }
    }

    /// Another end of the same connection in clear, to send from another thread.
    #[must_use]
    pub fn sender(&self) -> Self {
        let stream = self.stream.socket().try_clone().expect("another end");
        Self { stream: Line::Clear(stream), inbox: Vec::new(), seen: Vec::new(), key: (0, Vec::new()) }
    }

    /// Everything that comes, whatever it is, until the line is quiet or closed; whether it was closed.
    pub fn drain_raw(&mut self, quiet: Duration) -> bool {
        let mut buffer = [0; 4096];
        self.stream.socket().set_read_timeout(Some(quiet)).expect("set an option");
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(len) => self.seen.extend_from_slice(&buffer[..len]),
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    /// One raw byte, as a request for TLS is answered by.
    pub fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.stream.socket().set_read_timeout(Some(PATIENCE)).expect("set an option");
        self.stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    /// Everything that comes until the line is quiet or closed; whether it was closed.
    pub fn drain(&mut self, quiet: Duration) -> bool {
        loop {
            match self.receive(quiet) {
                Ok(_) => {}
                Err(silence) => return silence == Silence::Closed,
            }
        }
    }

    /// Everything up to the next `ReadyForQuery` or the end.
    pub fn until_ready(&mut self) -> Answer {
        self.until(PATIENCE).expect("an answer")
    }

    /// The same; `None`: it does not come in time.
    pub fn until(&mut self, patience: Duration) -> Option<Answer> {
        let mut answer = Answer::default();
        loop {
            let message = match self.receive(patience) {
                Ok(message) => message,
                Err(Silence::Closed) => return Some(answer),
                Err(Silence::Late) => return None,
            };
            match message.tag {
                b'D' => answer.rows.push(row(&message.body)),
                b'C' => answer.tags.push(text(message.body.strip_suffix(&[0]).unwrap_or(&message.body))),
                b'E' => answer.failures.push(failure(&message.body)),
                b'A' => answer.notified.push(text(&message.body[4..]).replace('\0', " ").trim().to_owned()),
                b'G' => {
                    // Nobody here has anything to copy.
                    let mut out = b"f".to_vec();
                    out.extend_from_slice(&[0, 0, 0, 5, 0]);
                    self.send(&out);
                }
                b'Z' => {
                    answer.status = message.body.first().copied().map(char::from);
                    return Some(answer);
                }
                _ => {}
            }
        }
    }

    /// A simple query, answered.
    pub fn query(&mut self, sql: &str) -> Answer {
        let mut out = Vec::new();
        frontend::write_query(&mut out, sql.as_bytes());
        self.send(&out);
        self.until_ready()
    }

    /// The first column of the first row of a query that must succeed.
    pub fn scalar(&mut self, sql: &str) -> String {
        let answer = self.query(sql);
        assert!(answer.failures.is_empty() && answer.status.is_some(), "{sql}: {answer:?}");
        answer.first().unwrap_or_default().to_owned()
    }

    /// Parse, Bind, Describe, Execute and Sync of a statement without parameters, answered.
    pub fn extended(&mut self, name: &str, sql: &str) -> Answer {
        self.send(&group(name, sql));
        self.until_ready()
    }

    /// Closes without a goodbye.
    pub fn vanish(self) {
        let _ = self.stream.socket().shutdown(std::net::Shutdown::Both);
    }
}

/// A message with its length.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(body.len() + 4).expect("a length").to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

/// A Parse without parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// A Bind without parameters, everything in text.
pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

/// An Execute of all rows.
pub fn execute(portal: &str) -> Vec<u8> {
    message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

/// A Describe or a Close; `kind` is `S` or `P`.
pub fn target(tag: u8, kind: char, name: &str) -> Vec<u8> {
    message(tag, format!("{kind}{name}\0").as_bytes())
}

/// A Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// A Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', b"")
}

/// Parse, Bind, Execute.
pub fn unsynced(name: &str, sql: &str) -> Vec<u8> {
    [parse(name, sql), bind("", name), execute("")].concat()
}

/// Parse, Bind, Describe, Execute, Sync.
pub fn group(name: &str, sql: &str) -> Vec<u8> {
    [parse(name, sql), bind("", name), target(b'D', 'P', ""), execute(""), sync()].concat()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn failure(body: &[u8]) -> Failure {
    let field = |code| text(backend::field(body, code).unwrap_or_default());
    Failure { code: field(b'C'), message: field(b'M') }
}

fn row(body: &[u8]) -> Vec<Option<String>> {
    let mut columns = Vec::new();
    let mut rest = &body[2..];
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        if let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) {
            columns.push(Some(text(&after[..len])));
            rest = &after[len..];
        } else {
            columns.push(None);
            rest = after;
        }
    }
    columns
}
