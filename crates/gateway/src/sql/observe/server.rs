//! The observer's own connection to a server: it blocks, one question at a time. Not for the event loop.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use guardian_model::snapshot::Secret;
use guardian_pgwire::{
    backend::{self, Auth},
    frame::{self, HEADER_LEN},
    frontend,
    scram::{MECHANISM, MECHANISM_PLUS},
    startup,
};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use zeroize::Zeroizing;

use crate::sql::{
    shared::Route,
    tls,
    worker::{PINNED, quoted},
};

/// How long the server may be silent. Statements have a shorter limit of their own.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The most that is read as an answer to one question.
const ANSWER_LEN_MAX: usize = 32 * 1024 * 1024;

/// Where to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) database: String,
    pub(crate) schema: String,
    pub(crate) role: String,
    pub(crate) password: Secret,
}

/// The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the server sent what is no valid message")]
    Malformed,
    #[error("the answer is longer than {ANSWER_LEN_MAX} bytes")]
    TooLong,
    #[error("{0}")]
    Refused(String),
}

impl From<frame::FrameError> for Broken {
    fn from(_: frame::FrameError) -> Self {
        Self::Malformed
    }
}

impl From<frame::MessageError> for Broken {
    fn from(_: frame::MessageError) -> Self {
        Self::Malformed
    }
}

/// What the server said no with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// A question's outcome: the server's answer, or its complaint.
pub(crate) type Answer<T> = Result<T, Complaint>;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// It.
pub(crate) struct Server {
    stream: Box<dyn Stream>,
    inbox: Vec<u8>,
    /// The number of `guardian.enter`.
    enter: u32,
}

