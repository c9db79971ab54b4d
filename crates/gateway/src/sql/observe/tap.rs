//! Listens to one client's conversation and tells which statement came to its end with which command tag.
//!
//! It hears what the client sent and what the client was answered, in order, and decides nothing: when the two do not add up
//! it is silent until the server owes nothing again.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
};

use guardian_pgwire::{
    frame::{self, HEADER_LEN},
    frontend::{self, TargetKind},
};

/// The longest message that is looked into.
const MESSAGE_LEN_MAX: usize = 16 * 1024;
/// What is kept of a client's prepared statements and portals.
const KEPT_LEN_MAX: usize = 256 * 1024;
const KEPT_MAX: usize = 1000;
/// Statements that may be on their way at once.
const PENDING_MAX: usize = 5000;

/// A statement as it was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// By a simple query: its text.
    Simple(Arc<[u8]>),
    /// By the extended protocol: text and types as in a Parse behind the name, formats and values as in a Bind behind the names.
    Bound { statement: Arc<[u8]>, values: Arc<[u8]> },
    /// It was too long, or prepared when nobody listened.
    Unknown,
}

impl Heard {
    /// The text, as the client wrote it.
    pub(crate) fn text(&self) -> &[u8] {
        match self {
            Self::Simple(text) => text,
            Self::Bound { statement, .. } => statement.split(|byte| *byte == 0).next().unwrap_or_default(),
            Self::Unknown => b"",
        }
    }
}

/// How a statement came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End<'a> {
    /// With this command tag.
    Tag(&'a [u8]),
    /// As a COPY into a table.
    CopyIn,
    /// Several statements in one message.
    Several,
}

#[derive(Debug)]
enum Pending {
    Query { heard: Heard, tag: Option<Box<[u8]>>, ends: u32, copy_in: bool, failed: bool },
    Execute { heard: Heard, copy_in: bool },
    Function,
    Sync,
}

/// The listener.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    from_client: Frames,
    from_server: Frames,
    statements: HashMap<Box<[u8]>, Arc<[u8]>>,
    portals: HashMap<Box<[u8]>, Heard>,
    kept_len: usize,
    pending: VecDeque<Pending>,
    /// The server discards what comes before the next Sync.
    discarding: bool,
    /// What was heard does not add up.
    lost: bool,
}

impl Tap {
    /// The server owes nothing: whatever was unclear is over.
    pub(crate) fn settled(&mut self) {
        self.pending.clear();
        (self.discarding, self.lost) = (false, false);
        if self.kept_len > KEPT_LEN_MAX || self.portals.len() + self.statements.len() > KEPT_MAX {
            self.statements.clear();
            self.kept_len = 0;
        }
        // Portals end with their transaction.
        self.portals.clear();
    }

    /// What the client sent on to the server. `prepared`: the text and types of a statement that it prepared under a name
    /// before anybody listened.
    pub(crate) fn sent(&mut self, bytes: &[u8], prepared: impl Fn(&[u8]) -> Option<Arc<[u8]>>) {
        let mut frames = mem::take(&mut self.from_client);
        frames.feed(bytes, |tag| !matches!(tag, b'd' | b'c' | b'f' | b'H'), |tag, body| self.asked(tag, body, &prepared));
        self.from_client = frames;
    }

