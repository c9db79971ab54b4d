//! A strict, small PostgreSQL: its message loop as the protocol's documentation has it, with a handful of statements.
//!
//! Statements are words: `rows`, `many` (in two portions), `fails`, `bad` (a syntax error), `begin`, `commit`, `rollback`,
//! `set`, `in` and `out` (COPY). Parse succeeds in a failed transaction, where PostgreSQL looks at the statement first: the
//! gateway need not send one for a statement that is there.

use std::collections::{HashMap, VecDeque};

use guardian_pgwire::{
    backend::{self, Report, Severity},
    frame::{self, HEADER_LEN},
    frontend::{self, TargetKind},
    switch,
};

use crate::sql::refusal::Refusal;

#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "PostgreSQL keeps them independently of each other too")]
pub(super) struct Server {
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, Portal>,
    transaction: Option<Transaction>,
    in_group: bool,
    discarding: bool,
    copy: Option<Copying>,
    /// The client broke the protocol: the connection is over.
    pub(super) broken: bool,
    /// Says itself what the gateway says about a switch in the wrong place.
    is_gateway_too: bool,
    /// Bytes of a message that is not whole yet.
    inbox: Vec<u8>,
    /// What it answered.
    pub(super) out: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Portal {
    text: String,
    runs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    Good,
    Failed,
}

#[derive(Debug, Clone)]
struct Copying {
    is_extended: bool,
    /// Statements of the same simple query that follow.
    rest: VecDeque<String>,
}

impl Server {
    /// What a client has that is connected to it directly.
    pub(super) fn direct() -> Self {
        Self { is_gateway_too: true, ..Self::default() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.transaction.is_none() && !self.in_group && !self.discarding && self.copy.is_none()
    }

    pub(super) fn is_copying(&self) -> bool {
        self.copy.is_some()
    }

    pub(super) fn is_discarding(&self) -> bool {
        self.discarding
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        !name.is_empty() && self.statements.contains_key(name)
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while let Some(header) = frame::header(&self.inbox).unwrap() {
            if self.inbox.len() < header.total() || self.broken {
                return;
            }
            let message: Vec<u8> = self.inbox.drain(..header.total()).collect();
            self.take(header.tag, &message[HEADER_LEN..]);
        }
    }

    fn take(&mut self, tag: u8, body: &[u8]) {
        if self.copy.is_some() {
            return self.copied(tag, body);
        }
        if tag == b'S' {
            (self.discarding, self.in_group) = (false, false);
            return self.ready();
        }
        if self.discarding {
            return;
        }
        if matches!(tag, b'P' | b'B' | b'D' | b'C' | b'E') {
            self.in_group = true;
        }
        match tag {
            b'Q' => self.query(std::str::from_utf8(frontend::query(body).unwrap()).unwrap()),
            b'F' if self.transaction == Some(Transaction::Failed) => self.fail_simple("25P02"),
            b'F' => {
                frame_of(&mut self.out, b'V', &[255; 4]);
                self.in_group = false;
                self.ready();
            }
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'C' => {
                let target = frontend::target(body).unwrap();
                match target.kind {
                    TargetKind::Statement => drop(self.statements.remove(target.name)),
                    TargetKind::Portal => drop(self.portals.remove(target.name)),
                }
                backend::write_close_complete(&mut self.out);
            }
            b'E' => self.execute(body),
            b'H' | b'd' | b'c' | b'f' => {}
            _ => self.broken = true,
        }
    }

    fn copied(&mut self, tag: u8, body: &[u8]) {
        let Some(copying) = self.copy.take() else { return };
        match tag {
            b'd' if body == b"poison" => self.fail("22P04", copying.is_extended),
            b'd' | b'H' | b'S' => self.copy = Some(copying),
            b'c' => {
                backend::write_complete(&mut self.out, "COPY 1");
                if !copying.is_extended {
                    self.run_simple(copying.rest);
                }
            }
            b'f' => self.fail("57014", copying.is_extended),
            _ => self.broken = true,
        }
    }

    fn query(&mut self, text: &str) {
        self.statements.remove(&b""[..]);
        if let Some(refusal) = self.refusal(text) {
            return self.refuse(&refusal, false);
        }
        let statements: VecDeque<String> = text.split(';').map(str::to_owned).collect();
        if statements.iter().any(|statement| is_bad(statement)) {
            return self.fail_simple("42601");
        }
        if text.is_empty() {
            backend::write_empty_query(&mut self.out);
            self.in_group = false;
            return self.ready();
        }
        self.run_simple(statements);
    }

    fn run_simple(&mut self, mut statements: VecDeque<String>) {
        self.in_group = false;
        while let Some(statement) = statements.pop_front() {
            if returns_rows(&statement) && self.transaction != Some(Transaction::Failed) {
                backend::write_row_description(&mut self.out, &["n"]);
            }
            if let Err(code) = self.run(&statement) {
                return self.fail_simple(code);
            }
            if statement == "in" {
                self.copy = Some(Copying { is_extended: false, rest: statements });
                return;
            }
        }
        self.ready();
    }

    /// Runs a statement to its command tag; a COPY up to where it waits for data.
    fn run(&mut self, statement: &str) -> Result<(), &'static str> {
        if self.transaction == Some(Transaction::Failed) && !ends_transaction(statement) {
            return Err("25P02");
        }
        let tag = match statement {
            "begin" => {
                self.transaction = Some(Transaction::Good);
                "BEGIN"
            }
            "commit" | "rollback" => {
                let is_good = self.transaction.take() == Some(Transaction::Good);
                if is_good && statement == "commit" { "COMMIT" } else { "ROLLBACK" }
            }
            "set" => {
                backend::write_parameter_status(&mut self.out, "application_name", "set");
                "SET"
            }
            "fails" => {
                backend::write_row(&mut self.out, &[Some("1")]);
                return Err("22012");
            }
            "in" => {
                frame_of(&mut self.out, b'G', &[0, 0, 0]);
                return Ok(());
            }
            "out" => {
                frame_of(&mut self.out, b'H', &[0, 0, 0]);
                frame_of(&mut self.out, b'd', b"line\n");
                frame_of(&mut self.out, b'c', &[]);
                "COPY 1"
            }
            _ => {
                backend::write_notice(&mut self.out, &report("00000"));
                backend::write_row(&mut self.out, &[Some("1")]);
                backend::write_row(&mut self.out, &[None]);
                "SELECT 2"
            }
        };
        backend::write_complete(&mut self.out, tag);
        Ok(())
    }

