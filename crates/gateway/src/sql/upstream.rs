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
    /// Ours, to end a group of the client's in which nothing was executed; the client has no answer to it.
    OwnSync,
    /// A Parse: for the client, or ours in front of a Bind, whose answer nobody else sees.
    Parse(ParseOf),
    /// A Bind.
    Bind,
    /// A Describe.
    Describe,
    /// A Close.
    Close(CloseOf),
    /// An Execute.
    Execute,
    /// The end of COPY data that was sent before the server had said that it reads any. Never answered, and never in front.
    CopyEnd,
}

/// What is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseOf {
    /// A portal, or what nobody keeps account of.
    Untracked,
    /// A statement of the client's, whose name is the gateway's affair.
    Statement,
    /// A statement that the server has under the client's name, by its number.
    Named(u64),
    /// Nothing: it is answered as the Parse that was not needed.
    AsParse,
}

/// Whose Parse it is.
#[derive(Debug)]
pub(crate) enum ParseOf {
    /// The client's, of a named statement by its number.
    Named(u64),
    /// The client's, of the unnamed statement.
    Unnamed,
    /// The client's, of what nobody keeps account of: in a session of its own, or under a name that is taken.
    Untracked,
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
/// What PostgreSQL says of settings that it does not know or take: invalid values, unknown and reserved names, no permission, not now.
const SETTING_REFUSED: [&[u8]; 6] = [b"22023", b"42704", b"42602", b"42501", b"55P02", b"0A000"];
/// PostgreSQL's "outside a transaction".
pub(crate) const IDLE: u8 = b'I';

/// The protocol state of one server connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Upstream {
    asked: VecDeque<Asked>,
    /// The status of the last `ReadyForQuery`.
    pub(crate) status: u8,
    /// The server discards what comes before the next Sync.
    failed: bool,
    /// Messages of the extended protocol were sent behind the last Sync: the server is in the middle of a group.
    in_group: bool,
    /// Something was bound or executed in it, so that it is more than names given to statements.
    has_bound: bool,
    /// The server reads COPY data.
    pub(crate) copy_in: bool,
    /// A Sync was sent that the server takes no notice of, as long as it is reading COPY data then.
    sync_in_copy: bool,
    /// It may have stopped reading before: an answer may come that nothing waits for, and be taken for another's.
    doubtful: bool,
    /// Bytes of a message that passes unread.
    remaining: usize,
    /// What it has prepared for clients.
    pub(crate) prepared: Prepared,
    /// Its settings, as it reports them.
    pub(crate) settings: Arc<Settings>,
    pub(crate) traces: Traces,
    /// Why the gateway cut the statement short; takes the place of the server's error.
    pub(crate) cut: Option<Refusal>,
    /// What the server said before it ended the connection.
    pub(crate) last_words: LastWords,
}

/// Why a server ended a connection, or why the gateway does: in the server's own words.
#[derive(Debug, Default)]
pub(crate) enum LastWords {
    #[default]
    None,
    /// The client has them.
    Told,
    /// An `ErrorResponse` that nobody was told.
    Kept(Vec<u8>),
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
    /// How many Parses and Closes of the client's statements came about.
    pub(crate) prepared: usize,
    /// An error came, and those of its group that had not come about by then never will; the walk stopped behind it.
    pub(crate) failed: bool,
}

