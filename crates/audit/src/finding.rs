//! What a rule found: the object, the way to it, the evidence, and the SQL that fixes it.

use guardian_postgres::quote;
use serde::Serialize;

use crate::{
    facts::{Facts, Function, Policy, Relation, RelationKind, Role},
    reach::Path,
    rule::{Rule, Severity},
};

/// The kind of an object, in SQL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum ObjectKind {
    Server,
    Setting,
    Database,
    Role,
    Schema,
    Table,
    View,
    MaterializedView,
    ForeignTable,
    Sequence,
    Column,
    Constraint,
    Index,
    Policy,
    Function,
    Domain,
    Trigger,
    RewriteRule,
    EventTrigger,
    ForeignServer,
    UserMapping,
    Extension,
    Publication,
    Subscription,
    ReplicationSlot,
    LargeObject,
    /// Of the audit itself: an exception, a missing fact.
    Audit,
}

impl ObjectKind {
    /// The word for people: `table`, `materialized view`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Setting => "setting",
            Self::Database => "database",
            Self::Role => "role",
            Self::Schema => "schema",
            Self::Table => "table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::ForeignTable => "foreign table",
            Self::Sequence => "sequence",
            Self::Column => "column",
            Self::Constraint => "constraint",
            Self::Index => "index",
            Self::Policy => "policy",
            Self::Function => "function",
            Self::Domain => "domain",
            Self::Trigger => "trigger",
            Self::RewriteRule => "rule",
            Self::EventTrigger => "event trigger",
            Self::ForeignServer => "foreign server",
            Self::UserMapping => "user mapping",
            Self::Extension => "extension",
            Self::Publication => "publication",
            Self::Subscription => "subscription",
            Self::ReplicationSlot => "replication slot",
            Self::LargeObject => "large object",
            Self::Audit => "audit",
        }
    }
}

/// An object that a finding is about. Names are as the catalog has them, and may be hostile: see [`crate::report::escape`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Object {
    /// Its kind.
    pub kind: ObjectKind,
    /// The schema that it, or its table, is in.
    pub schema: Option<String>,
    /// Its bare name.
    pub name: String,
    /// What tells it from every other of its kind: `public.orders`, `tenant_only on public.orders`, `public.f(integer)`.
    /// Quoted only where SQL would need it.
    pub identity: String,
}

/// A name as people write it in SQL: quoted only where it must be.
pub fn readable(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { quote::ident(name) }
}

/// The same, with the schema.
pub fn readable_in(schema: &str, name: &str) -> String {
    format!("{}.{}", readable(schema), readable(name))
}

impl Object {
    /// An object with no schema: a role, a setting, an extension.
    pub fn named(kind: ObjectKind, name: &str) -> Self {
        Self { kind, schema: None, name: name.to_owned(), identity: readable(name) }
    }

    /// An object in a schema.
    pub fn in_schema(kind: ObjectKind, schema: &str, name: &str) -> Self {
        Self { kind, schema: Some(schema.to_owned()), name: name.to_owned(), identity: readable_in(schema, name) }
    }

    /// A table, view, sequence.
    pub fn relation(relation: &Relation) -> Self {
        let kind = match relation.kind {
            RelationKind::Table | RelationKind::Partitioned => ObjectKind::Table,
            RelationKind::View => ObjectKind::View,
            RelationKind::MaterializedView => ObjectKind::MaterializedView,
            RelationKind::ForeignTable => ObjectKind::ForeignTable,
            RelationKind::Sequence => ObjectKind::Sequence,
        };
        Self::in_schema(kind, &relation.schema, &relation.name)
    }

    /// What hangs on a relation: a policy, a trigger, a constraint, a column.
    pub fn part(kind: ObjectKind, name: &str, relation: &Relation) -> Self {
        let of = readable_in(&relation.schema, &relation.name);
        let identity = if kind == ObjectKind::Column {
            format!("{of}.{}", readable(name))
        } else {
            format!("{} on {of}", readable(name))
        };
        Self { kind, schema: Some(relation.schema.clone()), name: name.to_owned(), identity }
    }

