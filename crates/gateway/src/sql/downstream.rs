//! What one client sends, turned into what a server connection gets: framed, counted, with names of statements translated.
//!
//! Message headers are walked, rows and parameters are not. No IO.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use guardian_pgwire::{
    frame::{self, HEADER_LEN, Header},
    frontend::{self, TargetKind},
    switch,
};

use super::{
    edit::Edit,
    prepared::{NONE, Statement, Statements, name_of},
    refusal::Refusal,
    upstream::{Asked, CloseOf, ParseOf, Upstream},
};

mod opening;

pub(crate) use opening::Opening;

/// The longest message that has to be read as a whole: a named Parse, a switch.
const WHOLE_LEN_MAX: usize = 1024 * 1024;
/// The longest names of a portal and a statement together.
const NAMES_LEN_MAX: usize = 2048;
/// The longest simple query that is looked at for a switch: a token of an identity is shorter.
const OWN_LEN_MAX: usize = 16 * 1024;
/// The longest unnamed statement that is remembered beyond its group.
const UNNAMED_LEN_MAX: usize = 16 * 1024;
/// The longest statement that follows a client from session to session.
const KEPT_LEN_MAX: usize = 64 * 1024;
/// The named statements of one client, each counted as [`STATEMENT_LEN_MIN`] at least: some 10,000 short ones.
const STATEMENTS_LEN_MAX: usize = 16 * 1024 * 1024;
const STATEMENT_LEN_MIN: usize = 1600;
/// Messages that may wait for their answers; a client that pipelines more is read no further until some are there.
pub(crate) const OWED_MAX: usize = 4096;

/// The protocol state of one client.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Downstream {
    /// Numbers clients of one worker, to tell whose unnamed statement a server has.
    pub(crate) serial: u64,
    /// It has a server connection, which knows its statements by its own names.
    pub(crate) has_session: bool,
    /// Bytes of a message whose beginning was passed on, or discarded.
    remaining: usize,
    /// It was discarded: nothing of it may reach a server.
    is_discarded: bool,
    /// A group of the extended protocol that was refused: everything up to its Sync is discarded.
    skipping: bool,
    /// A group that is the gateway's own to answer.
    group: Option<Box<opening::Group>>,
    /// What the client calls its statements. They are its own: they outlast a change of its tenant. The unnamed one is among
    /// them only when it is one of the gateway's own.
    statements: HashMap<Box<[u8]>, Arc<Statement>>,
    /// Some of these were prepared for servers.
    has_translated: bool,
    /// What the server has not answered yet, in order.
    unconfirmed: VecDeque<Change>,
    /// How many of these are of named statements.
    names_unconfirmed: usize,
    /// Some of these were sent in a group that ended since: what follows is read whether or not they come about.
    are_names_behind: bool,
    /// The last unnamed statement, behind its name.
    unnamed: Option<Vec<u8>>,
    /// Numbers the unnamed statements: a server connection that was left may still have an earlier one.
    unnamed_version: u64,
}

/// A change of the client's statements that holds if the server says so.
#[derive(Debug)]
enum Change {
    /// A name was given or closed; what it stood for before.
    Named(Box<[u8]>, Option<Arc<Statement>>),
    /// The unnamed statement was parsed or closed.
    Unnamed,
    /// The end of a group.
    Sync,
}

/// What the walk over a client's bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// As far as the input reaches.
    Done,
    /// The rest waits for answers: the server owes as much as it should at once, or what the next message means hangs on them.
    Full,
    /// The client says goodbye.
    Terminate,
}

/// What goes to the server, and how much of the input it took.
pub(crate) struct Forwarded<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) consumed: usize,
    pub(crate) step: Step,
}

/// How the names of statements are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// The server connection is one of many that serve the client.
    Translated,
    /// It is the client's own for the session.
    Own,
}

type Forwarding<'a> = Result<Forwarded<'a>, Refusal>;

fn malformed<E: std::fmt::Display>(error: E) -> Refusal {
    Refusal::Protocol(error.to_string())
}

impl Downstream {
    /// Whether a message was begun and not ended: losing the client now would leave the server in the middle of it.
    pub(crate) fn is_within_message(&self) -> bool {
        self.remaining > 0
    }

    /// Whether what comes next is the rest of a message that is being discarded.
    pub(crate) fn is_discarding(&self) -> bool {
        self.is_discarded && self.remaining > 0
    }

