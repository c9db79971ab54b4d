//! GRD-PG-014

use guardian_postgres::quote;

use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-014",
    name: "tenant_default_constant",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A tenant column has a constant default",
    docs: "## What

The application reaches a table whose tenant column has a constant as its default: one tenant's key.

## Why

Whoever forgets to name the tenant writes into that one's rows, or is refused with an error that hides the mistake.

## Exploit

```sql
INSERT INTO orders (id) VALUES ('<any id>');   -- becomes a row of the tenant that the default names
```

## Remedy

Drop the default, or make it the tenant context.

## Near miss

A default that reads the tenant context, or none, stays silent.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && table.parents.is_empty());
    tables
        .filter_map(|table| {
            let column = facts.column(table.oid, audit.tenancy.column(table.oid)?.number)?;
            let default = column.default.as_deref().filter(|default| column.generated.is_none() && is_constant(default))?;
            let path = audit.reach.relation(table).insert()?;
            let (name, ident) = (quote::qualified(&table.schema, &table.name), quote::ident(&column.name));
            let hit = Hit::on(Object::part(ObjectKind::Column, &column.name, table), format!("its default is {default}"));
            let note = "statements that name no tenant then fail";
            Some(hit.path(path).remedy(format!("ALTER TABLE {name} ALTER COLUMN {ident} DROP DEFAULT;")).note(note))
        })
        .collect()
}

/// As PostgreSQL writes one: a literal with or without its cast, and not null.
fn is_constant(default: &str) -> bool {
    let starts = default.starts_with(|first: char| first == '\'' || first == '-' || first.is_ascii_digit());
    starts && !default.contains('(') && !default.contains("||")
}