impl Upstream {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            asked: VecDeque::new(),
            status: IDLE,
            failed: false,
            in_group: false,
            has_bound: false,
            copy_in: false,
            sync_in_copy: false,
            doubtful: false,
            remaining: 0,
            prepared: Prepared::default(),
            settings,
            traces: Traces::default(),
            cut: None,
            last_words: LastWords::None,
        }
    }

    /// Notes what is about to be sent. What the server will discard is not noted.
    pub(crate) fn ask(&mut self, asked: Asked) {
        match asked {
            Asked::Sync | Asked::OwnSync => {
                // Discarded, too, while the server reads COPY data.
                if self.copy_in {
                    self.sync_in_copy = true;
                    return;
                }
                self.failed = false;
                (self.in_group, self.has_bound) = (false, false);
                self.prepared.syncs();
            }
            _ if self.failed => return,
            // They end a group as well, with the transaction that it began.
            Asked::Query(_) | Asked::Function => (self.in_group, self.has_bound) = (false, false),
            Asked::CopyEnd => {
                if std::mem::take(&mut self.copy_in) || self.asked.is_empty() {
                    return;
                }
            }
            Asked::Parse(_) | Asked::Bind | Asked::Describe | Asked::Close(_) | Asked::Execute => {
                self.in_group = true;
                self.has_bound |= matches!(asked, Asked::Bind | Asked::Execute);
                match &asked {
                    Asked::Parse(ParseOf::Named(number) | ParseOf::Gateway(Some(number))) => self.prepared.sends(*number),
                    Asked::Parse(ParseOf::Unnamed | ParseOf::Gateway(None)) => self.prepared.sends_unnamed(),
                    _ => {}
                }
            }
        }
        self.asked.push_back(asked);
    }

    /// Whether the server discards everything before the next Sync.
    pub(crate) fn is_discarding(&self) -> bool {
        self.failed
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

    /// Whether the next message begins something of its own, and answers that are still to come say whether a transaction is open.
    pub(crate) fn may_settle(&self) -> bool {
        !self.asked.is_empty() && !self.in_group && !self.failed && !self.copy_in
    }

    /// Whether all there is of a group are statements that were prepared and described, all of it answered: it may be ended unasked.
    pub(crate) fn has_only_prepared(&self) -> bool {
        let is_within_that = self.in_group && !self.has_bound && self.status == IDLE;
        is_within_that && self.asked.is_empty() && !self.failed && !self.copy_in && self.remaining == 0
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

    /// Whether the count of what is owed may be wrong: then the connection serves its present client at most.
    pub(crate) const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Listens for an error while the connection is made ready for a client: the client is told if the server ends the connection,
    /// or refuses a setting of the client's. Anything else is the gateway's own affair.
    pub(crate) fn overhear(&mut self, bytes: &[u8]) {
        let Ok(Some(header)) = frame::header(bytes) else { return };
        if header.tag != b'E' || header.total() > bytes.len() {
            return;
        }
        let body = &bytes[frame::HEADER_LEN..header.total()];
        let is_of_setting = backend::field(body, b'C').is_some_and(|code| SETTING_REFUSED.contains(&code));
        // What the register itself raises is none of the client's business.
        let is_raised = backend::field(body, b'R') == Some(b"exec_stmt_raise");
        if is_of_setting && !is_raised || backend::is_fatal(body) {
            let mut words = Vec::new();
            backend::write_as_fatal(&mut words, body);
            self.last_words = LastWords::Kept(words);
        }
    }

    /// Walks over what the server sent while a client was attached.
    pub(crate) fn answer<'a>(&mut self, input: &'a [u8], out: &'a mut Vec<u8>) -> Result<Answered<'a>, Violation> {
        let mut edit = Edit::new(input, out);
        let (mut at, mut settled, mut reported, mut prepared, mut failed) = (0, false, false, 0, false);
        while at < input.len() && !settled && !failed {
            if self.remaining > 0 {
                let step = self.remaining.min(input.len() - at);
                self.remaining -= step;
                at += step;
                continue;
            }
            let Some(header) = frame::header(&input[at..]).map_err(|_| Violation::Malformed)? else { break };
            let (whole, end) = (at + header.total() <= input.len(), at + header.total());
            if passes_unread(header.tag) {
                self.expect(header.tag, |front| matches!(front, Asked::Query(_) | Asked::Execute))?;
                self.remaining = end - at;
                continue;
            }
            if !whole && header.total() > LOOK_LEN_MAX {
                if !may_be_long(header.tag) {
                    return Err(Violation::Malformed);
                }
                // What an error is of stands at its beginning.
                if header.tag == b'E' && input.len() - at < LOOK_LEN_MAX {
                    break;
                }
                // It is passed as it is, whatever could be said in its place.
                failed = matches!(self.account(header.tag, &input[at + frame::HEADER_LEN..])?, Fate::Failed(_, true));
                self.remaining = end - input.len();
                at = input.len();
                continue;
            }
            if !whole {
                break;
            }
            let body = &input[at + frame::HEADER_LEN..end];
            match self.account(header.tag, body)? {
                Fate::Pass => {}
                Fate::Prepared => prepared += 1,
                Fate::Failed(instead, lost) => {
                    failed = lost;
                    if let Some(refusal) = instead {
                        refusal.write_error(edit.replace(at..end));
                    }
                }
                Fate::Reported => reported = true,
                Fate::Settled => settled = self.is_settled(),
                Fate::SettledUnseen => {
                    edit.remove(at..end);
                    settled = self.is_settled();
                }
                Fate::Swallow => edit.remove(at..end),
                Fate::AsParseComplete => {
                    prepared += 1;
                    backend::write_parse_complete(edit.replace(at..end));
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
                let next = self.next();
                if !matches!(next, Some(Asked::Query(_) | Asked::Function | Asked::Sync | Asked::OwnSync)) {
                    return Err(unasked);
                }
                let &[status @ (b'I' | b'T' | b'E')] = body else { return Err(Violation::Malformed) };
                self.status = status;
                self.copy_in = false;
                Ok(if matches!(next, Some(Asked::OwnSync)) { Fate::SettledUnseen } else { Fate::Settled })
            }
            b'C' | b'I' | b's' => {
                match self.asked.front() {
                    Some(Asked::Query(_)) if tag != b's' => {}
                    Some(Asked::Execute) => drop(self.next()),
                    _ => return Err(unasked),
                }
                if tag == b'C' {
                    (self.copy_in, self.sync_in_copy) = (false, false);
                    self.trace(body);
                }
                Ok(Fate::Pass)
            }
            b'1' => self.parsed().ok_or(unasked),
            b'2' => match self.next() {
                Some(Asked::Bind) => Ok(Fate::Pass),
                _ => Err(unasked),
            },
            b'3' => match self.next() {
                Some(Asked::Close(CloseOf::AsParse)) => Ok(Fate::AsParseComplete),
                Some(Asked::Close(CloseOf::Statement)) => Ok(Fate::Prepared),
                Some(Asked::Close(CloseOf::Named(number))) => {
                    self.prepared.closed(number);
                    Ok(Fate::Prepared)
                }
                Some(Asked::Close(CloseOf::Untracked)) => Ok(Fate::Pass),
                _ => Err(unasked),
            },
            b'T' | b'n' => {
                match self.asked.front() {
                    Some(Asked::Query(_)) if tag == b'T' => {}
                    Some(Asked::Describe) => drop(self.next()),
                    _ => return Err(unasked),
                }
                Ok(Fate::Pass)
            }
            b't' => self.expect(tag, |front| matches!(front, Asked::Describe)),
            b'V' => self.expect(tag, |front| matches!(front, Asked::Function)),
            b'H' | b'c' => self.expect(tag, |front| matches!(front, Asked::Query(_) | Asked::Execute)),
            b'E' => Ok(self.error(body)),
            b'G' => self.copy_begins(),
            b'W' => Err(Violation::CopyBoth),
            b'S' => {
                let (name, value) = backend::parameter_status(body).map_err(|_| Violation::Malformed)?;
                self.settings = self.settings.with(name, value);
                Ok(Fate::Reported)
            }
            // Notices and notifications come at any time.
            b'N' | b'A' => Ok(Fate::Pass),
            _ => Err(unasked),
        }
    }

    /// Whether a part of an answer belongs to what is owed next.
    fn expect(&self, tag: u8, is_of: impl Fn(&Asked) -> bool) -> Result<Fate, Violation> {
        if self.asked.front().is_some_and(is_of) { Ok(Fate::Pass) } else { Err(Violation::Unasked(tag)) }
    }

    /// Takes off what is owed next.
    fn next(&mut self) -> Option<Asked> {
        let next = self.asked.pop_front();
        // The server took no notice of it.
        while matches!(self.asked.front(), Some(Asked::CopyEnd)) {
            self.asked.pop_front();
        }
        next
    }

    /// A Parse came about.
    fn parsed(&mut self) -> Option<Fate> {
        let Some(Asked::Parse(parse)) = self.next() else { return None };
        match parse {
            ParseOf::Named(number) | ParseOf::Gateway(Some(number)) => self.prepared.confirm(number),
            ParseOf::Unnamed | ParseOf::Gateway(None) => self.prepared.answered_unnamed(),
            ParseOf::Untracked => {}
            // It was to fail; that it did not is not the client's to see, and nothing of it is left after the group.
            ParseOf::Refused(_) => return None,
        }
        Some(match parse {
            ParseOf::Named(_) | ParseOf::Unnamed => Fate::Prepared,
            ParseOf::Gateway(_) => Fate::Swallow,
            ParseOf::Untracked | ParseOf::Refused(_) => Fate::Pass,
        })
    }

    fn error(&mut self, body: &[u8]) -> Fate {
        self.copy_in = false;
        self.doubtful |= std::mem::take(&mut self.sync_in_copy);
        if backend::is_fatal(body) {
            // The connection is over, and nothing may be said in place of that.
            self.last_words = LastWords::Told;
            return Fate::Failed(None, false);
        }
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
        let is_extended = !matches!(self.asked.front(), Some(Asked::Query(_) | Asked::Function) | None);
        let lost = is_extended && self.discard_to_sync();
        let instead = refused.or_else(|| match self.cut.take_if(|_| code == b"57014") {
            Some(refusal) => Some(refusal),
            None if code == b"0A000" && backend::field(body, b'R') == Some(b"DoCopy") => Some(Refusal::CopyFrom),
            None => None,
        });
        Fate::Failed(instead, lost)
    }

    /// After an error in the extended protocol the server discards everything before the next Sync. Yields whether anything
    /// that the client keeps account of was among it.
    fn discard_to_sync(&mut self) -> bool {
        let mut lost = false;
        while let Some(front) = self.asked.front() {
            match front {
                Asked::Sync | Asked::OwnSync => return lost,
                Asked::Parse(ParseOf::Named(number)) => {
                    self.prepared.forget(*number);
                    lost = true;
                }
                Asked::Parse(ParseOf::Unnamed) => {
                    self.prepared.forget_unnamed();
                    lost = true;
                }
                Asked::Parse(ParseOf::Gateway(Some(number))) => self.prepared.forget(*number),
                Asked::Parse(ParseOf::Gateway(None)) => self.prepared.forget_unnamed(),
                Asked::Close(CloseOf::Statement | CloseOf::Named(_) | CloseOf::AsParse) => lost = true,
                _ => {}
            }
            self.asked.pop_front();
        }
        self.failed = true;
        lost
    }

    /// The server reads COPY data from here on, up to the end that was sent already, if it was. It discards a Sync that was
    /// sent before that, and would take anything else for a violation.
    fn copy_begins(&mut self) -> Result<Fate, Violation> {
        let is_simple = match self.asked.front() {
            Some(Asked::Query(_)) => true,
            Some(Asked::Execute) => false,
            _ => return Err(Violation::Unasked(b'G')),
        };
        loop {
            match self.asked.get(1) {
                Some(Asked::Sync) => {
                    self.asked.remove(1);
                    self.sync_in_copy = true;
                }
                Some(Asked::CopyEnd) => {
                    self.asked.remove(1);
                    // A Sync that was sent in vain did not end the group.
                    self.in_group |= self.asked.len() == 1 && !is_simple;
                    return Ok(Fate::Pass);
                }
                Some(_) => return Err(Violation::BrokenCopy),
                None => {
                    self.copy_in = true;
                    self.in_group |= !is_simple;
                    return Ok(Fate::Pass);
                }
            }
        }
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
            b"SET" | b"PREPARE" | b"DECLARE CURSOR" | b"LISTEN" | b"DEALLOCATE" | b"LOAD" | b"CREATE TABLE"
            | b"SELECT INTO" | b"DO" | b"CALL" => {
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
    /// It is, and nobody waits to hear of it.
    SettledUnseen,
    Swallow,
    AsParseComplete,
    /// An error: what to say in its place, and whether something of the client's was lost by it.
    Failed(Option<Refusal>, bool),
}

/// Whether a message can be longer than what is looked into as a whole.
const fn may_be_long(tag: u8) -> bool {
    matches!(tag, b'T' | b't' | b'E' | b'N' | b'A' | b'V' | b'C')
}

/// Whether a message passes without a look: rows and COPY data, which may be of any length and are never owed.
const fn passes_unread(tag: u8) -> bool {
    matches!(tag, b'D' | b'd')
}