    /// Whether a group that is the gateway's to answer, or to discard, is under way.
    pub(crate) fn is_apart(&self) -> bool {
        self.group.is_some() || self.skipping
    }

    /// So many changes of statements came about; and after a failure the others of their group never will.
    pub(crate) fn answered(&mut self, prepared: usize, failed: bool) {
        for _ in 0..prepared {
            self.drop_syncs();
            if let Some(Change::Named(..)) = self.unconfirmed.pop_front() {
                self.names_unconfirmed -= 1;
            }
        }
        if failed {
            self.drop_syncs();
            let is_sync = |change: &Change| matches!(change, Change::Sync);
            let group_len = self.unconfirmed.iter().position(is_sync).unwrap_or(self.unconfirmed.len());
            let later = self.unconfirmed.split_off(group_len);
            while let Some(change) = self.unconfirmed.pop_back() {
                match change {
                    Change::Named(name, before) => {
                        self.names_unconfirmed -= 1;
                        match before {
                            Some(statement) => self.statements.insert(name, statement),
                            None => self.statements.remove(&name),
                        };
                    }
                    // Which one the server has now is no longer known, unless another one follows.
                    Change::Unnamed if later.iter().any(|change| matches!(change, Change::Unnamed)) => {}
                    Change::Unnamed => self.drop_unnamed(),
                    Change::Sync => {}
                }
            }
            self.unconfirmed = later;
        }
        self.drop_syncs();
        self.are_names_behind &= self.names_unconfirmed > 0;
    }

    fn drop_unnamed(&mut self) {
        self.statements.remove(&b""[..]);
        self.unnamed = None;
        self.unnamed_version += 1;
    }

    /// By which a server connection knows that its unnamed statement is this client's present one.
    fn unnamed_mark(&self) -> (u64, u64) {
        (self.serial, self.unnamed_version)
    }

    fn drop_syncs(&mut self) {
        while matches!(self.unconfirmed.front(), Some(Change::Sync)) {
            self.unconfirmed.pop_front();
        }
    }

    /// Gives a name to a statement, or takes it away, until the server says otherwise.
    fn rename(&mut self, name: &[u8], statement: Option<Arc<Statement>>) {
        let before = match statement {
            Some(statement) => self.statements.insert(name.into(), statement),
            None => self.statements.remove(name),
        };
        self.unconfirmed.push_back(Change::Named(name.into(), before));
        self.names_unconfirmed += 1;
    }

    /// Whether nobody knows yet what a name stands for when the server gets to the next message: a group before it may fail.
    fn is_unsure(&self, up: &Upstream) -> bool {
        self.are_names_behind || up.prepared.is_unsure()
    }

    fn is_name_unsure(&self, name: &[u8], up: &Upstream) -> bool {
        if name.is_empty() { up.prepared.is_unnamed_unsure() } else { self.is_unsure(up) }
    }

    fn sync(&mut self, up: &mut Upstream) -> Walk {
        if !self.unconfirmed.is_empty() {
            self.unconfirmed.push_back(Change::Sync);
            self.are_names_behind = self.names_unconfirmed > 0;
        }
        passed(up, Asked::Sync)
    }

    /// Whether the client may have another named statement.
    fn has_room_for(&self, len: usize) -> bool {
        let counted = |len: usize| len.max(STATEMENT_LEN_MIN);
        let held = self.statements.iter().map(|(name, statement)| counted(name.len() + statement.rest.len())).sum::<usize>();
        held + counted(len) <= STATEMENTS_LEN_MAX
    }

    /// The statement of the gateway's own that the client calls so.
    fn own(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.statements.get(name).filter(|statement| statement.is_own())
    }

    /// What was prepared where names are translated is not shared by number any more where they are not.
    fn keep_names(&mut self, statements: &mut Statements) {
        if std::mem::take(&mut self.has_translated) {
            for statement in self.statements.values_mut().filter(|statement| !statement.is_own()) {
                *statement = statements.of_one_name(&statement.rest);
            }
            self.drop_unnamed();
        }
    }

    /// The statement of a client in a session of its own, if it is one that the gateway keeps the text of.
    fn kept(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.statements.get(name).filter(|statement| !name.is_empty() && !statement.is_own())
    }