    fn asked(&mut self, tag: u8, body: Option<&[u8]>, prepared: &impl Fn(&[u8]) -> Option<Arc<[u8]>>) {
        if tag == b'S' {
            self.discarding = false;
            self.push(Pending::Sync);
            return;
        }
        if self.discarding {
            return;
        }
        match tag {
            b'Q' => {
                let text = body.and_then(|body| frontend::query(body).ok());
                let heard = text.map_or(Heard::Unknown, |text| Heard::Simple(text.into()));
                self.statements.remove(&b""[..]);
                self.push(Pending::Query { heard, tag: None, ends: 0, copy_in: false, failed: false });
            }
            b'P' => {
                let Some(prefix) = body.and_then(|body| frontend::parse_prefix(body).ok().flatten()) else {
                    // Too long: no name may stand for an earlier text.
                    self.statements.clear();
                    return;
                };
                self.kept_len += prefix.name.len() + prefix.rest.len();
                if self.statements.len() < KEPT_MAX && self.kept_len <= KEPT_LEN_MAX {
                    self.statements.insert(prefix.name.into(), prefix.rest.into());
                } else {
                    self.statements.remove(prefix.name);
                }
            }
            b'B' => {
                let Some((prefix, body)) = body.and_then(|body| Some((frontend::bind_prefix(body).ok()??, body))) else {
                    self.portals.clear();
                    return;
                };
                let statement = self.statements.get(prefix.statement).cloned().or_else(|| prepared(prefix.statement));
                let heard = statement.map_or(Heard::Unknown, |statement| {
                    self.kept_len += body.len();
                    Heard::Bound { statement, values: body[prefix.len..].into() }
                });
                if self.portals.len() < KEPT_MAX && self.kept_len <= 2 * KEPT_LEN_MAX {
                    self.portals.insert(prefix.portal.into(), heard);
                } else {
                    self.portals.remove(prefix.portal);
                }
            }
            b'C' => {
                if let Some(target) = body.and_then(|body| frontend::target(body).ok()) {
                    match target.kind {
                        TargetKind::Statement => drop(self.statements.remove(target.name)),
                        TargetKind::Portal => drop(self.portals.remove(target.name)),
                    }
                }
            }
            b'E' => {
                let name = body.and_then(|body| body.split(|byte| *byte == 0).next());
                let heard = name.and_then(|name| self.portals.get(name)).cloned().unwrap_or(Heard::Unknown);
                self.push(Pending::Execute { heard, copy_in: false });
            }
            b'F' => self.push(Pending::Function),
            _ => {}
        }
    }

    fn push(&mut self, pending: Pending) {
        if self.pending.len() >= PENDING_MAX {
            self.lose();
        }
        if !self.lost {
            self.pending.push_back(pending);
        }
    }

    fn lose(&mut self) {
        self.pending.clear();
        self.lost = true;
    }

