//! What the concerns of hardening share while they decide: the facts by object, and the lists they write to.

use std::collections::{BTreeMap, BTreeSet};

use super::{Batch, Declaration, Hardening, Note, Refusal, Stage, Statement, classes::Class};
use crate::{
    facts::{Facts, Grant, Oid, RelationFacts},
    quote::{ident, qualified},
    register::Mechanism,
};

pub(super) struct Planner<'a> {
    pub(super) facts: &'a Facts,
    pub(super) declaration: &'a Declaration,
    pub(super) mechanism: Mechanism,
    pub(super) classes: BTreeMap<Oid, Class>,
    relations: BTreeMap<Oid, &'a RelationFacts>,
    mechanism_reason: String,
    refusals: Vec<Refusal>,
    batches: Vec<Batch>,
    notes: Vec<Note>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(facts: &'a Facts, declaration: &'a Declaration) -> Self {
        let (best, reason) = Mechanism::choose(facts, declaration.roles.enter());
        let (mechanism, mechanism_reason) = match declaration.mechanism {
            Some(forced) if forced != best => (forced, "asked for".to_owned()),
            Some(_) | None => (best, reason),
        };
        let relations: BTreeMap<_, _> = facts.relations.iter().map(|relation| (relation.oid, relation)).collect();
        let classes = facts
            .relations
            .iter()
            .filter_map(|relation| Some((relation.oid, Class::of(relation, &relations, declaration)?)))
            .collect();
        Self {
            facts,
            declaration,
            mechanism,
            classes,
            relations,
            mechanism_reason,
            refusals: Vec::new(),
            batches: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Hardening {
        Hardening {
            mechanism: self.mechanism,
            mechanism_reason: self.mechanism_reason,
            refusals: self.refusals,
            batches: self.batches,
            notes: self.notes,
        }
    }

    pub(super) fn relation(&self, oid: Oid) -> Option<&'a RelationFacts> {
        self.relations.get(&oid).copied()
    }

    /// Whether the table's rows belong to tenants.
    pub(super) fn is_tenant_owned(&self, oid: Oid) -> bool {
        self.classes.get(&oid) == Some(&Class::Tenant)
    }

    /// The tables whose rows belong to tenants, partitions and children included.
    pub(super) fn tenant_tables(&self) -> impl Iterator<Item = &'a RelationFacts> + use<'a> {
        let classes = self.classes.clone();
        self.facts.relations.iter().filter(move |relation| classes.get(&relation.oid) == Some(&Class::Tenant))
    }

    pub(super) fn refuse(&mut self, object: impl Into<String>, problem: impl Into<String>, ways_out: Vec<String>) {
        self.refusals.push(Refusal { object: object.into(), problem: problem.into(), ways_out });
    }

    pub(super) fn note(&mut self, object: impl Into<String>, text: impl Into<String>, ways_out: Vec<String>) {
        self.notes.push(Note { object: object.into(), text: text.into(), ways_out });
    }

    /// Adds statements that take effect together, and that nobody notices who uses the database today.
    pub(super) fn inert_transaction(&mut self, statements: Vec<Statement>) {
        self.transaction(statements.into_iter().map(Statement::inert).collect());
    }

    /// Adds statements that take effect together; nothing when there are none.
    pub(super) fn transaction(&mut self, statements: Vec<Statement>) {
        if !statements.is_empty() {
            self.batches.push(Batch::Transaction(statements));
        }
    }

    pub(super) fn concurrently(&mut self, schema: &str, index: &str, statement: Statement) {
        self.batches.push(Batch::Concurrently { statement, schema: schema.to_owned(), index: index.to_owned() });
    }
}

/// Statements that make `held` exactly what is wanted of `grantees` (`None` is PUBLIC). `on` is what stands after `ON`.
pub(super) fn grants(
    object: &str,
    on: &str,
    held: &[Grant],
    wanted: &[(&str, &[&str])],
    reasons: Reasons<'_>,
) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut grantees: BTreeSet<Option<&str>> = held.iter().map(|grant| grant.grantee.as_deref()).collect();
    grantees.extend(wanted.iter().map(|(grantee, _)| Some(*grantee)));
    for grantee in grantees {
        let wanted: &[&str] =
            wanted.iter().find(|(name, _)| Some(*name) == grantee).map_or(&[], |(_, privileges)| privileges);
        let held: Vec<&Grant> = held.iter().filter(|grant| grant.grantee.as_deref() == grantee).collect();
        let excess: Vec<&str> = held
            .iter()
            .filter(|grant| !wanted.contains(&grant.privilege.as_str()))
            .map(|grant| grant.privilege.as_str())
            .collect();
        let passed_on: Vec<&str> = held
            .iter()
            .filter(|grant| grant.grantable && wanted.contains(&grant.privilege.as_str()))
            .map(|grant| grant.privilege.as_str())
            .collect();
        let missing: Vec<&str> =
            wanted.iter().copied().filter(|wish| !held.iter().any(|grant| grant.privilege == *wish)).collect();
        let name = grantee.map_or_else(|| "PUBLIC".to_owned(), ident);
        // Nobody lives on the rights of Guardian's roles yet; on those of PUBLIC, who knows.
        let stage = if grantee.is_some() { Stage::Prepare } else { Stage::Finish };
        if !excess.is_empty() {
            let sql = format!("REVOKE {} ON {on} FROM {name} CASCADE", excess.join(", "));
            statements.push(statement(object, sql, reasons.revoke).at(stage));
        }
        if !passed_on.is_empty() {
            let sql = format!("REVOKE GRANT OPTION FOR {} ON {on} FROM {name} CASCADE", passed_on.join(", "));
            statements.push(statement(object, sql, "nobody but the owner decides who else may").at(stage));
        }
        if !missing.is_empty() {
            let sql = format!("GRANT {} ON {on} TO {name}", missing.join(", "));
            statements.push(statement(object, sql, reasons.grant).at(stage));
        }
    }
    statements
}

/// Why something is granted and why something is taken away.
#[derive(Clone, Copy)]
pub(super) struct Reasons<'a> {
    pub(super) grant: &'a str,
    pub(super) revoke: &'a str,
}

/// A statement that waits for its object to be enforced, unless it says otherwise.
pub(crate) fn statement(object: &str, sql: impl Into<String>, reason: impl Into<String>) -> Statement {
    Statement { object: object.to_owned(), sql: sql.into(), reason: reason.into(), stage: Stage::Enforce }
}

/// A relation as reports name it.
pub(crate) fn label(relation: &RelationFacts) -> String {
    format!("{}.{}", relation.schema, relation.name)
}

/// A relation as SQL names it.
pub(crate) fn sql_name(relation: &RelationFacts) -> String {
    qualified(&relation.schema, &relation.name)
}