    fn parse(&mut self, body: &[u8]) {
        let parsed = frontend::parse(body).unwrap();
        if parsed.name.is_empty() {
            self.statements.remove(&b""[..]);
        }
        let text = std::str::from_utf8(parsed.text).unwrap();
        if let Some(refusal) = self.refusal(text) {
            return self.refuse(&refusal, true);
        }
        if is_bad(text) {
            return self.fail("42601", true);
        }
        if self.statements.contains_key(parsed.name) {
            return self.fail("42P05", true);
        }
        self.statements.insert(parsed.name.to_vec(), text.to_owned());
        backend::write_parse_complete(&mut self.out);
    }

    fn bind(&mut self, body: &[u8]) {
        let names = frontend::bind_prefix(body).unwrap().unwrap();
        assert_eq!(&body[names.len..], [0; 6], "the rest of a Bind arrives as it was sent");
        let Some(text) = self.statements.get(names.statement).cloned() else { return self.fail("26000", true) };
        if self.transaction == Some(Transaction::Failed) && !ends_transaction(&text) {
            return self.fail("25P02", true);
        }
        if !names.portal.is_empty() && self.portals.contains_key(names.portal) {
            return self.fail("42P03", true);
        }
        self.portals.insert(names.portal.to_vec(), Portal { text, runs: 0 });
        backend::write_bind_complete(&mut self.out);
    }

    fn describe(&mut self, body: &[u8]) {
        let target = frontend::target(body).unwrap();
        let text = match target.kind {
            TargetKind::Statement => self.statements.get(target.name).cloned(),
            TargetKind::Portal => self.portals.get(target.name).map(|portal| portal.text.clone()),
        };
        let Some(text) = text else { return self.fail("26000", true) };
        if target.kind == TargetKind::Statement {
            backend::write_parameter_description(&mut self.out, &[]);
        }
        if returns_rows(&text) {
            backend::write_row_description(&mut self.out, &["n"]);
        } else {
            backend::write_no_data(&mut self.out);
        }
    }

    fn execute(&mut self, body: &[u8]) {
        let name = &body[..body.len() - 5];
        let Some(portal) = self.portals.get_mut(name) else { return self.fail("34000", true) };
        portal.runs += 1;
        let Portal { text, runs } = portal.clone();
        if text.is_empty() {
            return backend::write_empty_query(&mut self.out);
        }
        if text == "many" && runs == 1 && self.transaction != Some(Transaction::Failed) {
            backend::write_row(&mut self.out, &[Some("0")]);
            frame_of(&mut self.out, b's', &[]);
            return;
        }
        match self.run(&text) {
            Err(code) => self.fail(code, true),
            Ok(()) if text == "in" => self.copy = Some(Copying { is_extended: true, rest: VecDeque::new() }),
            Ok(()) => {}
        }
    }

    fn refusal(&self, text: &str) -> Option<Refusal> {
        (self.is_gateway_too && switch::resembles(text.as_bytes())).then_some(Refusal::SwitchMisplaced)
    }

    fn refuse(&mut self, refusal: &Refusal, is_extended: bool) {
        let len = self.out.len();
        self.fail("XX000", is_extended);
        // The refusal stands where the error would.
        let error_len = frame::header(&self.out[len..]).unwrap().unwrap().total();
        let behind = self.out.split_off(len + error_len);
        self.out.truncate(len);
        refusal.write_error(&mut self.out);
        self.out.extend_from_slice(&behind);
    }

    fn fail_simple(&mut self, code: &str) {
        self.fail(code, false);
    }

    fn fail(&mut self, code: &str, is_extended: bool) {
        backend::write_error(&mut self.out, &report(code));
        self.transaction = self.transaction.map(|_| Transaction::Failed);
        if is_extended {
            self.discarding = true;
        } else {
            self.in_group = false;
            self.ready();
        }
    }

    fn ready(&mut self) {
        let status = match self.transaction {
            None => b'I',
            Some(Transaction::Good) => b'T',
            Some(Transaction::Failed) => b'E',
        };
        if self.transaction.is_none() {
            self.portals.clear();
        }
        backend::write_ready(&mut self.out, status);
    }
}

fn is_bad(statement: &str) -> bool {
    statement == "bad" || statement.starts_with("refused")
}

fn returns_rows(statement: &str) -> bool {
    matches!(statement, "rows" | "many" | "fails")
}

fn ends_transaction(statement: &str) -> bool {
    matches!(statement, "commit" | "rollback")
}

fn report(code: &str) -> Report<'_> {
    Report { severity: Severity::Error, code, message: "as asked for", detail: None, hint: None }
}

/// Appends a message of any kind.
pub(super) fn frame_of(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
}