    /// What the client was answered.
    pub(crate) fn answered(&mut self, bytes: &[u8], mut ended: impl FnMut(&Heard, End<'_>)) {
        let mut frames = mem::take(&mut self.from_server);
        frames.feed(
            bytes,
            |tag| matches!(tag, b'C' | b'I' | b's' | b'E' | b'Z' | b'G'),
            |tag, body| {
                if !self.lost {
                    self.answer(tag, body.unwrap_or_default(), &mut ended);
                }
            },
        );
        self.from_server = frames;
    }

    fn answer(&mut self, tag: u8, body: &[u8], ended: &mut impl FnMut(&Heard, End<'_>)) {
        match (tag, self.pending.front_mut()) {
            (b'C', Some(Pending::Query { tag, ends, .. })) => {
                *tag = Some(body.strip_suffix(&[0]).unwrap_or(body).into());
                *ends += 1;
            }
            (b'C', Some(Pending::Execute { .. })) => {
                if let Some(Pending::Execute { heard, copy_in }) = self.pending.pop_front() {
                    let tag = End::Tag(body.strip_suffix(&[0]).unwrap_or(body));
                    ended(&heard, if copy_in { End::CopyIn } else { tag });
                }
            }
            (b'G', Some(Pending::Query { copy_in, .. } | Pending::Execute { copy_in, .. })) => *copy_in = true,
            (b'E', Some(Pending::Query { failed, .. })) => *failed = true,
            (b'I', Some(Pending::Query { .. })) | (b'E', Some(Pending::Function)) => {}
            (b'E', _) => {
                while !matches!(self.pending.front(), None | Some(Pending::Sync)) {
                    self.pending.pop_front();
                }
                self.discarding = self.pending.is_empty();
            }
            (b'I' | b's', Some(Pending::Execute { .. })) | (b'Z', Some(Pending::Sync | Pending::Function)) => {
                self.pending.pop_front();
            }
            (b'Z', Some(Pending::Query { .. })) => {
                let Some(Pending::Query { heard, tag, ends, copy_in, failed }) = self.pending.pop_front() else { return };
                match tag {
                    _ if failed => {}
                    Some(_) if ends == 1 && copy_in => ended(&heard, End::CopyIn),
                    Some(tag) if ends == 1 => ended(&heard, End::Tag(&tag)),
                    Some(_) => ended(&heard, End::Several),
                    None => {}
                }
            }
            _ => self.lose(),
        }
    }
}

/// Messages out of bytes as they come.
#[derive(Debug, Default)]
struct Frames {
    /// The beginning of a message.
    begun: Vec<u8>,
    /// Bytes of one that is not looked into.
    skip: usize,
}

impl Frames {
    /// `take`: a message's tag, and its body unless it is too long.
    fn feed(&mut self, mut bytes: &[u8], wants: impl Fn(u8) -> bool, mut take: impl FnMut(u8, Option<&[u8]>)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let step = self.skip.min(bytes.len());
                self.skip -= step;
                bytes = &bytes[step..];
                continue;
            }
            if self.begun.is_empty()
                && let Ok(Some(header)) = frame::header(bytes)
                && header.total() <= bytes.len()
            {
                if wants(header.tag) {
                    let body = &bytes[HEADER_LEN..header.total()];
                    take(header.tag, Some(body).filter(|body| body.len() <= MESSAGE_LEN_MAX));
                }
                bytes = &bytes[header.total()..];
                continue;
            }
            let wanted = match frame::header(&self.begun) {
                Ok(Some(header)) => header.total(),
                _ => HEADER_LEN,
            };
            let step = (wanted - self.begun.len()).min(bytes.len());
            self.begun.extend_from_slice(&bytes[..step]);
            bytes = &bytes[step..];
            match frame::header(&self.begun) {
                Ok(Some(header)) if !wants(header.tag) || header.body_len > MESSAGE_LEN_MAX => {
                    if wants(header.tag) {
                        take(header.tag, None);
                    }
                    self.skip = header.total() - self.begun.len();
                    self.begun = Vec::new();
                }
                Ok(Some(header)) if header.total() == self.begun.len() => {
                    take(header.tag, Some(&self.begun[HEADER_LEN..]));
                    self.begun = Vec::new();
                }
                Ok(_) => {}
                // Whoever reads it for real closes the connection.
                Err(_) => self.begun = Vec::new(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use guardian_pgwire::backend;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Told(Vec<u8>, String);

    /// Plays a conversation, cut into pieces of `step` bytes, and yields what the tap tells.
    fn told(parts: &[(bool, Vec<u8>)], step: usize) -> Vec<Told> {
        let (mut tap, mut told) = (Tap::default(), Vec::new());
        for (is_client, bytes) in parts {
            for piece in bytes.chunks(step) {
                if *is_client {
                    tap.sent(piece, |name| (name == b"early").then(|| b"SELECT early\0\0\0"[..].into()));
                } else {
                    tap.answered(piece, |heard, end| {
                        let end = match end {
                            End::Tag(tag) => String::from_utf8_lossy(tag).into_owned(),
                            other => format!("{other:?}"),
                        };
                        told.push(Told(heard.text().to_vec(), end));
                    });
                }
            }
        }
        told
    }

    fn client(write: impl FnOnce(&mut Vec<u8>)) -> (bool, Vec<u8>) {
        let mut out = Vec::new();
        write(&mut out);
        (true, out)
    }

    fn server(write: impl FnOnce(&mut Vec<u8>)) -> (bool, Vec<u8>) {
        let mut out = Vec::new();
        write(&mut out);
        (false, out)
    }

    fn bind(out: &mut Vec<u8>, statement: &[u8]) {
        frontend::write_bind_prefix(out, b"", statement, 6);
        out.extend_from_slice(&[0; 6]);
    }

    fn execute(out: &mut Vec<u8>) {
        out.extend_from_slice(b"E\0\0\0\x09\0\0\0\0\0");
    }

    fn error(out: &mut Vec<u8>) {
        backend::write_error(
            out,
            &backend::Report { severity: backend::Severity::Error, code: "22012", message: "no", hint: None, detail: None },
        );
    }

    fn in_any_pieces(parts: &[(bool, Vec<u8>)], expected: &[(&str, &str)]) {
        let expected: Vec<Told> =
            expected.iter().map(|(text, end)| Told(text.as_bytes().to_vec(), (*end).to_owned())).collect();
        for step in [1, 2, 3, 7, 10_000] {
            assert_eq!(told(parts, step), expected, "in pieces of {step}");
        }
    }

    #[test]
    fn a_simple_query_is_told_with_its_tag() {
        let parts = [
            client(|out| frontend::write_query(out, b"SELECT 1")),
            server(|out| {
                backend::write_row_description(out, &["a"]);
                backend::write_row(out, &[Some("1")]);
                backend::write_complete(out, "SELECT 1");
                backend::write_ready(out, b'I');
            }),
        ];
        in_any_pieces(&parts, &[("SELECT 1", "SELECT 1")]);
    }

    #[test]
    fn several_statements_in_one_message_are_told_as_such_and_failures_are_not_told() {
        let parts = [
            client(|out| {
                frontend::write_query(out, b"a; b");
                frontend::write_query(out, b"fails");
                frontend::write_query(out, b"");
            }),
            server(|out| {
                backend::write_complete(out, "SELECT 1");
                backend::write_complete(out, "SELECT 2");
                backend::write_ready(out, b'I');
                error(out);
                backend::write_ready(out, b'I');
                backend::write_empty_query(out);
                backend::write_ready(out, b'I');
            }),
        ];
        in_any_pieces(&parts, &[("a; b", "Several")]);
    }

    #[test]
    fn groups_are_told_statement_by_statement_up_to_an_error() {
        let parts = [
            client(|out| {
                frontend::write_parse(out, b"named", b"SELECT $1\0\0\0");
                bind(out, b"named");
                execute(out);
                bind(out, b"early");
                execute(out);
                bind(out, b"unknown");
                execute(out);
                frontend::write_parse(out, b"", b"fails\0\0\0");
                bind(out, b"");
                execute(out);
                bind(out, b"named");
                execute(out);
                frontend::write_sync(out);
                bind(out, b"named");
                execute(out);
                frontend::write_sync(out);
            }),
            server(|out| {
                backend::write_parse_complete(out);
                for tag in ["SELECT 1", "SELECT 2", "SELECT 3"] {
                    backend::write_bind_complete(out);
                    backend::write_complete(out, tag);
                }
                error(out);
                backend::write_ready(out, b'I');
                backend::write_bind_complete(out);
                backend::write_complete(out, "SELECT 5");
                backend::write_ready(out, b'I');
            }),
        ];
        let expected =
            [("SELECT $1", "SELECT 1"), ("SELECT early", "SELECT 2"), ("", "SELECT 3"), ("SELECT $1", "SELECT 5")];
        in_any_pieces(&parts, &expected);
    }

    #[test]
    fn what_follows_an_error_up_to_the_sync_is_not_waited_for() {
        let parts = [
            client(|out| {
                frontend::write_parse(out, b"", b"fails\0\0\0");
                bind(out, b"");
                execute(out);
            }),
            server(error),
            client(|out| {
                execute(out);
                frontend::write_sync(out);
                frontend::write_query(out, b"next");
            }),
            server(|out| {
                backend::write_ready(out, b'I');
                backend::write_complete(out, "SELECT 1");
                backend::write_ready(out, b'I');
            }),
        ];
        in_any_pieces(&parts, &[("next", "SELECT 1")]);
    }

    #[test]
    fn a_long_statement_is_told_without_its_text() {
        let long = vec![b'x'; MESSAGE_LEN_MAX + 1];
        let parts = [
            client(|out| frontend::write_query(out, &long)),
            server(|out| {
                backend::write_complete(out, "SELECT 1");
                backend::write_ready(out, b'I');
            }),
        ];
        in_any_pieces(&parts, &[("", "SELECT 1")]);
    }

    #[test]
    fn answers_that_do_not_add_up_silence_it_until_the_server_owes_nothing() {
        let mut tap = Tap::default();
        let mut out = Vec::new();
        backend::write_complete(&mut out, "SELECT 1");
        tap.answered(&out, |_, _| panic!("nothing was asked"));
        let (_, query) = client(|out| frontend::write_query(out, b"a"));
        tap.sent(&query, |_| None);
        tap.answered(&out, |_, _| panic!("it is lost"));
        tap.settled();
        tap.sent(&query, |_| None);
        backend::write_ready(&mut out, b'I');
        let mut told = 0;
        tap.answered(&out, |heard, _| {
            assert_eq!(heard.text(), b"a");
            told += 1;
        });
        assert_eq!(told, 1);
    }

    #[test]
    fn a_copy_into_a_table_is_told_as_one() {
        let parts = [
            client(|out| frontend::write_query(out, b"COPY t FROM STDIN")),
            server(|out| out.extend_from_slice(b"G\0\0\0\x07\0\0\0")),
            (true, b"d\0\0\0\x05xc\0\0\0\x04".to_vec()),
            server(|out| {
                backend::write_complete(out, "COPY 1");
                backend::write_ready(out, b'I');
            }),
        ];
        in_any_pieces(&parts, &[("COPY t FROM STDIN", "CopyIn")]);
    }
}
