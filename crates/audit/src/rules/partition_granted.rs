//! GRD-PG-320

use super::revoke;
use crate::{
    facts::{Privilege, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-320",
    name: "partition_granted",
    severity: Severity::Low,
    protects: Protects::Rows,
    title: "The application reaches a partition or an inheriting table by its own name",
    docs: "## What

The application has privileges of its own on a partition, or on a table that inherits from another, of tenants' rows. Row-level
security is on there too (where it is off, that is another finding).

## Why

A statement that names the partition is held to the partition's policies; one that names the parent, to the parent's. Two sets of policies
have to stay alike for ever, and a partition that is attached later has none. Access by the parent needs no privilege on partitions.

## Exploit

```sql
SELECT * FROM orders_2026_01;   -- by whatever policies were right for it once
```

## Remedy

Take the application's privileges on it away.

## Near miss

A partition that is reached through its parent only stays silent.
",
    needs: &[Source::Columns],
    check,
};

const PRIVILEGES: [Privilege; 4] = [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let children = facts.relations.iter().filter(|table| table.kind.is_table() && table.rls && !table.parents.is_empty());
    children
        .filter(|table| audit.tenancy.is_tenants(table.oid))
        .filter_map(|table| {
            let path = audit.reach.relation(table).rows()?;
            let parent = table.parents.first().and_then(|parent| facts.relation(*parent))?;
            // An owner, or a reader of everything, reaches all tables alike.
            let sql = revoke::on_relation(audit, table, &PRIVILEGES)?;
            let parent = readable_in(&parent.schema, &parent.name);
            let evidence = format!("it is a part of {parent}, and has privileges and policies of its own");
            Some(
                Hit::on(Object::relation(table), evidence)
                    .path(path)
                    .remedy(sql)
                    .note(format!("{parent} goes on to show its rows")),
            )
        })
        .collect()
}
