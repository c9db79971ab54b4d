//! GRD-PG-301

use std::collections::BTreeSet;

use guardian_postgres::quote;

use crate::{
    Oid,
    facts::{Catalog, Facts, Relation, RelationKind, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-301",
    name: "owner_view",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A view reads a tenant table with the rights of an owner that its policies do not apply to",
    docs: "## What

The application may read a view over a tenant table. The view runs with its owner's rights (it is no `security_invoker` view), and
the owner is a superuser, has BYPASSRLS, or owns the table while row-level security is not forced.

## Why

Behind such a view PostgreSQL checks policies as the view's owner, not as its caller, and to that owner none applies. The table is
closed and the view beside it is open.

## Exploit

```sql
SELECT * FROM order_totals;   -- every tenant's
```

## Remedy

PostgreSQL 15 and newer: make it a `security_invoker` view; the application then needs privileges on the tables below. Older: give
the view to a role that policies apply to.

## Near miss

A `security_invoker` view stays silent, and so does one whose owner the table's forced policies apply to.
",
    needs: &[Source::Columns, Source::Dependencies],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let views = facts.relations.iter().filter(|view| view.kind == RelationKind::View && !view.is_invoker_view());
    views
        .filter_map(|view| {
            let path = audit.reach.relation(view).rows()?;
            let mut seen = BTreeSet::new();
            let open = first_open(audit, view, view, &mut seen)?;
            let table = readable_in(&open.schema, &open.name);
            let owner = facts.role_name(view.owner);
            let hit =
                Hit::on(Object::relation(view), format!("it reads {table} as {owner:?}, to whom no policy of it applies"));
            let hit = hit.path(path.then(format!("{table} as {owner}")));
            if facts.server.version < 150_000 {
                return Some(hit);
            }
            let name = quote::qualified(&view.schema, &view.name);
            let note = "its callers then need privileges on what it reads";
            Some(hit.remedy(format!("ALTER VIEW {name} SET (security_invoker = true);")).note(note))
        })
        .collect()
}

/// The first tenant table under a view that its policies leave open. An invoker view below runs as its caller: the role that
/// the session is, whatever owner-rights view called it, which is judged by itself.
fn first_open<'f>(audit: &Audit<'f>, top: &Relation, view: &Relation, seen: &mut BTreeSet<Oid>) -> Option<&'f Relation> {
    let facts = audit.facts;
    for reference in facts.references_of(Catalog::View, view.oid) {
        if reference.to != Catalog::Relation || !seen.insert(reference.referenced) {
            continue;
        }
        let Some(below) = facts.relation(reference.referenced) else { continue };
        if below.kind == RelationKind::View && !below.is_invoker_view() {
            if let Some(found) = first_open(audit, below, below, seen) {
                return Some(found);
            }
        } else if below.kind.is_table()
            && below.rls
            && audit.tenancy.is_tenants(below.oid)
            && is_exempt(facts, top.owner, below)
        {
            return Some(below);
        }
    }
    None
}

/// Whether no policy of the table applies to the role.
fn is_exempt(facts: &Facts, role: Oid, table: &Relation) -> bool {
    let bypasses = facts.role(role).is_some_and(|role| role.superuser || role.bypasses_rls);
    bypasses || !table.rls_forced && role == table.owner
}
