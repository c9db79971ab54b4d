//! psql as the client of a server that is made of nothing but this crate.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    thread,
};

use guardian_pgwire::{
    backend::{self, Report, Severity},
    frame::{HEADER_LEN, header},
    frontend,
    scram::{Exchange, MECHANISM, Verifier},
    startup::{self, FirstPacket, Startup},
    switch::{self, Own},
};
use postgres_protocol::password::scram_sha_256;

/// Read so far, and not yet used.
struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    /// Reads until `take` finds something whole at the front, and drops it.
    fn next<T>(&mut self, take: impl Fn(&[u8]) -> Option<(T, usize)>) -> Option<T> {
        loop {
            if let Some((found, len)) = take(&self.bytes) {
                self.bytes.drain(..len);
                return Some(found);
            }
            let mut more = [0; 512];
            match self.stream.read(&mut more).unwrap() {
                0 => return None,
                len => self.bytes.extend_from_slice(&more[..len]),
            }
        }
    }

    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        self.next(|bytes| {
            let header = header(bytes).unwrap()?;
            let body = bytes.get(HEADER_LEN..header.total())?;
            Some(((header.tag, body.to_vec()), header.total()))
        })
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.stream.write_all(&out).unwrap();
    }

    fn startup(&mut self) -> Option<Startup> {
        loop {
            match self.next(|bytes| startup::parse(bytes).unwrap())? {
                FirstPacket::Ssl | FirstPacket::GssEncryption => self.stream.write_all(b"N").unwrap(),
                FirstPacket::Cancel { .. } => return None,
                FirstPacket::Startup(startup) => return Some(startup),
            }
        }
    }

    fn authenticate(&mut self, verifier: Verifier) -> Option<()> {
        self.send(|out| backend::write_auth_sasl(out, &[MECHANISM]));
        let (_, body) = self.message()?;
        let initial = frontend::sasl_initial(&body).unwrap();
        let (exchange, challenge) = Exchange::begin(verifier, initial.mechanism, initial.response, None).unwrap();
        self.send(|out| backend::write_auth_sasl_continue(out, &challenge));
        let (_, body) = self.message()?;
        let Ok(outcome) = exchange.finish(&body) else {
            self.send(|out| backend::write_error(out, &report(Severity::Fatal, "28P01", "no")));
            return None;
        };
        self.send(|out| {
            backend::write_auth_sasl_final(out, &outcome);
            backend::write_auth_ok(out);
        });
        Some(())
    }
}

fn report<'a>(severity: Severity, code: &'a str, message: &'a str) -> Report<'a> {
    Report { severity, code, message, detail: Some("a detail"), hint: Some("a hint") }
}

fn serve(stream: TcpStream, verifier: Verifier) -> Option<()> {
    let mut client = Client { stream, bytes: Vec::new() };
    let startup = client.startup()?;
    let mut tenant = startup.get("database")?.to_owned();
    let options = startup::options(startup.get("options").unwrap_or_default()).unwrap();
    client.authenticate(verifier)?;
    client.send(|out| {
        if startup.minor > 0 {
            backend::write_negotiate(out, 0, &[]);
        }
        for (name, value) in [("server_version", "15.0"), ("client_encoding", "UTF8"), ("standard_conforming_strings", "on")]
        {
            backend::write_parameter_status(out, name, value);
        }
        backend::write_key(out, 1, &[1, 2, 3, 4]);
        backend::write_ready(out, b'I');
    });
    loop {
        let (tag, body) = client.message()?;
        if tag == b'X' {
            return None;
        }
        assert_eq!(tag, b'Q');
        let text = frontend::query(&body).unwrap();
        client.send(|out| {
            match switch::own(text) {
                Some(Own::SetTenant(slug)) => {
                    tenant = slug.into_owned();
                    backend::write_notice(out, &report(Severity::Notice, "00000", "switched"));
                    backend::write_complete(out, "SET");
                }
                Some(Own::ShowTenant) => {
                    backend::write_row_description(out, &["guardian.tenant", "option"]);
                    backend::write_row(out, &[Some(&tenant), options.first().map(|(_, value)| value.as_str())]);
                    backend::write_complete(out, "SHOW");
                }
                _ if text.is_empty() => backend::write_empty_query(out),
                _ => backend::write_error(out, &report(Severity::Error, "42601", "none of ours")),
            }
            backend::write_ready(out, b'I');
        });
    }
}

fn psql(password: &str, options: &str, commands: &[&str]) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap(), Verifier::parse(&scram_sha_256(b"sesame")).unwrap());
        }
    });
    let mut command = Command::new("psql");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("PGPASSWORD", password).env("PGOPTIONS", options);
    command.args(["-X", "-A", "-t", "-h", "127.0.0.1", "-U", "app", "-d", "acme", "-p", &port]);
    command.args(commands.iter().flat_map(|sql| ["-c", sql])).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn psql_logs_in_and_switches() {
    let sql = ["SHOW guardian.tenant", "SET guardian.tenant = 'globex';", "show guardian.tenant;", ""];
    let output = psql("sesame", r"-c x.y=a\ b", &sql);
    assert_eq!(text(&output.stdout), "acme|a b\nSET\nglobex|a b\n");
    assert_eq!(text(&output.stderr), "NOTICE:  switched\nDETAIL:  a detail\nHINT:  a hint\n");
    assert!(output.status.success());
    let output = psql("sesame", "", &["SHOW guardian.tenant"]);
    assert_eq!(text(&output.stdout), "acme|\n");
}

#[test]
fn psql_shows_a_refusal() {
    let output = psql("sesame", "", &["SELECT 1"]);
    assert_eq!(text(&output.stderr), "ERROR:  none of ours\nDETAIL:  a detail\nHINT:  a hint\n");
    assert!(!output.status.success());
    let output = psql("wrong", "", &["SELECT 1"]);
    assert!(text(&output.stderr).contains("FATAL:  no\nDETAIL:  a detail\nHINT:  a hint"), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty() && !output.status.success());
}
