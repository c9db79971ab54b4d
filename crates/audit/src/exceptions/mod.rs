//! Exceptions: findings that somebody accepts, with a reason, until a day.
//!
//! They stand in a file ([`of_file`]) or as a comment on the object ([`of_comments`]). An exception that has expired, that
//! matches nothing, or that the application's role could have written itself is a finding of its own, so that none outlives
//! its reason. Pure: today's date is a parameter.

mod comment;
mod file;

use jiff::civil::Date;
use serde::Serialize;

pub use comment::of_comments;
pub use file::{ExceptionsError, of_file};

use crate::{
    Report,
    finding::{Finding, Hit, Object, ObjectKind},
    rules::{exception_expired, exception_refused, exception_unused},
};

/// A finding that somebody accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The rule's id.
    pub rule: String,
    /// What it is about.
    pub target: Target,
    /// The last day on which it counts.
    pub until: Date,
    /// Why the finding is accepted.
    pub reason: String,
    /// Where the exception is written.
    pub origin: Origin,
}

/// What an exception is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every finding of the rule on the object of this identity.
    Identity(String),
    /// The same, with the kind known.
    Object(Object),
    /// One finding.
    Fingerprint(String),
}

/// Where an exception is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// Its path, as it was given.
        path: String,
        /// The line on which the entry begins, from 1.
        line: usize,
    },
    /// In a comment on the object.
    Comment(Object),
}

/// A text that looks like an exception and does not count as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// On which object it is written.
    pub on: Object,
    /// The text.
    pub text: String,
    /// Why it does not count.
    pub reason: String,
}

/// All exceptions of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exceptions {
    /// Those that count.
    pub granted: Vec<Exception>,
    /// Those that do not.
    pub refused: Vec<Refused>,
}

/// A finding with the exception that it falls under.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Excepted {
    /// The finding.
    pub finding: Finding,
    /// Why it is accepted.
    pub reason: String,
    /// The last day.
    pub until: Date,
    /// Where the exception is written.
    pub origin: String,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Comment(object) => write!(f, "the comment on {} {}", object.kind.as_str(), object.identity),
        }
    }
}

impl Exception {
    fn covers(&self, finding: &Finding) -> bool {
        self.rule.eq_ignore_ascii_case(finding.rule)
            && match &self.target {
                Target::Identity(identity) => *identity == finding.object.identity,
                Target::Object(object) => *object == finding.object,
                Target::Fingerprint(fingerprint) => *fingerprint == finding.fingerprint,
            }
    }

    fn subject(&self) -> String {
        match &self.target {
            Target::Identity(identity) => format!("{} on {identity}", self.rule),
            Target::Object(object) => format!("{} on {} {}", self.rule, object.kind.as_str(), object.identity),
            Target::Fingerprint(fingerprint) => format!("{} with the fingerprint {fingerprint}", self.rule),
        }
    }

    /// Where it is to be taken out or renewed.
    fn object(&self) -> Object {
        match &self.origin {
            Origin::File { path, .. } => {
                Object { kind: ObjectKind::Audit, schema: None, name: path.clone(), identity: path.clone() }
            }
            Origin::Comment(object) => object.clone(),
        }
    }

    /// Keeps two exceptions of one file, or of one comment, apart; the line would change with every edit.
    fn part(&self) -> String {
        format!("{}\0{}", self.subject(), self.until)
    }
}

/// Takes the findings that exceptions cover out of `report.findings` into `report.excepted`, and adds what is wrong with
/// the exceptions themselves.
pub fn apply(report: &mut Report, exceptions: &Exceptions, today: Date) {
    let mut own = Vec::new();
    for exception in &exceptions.granted {
        let covered: Vec<usize> =
            (0..report.findings.len()).rev().filter(|at| exception.covers(&report.findings[*at])).collect();
        let shadowed = report.excepted.iter().any(|excepted| exception.covers(&excepted.finding));
        if exception.until < today {
            own.push(expired(exception, !covered.is_empty()));
            continue;
        }
        // Of a rule that could not run, nobody knows what it would have found.
        if covered.is_empty() && !shadowed && !report.could_not_run.iter().any(|not_run| not_run.rule == exception.rule) {
            own.push(unused(exception));
        }
        for at in covered {
            let finding = report.findings.remove(at);
            let (reason, origin) = (exception.reason.clone(), exception.origin.to_string());
            report.excepted.push(Excepted { finding, reason, until: exception.until, origin });
        }
    }
    own.extend(exceptions.refused.iter().map(refused));
    report.excepted.sort_by(|a, b| (a.finding.rule, &a.finding.object).cmp(&(b.finding.rule, &b.finding.object)));
    report.findings.extend(own);
    report.sort();
}

fn expired(exception: &Exception, still_there: bool) -> Finding {
    let evidence = format!(
        "{} allows {} until {}, because {:?}; {}",
        exception.origin,
        exception.subject(),
        exception.until,
        exception.reason,
        if still_there { "the finding is still there and counts again" } else { "nothing of the kind is found any more" }
    );
    Finding::new(&exception_expired::RULE, Hit::on(exception.object(), evidence).part(exception.part()))
}

fn unused(exception: &Exception) -> Finding {
    let known = crate::rules::by_id(&exception.rule).is_some();
    let why = if known { "there is no such finding" } else { "there is no such rule" };
    let evidence = format!("{} allows {}, and {why}", exception.origin, exception.subject());
    Finding::new(&exception_unused::RULE, Hit::on(exception.object(), evidence).part(exception.part()))
}

fn refused(refused: &Refused) -> Finding {
    let evidence = format!("the comment says {:?}: {}", refused.text, refused.reason);
    Finding::new(&exception_refused::RULE, Hit::on(refused.on.clone(), evidence).part(refused.text.clone()))
}
