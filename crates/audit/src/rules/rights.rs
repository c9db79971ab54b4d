//! As whom views and functions run, and which tables' policies do not hold that role back.

use std::collections::BTreeSet;

use crate::{
    Oid,
    facts::{Catalog, Command, Facts, PUBLIC, Policy, PredicateKind, Privilege, Relation, RelationKind},
    rule::Audit,
};

/// A role and everything whose privileges it has without SET ROLE; PUBLIC among them.
pub(super) fn privileges_of(facts: &Facts, role: Oid) -> BTreeSet<Oid> {
    let mut found = BTreeSet::from([role, PUBLIC]);
    let mut queue = vec![role];
    while let Some(role) = queue.pop() {
        for membership in facts.memberships_of(role).iter().filter(|membership| membership.inherit) {
            if found.insert(membership.role) {
                queue.push(membership.role);
            }
        }
    }
    found
}

/// Why no policy of a table keeps rows from a role that may use the table; `None` when one does, or may.
pub(super) fn exempt(audit: &Audit<'_>, role: Oid, table: &Relation) -> Option<&'static str> {
    let facts = audit.facts;
    let attributes = facts.role(role)?;
    if attributes.superuser {
        return Some("is a superuser");
    }
    let held = privileges_of(facts, role);
    if !may_use(facts, &held, table) {
        return None;
    }
    if !table.rls {
        return Some("meets no row-level security there: it is off");
    }
    if attributes.bypasses_rls {
        return Some("has BYPASSRLS");
    }
    if held.contains(&table.owner) && !table.rls_forced {
        return Some("owns it, and its row-level security is not forced");
    }
    sees_all(facts, &held, table).then_some("is under a policy that is true for every row")
}

/// Whether a role with these privileges may read or write the table at all.
pub(super) fn may_use(facts: &Facts, held: &BTreeSet<Oid>, table: &Relation) -> bool {
    let named = |name| facts.role_named(name).is_some_and(|role| held.contains(&role.oid));
    let rows = |privilege: &Privilege| {
        matches!(privilege, Privilege::Select | Privilege::Insert | Privilege::Update | Privilege::Delete)
    };
    let columns = facts.columns_of(table.oid).iter().flat_map(|column| &column.acl);
    held.contains(&table.owner)
        || named("pg_read_all_data")
        || named("pg_write_all_data")
        || table.acl.iter().chain(columns).any(|grant| held.contains(&grant.to) && grant.privileges.iter().any(rows))
}

/// Whether a permissive policy that applies shows every row, and no restrictive one that applies holds any back.
fn sees_all(facts: &Facts, held: &BTreeSet<Oid>, table: &Relation) -> bool {
    let applies = |policy: &&Policy| policy.roles.iter().any(|role| held.contains(role));
    let reads = |policy: &&Policy| matches!(policy.command, Command::All | Command::Select);
    let open = |policy: &Policy| {
        facts.truth(policy.oid, PredicateKind::Using).is_some_and(|truth| truth.undecided.is_none() && truth.always_true)
    };
    let policies = || facts.policies_of(table.oid).iter().filter(applies).filter(reads);
    policies().any(|policy| policy.permissive && open(policy)) && policies().all(|policy| policy.permissive || open(policy))
}

/// A relation that a view reads, as whom, and whether a condition stands in between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'f> {
    /// A table, foreign table or materialised view.
    pub(super) relation: &'f Relation,
    /// The role whose rights count.
    pub(super) role: Oid,
    /// A view on the way has a WHERE clause.
    pub(super) filtered: bool,
}

/// What a view or materialised view reads with rights other than its caller's, through any views in between.
///
/// A `security_invoker` view runs with the rights of the session's role, whatever view it is read through: what it reads is the
/// session's own reach, except in a materialised view, which is filled as its owner.
pub(super) fn reads<'f>(facts: &'f Facts, top: &'f Relation) -> Vec<Read<'f>> {
    let session = (top.kind == RelationKind::MaterializedView).then_some(top.owner);
    let mut found = Vec::new();
    walk(facts, top, session, false, &mut BTreeSet::new(), &mut found);
    found
}

fn walk<'f>(
    facts: &'f Facts,
    view: &'f Relation,
    session: Option<Oid>,
    filtered: bool,
    seen: &mut BTreeSet<Oid>,
    found: &mut Vec<Read<'f>>,
) {
    if !seen.insert(view.oid) {
        return;
    }
    let filtered = filtered || view.filters;
    let role = if view.is_invoker_view() { session } else { Some(view.owner) };
    let mut last = None;
    for reference in facts.references_of(Catalog::View, view.oid) {
        // One reference a column: the list is sorted by what is referred to.
        if reference.to != Catalog::Relation || last.replace(reference.referenced) == Some(reference.referenced) {
            continue;
        }
        match (facts.relation(reference.referenced), role) {
            (Some(below), _) if below.kind == RelationKind::View => walk(facts, below, session, filtered, seen, found),
            (Some(relation), Some(role)) if relation.kind != RelationKind::Sequence => {
                found.push(Read { relation, role, filtered });
            }
            _ => {}
        }
    }
}

/// Whether a read yields tenants' rows that no policy holds back, and why.
pub(super) fn is_open(audit: &Audit<'_>, read: &Read<'_>) -> Option<String> {
    let Read { relation, role, .. } = *read;
    let holds_tenants = match relation.kind {
        RelationKind::MaterializedView => reads_tenants(audit, relation),
        _ => audit.tenancy.is_tenants(relation.oid),
    };
    // Where the application reads the relation itself, that is reported there.
    let reported = |relation| audit.reach.relation(relation).rows().is_some();
    match relation.kind {
        _ if !holds_tenants => None,
        RelationKind::MaterializedView => Some("is not held back: a materialised view has no policies".to_owned()),
        RelationKind::ForeignTable => Some("is not held back: a foreign table has no policies".to_owned()),
        _ if !relation.rls && reported(relation) => None,
        _ => exempt(audit, role, relation).map(str::to_owned),
    }
}

/// Whether a view or materialised view is made of tenants' rows.
pub(super) fn reads_tenants(audit: &Audit<'_>, view: &Relation) -> bool {
    audit.facts.relation(view.oid).is_some_and(|view| {
        reads(audit.facts, view).iter().any(|read| match read.relation.kind {
            RelationKind::MaterializedView => reads_tenants(audit, read.relation),
            _ => audit.tenancy.is_tenants(read.relation.oid),
        })
    })
}
