//! GRD-PG-303

use super::{
    revoke,
    rights::{is_open, reads, reads_tenants},
};
use crate::{
    facts::{Privilege, RelationKind, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-303",
    name: "materialized_view",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application reads a materialised view that is made of tenants' rows",
    docs: "## What

The application may read a materialised view whose query reads a tenant table, directly or through views.

## Why

It holds the rows that its owner saw when it was refreshed, and PostgreSQL has no row-level security for materialised views. Where
the policies do not hold the owner back, these are every tenant's; where they do, they are those of the tenant of whoever refreshed
it, for everybody to read.

## Exploit

```sql
SELECT * FROM daily_totals;   -- every tenant's
```

## Remedy

Take the application's privileges on it away, and offer a `security_barrier` view over it that compares the tenant column with the
tenant context.

## Near miss

A materialised view over tables that are common to all tenants stays silent, and so does one that the application cannot read.
",
    needs: &[Source::Columns, Source::Dependencies, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let views = facts.relations.iter().filter(|view| view.kind == RelationKind::MaterializedView);
    views
        .filter_map(|view| {
            let path = audit.reach.relation(view).select()?;
            if !reads_tenants(audit, view) {
                return None;
            }
            let open = reads(facts, view).into_iter().find_map(|read| Some((read, is_open(audit, &read)?)));
            let (evidence, severity) = match open {
                Some((read, why)) => {
                    let table = readable_in(&read.relation.schema, &read.relation.name);
                    let role = facts.role_name(read.role);
                    (format!("it is filled from {table} as {role:?}, which {why}"), Severity::Critical)
                }
                None => ("it is filled from tenant tables; its owner is under their policies".to_owned(), Severity::High),
            };
            let hit = Hit::on(Object::relation(view), evidence).severity(severity).path(path);
            Some(match revoke::on_relation(audit, view, &[Privilege::Select]) {
                Some(sql) => hit.remedy(sql).note("what reads it as the application needs another source first"),
                None => hit,
            })
        })
        .collect()
}
