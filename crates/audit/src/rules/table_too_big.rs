//! GRD-PG-612

use super::size::Sizes;
use crate::{
    facts::Source,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-612",
    name: "table_too_big",
    severity: Severity::Note,
    protects: Protects::Availability,
    title: "A tenant table is so large that what is done to the whole of it is felt by every tenant",
    docs: "## What

A tenant table has 100 million rows or 100 GB, by the planner's own estimate, its partitions together.

## Why

Tenants of one table share its vacuum, its index builds, its checks of new constraints and its caches. At this size each takes hours,
whichever tenant it is for, and one tenant's data can no longer be moved, restored or erased quickly.

## Exploit

```sql
DELETE FROM events WHERE tenant_id = …;   -- and the vacuum after it, for everybody
```

## Remedy

Partition by tenant, or give the largest tenants a schema, a database or a server of their own. That is a plan, not a statement.

## Near miss

Smaller tables stay silent, and so do large ones that are common to all tenants.
",
    needs: &[Source::Columns],
    check,
};

const ROWS_MAX: f64 = 1e8;
const BYTES_MAX: f64 = 100e9;

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let sizes = Sizes::of(facts);
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && !table.partition);
    tables
        .filter(|table| audit.tenancy.is_tenants(table.oid))
        .filter_map(|table| {
            let path = audit.reach.relation(table).rows()?;
            let (rows, bytes) = (sizes.rows(table).unwrap_or_default(), sizes.bytes(table));
            let evidence = format!("about {rows:.0} rows and {:.0} GB", bytes / 1e9);
            let large = rows >= ROWS_MAX || bytes >= BYTES_MAX;
            large.then(|| Hit::on(Object::relation(table), evidence).path(path))
        })
        .collect()
}
