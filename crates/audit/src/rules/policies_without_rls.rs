//! GRD-PG-004

use guardian_postgres::quote;

use crate::{
    facts::Source,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-004",
    name: "policies_without_rls",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A table has policies, and row-level security is off, so that they do nothing",
    docs: "## What

A table that the application reaches has policies while `ROW LEVEL SECURITY` is not enabled on it. Tables with a tenant column are
GRD-PG-001's.

## Why

Policies change nothing until row-level security is enabled: somebody meant to hold rows back, and every row is shown.

## Exploit

```sql
SELECT * FROM messages;   -- whatever its policies say
```

## Remedy

Enable and force row-level security.

## Near miss

The same table with row-level security on, or out of the application's reach, stays silent.
",
    needs: &[Source::Columns, Source::Policies],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && !table.rls);
    tables
        .filter(|table| !audit.tenancy.is_tenants(table.oid))
        .filter_map(|table| {
            let policies = facts.policies_of(table.oid);
            let first = policies.first()?;
            let path = audit.reach.relation(table).rows()?;
            let name = quote::qualified(&table.schema, &table.name);
            let evidence =
                format!("it has {} (the first is {:?}), and relrowsecurity is false", count(policies.len()), first.name);
            let sql = format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {name} FORCE ROW LEVEL SECURITY;");
            let note = "its policies begin to apply, to its owner too: try them first";
            Some(Hit::on(Object::relation(table), evidence).path(path).remedy(sql).note(note))
        })
        .collect()
}

fn count(policies: usize) -> String {
    if policies == 1 { "a policy".to_owned() } else { format!("{policies} policies") }
}
