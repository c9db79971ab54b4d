//! GRD-PG-407

use std::collections::BTreeSet;

use super::sequence_readable::users;
use crate::{
    Oid,
    facts::{RelationKind, Source},
    finding::{Hit, Object, ObjectKind, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-407",
    name: "shared_counter",
    severity: Severity::Note,
    protects: Protects::Existence,
    title: "Rows of all tenants are numbered from shared sequences, so that a number tells how many there are",
    docs: "## What

Tenant tables that the application inserts into have identity or serial columns, or defaults that call `nextval`. One finding in all.

## Why

The sequence is shared: a tenant that makes a row today and another tomorrow learns how many rows all tenants made in between. No
privilege closes that, because the number is the application's own.

## Exploit

```sql
INSERT INTO orders DEFAULT VALUES RETURNING id;   -- 48,113; yesterday it was 47,020
```

## Remedy

Random ids (`uuid`), or numbers counted per tenant. There is no statement that does it to a table in use, so none is given.

## Near miss

Tenant tables with `uuid` keys stay silent, and so do serial columns of tables common to all tenants.
",
    needs: &[Source::Columns, Source::Sequences, Source::Dependencies],
    check,
};

const NAMED_MAX: usize = 5;

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let users = users(facts);
    // A default may name a table, by a cast to regclass; that makes it no sequence.
    let sequences =
        users.iter().filter(|(one, _)| facts.relation(**one).is_some_and(|one| one.kind == RelationKind::Sequence));
    let users: BTreeSet<Oid> = sequences.flat_map(|(_, tables)| tables.iter().copied()).collect();
    let tables =
        users.into_iter().filter(|table| audit.tenancy.is_tenants(*table)).filter_map(|table| facts.relation(table));
    let numbered: Vec<_> = tables.filter_map(|table| Some((table, audit.reach.relation(table).insert()?))).collect();
    let Some((_, path)) = numbered.first() else { return Vec::new() };
    let names: Vec<String> =
        numbered.iter().take(NAMED_MAX).map(|(table, _)| readable_in(&table.schema, &table.name)).collect();
    let more = if numbered.len() > NAMED_MAX { ", …" } else { "" };
    let tables = if numbered.len() == 1 { "tenant table is" } else { "tenant tables are" };
    let evidence = format!("{} {tables} numbered so: {}{more}", numbered.len(), names.join(", "));
    vec![Hit::on(Object::named(ObjectKind::Database, &facts.database.name), evidence).path(path.clone())]
}
