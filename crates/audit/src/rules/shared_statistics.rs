//! GRD-PG-613

use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-613",
    name: "shared_statistics",
    severity: Severity::Note,
    protects: Protects::Existence,
    title: "The planner's statistics are of all tenants together, and everybody may see some of them",
    docs: "## What

A tenant table that the application reads has been analysed. One finding in all.

## Why

`pg_class.reltuples` and `relpages` are readable by everybody: how many rows all tenants have. The row counts that `EXPLAIN` estimates come
from statistics over all tenants, and change with the value asked for; `EXPLAIN ANALYZE` counts rows removed by a filter. PostgreSQL
hides the values themselves (`pg_stats`) under row-level security.

## Exploit

```sql
SELECT relname, reltuples FROM pg_class;
EXPLAIN SELECT * FROM orders WHERE country = 'IS';   -- rows=48113: not mine
```

## Remedy

No statement closes it: programs need the catalog. A gateway can refuse EXPLAIN to tenants. Tenants to whom even the number of rows is a
secret need a database of their own.

## Near miss

Tables that were never analysed have no statistics to tell, and stay silent.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && table.rows_estimated > 0.0);
    let mut shown = tables
        .filter(|table| audit.tenancy.is_tenants(table.oid))
        .filter_map(|table| Some((table, audit.reach.relation(table).select()?)));
    let Some((table, path)) = shown.next() else { return Vec::new() };
    let name = readable_in(&table.schema, &table.name);
    let evidence = format!("pg_class shows everybody that {name} has about {:.0} rows", table.rows_estimated);
    let more = shown.count();
    let evidence = if more == 0 { evidence } else { format!("{evidence}; so it does for {more} more tenant tables") };
    vec![Hit::on(Object::named(ObjectKind::Database, &facts.database.name), evidence).path(path)]
}