impl Server {
    pub(crate) fn open(route: &Route, credentials: &Credentials) -> Result<Self, Broken> {
        let mut end_point = None;
        let stream: Box<dyn Stream> = match route {
            Route::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(SILENCE_MAX))?;
                stream.set_write_timeout(Some(SILENCE_MAX))?;
                Box::new(stream)
            }
            Route::Tcp { addresses, host, tls } => {
                let mut stream = Err(io::ErrorKind::AddrNotAvailable.into());
                for address in addresses {
                    stream = TcpStream::connect_timeout(address, SILENCE_MAX);
                    if stream.is_ok() {
                        break;
                    }
                }
                let mut stream = stream?;
                stream.set_read_timeout(Some(SILENCE_MAX))?;
                stream.set_write_timeout(Some(SILENCE_MAX))?;
                match tls {
                    None => Box::new(stream),
                    Some(config) => {
                        let mut out = Vec::new();
                        startup::write_ssl_request(&mut out);
                        stream.write_all(&out)?;
                        let mut answer = [0];
                        stream.read_exact(&mut answer)?;
                        if answer != *b"S" {
                            return Err(Broken::Refused("the server does not offer TLS".to_owned()));
                        }
                        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                        let connection =
                            ClientConnection::new(std::sync::Arc::clone(config), name).map_err(io::Error::other)?;
                        let mut stream = StreamOwned::new(connection, stream);
                        while stream.conn.is_handshaking() {
                            stream.conn.complete_io(&mut stream.sock)?;
                        }
                        end_point = stream.conn.peer_certificates().and_then(|chain| tls::end_point(chain.first()?));
                        Box::new(stream)
                    }
                }
            }
        };
        let mut server = Self { stream, inbox: Vec::new(), enter: 0 };
        server.log_in(credentials, end_point.as_deref())?;
        let sql = "SELECT coalesce(pg_catalog.to_regprocedure('guardian.enter(pg_catalog.bytea)')::pg_catalog.oid::pg_catalog.text, '0')";
        let rows = server.rows(sql)?.map_err(|complaint| Broken::Refused(complaint.message))?;
        server.enter = rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok()).unwrap_or(0);
        if server.enter == 0 {
            return Err(Broken::Refused("there is no guardian.enter in the database".to_owned()));
        }
        Ok(server)
    }

    fn log_in(&mut self, credentials: &Credentials, end_point: Option<&[u8]>) -> Result<(), Broken> {
        let path = format!("{}, pg_temp", quoted(&credentials.schema));
        let timeout = format!("{}ms", super::check::STATEMENT_MS_MAX);
        let lock = format!("{}ms", super::check::LOCK_MS_MAX);
        let own = [
            ("user", credentials.role.as_str()),
            ("database", &credentials.database),
            ("search_path", &path),
            ("application_name", super::APPLICATION_NAME),
            ("statement_timeout", &timeout),
            ("lock_timeout", &lock),
            ("default_transaction_read_only", "on"),
        ];
        let pinned = PINNED.iter().filter(|(name, _)| !own.iter().any(|(taken, _)| taken == name)).copied();
        let parameters: Vec<(&str, &str)> = own.iter().copied().chain(pinned).collect();
        let mut out = Vec::new();
        startup::write_startup(&mut out, &parameters);
        self.stream.write_all(&out)?;
        self.stream.flush()?;
        let mut proof: Option<ScramSha256> = None;
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'R' => {
                    let mut out = Vec::new();
                    match (backend::auth(&body)?, &mut proof) {
                        (Auth::Ok, _) => {}
                        (Auth::Sasl(list), proof) => {
                            let offered: Vec<&[u8]> = backend::mechanisms(list).collect();
                            let (mechanism, binding) = match end_point {
                                Some(end_point) if offered.contains(&MECHANISM_PLUS.as_bytes()) => {
                                    (MECHANISM_PLUS, ChannelBinding::tls_server_end_point(end_point.to_vec()))
                                }
                                Some(_) => (MECHANISM, ChannelBinding::unrequested()),
                                None => (MECHANISM, ChannelBinding::unsupported()),
                            };
                            let begun = ScramSha256::new(credentials.password.expose().as_bytes(), binding);
                            frontend::write_sasl_initial(&mut out, mechanism, begun.message());
                            *proof = Some(begun);
                        }
                        (Auth::SaslContinue(challenge), Some(proof)) => {
                            proof.update(challenge)?;
                            frontend::write_sasl_response(&mut out, proof.message());
                        }
                        (Auth::SaslFinal(last), Some(proof)) => proof.finish(last)?,
                        _ => return Err(Broken::Refused("the server asks for a proof that is not given".to_owned())),
                    }
                    self.stream.write_all(&out)?;
                    self.stream.flush()?;
                }
                b'E' => return Err(Broken::Refused(complaint(&body).message)),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// The next message: its tag and body.
    fn message(&mut self) -> Result<(u8, Vec<u8>), Broken> {
        loop {
            if let Some(header) = frame::header(&self.inbox)? {
                if header.total() > ANSWER_LEN_MAX {
                    return Err(Broken::TooLong);
                }
                if self.inbox.len() >= header.total() {
                    let body = self.inbox[HEADER_LEN..header.total()].to_vec();
                    self.inbox.drain(..header.total());
                    return Ok((header.tag, body));
                }
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                len => self.inbox.extend_from_slice(&buffer[..len]),
            }
        }
    }

    /// Sends messages of which the last one is answered by `ReadyForQuery`, and reads up to there.
    fn ask(&mut self, out: &[u8], mut take: impl FnMut(u8, &[u8])) -> Result<Answer<()>, Broken> {
        self.stream.write_all(out)?;
        self.stream.flush()?;
        let (mut outcome, mut len) = (Ok(()), 0);
        loop {
            let (tag, body) = self.message()?;
            len += body.len();
            if len > ANSWER_LEN_MAX {
                return Err(Broken::TooLong);
            }
            match tag {
                b'E' if backend::is_fatal(&body) => return Err(Broken::Refused(complaint(&body).message)),
                b'E' if outcome.is_ok() => outcome = Err(complaint(&body)),
                b'Z' => return Ok(outcome),
                _ => take(tag, &body),
            }
        }
    }

    /// Runs statements of the observer's own.
    pub(crate) fn run(&mut self, sql: &str) -> Result<Answer<()>, Broken> {
        let mut out = Vec::new();
        frontend::write_query(&mut out, sql.as_bytes());
        self.ask(&out, |_, _| {})
    }

    /// Runs one that returns rows of text.
    pub(crate) fn rows(&mut self, sql: &str) -> Result<Answer<Vec<Vec<Option<String>>>>, Broken> {
        let mut out = Vec::new();
        frontend::write_query(&mut out, sql.as_bytes());
        let mut rows = Vec::new();
        let outcome = self.ask(&out, |tag, body| rows.extend((tag == b'D').then(|| columns(body)).flatten()))?;
        Ok(outcome.map(|()| rows))
    }

    /// The same with parameters in text form.
    pub(crate) fn rows_with(&mut self, sql: &str, parameters: &[&str]) -> Result<Answer<Vec<Vec<Option<String>>>>, Broken> {
        let mut values = vec![0, 0];
        values.extend_from_slice(&u16::try_from(parameters.len()).unwrap_or(u16::MAX).to_be_bytes());
        for parameter in parameters {
            values.extend_from_slice(&u32::try_from(parameter.len()).unwrap_or(0).to_be_bytes());
            values.extend_from_slice(parameter.as_bytes());
        }
        values.extend_from_slice(&[0, 0]);
        let mut rows = Vec::new();
        let take = |tag, body: &[u8]| rows.extend((tag == b'D').then(|| columns(body)).flatten());
        let outcome = self.extended(sql.as_bytes(), &[0, 0], &values, take)?;
        Ok(outcome.map(|()| rows))
    }

    /// Runs one statement, and no more than one: the extended protocol takes no second. `types` and `values` as they stand in a
    /// Parse and a Bind; results come as text.
    pub(crate) fn extended(
        &mut self,
        sql: &[u8],
        types: &[u8],
        values: &[u8],
        take: impl FnMut(u8, &[u8]),
    ) -> Result<Answer<()>, Broken> {
        let rest = [sql, &[0], types].concat();
        let mut out = Vec::new();
        frontend::write_parse(&mut out, b"", &rest);
        frontend::write_bind_prefix(&mut out, b"", b"", values.len());
        out.extend_from_slice(values);
        out.extend_from_slice(b"E\0\0\0\x09\0\0\0\0\0");
        frontend::write_sync(&mut out);
        self.ask(&out, take)
    }

    /// Ends whatever there is of a session, and enters a tenant's context, or none.
    pub(crate) fn begin_anew(&mut self, tenant: Option<(&[u8; 32], &str)>) -> Result<(), Broken> {
        let refused = |complaint: Complaint| Broken::Refused(complaint.message);
        self.run("ROLLBACK")?.map_err(refused)?;
        self.run("DISCARD ALL")?.map_err(refused)?;
        let Some((capability, register)) = tenant else { return Ok(()) };
        let mut out = Zeroizing::new(Vec::new());
        frontend::write_function_call(&mut out, self.enter, capability);
        let mut entered = None;
        let outcome = self.ask(&out, |tag, body| {
            if tag == b'V' {
                entered = backend::function_result(body).ok().flatten().map(<[u8]>::to_vec);
            }
        })?;
        outcome.map_err(refused)?;
        if entered.as_deref() == Some(register.as_bytes()) {
            Ok(())
        } else {
            Err(Broken::Refused("the tenant's context was not entered".to_owned()))
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut out = Vec::new();
        frontend::write_terminate(&mut out);
        let _ = self.stream.write_all(&out);
    }
}

fn complaint(body: &[u8]) -> Complaint {
    let text = |code| String::from_utf8_lossy(backend::field(body, code).unwrap_or_default()).into_owned();
    Complaint { code: text(b'C'), message: text(b'M') }
}

/// The columns of a row, as text.
pub(crate) fn columns(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*len)) {
            Err(_) => {
                columns.push(None);
                rest = after;
            }
            Ok(len) => {
                let (value, after) = after.split_at_checked(len)?;
                columns.push(Some(String::from_utf8_lossy(value).into_owned()));
                rest = after;
            }
        }
    }
    Some(columns)
}
