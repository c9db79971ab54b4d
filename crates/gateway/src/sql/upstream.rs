//! What one server connection was asked and has not answered yet.
//!
//! Answers are counted against questions, so that a connection is lent on only when the server owes nothing and is outside a
//! transaction. Whatever does not add up makes the connection useless; it is never repaired. No IO.

use std::{collections::VecDeque, sync::Arc};

use guardian_pgwire::{backend, frame};

use super::{edit::Edit, prepared::Prepared, refusal::Refusal, settings::Settings};

/// A message that the server will answer.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A simple query.
    Query(Option<Refusal>),
    /// A function call.
    Function,
    /// The end of a group of the extended protocol.
    Sync,
    /// A Parse: for the client, or ours in front of a Bind, whose answer nobody else sees.
    Parse(ParseOf),
    /// A Close, whose answer may stand for that of a Parse that was not needed.
    Close {
        /// Answer as if it had been a Parse.
        as_parse: bool,
    },
    /// An Execute.
    Execute,
}

/// Whose Parse it is.
#[derive(Debug)]
pub(crate) enum ParseOf {
    /// The client's; with the statement's number when it is a named one.
    Client(Option<u64>),
    /// Ours.
    Gateway(Option<u64>),
    /// Made to fail, in order to refuse what the client sent.
    Refused(Refusal),
}

/// Why a server connection is useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// An answer without a question.
    #[error("the server sent {:?}, which nothing asked for", char::from(*.0))]
    Unasked(u8),
    /// No valid message.
    #[error("a message of the server is malformed")]
    Malformed,
    /// The connection was taken out of PostgreSQL's ordinary protocol.
    #[error("the server began to replicate")]
    CopyBoth,
    /// Messages that the server will read as something else than the client meant.
    #[error("messages were sent behind a COPY FROM STDIN that the server will not read as such")]
    BrokenCopy,
}

/// Statements whose command tags show that later users of the same tenant would notice.
#[derive(Debug, Default, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Traces {
    /// The tenant context may be gone: reset and enter before anybody uses the connection.
    pub(crate) suspect: bool,
    /// Session state was left: reset before another client uses the connection.
    pub(crate) dirty: bool,
    /// A cancel request was sent, which may arrive late.
    pub(crate) cancelled: bool,
    /// Prepared statements are gone.
    pub(crate) discarded: bool,
    /// The role's own attributes were changed.
    pub(crate) altered_role: bool,
}

/// The longest message that is looked into as a whole; a longer one passes unread.
const LOOK_LEN_MAX: usize = 16 * 1024;
/// PostgreSQL's "outside a transaction".
pub(crate) const IDLE: u8 = b'I';

/// The protocol state of one server connection.
#[derive(Debug)]
pub(crate) struct Upstream {
    asked: VecDeque<Asked>,
    /// How many of them are answered by `ReadyForQuery`.
    readies: u32,
    /// The status of the last `ReadyForQuery`.
    pub(crate) status: u8,
    /// The server discards what comes before the next Sync.
    failed: bool,
    /// Messages of the extended protocol were sent behind the last Sync: the server is in the middle of a group.
    in_group: bool,
    /// The server reads COPY data.
    pub(crate) copy_in: bool,
    /// Bytes of a message that passes unread.
    remaining: usize,
    /// What it has prepared for clients.
    pub(crate) prepared: Prepared,
    /// Its settings, as it reports them.
    pub(crate) settings: Arc<Settings>,
    pub(crate) traces: Traces,
    /// Why the gateway cut the statement short; takes the place of the server's error.
    pub(crate) cut: Option<Refusal>,
}

/// What a stretch of a server's bytes came to.
pub(crate) struct Answered<'a> {
    /// What goes to the client.
    pub(crate) bytes: &'a [u8],
    /// How much of the input was used up; the rest waits for more.
    pub(crate) consumed: usize,
    /// A `ReadyForQuery` was among it that left nothing owed: the walk stopped behind it.
    pub(crate) settled: bool,
    /// Settings the server reported; they went to the client as well.
    pub(crate) reported: bool,
    /// How many of the client's named statements were prepared.
    pub(crate) prepared: usize,
    /// An error came: named statements that were not prepared by then never will be.
    pub(crate) failed: bool,
}

