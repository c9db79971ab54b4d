//! GRD-PG-012

use std::collections::BTreeMap;

use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-012",
    name: "tenant_type_differs",
    severity: Severity::Low,
    protects: Protects::Rows,
    title: "A tenant column has another type than those of most tables",
    docs: "## What

The application reaches a table whose tenant column has another type (below any domain) than the tenant columns of most tables. `text`
and `varchar` count as one.

## Why

Comparisons then need casts, which keep the planner from indexes; foreign keys cannot check the tenant; and one tenant's key may have
several spellings (`1`, `01`, upper and lower case of a UUID as text) that other tables take for different tenants, or for the same.

## Exploit

```sql
SELECT * FROM notes WHERE tenant_id = lower('<a key>');   -- what the uuid columns accept as the same
```

## Remedy

Change the column's type to that of the others. No SQL is given: policies, views and keys on the column must be dropped first and made
again.

## Near miss

Tables whose tenant columns have one type, a domain over it included, stay silent.
",
    needs: &[Source::Columns],
    check,
};

const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let tables = || facts.relations.iter().filter(|table| table.kind.is_table() && table.parents.is_empty());
    let columns = || {
        tables().filter_map(|table| {
            let column = facts.column(table.oid, audit.tenancy.column(table.oid)?.number)?;
            let base = if column.base_type == VARCHAR { TEXT } else { column.base_type };
            Some((table, column, base))
        })
    };
    let mut counts: BTreeMap<u32, (usize, &str)> = BTreeMap::new();
    for (_, column, base) in columns() {
        counts.entry(base).or_insert((0, column.written_type.as_str())).0 += 1;
    }
    let Some((usual, (count, written))) = counts.iter().max_by_key(|(_, (count, _))| *count) else { return Vec::new() };
    let rare = columns().filter(|(_, _, base)| base != usual && counts[base].0 < *count);
    rare.filter_map(|(table, column, _)| {
        let path = audit.reach.relation(table).rows()?;
        let evidence = format!("its type is {}, and that of {count} other tenant columns is {written}", column.written_type);
        Some(Hit::on(Object::part(ObjectKind::Column, &column.name, table), evidence).path(path))
    })
    .collect()
}
