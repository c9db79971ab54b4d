//! The SECURITY DEFINER functions that the application can have run, and what they touch.

use std::collections::{BTreeMap, BTreeSet};

use super::rights::{exempt, is_open, reads};
use crate::{
    Oid,
    facts::{Catalog, Facts, Function, Privilege, Relation, RelationKind, Trigger},
    finding::{readable, readable_in},
    reach::{Path, Reach},
    rule::Audit,
};

/// A function that runs as its owner whenever the application wants it to.
#[derive(Debug)]
pub(super) struct Definer<'f> {
    /// The function.
    pub(super) function: &'f Function,
    /// How the application has it run.
    pub(super) path: Path,
    /// By a trigger, which needs no EXECUTE.
    pub(super) by_trigger: bool,
}

/// All of them, each once: those that can be called, and those that a trigger calls on a table that can be written.
pub(super) fn definers<'f>(audit: &Audit<'f>) -> Vec<Definer<'f>> {
    let Audit { facts, reach, .. } = audit;
    let functions = facts.functions.iter().filter(|function| function.definer);
    functions
        .filter_map(|function| {
            if is_trigger_function(function) {
                let path =
                    facts.triggers.iter().filter(|one| one.function == function.oid).find_map(|one| fires(audit, one))?;
                return Some(Definer { function, path, by_trigger: true });
            }
            Some(Definer { function, path: reach.function(function)?, by_trigger: false })
        })
        .collect()
}

/// Such a function cannot be called by itself.
pub(super) fn is_trigger_function(function: &Function) -> bool {
    matches!(function.returns.as_str(), "trigger" | "event_trigger")
}

const FIRES: [(i16, Privilege); 4] =
    [(4, Privilege::Insert), (8, Privilege::Delete), (16, Privilege::Update), (32, Privilege::Truncate)];

/// How the application makes a trigger fire.
pub(super) fn fires(audit: &Audit<'_>, trigger: &Trigger) -> Option<Path> {
    let table = audit.facts.relation(trigger.table).filter(|_| trigger.enabled != 'D')?;
    let privileges = FIRES.iter().filter(|(bit, _)| trigger.bits & bit != 0);
    let path = privileges.into_iter().find_map(|(_, privilege)| audit.reach.relation(table).privilege(*privilege))?;
    Some(path.then(format!("trigger {} on {}", readable(&trigger.name), readable_in(&table.schema, &table.name))))
}

/// Whether a function touches a tenant table that the policies leave open to its owner.
#[derive(Debug)]
pub(super) enum Touch<'f> {
    /// PostgreSQL recorded it.
    Recorded(&'f Relation, &'static str),
    /// It cannot be known from the catalog, for this reason.
    Undecided(String),
    /// It does not.
    No,
}

/// What a function touches, as far as `pg_depend` knows; the functions that it calls run as the same owner.
pub(super) fn touch<'f>(audit: &Audit<'f>, function: &Function) -> Touch<'f> {
    touch_as(audit, function, function.owner, &mut BTreeSet::new())
}

fn touch_as<'f>(audit: &Audit<'f>, function: &Function, role: Oid, seen: &mut BTreeSet<Oid>) -> Touch<'f> {
    if !function.parsed {
        return Touch::Undecided("PostgreSQL does not record what a body in text refers to".to_owned());
    }
    let facts = audit.facts;
    let mut undecided = None;
    for reference in facts.references_of(Catalog::Function, function.oid) {
        if reference.to == Catalog::Function && seen.insert(reference.referenced) {
            let Some(called) = facts.function(reference.referenced) else { continue };
            // A definer function below is one of the application's only if it can call it, which is looked at by itself.
            let role = if called.definer { called.owner } else { role };
            match touch_as(audit, called, role, seen) {
                Touch::Recorded(table, why) => return Touch::Recorded(table, why),
                Touch::Undecided(reason) => {
                    undecided = Some(format!("it calls {}, and {reason}", readable_in(&called.schema, &called.name)));
                }
                Touch::No => {}
            }
        }
        let Some(relation) = facts.relation(reference.referenced).filter(|_| reference.to == Catalog::Relation) else {
            continue;
        };
        if relation.kind.is_table() && audit.tenancy.is_tenants(relation.oid) {
            if let Some(why) = exempt(audit, role, relation) {
                return Touch::Recorded(relation, why);
            }
        } else if relation.kind == RelationKind::View
            && reads(facts, relation).iter().any(|read| is_open(audit, read).is_some())
        {
            return Touch::Recorded(relation, "reads tenants' rows past their policies there");
        }
    }
    undecided.map_or(Touch::No, Touch::Undecided)
}

/// The tenant tables whose policies do not hold a role back, with the reason; worked out once a role.
#[derive(Default)]
pub(super) struct OpenTables<'f> {
    by_role: BTreeMap<Oid, Vec<(&'f Relation, &'static str)>>,
}

impl<'f> OpenTables<'f> {
    pub(super) fn to(&mut self, audit: &Audit<'f>, role: Oid) -> &[(&'f Relation, &'static str)] {
        self.by_role.entry(role).or_insert_with(|| {
            let relations = audit.facts.relations.iter();
            let tables = relations.filter(|table| table.kind.is_table() && audit.tenancy.is_tenants(table.oid));
            tables.filter_map(|table| Some((table, exempt(audit, role, table)?))).collect()
        })
    }
}

/// Whether a text has a word in it, whatever its case. A hint and no more: it may stand in a comment.
pub(super) fn mentions(text: &str, word: &str) -> bool {
    let (text, word) = (text.to_lowercase(), word.to_lowercase());
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    !word.is_empty()
        && text.match_indices(&word).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + word.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
}

/// The schemas in which the application can make objects.
pub(super) fn writable_schemas<'f>(facts: &'f Facts, reach: &Reach<'_>) -> Vec<&'f str> {
    let schemas = facts
        .schemas
        .iter()
        .filter(|schema| reach.by_acl(&schema.acl, Privilege::Create, schema.owner, None, &schema.name).is_some());
    schemas.map(|schema| schema.name.as_str()).collect()
}

/// Whether the application can make temporary objects.
pub(super) fn makes_temporary(facts: &Facts, reach: &Reach<'_>) -> bool {
    reach.by_acl(&facts.database.acl, Privilege::Temporary, facts.database.owner, None, "the database").is_some()
}

/// The schemas of a `search_path` setting, in order, as the server splits it.
pub(super) fn search_path(function: &Function) -> Option<Vec<String>> {
    let value = function.settings.iter().find_map(|setting| setting.strip_prefix("search_path="))?;
    let (mut names, mut name, mut quoted) = (Vec::new(), String::new(), false);
    for c in value.chars() {
        match c {
            // A doubled quote closes and opens again, and only then stands for itself.
            '"' => {
                if !quoted && !name.is_empty() {
                    name.push('"');
                }
                quoted = !quoted;
            }
            ',' if !quoted => names.push(std::mem::take(&mut name)),
            c if c.is_whitespace() && !quoted => {}
            c => name.push(c),
        }
    }
    names.push(name);
    Some(names.into_iter().filter(|name| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn only_whole_words_count() {
        assert!(mentions("SELECT * FROM shop.\"Orders\"", "orders"));
        assert!(mentions("execute q", "EXECUTE"));
        assert!(!mentions("executed; prescribe_execute", "execute"));
    }
}