impl Upstream {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            asked: VecDeque::new(),
            readies: 0,
            status: IDLE,
            failed: false,
            in_group: false,
            copy_in: false,
            remaining: 0,
            prepared: Prepared::default(),
            settings,
            traces: Traces::default(),
            cut: None,
        }
    }

    /// Notes what is about to be sent. What the server will discard is not noted.
    pub(crate) fn ask(&mut self, asked: Asked) {
        match asked {
            Asked::Sync => {
                // Discarded, too, while the server reads COPY data.
                if self.copy_in {
                    return;
                }
                self.failed = false;
                self.in_group = false;
                self.readies += 1;
            }
            _ if self.failed => return,
            // They end a group as well, with the transaction that it began.
            Asked::Query(_) | Asked::Function => {
                self.in_group = false;
                self.readies += 1;
            }
            Asked::Parse(_) | Asked::Close { .. } | Asked::Execute => self.in_group = true,
        }
        self.asked.push_back(asked);
    }

    /// Notes a message of the extended protocol whose answer is not waited for by itself.
    pub(crate) fn ask_within_group(&mut self) {
        self.in_group = true;
    }

    /// How much is owed.
    pub(crate) fn owed(&self) -> usize {
        self.asked.len()
    }

    /// Whether the server works on something: then its time is the statement's.
    pub(crate) fn is_busy(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether a transaction is open, be it one that the next Sync would end.
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.status != IDLE || self.in_group
    }

    /// Whether the server owes nothing and is outside a transaction, with no message cut in two.
    pub(crate) fn is_settled(&self) -> bool {
        self.asked.is_empty()
            && self.status == IDLE
            && !self.copy_in
            && !self.failed
            && !self.in_group
            && self.remaining == 0
    }

    /// Walks over what the server sent while a client was attached.
    pub(crate) fn answer<'a>(&mut self, input: &'a [u8], out: &'a mut Vec<u8>) -> Result<Answered<'a>, Violation> {
        let mut edit = Edit::new(input, out);
        let (mut at, mut settled, mut reported, mut prepared, mut failed) = (0, false, false, 0, false);
        while at < input.len() && !settled {
            if self.remaining > 0 {
                let step = self.remaining.min(input.len() - at);
                self.remaining -= step;
                at += step;
                continue;
            }
            let Some(header) = frame::header(&input[at..]).map_err(|_| Violation::Malformed)? else { break };
            let (whole, end) = (at + header.total() <= input.len(), at + header.total());
            if passes_unread(header.tag) || (!whole && header.total() > LOOK_LEN_MAX) {
                if !passes_unread(header.tag) {
                    self.account(header.tag, &[])?;
                }
                self.remaining = end - at;
                continue;
            }
            if !whole {
                break;
            }
            let body = &input[at + frame::HEADER_LEN..end];
            match self.account(header.tag, body)? {
                Fate::Pass => failed |= header.tag == b'E',
                Fate::Prepared => prepared += 1,
                Fate::Reported => reported = true,
                Fate::Settled => settled = self.is_settled(),
                Fate::Swallow => edit.remove(at..end),
                Fate::AsParseComplete => {
                    prepared += 1;
                    backend::write_parse_complete(edit.replace(at..end));
                }
                Fate::Instead(refusal) => {
                    failed = true;
                    refusal.write_error(edit.replace(at..end));
                }
            }
            at = end;
        }
        Ok(Answered { bytes: edit.finish(at), consumed: at, settled, reported, prepared, failed })
    }

    /// Takes an answer off what is owed.
    fn account(&mut self, tag: u8, body: &[u8]) -> Result<Fate, Violation> {
        let unasked = Violation::Unasked(tag);
        match tag {
            b'Z' => {
                match self.asked.pop_front() {
                    Some(Asked::Query(_) | Asked::Function | Asked::Sync) => {}
                    _ => return Err(unasked),
                }
                self.readies -= 1;
                self.status = *body.first().ok_or(Violation::Malformed)?;
                self.copy_in = false;
                Ok(Fate::Settled)
            }
            b'C' => {
                match self.asked.front() {
                    Some(Asked::Query(_)) => {}
                    Some(Asked::Execute) => drop(self.asked.pop_front()),
                    _ => return Err(unasked),
                }
                self.copy_in = false;
                self.trace(body);
                Ok(Fate::Pass)
            }
            b'I' | b's' => {
                match self.asked.front() {
                    Some(Asked::Query(_)) if tag == b'I' => {}
                    Some(Asked::Execute) => drop(self.asked.pop_front()),
                    _ => return Err(unasked),
                }
                Ok(Fate::Pass)
            }
            b'1' => match self.asked.pop_front() {
                Some(Asked::Parse(ParseOf::Client(number))) => {
                    self.prepared.confirm(number);
                    Ok(if number.is_some() { Fate::Prepared } else { Fate::Pass })
                }
                Some(Asked::Parse(ParseOf::Gateway(number))) => {
                    self.prepared.confirm(number);
                    Ok(Fate::Swallow)
                }
                // It was to fail; that it did not is not the client's to see, and nothing of it is left after the group.
                _ => Err(unasked),
            },
            b'3' => match self.asked.pop_front() {
                Some(Asked::Close { as_parse: true }) => Ok(Fate::AsParseComplete),
                Some(Asked::Close { as_parse: false }) => Ok(Fate::Pass),
                _ => Err(unasked),
            },
            b'V' => match self.asked.front() {
                Some(Asked::Function) => Ok(Fate::Pass),
                _ => Err(unasked),
            },
            b'E' => Ok(self.error(body)),
            b'G' => self.copy_begins(),
            b'W' => Err(Violation::CopyBoth),
            b'S' => {
                let (name, value) = backend::parameter_status(body).map_err(|_| Violation::Malformed)?;
                self.settings = self.settings.with(name, value);
                Ok(Fate::Reported)
            }
            // Rows, their descriptions, COPY out, notices, notifications: nothing is owed for them.
            b'2' | b'T' | b't' | b'n' | b'H' | b'N' | b'A' | b'D' | b'd' | b'c' => Ok(Fate::Pass),
            _ => Err(unasked),
        }
    }

    fn error(&mut self, body: &[u8]) -> Fate {
        self.copy_in = false;
        let code = backend::field(body, b'C').unwrap_or_default();
        // What a lost context looks like from outside: an empty register that does not convert.
        if matches!(code, b"22P02" | b"22011" | b"42501") {
            self.traces.suspect = true;
        }
        let refused = match self.asked.front_mut() {
            Some(Asked::Query(refusal)) => refusal.take(),
            Some(Asked::Parse(ParseOf::Refused(refusal))) => Some(refusal.clone()),
            _ => None,
        };
        if !matches!(self.asked.front(), Some(Asked::Query(_) | Asked::Function) | None) {
            self.discard_to_sync();
        }
        if let Some(refusal) = refused {
            return Fate::Instead(refusal);
        }
        match self.cut.take_if(|_| code == b"57014") {
            Some(refusal) => Fate::Instead(refusal),
            None if code == b"0A000" && backend::field(body, b'R') == Some(b"DoCopy") => Fate::Instead(Refusal::CopyFrom),
            None => Fate::Pass,
        }
    }

    /// After an error in the extended protocol the server discards everything before the next Sync.
    fn discard_to_sync(&mut self) {
        self.prepared.forget_unconfirmed();
        while let Some(front) = self.asked.front() {
            if matches!(front, Asked::Sync) {
                return;
            }
            // Queries before the Sync are discarded with the rest, and never answered.
            if matches!(front, Asked::Query(_) | Asked::Function) {
                self.readies -= 1;
            }
            self.asked.pop_front();
        }
        self.failed = true;
    }

    /// The server reads COPY data from here on. It discards a Sync that was sent behind the Execute already, and would take
    /// anything else for a violation.
    fn copy_begins(&mut self) -> Result<Fate, Violation> {
        match self.asked.front() {
            Some(Asked::Query(_)) if self.asked.len() == 1 => {}
            Some(Asked::Execute) if self.asked.iter().skip(1).all(|asked| matches!(asked, Asked::Sync)) => {
                let syncs = u32::try_from(self.asked.len() - 1).unwrap_or(u32::MAX);
                self.asked.truncate(1);
                self.readies -= syncs;
            }
            _ => return Err(Violation::BrokenCopy),
        }
        self.copy_in = true;
        Ok(Fate::Pass)
    }

    /// Takes down what a command tag tells. It only saves a reset between clients of one tenant: between tenants the reset
    /// is unconditional.
    fn trace(&mut self, body: &[u8]) {
        let tag = body.strip_suffix(&[0]).unwrap_or(body);
        match tag {
            b"RESET" => self.traces.suspect = true,
            b"DISCARD ALL" => {
                self.traces.suspect = true;
                self.traces.discarded = true;
                self.prepared.clear();
            }
            b"DEALLOCATE ALL" => {
                self.traces.discarded = true;
                self.prepared.clear();
            }
            b"SET" | b"PREPARE" | b"DECLARE CURSOR" | b"LISTEN" | b"LOAD" | b"CREATE TABLE" | b"SELECT INTO" | b"DO"
            | b"CALL" => {
                self.traces.dirty = true;
            }
            b"ALTER ROLE" => self.traces.altered_role = true,
            _ => {}
        }
    }
}

/// What becomes of a message from the server.
enum Fate {
    Pass,
    Prepared,
    Reported,
    Settled,
    Swallow,
    AsParseComplete,
    Instead(Refusal),
}

/// Whether a message passes without a look: rows and COPY data, which may be of any length and are never owed.
const fn passes_unread(tag: u8) -> bool {
    matches!(tag, b'D' | b'd')
}
