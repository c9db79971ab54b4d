//! What the attacks prove of each object. Nothing is green by default.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{attack::Kind, context::By, context::Origin};
use crate::finding::{Object, ObjectKind};

/// What is proved of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// An attack succeeded.
    Leaks,
    /// No attack succeeded, and at least one could not be run, or its control failed.
    NotShown,
    /// Every attack was run, every control worked, and none succeeded.
    ProvenIsolated,
}

impl Verdict {
    /// The words for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leaks => "leaks",
            Self::NotShown => "not shown",
            Self::ProvenIsolated => "proven isolated",
        }
    }
}

/// What came of the attacks of one kind on one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The kind.
    pub kind: Kind,
    /// What it proves.
    pub verdict: Verdict,
    /// How many statements of this kind were tried.
    pub tried: usize,
    /// For a leak the statements that reproduce it, one a line, as the application's role.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reproduce: Vec<String>,
    /// What was seen, or why nothing is shown.
    pub because: String,
}

/// An object under attack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attacked {
    /// Which.
    pub object: Object,
    /// As which role.
    pub role: String,
    /// What the attacks prove together.
    pub verdict: Verdict,
    /// What the rules say of it: the ids that have a finding on it. Empty: none has.
    pub findings: Vec<&'static str>,
    /// By kind.
    pub attempts: Vec<Attempt>,
}

/// Where the attacks were run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In a copy on a throwaway server, with logins of its own.
    Clone,
    /// In a database that may be filled.
    Scratch,
    /// In the database itself, rolled back.
    InPlace,
}

impl Mode {
    /// The words for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clone => "a throwaway copy",
            Self::Scratch => "a scratch database",
            Self::InPlace => "the database itself, rolled back",
        }
    }
}

/// The outcome of all attacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttackReport {
    /// Where.
    pub mode: Mode,
    /// How a session enters a tenant; `None`: it is not known, or there is nothing of the kind.
    pub context: Option<String>,
    /// Where that is from.
    pub context_origin: Origin,
    /// Who sets it.
    pub context_by: By,
    /// Worst first.
    pub objects: Vec<Attacked>,
    /// What the reader must know: what could not be copied, what does not roll back, what PostgreSQL cannot prevent.
    pub disclosed: Vec<String>,
}

impl AttackReport {
    /// How many objects have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.objects.iter().filter(|one| one.verdict == verdict).count()
    }

    /// The verdict on an object by its identity, the worst of all roles.
    pub fn verdict(&self, identity: &str) -> Option<Verdict> {
        self.objects.iter().filter(|one| one.object.identity == identity).map(|one| one.verdict).min()
    }

    /// Joins in what the rules found on each object, or on a part of it.
    pub fn join(&mut self, findings: &[crate::Finding]) {
        for one in &mut self.objects {
            let part = format!(" on {}", one.object.identity);
            let column = format!("{}.", one.object.identity);
            let about = |object: &Object| {
                object.kind == one.object.kind && object.identity == one.object.identity
                    || object.identity.ends_with(&part)
                    || object.kind == ObjectKind::Column && object.identity.starts_with(&column)
            };
            let mut ids: Vec<&'static str> = findings.iter().filter(|f| about(&f.object)).map(|f| f.rule).collect();
            ids.sort_unstable();
            ids.dedup();
            one.findings = ids;
        }
    }
}

/// An object of which nothing can be shown, or not everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Objection {
    pub(crate) object: Object,
    pub(crate) reason: String,
}

impl Objection {
    pub(crate) fn new(object: Object, reason: impl Into<String>) -> Self {
        Self { object, reason: reason.into() }
    }
}

/// What came of one attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judged {
    Leaks {
        reproduce: Vec<String>,
        seen: String,
    },
    Held {
        seen: String,
    },
    NotShown {
        reason: String,
    },
    /// There was nothing to attack.
    Moot {
        reason: String,
    },
}

/// Collects what is judged, by object and kind.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<Object, BTreeMap<Kind, (usize, Judged)>>,
    objections: BTreeMap<Object, Vec<String>>,
}

impl Ledger {
    pub(crate) fn enter(&mut self, object: &Object, kind: Kind, judged: Judged) {
        let kinds = self.entries.entry(object.clone()).or_default();
        let entry = kinds.entry(kind).or_insert_with(|| (0, judged.clone()));
        entry.0 += 1;
        if weight(&judged) > weight(&entry.1) {
            entry.1 = judged;
        }
    }

