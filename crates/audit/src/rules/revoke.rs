//! REVOKE statements that end the application's reach to an object, where grants are what it rests on.

use guardian_postgres::quote::{ident, qualified};

use crate::{
    Oid,
    facts::{Acl, Function, Grant, PUBLIC, Privilege, Relation, RelationKind},
    rule::Audit,
};

/// Takes privileges on a relation (its columns too) from everybody through whom the application has them. `None` where it also
/// has them in a way that no REVOKE ends: as an owner, or by a predefined role.
pub(super) fn on_relation(audit: &Audit<'_>, relation: &Relation, privileges: &[Privilege]) -> Option<String> {
    let Audit { facts, reach, .. } = audit;
    let predefined = ["pg_read_all_data", "pg_write_all_data"];
    let by_role = |name: &str| facts.role_named(name).is_some_and(|role| reach.role(role.oid).is_some());
    if reach.role(relation.owner).is_some() || predefined.into_iter().any(by_role) {
        return None;
    }
    let columns = facts.columns_of(relation.oid).iter().flat_map(|column| &column.acl);
    let words: Vec<&str> = privileges.iter().map(|privilege| privilege.as_str()).collect();
    let kind = if relation.kind == RelationKind::Sequence { "SEQUENCE " } else { "" };
    let on = format!("{kind}{}", qualified(&relation.schema, &relation.name));
    revoke(audit, relation.acl.iter().chain(columns), privileges, &words.join(", "), &on)
}

/// Takes EXECUTE; `None` as above.
pub(super) fn on_function(audit: &Audit<'_>, function: &Function) -> Option<String> {
    if audit.reach.role(function.owner).is_some() {
        return None;
    }
    let on = format!("ROUTINE {}", signature(function));
    revoke(audit, function.acl.iter(), &[Privilege::Execute], "EXECUTE", &on)
}

/// The same for anything else with a list of its own; `on` stands after ON.
pub(super) fn on_object(audit: &Audit<'_>, acl: &Acl, owner: Oid, privilege: Privilege, on: &str) -> Option<String> {
    if audit.reach.role(owner).is_some() {
        return None;
    }
    revoke(audit, acl.iter(), &[privilege], privilege.as_str(), on)
}

/// A function as ALTER FUNCTION wants it.
pub(super) fn signature(function: &Function) -> String {
    format!("{}({})", qualified(&function.schema, &function.name), function.arguments)
}

fn revoke<'g>(
    audit: &Audit<'_>,
    grants: impl Iterator<Item = &'g Grant>,
    privileges: &[Privilege],
    words: &str,
    on: &str,
) -> Option<String> {
    let held = grants.filter(|grant| audit.reach.role(grant.to).is_some());
    let mut holders: Vec<Oid> = Vec::new();
    let mut passed_on = false;
    for grant in held.filter(|grant| grant.privileges.iter().any(|privilege| privileges.contains(privilege))) {
        passed_on |= grant.grantable.iter().any(|privilege| privileges.contains(privilege));
        if !holders.contains(&grant.to) {
            holders.push(grant.to);
        }
    }
    let name = |role: &Oid| if *role == PUBLIC { "PUBLIC".to_owned() } else { ident(&audit.facts.role_name(*role)) };
    let from: Vec<String> = holders.iter().map(name).collect();
    let cascade = if passed_on { " CASCADE" } else { "" };
    (!from.is_empty()).then(|| format!("REVOKE {words} ON {on} FROM {}{cascade};", from.join(", ")))
}