    /// A policy; its table may be unknown only in facts that somebody edited.
    pub fn policy(facts: &Facts, policy: &Policy) -> Self {
        match facts.relation(policy.table) {
            Some(table) => Self::part(ObjectKind::Policy, &policy.name, table),
            None => Self::named(ObjectKind::Policy, &policy.name),
        }
    }

    /// A function, with its argument types.
    pub fn function(function: &Function) -> Self {
        let identity = format!("{}({})", readable_in(&function.schema, &function.name), function.arguments);
        Self { kind: ObjectKind::Function, schema: Some(function.schema.clone()), name: function.name.clone(), identity }
    }

    /// A role.
    pub fn role(role: &Role) -> Self {
        Self::named(ObjectKind::Role, &role.name)
    }
}

/// SQL that fixes a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// Statements, each ended by a semicolon; runs as it is.
    pub sql: String,
    /// What to know before running it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a rule's check yields; [`crate::audit()`] makes a [`Finding`] of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    object: Object,
    path: Option<Path>,
    evidence: String,
    remedy: Option<Remedy>,
    severity: Option<Severity>,
    part: String,
}

impl Hit {
    /// Something is wrong with the object; the evidence is a sentence about what the catalog says.
    pub fn on(object: Object, evidence: impl Into<String>) -> Self {
        Self { object, path: None, evidence: evidence.into(), remedy: None, severity: None, part: String::new() }
    }

    /// How the application's role gets there.
    #[must_use]
    pub fn path(mut self, path: Path) -> Self {
        self.path = Some(path);
        self
    }

    /// Statements that fix it, each ended by a semicolon.
    #[must_use]
    pub fn remedy(mut self, sql: impl Into<String>) -> Self {
        self.remedy = Some(Remedy { sql: sql.into(), note: None });
        self
    }

    /// More of what the catalog says.
    #[must_use]
    pub(crate) fn besides(mut self, more: &str) -> Self {
        self.evidence.push_str(more);
        self
    }

    /// What to know before running the remedy.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        if let Some(remedy) = &mut self.remedy {
            remedy.note = Some(note.into());
        }
        self
    }

    /// Another severity than the rule's usual one.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = Some(severity);
        self
    }

    /// Tells two findings of one rule on one object apart, stably: a column, a command, a grantee.
    #[must_use]
    pub fn part(mut self, part: impl Into<String>) -> Self {
        self.part = part.into();
        self
    }
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's id, such as `GRD-PG-001`.
    pub rule: &'static str,
    /// The rule's title.
    pub title: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub object: Object,
    /// How the application's role gets there; `None` where reach plays no part.
    pub path: Option<Path>,
    /// What the catalog says.
    pub evidence: String,
    /// How to fix it; `None` where no SQL can.
    pub remedy: Option<Remedy>,
    /// The same in every run, whatever the OIDs and the wording: 16 hexadecimal digits.
    pub fingerprint: String,
}

impl Finding {
    /// Joins a hit with its rule.
    pub fn new(rule: &Rule, hit: Hit) -> Self {
        let fingerprint = fingerprint(rule.id, &hit.object, &hit.part);
        Self {
            rule: rule.id,
            title: rule.title,
            severity: hit.severity.unwrap_or(rule.severity),
            object: hit.object,
            path: hit.path,
            evidence: hit.evidence,
            remedy: hit.remedy,
            fingerprint,
        }
    }
}

/// The same in every run for a rule, an object and what tells two of them apart.
pub(crate) fn fingerprint(rule: &str, object: &Object, part: &str) -> String {
    // Each part ends with a byte that no name can contain.
    let text = format!("{rule}\0{}\0{}\0{part}", object.kind.as_str(), object.identity);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let start = digest.as_ref().iter().take(8).fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    format!("{start:016x}")
}
