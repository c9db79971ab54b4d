//! What this crate writes and reads, against a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use guardian_pgwire::{
    backend::{self, Auth},
    frame::{HEADER_LEN, header},
    frontend, startup,
};
use guardian_testkit::Server;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

struct Connection {
    stream: TcpStream,
    process: u32,
    secret: Vec<u8>,
}

/// A message of the server: its tag and its body.
type Message = (u8, Vec<u8>);

fn receive(stream: &mut TcpStream) -> Message {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).unwrap();
    let head = header(&head).unwrap().unwrap();
    let mut body = vec![0; head.body_len];
    stream.read_exact(&mut body).unwrap();
    (head.tag, body)
}

fn send(stream: &mut TcpStream, write: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    write(&mut out);
    stream.write_all(&out).unwrap();
}

/// The server's user, password and address, out of its URL.
fn access(server: &Server) -> (String, String, String) {
    let url = server.url("postgres");
    let (login, rest) = url.strip_prefix("postgres://").unwrap().split_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    (user.to_owned(), password.to_owned(), rest.split_once('/').unwrap().0.to_owned())
}

impl Connection {
    /// The connection, or the SQLSTATE of the refusal.
    fn open(server: &Server, options: &str) -> Result<Self, String> {
        let (user, password, address) = access(server);
        let mut stream = TcpStream::connect(address).unwrap();
        send(&mut stream, |out| {
            startup::write_startup(out, &[("user", &user), ("database", "postgres"), ("options", options)]);
        });
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut connection = Self { stream, process: 0, secret: Vec::new() };
        loop {
            let (tag, body) = receive(&mut connection.stream);
            match tag {
                b'R' => match backend::auth(&body).unwrap() {
                    Auth::Sasl(list) => {
                        assert_eq!(backend::mechanisms(list).collect::<Vec<_>>(), [b"SCRAM-SHA-256"]);
                        send(&mut connection.stream, |out| {
                            frontend::write_sasl_initial(out, "SCRAM-SHA-256", scram.message());
                        });
                    }
                    Auth::SaslContinue(challenge) => {
                        scram.update(challenge).unwrap();
                        send(&mut connection.stream, |out| frontend::write_sasl_response(out, scram.message()));
                    }
                    Auth::SaslFinal(outcome) => scram.finish(outcome).unwrap(),
                    Auth::Ok => {}
                    other => panic!("{other:?}"),
                },
                b'S' => assert!(!backend::parameter_status(&body).unwrap().0.is_empty()),
                b'K' => {
                    let (process, secret) = backend::key(&body).unwrap();
                    (connection.process, connection.secret) = (process, secret.to_vec());
                }
                b'Z' => return Ok(connection),
                b'E' => return Err(String::from_utf8(backend::field(&body, b'C').unwrap().to_vec()).unwrap()),
                other => panic!("{}", char::from(other)),
            }
        }
    }

    /// All that the server says up to its being ready.
    fn ask(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Vec<Message> {
        send(&mut self.stream, write);
        let mut messages = Vec::new();
        loop {
            messages.push(receive(&mut self.stream));
            if messages.last().unwrap().0 == b'Z' {
                return messages;
            }
        }
    }

    fn value(&mut self, sql: &str) -> Option<String> {
        let messages = self.ask(|out| frontend::write_query(out, sql.as_bytes()));
        let (_, row) = messages.iter().find(|(tag, _)| *tag == b'D').unwrap_or_else(|| panic!("{sql}: {messages:?}"));
        backend::first_column(row).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
    }
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|(tag, _)| char::from(*tag)).collect()
}

#[test]
fn options_mean_what_they_mean_to_postgresql() {
    let server = Server::shared();
    for text in [
        "-c pgwire.a=1 -cpgwire.b=2 --pgwire.c=3",
        r"-c pgwire.a=x\ y\\z --pgwire.some-name=a=b",
        "--pgwire.a= -c  pgwire.b='1",
        "\t-c\n-c.pgwire=1",
        "-c pgwire-x.a=1 -c pgwire.a=2 -c pgwire.a=3",
        r"-c pgwire.a=b\",
        "",
    ] {
        let Ok(settings) = startup::options(text) else { panic!("{text}") };
        let mut connection = Connection::open(&server, text).unwrap_or_else(|code| panic!("{text}: {code}"));
        for (at, (name, value)) in settings.iter().enumerate() {
            // The last of a name counts.
            if settings[at + 1..].iter().all(|(other, _)| other != name) {
                assert_eq!(connection.value(&format!("SHOW {name}")).as_ref(), Some(value), "{text}");
            }
        }
    }
    for text in ["-c", "-c a", "-ca", "--a", "a=1", "-c pgwire.a=1 x", r"\"] {
        assert!(startup::options(text).is_err(), "{text}");
        assert_eq!(Connection::open(&server, text).err().as_deref(), Some("42601"), "{text}");
    }
}