    /// Prepares it under the client's own name, where it was not: the client had another connection then.
    fn provide_kept(&self, name: &[u8], up: &mut Upstream, out: &mut Vec<u8>) {
        if let Some(statement) = self.kept(name)
            && !up.prepared.has(statement.number)
        {
            frontend::write_parse(out, name, &statement.rest);
            up.ask(Asked::Parse(ParseOf::Gateway(Some(statement.number))));
        }
    }

    /// All statements are gone: `DISCARD ALL`, `DEALLOCATE ALL`.
    pub(crate) fn forget_statements(&mut self) {
        self.statements.clear();
        self.has_translated = false;
        self.unconfirmed.clear();
        (self.names_unconfirmed, self.are_names_behind) = (0, false);
        self.drop_unnamed();
    }

    /// What a statement was prepared with: its text and types, as in a Parse behind the name.
    pub(crate) fn text_and_types(&self, name: &[u8]) -> Option<Arc<[u8]>> {
        match &self.unnamed {
            Some(unnamed) if name.is_empty() => Some(unnamed.as_slice().into()),
            _ => self.statements.get(name).filter(|statement| !statement.is_own()).map(|statement| (*statement.rest).into()),
        }
    }

    /// Gives back memory while the client is idle.
    pub(crate) fn rest(&mut self) {
        if self.unnamed.as_ref().is_some_and(|text| text.len() > 1024) {
            self.unnamed = None;
        }
    }

