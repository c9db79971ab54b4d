//! GRD-PG-301

use guardian_postgres::quote;

use super::rights::{is_open, reads};
use crate::{
    facts::{RelationKind, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-301",
    name: "owner_view",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A view reads a tenant table with the rights of an owner that its policies do not hold back",
    docs: "## What

The application may read a view over a tenant table, directly or through other views. The view runs with its owner's rights (it is
no `security_invoker` view), and the owner is a superuser, has BYPASSRLS, owns the table while row-level security is not forced, or
is under policies that are true for every row; or row-level security is off on a table that the application reaches only this way.

## Why

Behind such a view PostgreSQL checks policies as the view's owner, not as its caller. The table is closed and the view beside it is
open. A WHERE clause of the view's own may hold rows back; whether it does so by tenant is not judged, and the finding is a degree
milder.

## Exploit

```sql
SELECT * FROM order_totals;   -- every tenant's
```

## Remedy

PostgreSQL 15 and newer: make it a `security_invoker` view; the application then needs privileges on the tables below. Older: give
the view to a role that is no superuser, has no BYPASSRLS and does not own the table (`ALTER VIEW … OWNER TO …`), and let the
table's policies apply to that role.

## Near miss

A `security_invoker` view stays silent, and so does one whose owner the table's forced policies apply to.
",
    needs: &[Source::Columns, Source::Dependencies, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let views = facts.relations.iter().filter(|view| view.kind == RelationKind::View && !view.is_invoker_view());
    views
        .filter_map(|view| {
            let path = audit.reach.relation(view).rows()?;
            let (read, why) = reads(facts, view).into_iter().find_map(|read| Some((read, is_open(audit, &read)?)))?;
            let table = readable_in(&read.relation.schema, &read.relation.name);
            let role = facts.role_name(read.role);
            let mut evidence = format!("it reads {table} as {role:?}, which {why}");
            if read.filtered {
                evidence.push_str("; it has a WHERE clause, which is not judged");
            }
            if facts.server.version < 150_000 {
                evidence.push_str("; before PostgreSQL 15 only another owner helps");
            }
            let severity = if read.filtered { Severity::High } else { Severity::Critical };
            let hit = Hit::on(Object::relation(view), evidence).severity(severity);
            let hit = hit.path(path.then(format!("{table} as {role}")));
            if facts.server.version < 150_000 {
                return Some(hit);
            }
            let name = quote::qualified(&view.schema, &view.name);
            let note = "its callers then need privileges on what it reads";
            Some(hit.remedy(format!("ALTER VIEW {name} SET (security_invoker = true);")).note(note))
        })
        .collect()
}