#[test]
fn each_message_is_understood() {
    let mut connection = Connection::open(&Server::shared(), "").unwrap();
    assert_eq!(connection.value("SELECT 'one'").as_deref(), Some("one"));
    assert_eq!(connection.value("SELECT NULL"), None);

    let parsed = connection.ask(|out| {
        frontend::write_parse(out, b"s1", b"SELECT $1::text\0\0\0");
        frontend::write_describe(out, frontend::TargetKind::Statement, b"s1");
        let values = b"\0\0\0\x01\0\0\0\x04acme\0\0";
        frontend::write_bind_prefix(out, b"p1", b"s1", values.len());
        out.extend_from_slice(values);
        frontend::write_describe(out, frontend::TargetKind::Portal, b"p1");
        out.extend_from_slice(b"E\0\0\0\x0bp1\0\0\0\0\0");
        frontend::write_close(out, frontend::TargetKind::Portal, b"p1");
        frontend::write_close(out, frontend::TargetKind::Statement, b"s1");
        frontend::write_sync(out);
    });
    assert_eq!(tags(&parsed), "1tT2TDC33Z");
    let row = &parsed.iter().find(|(tag, _)| *tag == b'D').unwrap().1;
    assert_eq!(backend::first_column(row), Ok(Some(&b"acme"[..])));

    let oid = connection.value("SELECT 'sha256(bytea)'::regprocedure::oid").unwrap().parse().unwrap();
    let called = connection.ask(|out| frontend::write_function_call(out, oid, b"abc"));
    assert_eq!(tags(&called), "VZ");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"abc");
    assert_eq!(backend::function_result(&called[0].1), Ok(Some(digest.as_ref())));

    send(&mut connection.stream, frontend::write_terminate);
    assert_eq!(connection.stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_cancel_is_obeyed() {
    let server = Server::shared();
    let mut connection = Connection::open(&server, "").unwrap();
    let (process, secret) = (connection.process, connection.secret.clone());
    let sql = b"DO $$ BEGIN RAISE NOTICE 'asleep'; PERFORM pg_sleep(600); END $$";
    send(&mut connection.stream, |out| frontend::write_query(out, sql));
    // A notice is sent at once, so the statement runs.
    assert_eq!(receive(&mut connection.stream).0, b'N');
    let mut other = TcpStream::connect(access(&server).2).unwrap();
    send(&mut other, |out| startup::write_cancel(out, process, &secret));
    assert_eq!(other.read(&mut [0]).unwrap(), 0);
    let (tag, body) = receive(&mut connection.stream);
    assert_eq!((tag, backend::field(&body, b'C')), (b'E', Some(&b"57014"[..])));
}

#[test]
fn a_newer_protocol_is_negotiated_as_postgresql_does() {
    let server = Server::shared();
    let (user, _, address) = access(&server);
    let mut stream = TcpStream::connect(address).unwrap();
    let mut packet = Vec::new();
    startup::write_startup(&mut packet, &[("user", &user), ("database", "postgres"), ("_pq_.wish", "on")]);
    let (_, len) = startup::parse(&packet).unwrap().unwrap();
    assert_eq!(len, packet.len());
    stream.write_all(&packet).unwrap();
    let (tag, body) = receive(&mut stream);
    let mut ours = Vec::new();
    backend::write_negotiate(&mut ours, 0, &["_pq_.wish"]);
    assert_eq!((tag, &body[4..]), (b'v', &ours[HEADER_LEN + 4..]));
    // A newer server speaks a newer minor version of the same major one.
    assert_eq!(body[..2], ours[HEADER_LEN..HEADER_LEN + 2]);
}

#[test]
fn tls_is_asked_for() {
    let mut stream = TcpStream::connect(access(&Server::shared()).2).unwrap();
    send(&mut stream, startup::write_ssl_request);
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert!(matches!(answer, [b'S' | b'N']));
}
