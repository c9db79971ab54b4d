//! What several rules on roles and privileges ask, and the SQL that takes things away. No rule itself.

use guardian_postgres::quote;

use crate::{
    Oid, Path,
    facts::{Acl, Facts, PUBLIC, Privilege, Relation, Role},
    finding::{Hit, Object, readable},
    rule::Audit,
};

/// A grantee as SQL wants it.
pub(super) fn grantee(facts: &Facts, role: Oid) -> String {
    if role == PUBLIC { "PUBLIC".to_owned() } else { quote::ident(&facts.role_name(role)) }
}

/// Whether it is one of PostgreSQL's own roles, which have rules of their own.
pub(super) fn is_system(role: &str) -> bool {
    role.starts_with("pg_")
}

/// Who holds a privilege by the list itself, of the roles whose privileges the application can use. What an owner or a role of
/// PostgreSQL's own holds is left to the rules on those.
pub(super) fn holders(audit: &Audit<'_>, acl: &Acl, owner: Oid, privilege: Privilege) -> Vec<Oid> {
    let granted = acl.iter().filter(|grant| grant.privileges.contains(&privilege)).map(|grant| grant.to);
    granted
        .filter(|role| *role != owner && audit.reach.role(*role).is_some())
        .filter(|role| *role == PUBLIC || audit.facts.role(*role).is_some_and(|role| !is_system(&role.name)))
        .collect()
}

/// `REVOKE privilege ON object FROM …;`, one line a role.
pub(super) fn revoke(facts: &Facts, privilege: &str, object: &str, from: &[Oid]) -> String {
    let lines = from.iter().map(|role| format!("REVOKE {privilege} ON {object} FROM {};", grantee(facts, *role)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Names for a sentence.
pub(super) fn names(facts: &Facts, roles: &[Oid]) -> String {
    let names =
        roles.iter().map(|role| if *role == PUBLIC { "PUBLIC".to_owned() } else { readable(&facts.role_name(*role)) });
    names.collect::<Vec<_>>().join(", ")
}

/// Every membership by which the application gets to a role directly, revoked; empty when there is none.
pub(super) fn leave(audit: &Audit<'_>, role: Oid) -> String {
    let facts = audit.facts;
    let memberships = facts.memberships.iter().filter(|one| one.role == role);
    let held = memberships.filter(|one| audit.reach.role(one.member).is_some() || audit.reach.becomes(one.member).is_some());
    let lines = held.map(|one| format!("REVOKE {} FROM {};", grantee(facts, one.role), grantee(facts, one.member)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Roles that the session can become and that have an attribute, with SQL that takes it from the application's role or the
/// application from the role. Superusers have every attribute and are the business of the rule on them.
pub(super) fn by_attribute(audit: &Audit<'_>, has: fn(&Role) -> bool, name: &str) -> Vec<(Oid, Hit)> {
    let roles = audit.reach.sessions_as().filter_map(|(oid, path)| Some((audit.facts.role(oid)?, path)));
    roles
        .filter(|(role, _)| has(role) && !role.superuser)
        .map(|(role, path)| {
            let sql = if audit.reach.applications().contains(&role.oid) {
                format!("ALTER ROLE {} NO{name};", quote::ident(&role.name))
            } else {
                leave(audit, role.oid)
            };
            let hit = Hit::on(Object::role(role), format!("{} has {name}", readable(&role.name)));
            (role.oid, hit.path(path.clone()).remedy(sql))
        })
        .collect()
}

/// Tenant tables on which a role of the application's holds a privilege, by the table's list or a column's.
pub(super) fn on_tenant_tables(audit: &Audit<'_>, privilege: Privilege) -> Vec<Hit> {
    on_tables(audit, privilege, |table| audit.tenancy.is_tenants(table.oid))
}

/// The same on the tables that are meant.
pub(super) fn on_tables(audit: &Audit<'_>, privilege: Privilege, is_meant: impl Fn(&Relation) -> bool) -> Vec<Hit> {
    let facts = audit.facts;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && is_meant(table));
    tables
        .filter_map(|table| {
            let path = audit.reach.relation(table).privilege(privilege)?;
            let held = table_holders(audit, table, privilege);
            if held.is_empty() {
                return None;
            }
            let word = privilege.as_str();
            let name = quote::qualified(&table.schema, &table.name);
            let hit = Hit::on(Object::relation(table), format!("{word} is granted to {}", names(facts, &held)));
            Some(hit.path(path).remedy(revoke(facts, word, &format!("TABLE {name}"), &held)))
        })
        .collect()
}

/// The holders of a privilege on a table or on some of its columns.
pub(super) fn table_holders(audit: &Audit<'_>, table: &Relation, privilege: Privilege) -> Vec<Oid> {
    let columns = audit.facts.columns_of(table.oid).iter().map(|column| &column.acl);
    let mut held: Vec<Oid> =
        [&table.acl].into_iter().chain(columns).flat_map(|acl| holders(audit, acl, table.owner, privilege)).collect();
    held.sort_unstable();
    held.dedup();
    held
}

/// One finding on system functions that the application may call, with SQL that leaves them to another role.
pub(super) fn system_functions(
    audit: &Audit<'_>,
    names: &[&str],
    object: Object,
    why: &str,
    successor: Option<&str>,
) -> Option<Hit> {
    let facts = audit.facts;
    let (mut path, mut open, mut lines) = (None, Vec::new(), Vec::new());
    let functions = facts.functions.iter().filter(|one| one.schema == "pg_catalog" && names.contains(&one.name.as_str()));
    for function in functions {
        let held = holders(audit, &function.acl, function.owner, Privilege::Execute);
        let Some(way) = audit.reach.function(function).filter(|_| !held.is_empty()) else { continue };
        path = path.or(Some(way));
        let name = format!("FUNCTION {}({})", quote::qualified("pg_catalog", &function.name), function.arguments);
        lines.push(revoke(facts, "EXECUTE", &name, &held));
        lines.extend(successor.map(|role| format!("GRANT EXECUTE ON {name} TO {role};")));
        if !open.contains(&function.name) {
            open.push(function.name.clone());
        }
    }
    let evidence = format!("{why}; it may call {}", open.join(", "));
    Some(Hit::on(object, evidence).path(path?).remedy(lines.join("\n")).note("needs a superuser"))
}

/// How the application gets at the rows of a tenant table, where all tenants' sessions are of its one role.
pub(super) fn shared_tables(audit: &Audit<'_>) -> Option<Path> {
    let tables = audit.facts.relations.iter().filter(|table| table.kind.is_table());
    tables.filter(|table| audit.tenancy.is_tenants(table.oid)).find_map(|table| audit.reach.relation(table).rows())
}