    /// Walks over messages of a client that has a server connection.
    pub(crate) fn forward<'a>(
        &mut self,
        input: &'a [u8],
        up: &mut Upstream,
        statements: &mut Statements,
        names: Names,
        out: &'a mut Vec<u8>,
    ) -> Forwarding<'a> {
        if names == Names::Own {
            self.keep_names(statements);
        }
        let mut edit = Edit::new(input, out);
        let mut at = 0;
        let mut step = Step::Done;
        while at < input.len() {
            if self.remaining > 0 {
                let passing = self.remaining.min(input.len() - at);
                self.remaining -= passing;
                at += passing;
                continue;
            }
            if up.owed() >= OWED_MAX {
                step = Step::Full;
                break;
            }
            let Some(header) = frame::header(&input[at..]).map_err(malformed)? else { break };
            let message = Message { input, at, header };
            let walked = match header.tag {
                b'S' | b'H' if header.body_len > 0 => return Err(malformed("a Sync or Flush with a body")),
                b'S' => self.sync(up),
                b'Q' | b'P' | b'B' | b'D' | b'C' | b'E' | b'F' | b'c' | b'f' if up.is_discarding() => Walk::Passed,
                b'Q' => self.query(message, up, names, &mut edit),
                b'P' => self.parse(message, up, statements, names, &mut edit)?,
                b'B' => self.bind(message, up, names, &mut edit)?,
                b'D' | b'C' => self.target(message, up, names, &mut edit)?,
                b'E' => passed(up, Asked::Execute),
                b'F' => passed(up, Asked::Function),
                b'c' | b'f' => passed(up, Asked::CopyEnd),
                b'd' | b'H' => Walk::Passed,
                b'X' => {
                    step = Step::Terminate;
                    break;
                }
                other => return Err(Refusal::Protocol(format!("unexpected message of type {:?}", char::from(other)))),
            };
            if up.copy_in && !matches!(header.tag, b'd' | b'H' | b'S') {
                return Err(Refusal::Protocol("only COPY data may be sent during COPY FROM STDIN".to_owned()));
            }
            match walked {
                Walk::Passed => {
                    let end = (at + header.total()).min(input.len());
                    self.remaining = at + header.total() - end;
                    at = end;
                }
                Walk::Refused(refusal) => {
                    // Something that is sure to fail takes its place, and the refusal that of the error.
                    let end = at + header.total();
                    if header.tag == b'Q' {
                        frontend::write_query(edit.replace(at..end), NOTHING);
                        up.ask(Asked::Query(Some(refusal)));
                    } else {
                        let mut rest = NOTHING.to_vec();
                        rest.extend_from_slice(&[0, 0, 0]);
                        frontend::write_parse(edit.replace(at..end), NONE, &rest);
                        up.ask(Asked::Parse(ParseOf::Refused(refusal)));
                    }
                    at = end;
                }
                Walk::Incomplete => break,
                Walk::Waits => {
                    step = Step::Full;
                    break;
                }
            }
        }
        Ok(Forwarded { bytes: edit.finish(at), consumed: at, step })
    }

    fn query(&mut self, message: Message<'_>, up: &mut Upstream, names: Names, edit: &mut Edit<'_>) -> Walk {
        let is_short = message.header.body_len <= OWN_LEN_MAX;
        // What only begins to be here may turn out to be a switch.
        if is_short && !message.is_whole() {
            return Walk::Incomplete;
        }
        let is_switch = is_short && switch::resembles(message.body_so_far());
        if is_switch && message.settles(up, edit) {
            return Walk::Waits;
        }
        // A simple query does away with the unnamed statement, also one that fails.
        self.drop_unnamed();
        up.prepared.unnamed_of = None;
        if is_switch {
            return Walk::Refused(Refusal::SwitchMisplaced);
        }
        if names == Names::Own && is_short {
            let deallocated = frontend::query(message.body_so_far()).ok().and_then(switch::deallocated);
            if let Some(name) = deallocated.filter(|name| self.kept(name.as_bytes()).is_some()) {
                self.statements.remove(name.as_bytes());
            }
        }
        passed(up, Asked::Query(None))
    }

    fn parse(
        &mut self,
        message: Message<'_>,
        up: &mut Upstream,
        statements: &mut Statements,
        names: Names,
        edit: &mut Edit<'_>,
    ) -> Result<Walk, Refusal> {
        let Some(prefix) = frontend::parse_prefix(message.body_so_far()).map_err(malformed)? else {
            return message.incomplete("the name of a statement", NAMES_LEN_MAX);
        };
        if message.header.body_len <= OWN_LEN_MAX {
            if !message.is_whole() {
                return Ok(Walk::Incomplete);
            }
            if switch::resembles(prefix.rest) {
                if message.settles(up, edit) {
                    return Ok(Walk::Waits);
                }
                if prefix.name.is_empty() {
                    self.drop_unnamed();
                }
                return Ok(Walk::Refused(Refusal::SwitchMisplaced));
            }
        }
        if names == Names::Own {
            if prefix.name.is_empty() {
                self.drop_unnamed();
                return Ok(passed(up, Asked::Parse(ParseOf::Untracked)));
            }
            return self.parse_kept(message, &prefix, up, statements);
        }
        if prefix.name.is_empty() {
            self.statements.remove(&b""[..]);
            let fits = message.is_whole() && prefix.rest.len() <= UNNAMED_LEN_MAX;
            if fits {
                let unnamed = self.unnamed.get_or_insert_default();
                unnamed.clear();
                unnamed.extend_from_slice(prefix.rest);
            } else {
                self.unnamed = None;
            }
            self.unnamed_version += 1;
            up.prepared.unnamed_of = Some(self.unnamed_mark());
            self.unconfirmed.push_back(Change::Unnamed);
            return Ok(passed(up, Asked::Parse(ParseOf::Unnamed)));
        }
        if self.is_unsure(up) {
            return Ok(Walk::Waits);
        }
        if !message.is_whole() {
            return message.incomplete("a named statement", WHOLE_LEN_MAX);
        }
        // Refuses what the server would refuse, before it is shared with others.
        let parsed = frontend::parse(message.body_so_far()).map_err(malformed)?;
        if !self.has_room_for(message.header.body_len) && !self.statements.contains_key(parsed.name) {
            return Err(Refusal::TooLarge { what: "the list of prepared statements", bytes_max: STATEMENTS_LEN_MAX });
        }
        let range = message.range();
        if self.own(parsed.name).is_some() {
            return Ok(Walk::Refused(Refusal::NameTaken(name_text(parsed.name))));
        }
        if let Some(taken) = self.statements.get(parsed.name).cloned() {
            // The server refuses a name that is taken; so that it does, it has to be taken there.
            provide(&taken, up, edit.replace(range.start..range.start));
            frontend::write_parse(edit.replace(range), name_of(taken.number).as_bytes(), prefix.rest);
            return Ok(passed(up, Asked::Parse(ParseOf::Untracked)));
        }
        let statement = statements.intern(prefix.rest);
        let out = edit.replace(range);
        if up.prepared.has(statement.number) {
            frontend::write_close(out, TargetKind::Statement, NONE);
            up.ask(Asked::Close(CloseOf::AsParse));
        } else {
            frontend::write_parse(out, name_of(statement.number).as_bytes(), prefix.rest);
            up.ask(Asked::Parse(ParseOf::Named(statement.number)));
        }
        self.has_translated = true;
        self.rename(parsed.name, Some(statement));
        Ok(Walk::Passed)
    }

    /// A named statement of a client in a session of its own. Whether the name may be given is for the server to say.
    fn parse_kept(
        &mut self,
        message: Message<'_>,
        prefix: &frontend::ParsePrefix<'_>,
        up: &mut Upstream,
        statements: &mut Statements,
    ) -> Result<Walk, Refusal> {
        if self.own(prefix.name).is_some() {
            let taken = Refusal::NameTaken(name_text(prefix.name));
            return message.refused(taken, "a statement under a name that is taken", WHOLE_LEN_MAX);
        }
        if self.is_unsure(up) {
            return Ok(Walk::Waits);
        }
        if message.header.body_len > KEPT_LEN_MAX || !self.has_room_for(message.header.body_len) {
            self.statements.remove(prefix.name);
            return Ok(passed(up, Asked::Parse(ParseOf::Untracked)));
        }
        if !message.is_whole() {
            return Ok(Walk::Incomplete);
        }
        let statement = statements.of_one_name(prefix.rest);
        up.ask(Asked::Parse(ParseOf::Named(statement.number)));
        self.rename(prefix.name, Some(statement));
        Ok(Walk::Passed)
    }

    /// The name under which the server knows what the client calls `name`, made known to it by what is written to `out`.
    fn server_name(&self, name: &[u8], up: &mut Upstream, out: &mut Vec<u8>) -> Vec<u8> {
        if name.is_empty() {
            if up.prepared.unnamed_of == Some(self.unnamed_mark()) {
                return Vec::new();
            }
            // Another client's may be there.
            let Some(rest) = &self.unnamed else { return NONE.to_vec() };
            frontend::write_parse(out, b"", rest);
            up.prepared.unnamed_of = Some(self.unnamed_mark());
            up.ask(Asked::Parse(ParseOf::Gateway(None)));
            return Vec::new();
        }
        match self.statements.get(name) {
            Some(statement) => {
                provide(statement, up, out);
                name_of(statement.number).into_bytes()
            }
            None => [NONE, b" ", name].concat(),
        }
    }

    fn bind(&mut self, message: Message<'_>, up: &mut Upstream, names: Names, edit: &mut Edit<'_>) -> Result<Walk, Refusal> {
        if names == Names::Own && self.statements.is_empty() {
            return Ok(passed(up, Asked::Bind));
        }
        let Some(prefix) = frontend::bind_prefix(message.body_so_far()).map_err(malformed)? else {
            return message.incomplete("the names in a Bind", NAMES_LEN_MAX);
        };
        if self.is_name_unsure(prefix.statement, up) {
            return Ok(Walk::Waits);
        }
        if self.own(prefix.statement).is_some() {
            if message.settles(up, edit) {
                return Ok(Walk::Waits);
            }
            return message.refused(Refusal::SwitchMisplaced, "a Bind of a change of the tenant", OWN_LEN_MAX);
        }
        if names == Names::Own {
            self.provide_kept(prefix.statement, up, edit.replace(message.at..message.at));
            return Ok(passed(up, Asked::Bind));
        }
        if prefix.statement.is_empty() && up.prepared.unnamed_of == Some(self.unnamed_mark()) {
            return Ok(passed(up, Asked::Bind));
        }
        let start = message.at;
        let names_end = start + HEADER_LEN + prefix.len;
        let name = self.server_name(prefix.statement, up, edit.replace(start..start));
        let rest_len = message.header.body_len - prefix.len;
        frontend::write_bind_prefix(edit.replace(start..names_end), prefix.portal, &name, rest_len);
        Ok(passed(up, Asked::Bind))
    }

    fn target(
        &mut self,
        message: Message<'_>,
        up: &mut Upstream,
        names: Names,
        edit: &mut Edit<'_>,
    ) -> Result<Walk, Refusal> {
        if !message.is_whole() {
            return message.incomplete("the name in a Describe or Close", NAMES_LEN_MAX);
        }
        let is_close = message.header.tag == b'C';
        let target = frontend::target(message.body_so_far()).map_err(malformed)?;
        let is_portal = target.kind == TargetKind::Portal;
        if !is_portal && self.is_name_unsure(target.name, up) {
            return Ok(Walk::Waits);
        }
        let is_own = !is_portal && self.own(target.name).is_some();
        if is_own && !is_close {
            if message.settles(up, edit) {
                return Ok(Walk::Waits);
            }
            return Ok(Walk::Refused(Refusal::SwitchMisplaced));
        }
        let range = message.range();
        if !is_portal && !is_own && names == Names::Own {
            let number = self.kept(target.name).map(|statement| statement.number);
            return Ok(match number {
                Some(number) if is_close => {
                    self.rename(target.name, None);
                    passed(up, Asked::Close(CloseOf::Named(number)))
                }
                _ if is_close => passed(up, Asked::Close(CloseOf::Untracked)),
                _ => {
                    self.provide_kept(target.name, up, edit.replace(range.start..range.start));
                    passed(up, Asked::Describe)
                }
            });
        }
        if is_portal {
            return Ok(passed(up, if is_close { Asked::Close(CloseOf::Untracked) } else { Asked::Describe }));
        }
        if is_close {
            // Others may use what the server has under this text.
            let is_there = target.name.is_empty() && up.prepared.unnamed_of == Some(self.unnamed_mark());
            let name = if is_there { b"" } else { NONE };
            if target.name.is_empty() {
                self.drop_unnamed();
                self.unconfirmed.push_back(Change::Unnamed);
            } else {
                self.rename(target.name, None);
            }
            frontend::write_close(edit.replace(range), TargetKind::Statement, name);
            up.ask(Asked::Close(CloseOf::Statement));
        } else {
            let name = self.server_name(target.name, up, edit.replace(range.start..range.start));
            frontend::write_describe(edit.replace(range), TargetKind::Statement, &name);
            up.ask(Asked::Describe);
        }
        Ok(Walk::Passed)
    }
}

