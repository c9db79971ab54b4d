//! GRD-PG-302

use guardian_postgres::quote;

use super::rights::{is_open, may_use, privileges_of, reads};
use crate::{
    facts::{Relation, RelationKind, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-302",
    name: "view_not_invoker",
    severity: Severity::Low,
    protects: Protects::Rows,
    title: "A view over a tenant table runs with its owner's rights, although today policies hold that owner back",
    docs: "## What

On PostgreSQL 15 or newer the application may read a view over a tenant table that is no `security_invoker` view. The policies apply
to its owner as well, so nothing is open.

## Why

It stays closed only as long as nobody gives the view to another owner, takes FORCE off the table or adds a policy for the owner.
A `security_invoker` view does not depend on any of that.

## Exploit

```sql
ALTER TABLE orders NO FORCE ROW LEVEL SECURITY;   -- a migration, months later
SELECT * FROM order_totals;                        -- every tenant's
```

## Remedy

Make it a `security_invoker` view. Its callers then need privileges on the tables below.

## Near miss

A view over tables that are common to all tenants stays silent, and so does one whose owner has no right on the table, which shows nothing
but an error; so does every view before PostgreSQL 15, which has no such option.
",
    needs: &[Source::Columns, Source::Dependencies, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    if facts.server.version < 150_000 {
        return Vec::new();
    }
    let views = facts.relations.iter().filter(|view| view.kind == RelationKind::View && !view.is_invoker_view());
    views
        .filter_map(|view| {
            let path = audit.reach.relation(view).rows()?;
            let reads = reads(facts, view);
            // What is open is another rule's.
            if reads.iter().any(|read| is_open(audit, read).is_some()) {
                return None;
            }
            // A view whose owner has no right on the table shows nothing but an error.
            let may = |role, table| may_use(facts, &privileges_of(facts, role), table);
            let tenants = |table: &Relation| audit.tenancy.is_tenants(table.oid);
            let read = reads.iter().find(|read| tenants(read.relation) && may(read.role, read.relation))?;
            let table = readable_in(&read.relation.schema, &read.relation.name);
            let role = facts.role_name(read.role);
            let name = quote::qualified(&view.schema, &view.name);
            let hit = Hit::on(Object::relation(view), format!("it reads {table} as {role:?}; security_invoker is not set"));
            let note = "its callers then need privileges on what it reads";
            Some(hit.path(path).remedy(format!("ALTER VIEW {name} SET (security_invoker = true);")).note(note))
        })
        .collect()
}
