//! Whether a copy is like its source, as far as isolation is concerned: what differs is not shown by attacks on the copy.

use std::collections::BTreeMap;

use super::Objection;
use crate::{
    facts::{Acl, Facts, Oid, Privilege, Relation},
    finding::Object,
};

/// What the copy lacks or has otherwise.
pub(crate) fn differences(source: &Facts, copy: &Facts) -> Vec<Objection> {
    let mut found = Vec::new();
    let there: BTreeMap<(&str, &str), &Relation> =
        copy.relations.iter().map(|one| ((one.schema.as_str(), one.name.as_str()), one)).collect();
    for relation in source.relations.iter().filter(|one| !super::plant::is_systems(&one.schema)) {
        let reason = match there.get(&(relation.schema.as_str(), relation.name.as_str())) {
            None => "it could not be copied".to_owned(),
            Some(other) => match relation_differs(source, relation, copy, other) {
                Some(what) => format!("the copy differs in its {what}"),
                None => continue,
            },
        };
        found.push(Objection::new(Object::relation(relation), reason));
    }
    let there: BTreeMap<String, &crate::facts::Function> =
        copy.functions.iter().map(|one| (Object::function(one).identity, one)).collect();
    for function in source.functions.iter().filter(|one| !super::plant::is_systems(&one.schema) && one.extension.is_none()) {
        let object = Object::function(function);
        let reason = match there.get(&object.identity) {
            None => "it could not be copied",
            Some(other) if other.definer != function.definer || other.body != function.body => "the copy differs",
            Some(other) if named(source, &function.acl, function.owner) != named(copy, &other.acl, other.owner) => {
                "the copy's privileges differ"
            }
            Some(other) if owner(source, function.owner) != owner(copy, other.owner) => "the copy's owner differs",
            Some(_) => continue,
        };
        found.push(Objection::new(object, reason));
    }
    found
}

fn relation_differs(source: &Facts, one: &Relation, copy: &Facts, other: &Relation) -> Option<&'static str> {
    let columns = |facts: &Facts, oid: Oid| {
        let all = facts.columns_of(oid).iter();
        let owner = facts.relation(oid).map_or(0, |one| one.owner);
        all.map(|c| (c.name.clone(), c.written_type.clone(), c.not_null, named(facts, &c.acl, owner))).collect::<Vec<_>>()
    };
    let policies = |facts: &Facts, oid: Oid| {
        let mut all: Vec<_> = facts
            .policies_of(oid)
            .iter()
            .map(|p| {
                let mut roles: Vec<String> = p.roles.iter().map(|role| owner(facts, *role)).collect();
                roles.sort();
                (p.name.clone(), p.permissive, format!("{:?}", p.command), roles, p.using.clone(), p.check.clone())
            })
            .collect();
        all.sort();
        all
    };
    let keys = |facts: &Facts, oid: Oid| {
        let mut all: Vec<_> = facts.constraints_of(oid).iter().map(|k| (k.name.clone(), k.definition.clone())).collect();
        all.sort();
        all
    };
    [
        ("kind", one.kind != other.kind),
        ("row-level security", (one.rls, one.rls_forced) != (other.rls, other.rls_forced)),
        ("owner", owner(source, one.owner) != owner(copy, other.owner)),
        ("privileges", named(source, &one.acl, one.owner) != named(copy, &other.acl, other.owner)),
        ("query", one.definition != other.definition || one.options != other.options),
        ("columns", columns(source, one.oid) != columns(copy, other.oid)),
        ("policies", policies(source, one.oid) != policies(copy, other.oid)),
        ("constraints", keys(source, one.oid) != keys(copy, other.oid)),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

/// A role by its name. Superusers count as one: the copy has one more, and what they own their rights reach alike.
fn owner(facts: &Facts, oid: Oid) -> String {
    if facts.role(oid).is_some_and(|role| role.superuser) { String::new() } else { facts.role_name(oid) }
}

/// Who may do what, without the owner: its rights stand in a list only where somebody granted or revoked something.
fn named(facts: &Facts, acl: &Acl, own: Oid) -> BTreeMap<String, Vec<Privilege>> {
    let mut named: BTreeMap<String, Vec<Privilege>> = BTreeMap::new();
    for grant in acl.iter().filter(|grant| grant.to != own) {
        let privileges = named.entry(owner(facts, grant.to)).or_default();
        privileges.extend(&grant.privileges);
        privileges.sort();
    }
    named
}
