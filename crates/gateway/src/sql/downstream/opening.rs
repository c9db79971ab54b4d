//! What a client says that owes and is owed nothing: something for a server, or one of the gateway's own statements.
//!
//! Such a statement counts only as a message or a group of its own. Its text may have been prepared before, in a group of its own too:
//! then Bind, Execute and Sync name it. No server ever hears of it.

use std::{mem, sync::Arc};

use guardian_pgwire::{
    backend, frame,
    frontend::{self, TargetKind},
    switch::{self, Own},
};

use super::{Downstream, Message, NAMES_LEN_MAX, OWN_LEN_MAX, malformed, name_text};
use crate::sql::{prepared::Statement, refusal::Refusal};

/// The texts and names of all of a client's prepared statements that are the gateway's own.
const OWN_TEXTS_LEN_MAX: usize = 1024 * 1024;

/// What a client says next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Nothing whole yet.
    Incomplete,
    /// Something for a server.
    Server,
    /// Consumed: discarded, or answered by what was written.
    Consumed(usize),
    /// Refused; the connection stays usable.
    Refused {
        /// Bytes of the input it took.
        consumed: usize,
        /// Why.
        refusal: Refusal,
        /// Whether the group is over.
        ready: bool,
    },
    /// A statement of the gateway's own, to be answered now.
    Own {
        /// Bytes of the input it took.
        consumed: usize,
        /// Its text.
        text: Vec<u8>,
        /// The answers to the group before the result; `None` for a simple query.
        group: Option<Vec<u8>>,
        /// How many names were given up behind it; answered once it is carried out.
        closed: usize,
        /// Whether the group is over; otherwise the client wants the result before it ends the group.
        ready: bool,
    },
    /// The client says goodbye.
    Terminate,
}

/// Messages of the extended protocol, up to their Sync, that are the gateway's to answer.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The answers so far, until a Flush or the Sync.
    answer: Vec<u8>,
    /// Something of ours is among what no Flush followed.
    is_open: bool,
    /// Names that were given up behind what is executed.
    closed: usize,
    run: Run,
}

impl Group {
    /// Whether something else may follow: all there was of ours is over, or there was nothing but names given up.
    fn may_be_left(&self) -> bool {
        matches!(self.run, Run::None) && !self.is_open
    }
}

/// How far the one statement of a group is.
#[derive(Debug, Default)]
enum Run {
    /// Nothing was bound.
    #[default]
    None,
    Bound {
        portal: Box<[u8]>,
        statement: Arc<Statement>,
    },
    /// To be carried out once the group is known to hold nothing else.
    Executed(Arc<Statement>),
    /// Carried out at a Flush.
    Done,
}

/// How a message was taken into a group.
enum Taken {
    Incomplete,
    Answered,
    Flush,
    Sync,
    Terminate,
    /// Left over from a COPY that failed.
    Ignored,
    Refused(Refusal),
    /// It does not belong into one.
    Stranger,
}