/// A statement that no server runs.
const NOTHING: &[u8] = b"refused by the gateway";

/// A message at its place in the input.
#[derive(Clone, Copy)]
struct Message<'a> {
    input: &'a [u8],
    at: usize,
    header: Header,
}

/// How a message was taken.
enum Walk {
    /// Passed on, up to the end of the input at least; what follows of it passes as it comes.
    Passed,
    /// More of it is needed.
    Incomplete,
    /// Answers have to come first.
    Waits,
    /// Refused; only for whole messages.
    Refused(Refusal),
}

impl Message<'_> {
    fn is_whole(&self) -> bool {
        self.at + self.header.total() <= self.input.len()
    }

    /// Whether a change of the tenant has only to wait to be the next thing between two transactions. A group in which statements
    /// were prepared, and nothing else, is ended for that: drivers prepare without a Sync, and go on with whatever comes.
    fn settles(&self, up: &mut Upstream, edit: &mut Edit<'_>) -> bool {
        if up.has_only_prepared() {
            frontend::write_sync(edit.replace(self.at..self.at));
            up.ask(Asked::OwnSync);
        }
        up.may_settle()
    }

    /// Refuses the message once it is whole, which it has to be within bounds.
    fn refused(&self, refusal: Refusal, what: &'static str, bytes_max: usize) -> Result<Walk, Refusal> {
        if self.is_whole() { Ok(Walk::Refused(refusal)) } else { self.incomplete(what, bytes_max) }
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.header.total()
    }

    fn body_so_far(&self) -> &[u8] {
        let end = self.input.len().min(self.at + self.header.total());
        &self.input[self.at + HEADER_LEN..end]
    }

    /// Waits for the rest of what must be seen whole, within bounds.
    fn incomplete(&self, what: &'static str, bytes_max: usize) -> Result<Walk, Refusal> {
        if self.is_whole() {
            return Err(Refusal::Protocol(format!("{what} does not end")));
        }
        if self.header.body_len > bytes_max && self.input.len() - self.at > bytes_max {
            return Err(Refusal::TooLarge { what, bytes_max });
        }
        Ok(Walk::Incomplete)
    }
}

/// A name in an error.
fn name_text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(80).collect()
}

/// Notes what a message asks, and passes it on.
fn passed(up: &mut Upstream, asked: Asked) -> Walk {
    up.ask(asked);
    Walk::Passed
}

/// Prepares a statement on a server connection that lacks it.
fn provide(statement: &Statement, up: &mut Upstream, out: &mut Vec<u8>) {
    if !up.prepared.has(statement.number) {
        frontend::write_parse(out, name_of(statement.number).as_bytes(), &statement.rest);
        up.ask(Asked::Parse(ParseOf::Gateway(Some(statement.number))));
    }
}
