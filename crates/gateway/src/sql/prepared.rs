//! Prepared statements of the extended protocol across pooled connections.
//!
//! A client's names mean nothing on a server connection. What it prepares gets a number by its text, is prepared under that
//! number where it is needed, and is shared by the clients of a tenant: the numbers are forgotten with the session.
//!
//! A client that has a connection for its session has its own names there. With its tenant it changes the connection, and finds
//! what it had prepared by the same names: its texts are kept, and prepared anew when they are wanted.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Weak},
};

/// A statement's text and parameter types, as they stand in a Parse message behind the name.
#[derive(Debug)]
pub(crate) struct Statement {
    /// Its number in this process.
    pub(crate) number: u64,
    /// The rest of its Parse message.
    pub(crate) rest: Box<[u8]>,
}

/// The number of statements that are the gateway's own to carry out: no server ever has one.
const OWN: u64 = 0;

impl Statement {
    /// One of the gateway's own.
    pub(crate) fn own(rest: &[u8]) -> Self {
        Self { number: OWN, rest: rest.into() }
    }

    /// Whether it is one of the gateway's own.
    pub(crate) fn is_own(&self) -> bool {
        self.number == OWN
    }

    /// Its text.
    pub(crate) fn text(&self) -> &[u8] {
        self.rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// The name of a statement on server connections.
pub(crate) fn name_of(number: u64) -> String {
    let mut name = String::with_capacity(12);
    let _ = write!(name, "_g{number}");
    name
}

/// The name that no statement ever has: to be refused for, and to close without effect.
pub(crate) const NONE: &[u8] = b"_g";

/// Every statement that some client has prepared.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    known: HashMap<Box<[u8]>, Weak<Statement>>,
    next: u64,
    sweep_at: usize,
}

impl Statements {
    /// Numbers begin at `first`, so that those of several workers differ.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { known: HashMap::new(), next: first, sweep_at: 1024 }
    }

    /// The statement of this text.
    pub(crate) fn intern(&mut self, rest: &[u8]) -> Arc<Statement> {
        if let Some(statement) = self.known.get(rest).and_then(Weak::upgrade) {
            return statement;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, statement| statement.strong_count() > 0);
            self.sweep_at = (self.known.len() * 2).max(1024);
        }
        let statement = self.of_one_name(rest);
        self.known.insert(rest.into(), Arc::downgrade(&statement));
        statement
    }

    /// A statement that servers know by the client's name, where the client has a connection for its session. Each has a number
    /// of its own: what is there under one name is not there under another.
    pub(crate) fn of_one_name(&mut self, rest: &[u8]) -> Arc<Statement> {
        self.next += 1;
        Arc::new(Statement { number: self.next, rest: rest.into() })
    }
}

/// What one server connection has prepared.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    confirmed: HashSet<u64>,
    /// Sent, and not answered yet.
    sent: HashSet<u64>,
    /// Some of these were sent in a group that ended since: what follows is read whether or not they come about.
    is_behind: bool,
    /// The client (by its serial number) that the unnamed statement is of, and which of its unnamed statements it is.
    pub(crate) unnamed_of: Option<(u64, u64)>,
    /// How many Parses of the unnamed statement are not answered yet.
    unnamed_sent: usize,
    /// The last of them was sent in a group that ended since.
    is_unnamed_behind: bool,
}

/// Past this, the connection is reset before its next use.
const PREPARED_MAX: usize = 1000;

impl Prepared {
    pub(crate) fn has(&self, number: u64) -> bool {
        self.confirmed.contains(&number) || self.sent.contains(&number)
    }

    /// Whether nobody knows yet which named statements there will be when the server gets to the next message.
    pub(crate) fn is_unsure(&self) -> bool {
        self.is_behind
    }

    /// The same for the unnamed statement.
    pub(crate) fn is_unnamed_unsure(&self) -> bool {
        self.is_unnamed_behind
    }

    pub(crate) fn sends(&mut self, number: u64) {
        self.sent.insert(number);
    }

    pub(crate) fn sends_unnamed(&mut self) {
        self.unnamed_sent += 1;
        self.is_unnamed_behind = false;
    }

    /// A group ends.
    pub(crate) fn syncs(&mut self) {
        self.is_behind = !self.sent.is_empty();
        self.is_unnamed_behind = self.unnamed_sent > 0;
    }

    pub(crate) fn confirm(&mut self, number: u64) {
        self.forget(number);
        self.confirmed.insert(number);
    }

    /// It was closed.
    pub(crate) fn closed(&mut self, number: u64) {
        self.confirmed.remove(&number);
    }

    /// It was sent, and the server discarded it.
    pub(crate) fn forget(&mut self, number: u64) {
        self.sent.remove(&number);
        self.is_behind &= !self.sent.is_empty();
    }

    pub(crate) fn answered_unnamed(&mut self) {
        self.unnamed_sent = self.unnamed_sent.saturating_sub(1);
        self.is_unnamed_behind &= self.unnamed_sent > 0;
    }

    pub(crate) fn forget_unnamed(&mut self) {
        self.answered_unnamed();
        self.unnamed_of = None;
    }

    /// What it had is gone; what was sent behind that is still to come.
    pub(crate) fn clear(&mut self) {
        self.confirmed.clear();
        self.unnamed_of = None;
    }

    /// How many statements it has.
    pub(crate) fn len(&self) -> usize {
        self.confirmed.len()
    }

    /// Whether it is time to begin anew.
    pub(crate) fn is_full(&self) -> bool {
        self.confirmed.len() > PREPARED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_has_one_number() {
        let mut statements = Statements::starting_at(0);
        let first = statements.intern(b"SELECT 1\0\0\0");
        let second = statements.intern(b"SELECT 2\0\0\0");
        assert_eq!(first.number, statements.intern(b"SELECT 1\0\0\0").number);
        assert_ne!(first.number, second.number);
        let number = first.number;
        drop(first);
        assert_ne!(statements.intern(b"SELECT 1\0\0\0").number, number, "nobody held it");
    }

    #[test]
    fn what_was_not_confirmed_is_sent_again() {
        let mut prepared = Prepared::default();
        prepared.sends(1);
        prepared.sends(2);
        assert!(prepared.has(1));
        prepared.confirm(1);
        prepared.forget(2);
        assert!(prepared.has(1) && !prepared.has(2));
    }

    #[test]
    fn a_group_that_may_fail_leaves_open_what_there_is() {
        let mut prepared = Prepared::default();
        prepared.sends(1);
        assert!(!prepared.is_unsure(), "a failure discards what follows as well");
        prepared.syncs();
        assert!(prepared.is_unsure() && !prepared.is_unnamed_unsure());
        prepared.confirm(1);
        assert!(!prepared.is_unsure());
    }
}