impl Downstream {
    /// Looks at the next message of a client that owes and is owed nothing.
    pub(crate) fn open(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Opening, Refusal> {
        let Some(header) = frame::header(input).map_err(malformed)? else { return Ok(Opening::Incomplete) };
        let message = Message { input, at: 0, header };
        if self.skipping {
            return Ok(self.skip(message, out));
        }
        match self.group.take() {
            Some(group) => self.continue_group(group, message, out),
            None => self.begin(message, out),
        }
    }

    /// A message outside any group of ours.
    fn begin(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Result<Opening, Refusal> {
        let header = message.header;
        match header.tag {
            // What only begins to be here may turn out to be a switch.
            b'Q' | b'P' if header.body_len <= OWN_LEN_MAX && !message.is_whole() => Ok(Opening::Incomplete),
            b'Q' if header.body_len <= OWN_LEN_MAX => {
                let body = message.body_so_far();
                if switch::resembles(body) {
                    self.drop_unnamed();
                    let text = frontend::query(body).map_err(malformed)?.to_vec();
                    return Ok(Opening::Own { consumed: header.total(), text, group: None, closed: 0, ready: true });
                }
                let deallocated = frontend::query(body).ok().and_then(switch::deallocated);
                if deallocated.is_some_and(|name| self.gives_up(name.as_bytes(), false)) {
                    self.drop_unnamed();
                    backend::write_complete(out, "DEALLOCATE");
                    backend::write_ready(out, b'I');
                    return Ok(Opening::Consumed(header.total()));
                }
                Ok(Opening::Server)
            }
            b'P' | b'B' | b'D' | b'C' => {
                let mut group = Box::<Group>::default();
                match self.take(&mut group, message)? {
                    Taken::Incomplete => Ok(Opening::Incomplete),
                    Taken::Refused(refusal) => Ok(self.refuse_group(refusal)),
                    Taken::Answered => Ok(self.answered_in(group, message, out)),
                    Taken::Flush | Taken::Sync | Taken::Terminate | Taken::Ignored | Taken::Stranger => Ok(Opening::Server),
                }
            }
            b'X' => Ok(Opening::Terminate),
            // Left over from a COPY that failed, which PostgreSQL ignores as well; or a Flush of nothing, which must not
            // take a server connection that nothing would give back.
            b'd' | b'c' | b'f' | b'H' => Ok(Opening::Consumed(self.discard(message))),
            b'Q' | b'E' | b'S' | b'F' => Ok(Opening::Server),
            other => Err(Refusal::Protocol(format!("unexpected message of type {:?}", char::from(other)))),
        }
    }

    /// Goes on with a group that is the gateway's own. Whatever does not belong into one is refused, unless all there was of ours
    /// is over: prepared, and waited for.
    fn continue_group(
        &mut self,
        mut group: Box<Group>,
        message: Message<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Opening, Refusal> {
        let consumed = message.header.total();
        match self.take(&mut group, message)? {
            Taken::Incomplete => {
                self.group = Some(group);
                Ok(Opening::Incomplete)
            }
            Taken::Answered => Ok(self.answered_in(group, message, out)),
            Taken::Flush => {
                group.is_open = false;
                let answer = mem::take(&mut group.answer);
                let opening = if let Run::Executed(statement) = &group.run {
                    let text = statement.text().to_vec();
                    group.run = Run::Done;
                    Opening::Own { consumed, text, group: Some(answer), closed: mem::take(&mut group.closed), ready: false }
                } else {
                    out.extend_from_slice(&answer);
                    Opening::Consumed(consumed)
                };
                self.group = Some(group);
                Ok(opening)
            }
            Taken::Sync => match group.run {
                Run::Executed(statement) => {
                    let text = statement.text().to_vec();
                    Ok(Opening::Own { consumed, text, group: Some(group.answer), closed: group.closed, ready: true })
                }
                Run::None | Run::Bound { .. } | Run::Done => {
                    out.extend_from_slice(&group.answer);
                    backend::write_ready(out, b'I');
                    Ok(Opening::Consumed(consumed))
                }
            },
            Taken::Terminate => Ok(Opening::Terminate),
            Taken::Ignored => {
                self.group = Some(group);
                Ok(Opening::Consumed(self.discard(message)))
            }
            Taken::Refused(refusal) => Ok(self.refuse_group(refusal)),
            Taken::Stranger if group.may_be_left() => self.begin(message, out),
            // They end a group by themselves: no Sync follows.
            Taken::Stranger if matches!(message.header.tag, b'Q' | b'F') => {
                let consumed = self.discard(message);
                Ok(Opening::Refused { consumed, refusal: Refusal::SwitchMisplaced, ready: true })
            }
            Taken::Stranger => Ok(self.refuse_group(Refusal::SwitchMisplaced)),
        }
    }

    /// Keeps the answer until it is known that the group is of ours alone, if anything of ours is in it.
    fn answered_in(&mut self, mut group: Box<Group>, message: Message<'_>, out: &mut Vec<u8>) -> Opening {
        if group.may_be_left() {
            out.append(&mut group.answer);
        }
        self.group = Some(group);
        Opening::Consumed(message.header.total())
    }

    /// Refuses what there is of a group, and what there will be.
    fn refuse_group(&mut self, refusal: Refusal) -> Opening {
        self.skip_group();
        Opening::Refused { consumed: 0, refusal, ready: false }
    }

    /// Discards what comes up to the next Sync.
    pub(crate) fn skip_group(&mut self) {
        self.group = None;
        self.skipping = true;
    }

    fn take(&mut self, group: &mut Group, message: Message<'_>) -> Result<Taken, Refusal> {
        let header = message.header;
        let has_run = matches!(group.run, Run::Executed(_) | Run::Done);
        match header.tag {
            b'H' | b'S' if header.body_len > 0 => Err(malformed("a Sync or Flush with a body")),
            b'H' => Ok(Taken::Flush),
            b'S' => Ok(Taken::Sync),
            b'X' => Ok(Taken::Terminate),
            b'd' | b'c' | b'f' => Ok(Taken::Ignored),
            b'P' if !has_run => self.take_parse(group, message),
            b'B' if !has_run => self.take_bind(group, message),
            b'D' if !has_run => self.take_describe(group, message),
            b'C' => self.take_close(group, message),
            b'E' if header.total() <= OWN_LEN_MAX => {
                if !message.is_whole() {
                    return Ok(Taken::Incomplete);
                }
                let portal = message.body_so_far().split(|byte| *byte == 0).next();
                match mem::take(&mut group.run) {
                    Run::Bound { portal: bound, statement } if portal == Some(&bound) => {
                        group.run = Run::Executed(statement);
                    }
                    run => {
                        group.run = run;
                        return Ok(Taken::Stranger);
                    }
                }
                Ok(Taken::Answered)
            }
            _ => Ok(Taken::Stranger),
        }
    }

    fn take_parse(&mut self, group: &mut Group, message: Message<'_>) -> Result<Taken, Refusal> {
        if message.header.body_len > OWN_LEN_MAX {
            return Ok(Taken::Stranger);
        }
        if !message.is_whole() {
            return Ok(Taken::Incomplete);
        }
        let prefix = frontend::parse_prefix(message.body_so_far()).map_err(malformed)?;
        let prefix = prefix.ok_or_else(|| malformed("the name of a statement does not end"))?;
        if !switch::resembles(prefix.rest) {
            return Ok(Taken::Stranger);
        }
        let parsed = frontend::parse(message.body_so_far()).map_err(malformed)?;
        if switch::own(parsed.text).is_none() {
            return Ok(Taken::Refused(Refusal::SwitchMalformed));
        }
        if parsed.name.is_empty() {
            self.drop_unnamed();
        } else if self.statements.contains_key(parsed.name) {
            return Ok(Taken::Refused(Refusal::NameTaken(name_text(parsed.name))));
        }
        let of_ours = self.statements.iter().filter(|(_, statement)| statement.is_own());
        let texts_len: usize = of_ours.map(|(name, statement)| name.len() + statement.rest.len()).sum();
        if texts_len + message.header.body_len > OWN_TEXTS_LEN_MAX || !self.has_room_for(message.header.body_len) {
            let what = "the list of prepared changes of the tenant";
            return Ok(Taken::Refused(Refusal::TooLarge { what, bytes_max: OWN_TEXTS_LEN_MAX }));
        }
        self.statements.insert(parsed.name.into(), Arc::new(Statement::own(prefix.rest)));
        backend::write_parse_complete(&mut group.answer);
        group.is_open = true;
        Ok(Taken::Answered)
    }

    fn take_bind(&mut self, group: &mut Group, message: Message<'_>) -> Result<Taken, Refusal> {
        // With nothing prepared there is nothing of ours to bind: the usual case, and the message may be long.
        if self.statements.is_empty() {
            return Ok(Taken::Stranger);
        }
        let body = message.body_so_far();
        let Some(prefix) = frontend::bind_prefix(body).map_err(malformed)? else {
            return message.incomplete("the names in a Bind", NAMES_LEN_MAX).map(|_| Taken::Incomplete);
        };
        let Some(statement) = self.own(prefix.statement).cloned() else { return Ok(Taken::Stranger) };
        if message.header.body_len > OWN_LEN_MAX {
            return Ok(Taken::Refused(Refusal::SwitchMisplaced));
        }
        if !message.is_whole() {
            return Ok(Taken::Incomplete);
        }
        if !has_no_parameters(&body[prefix.len..]) {
            return Ok(Taken::Refused(Refusal::Protocol("a change of the tenant takes no parameters".to_owned())));
        }
        group.run = Run::Bound { portal: prefix.portal.into(), statement };
        backend::write_bind_complete(&mut group.answer);
        group.is_open = true;
        Ok(Taken::Answered)
    }

    fn take_describe(&mut self, group: &mut Group, message: Message<'_>) -> Result<Taken, Refusal> {
        if !message.is_whole() {
            return message.incomplete("the name in a Describe or Close", NAMES_LEN_MAX).map(|_| Taken::Incomplete);
        }
        let target = frontend::target(message.body_so_far()).map_err(malformed)?;
        let statement = match (target.kind, &group.run) {
            (TargetKind::Statement, _) => self.own(target.name),
            (TargetKind::Portal, Run::Bound { portal, statement }) if **portal == *target.name => Some(statement),
            (TargetKind::Portal, _) => None,
        };
        let Some(statement) = statement else { return Ok(Taken::Stranger) };
        if target.kind == TargetKind::Statement {
            backend::write_parameter_description(&mut group.answer, &[]);
        }
        if matches!(switch::own(statement.text()), Some(Own::ShowTenant)) {
            backend::write_row_description(&mut group.answer, &["guardian.tenant"]);
        } else {
            backend::write_no_data(&mut group.answer);
        }
        group.is_open = true;
        Ok(Taken::Answered)
    }

    /// A name is the client's to give up, whatever stands under it, and servers share what they have prepared; but a server that
    /// knows the client's own name has to hear of it. Yields whether that was all.
    fn gives_up(&mut self, name: &[u8], leaves: bool) -> bool {
        let is_known_there = self.has_session && !leaves && self.own(name).is_none();
        !is_known_there && self.statements.remove(name).is_some()
    }

    fn take_close(&mut self, group: &mut Group, message: Message<'_>) -> Result<Taken, Refusal> {
        if !message.is_whole() {
            return message.incomplete("the name in a Describe or Close", NAMES_LEN_MAX).map(|_| Taken::Incomplete);
        }
        let target = frontend::target(message.body_so_far()).map_err(malformed)?;
        // With its tenant the client leaves the server that knows the name.
        let leaves = matches!(&group.run, Run::Executed(statement)
            if !matches!(switch::own(statement.text()), None | Some(Own::ShowTenant)));
        let is_ours = match target.kind {
            TargetKind::Statement => self.gives_up(target.name, leaves),
            TargetKind::Portal => !matches!(group.run, Run::None),
        };
        if !is_ours {
            return Ok(Taken::Stranger);
        }
        if matches!(group.run, Run::Executed(_)) {
            // Its answer stands behind the result, which there is none of before the end.
            group.closed += 1;
        } else {
            backend::write_close_complete(&mut group.answer);
        }
        Ok(Taken::Answered)
    }

    /// Refuses the next message: an error now, and for the extended protocol nothing more until its Sync.
    pub(crate) fn refuse(&mut self, input: &[u8], refusal: &Refusal, out: &mut Vec<u8>) -> Result<usize, Refusal> {
        let Some(header) = frame::header(input).map_err(malformed)? else { return Ok(0) };
        refusal.write_error(out);
        if matches!(header.tag, b'Q' | b'F') {
            backend::write_ready(out, b'I');
            return Ok(self.discard(Message { input, at: 0, header }));
        }
        self.skipping = true;
        Ok(0)
    }

    /// Discards a message of which the rest may still be to come.
    fn discard(&mut self, message: Message<'_>) -> usize {
        let here = message.header.total().min(message.input.len());
        self.remaining = message.header.total() - here;
        self.is_discarded = self.remaining > 0;
        here
    }

    /// What is left of a message that is being discarded.
    pub(crate) fn discard_remaining(&mut self, input: &[u8]) -> usize {
        let here = self.remaining.min(input.len());
        self.remaining -= here;
        self.is_discarded &= self.remaining > 0;
        here
    }

    fn skip(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Opening {
        match message.header.tag {
            b'X' => Opening::Terminate,
            b'S' => {
                self.skipping = false;
                backend::write_ready(out, b'I');
                Opening::Consumed(self.discard(message))
            }
            _ => Opening::Consumed(self.discard(message)),
        }
    }
}

/// Whether the rest of a Bind, behind its names, gives no parameter: a count of formats, these, and a count of values.
fn has_no_parameters(rest: &[u8]) -> bool {
    let Some((formats, rest)) = rest.split_first_chunk() else { return false };
    let formats_len = usize::from(u16::from_be_bytes(*formats)) * 2;
    rest.get(formats_len..).is_some_and(|rest| rest.starts_with(&[0, 0]))
}