    pub(crate) fn object(&mut self, objection: Objection) {
        self.objections.entry(objection.object).or_default().push(objection.reason);
    }

    pub(crate) fn close(mut self, role: &str) -> Vec<Attacked> {
        let mut all = Vec::new();
        for (object, kinds) in std::mem::take(&mut self.entries) {
            let mut attempts: Vec<Attempt> = Vec::new();
            let mut moot = None;
            for (kind, (tried, judged)) in kinds {
                match judged {
                    Judged::Leaks { reproduce, seen } => {
                        attempts.push(Attempt { kind, verdict: Verdict::Leaks, tried, reproduce, because: seen });
                    }
                    Judged::Held { seen } => {
                        let verdict = Verdict::ProvenIsolated;
                        attempts.push(Attempt { kind, verdict, tried, reproduce: Vec::new(), because: seen });
                    }
                    Judged::NotShown { reason } => {
                        let verdict = Verdict::NotShown;
                        attempts.push(Attempt { kind, verdict, tried, reproduce: Vec::new(), because: reason });
                    }
                    Judged::Moot { reason } => moot = Some((kind, tried, reason)),
                }
            }
            if let (true, Some((kind, tried, because))) = (attempts.is_empty(), moot) {
                attempts.push(Attempt { kind, verdict: Verdict::NotShown, tried, reproduce: Vec::new(), because });
            }
            for reason in self.objections.remove(&object).unwrap_or_default() {
                attempts.push(objected(reason));
            }
            all.push(attacked(object, role, attempts));
        }
        for (object, reasons) in self.objections {
            all.push(attacked(object, role, reasons.into_iter().map(objected).collect()));
        }
        all.sort_by(|a, b| (a.verdict, &a.object).cmp(&(b.verdict, &b.object)));
        all
    }
}

fn objected(reason: String) -> Attempt {
    Attempt { kind: Kind::Read, verdict: Verdict::NotShown, tried: 0, reproduce: Vec::new(), because: reason }
}

fn attacked(object: Object, role: &str, attempts: Vec<Attempt>) -> Attacked {
    let verdict = attempts.iter().map(|attempt| attempt.verdict).min().unwrap_or(Verdict::NotShown);
    Attacked { object, role: role.to_owned(), verdict, findings: Vec::new(), attempts }
}

const fn weight(judged: &Judged) -> u8 {
    match judged {
        Judged::Moot { .. } => 0,
        Judged::Held { .. } => 1,
        Judged::NotShown { .. } => 2,
        Judged::Leaks { .. } => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(judged: &[Judged]) -> Vec<Attacked> {
        let mut ledger = Ledger::default();
        for one in judged {
            ledger.enter(&Object::named(ObjectKind::Table, "t"), Kind::Read, one.clone());
        }
        ledger.close("app")
    }

    #[test]
    fn nothing_is_green_by_default() {
        let held = Judged::Held { seen: String::new() };
        let not_shown = Judged::NotShown { reason: String::new() };
        let moot = Judged::Moot { reason: String::new() };
        let leaks = Judged::Leaks { reproduce: vec!["SELECT 1".to_owned()], seen: String::new() };
        assert_eq!(ledger(&[held.clone(), held.clone()])[0].verdict, Verdict::ProvenIsolated);
        assert_eq!(ledger(&[held.clone(), not_shown.clone()])[0].verdict, Verdict::NotShown);
        assert_eq!(ledger(std::slice::from_ref(&moot))[0].verdict, Verdict::NotShown);
        assert_eq!(ledger(&[moot, held])[0].verdict, Verdict::ProvenIsolated);
        assert_eq!(ledger(&[not_shown, leaks])[0].verdict, Verdict::Leaks);
        assert!(ledger(&[]).is_empty());
    }

    #[test]
    fn an_objection_outweighs_what_held() {
        let mut ledger = Ledger::default();
        let object = Object::named(ObjectKind::Table, "t");
        ledger.enter(&object, Kind::Read, Judged::Held { seen: String::new() });
        ledger.object(Objection::new(object, "it is only half there"));
        assert_eq!(ledger.close("app")[0].verdict, Verdict::NotShown);
    }
}
