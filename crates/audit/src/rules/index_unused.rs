//! GRD-PG-409

use super::{size::Sizes, tenant_index_missing::ROWS_MIN, tenant_keys::names};
use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-409",
    name: "index_unused",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "An index that row-level security keeps the planner from using",
    docs: "## What

A tenant table under row-level security, of 10,000 rows or more, has an index with operators that are not leakproof (`jsonb`, arrays,
text search, trigrams, `numeric`, enumerations), and the tenant is not its first column.

## Why

A condition that is not leakproof runs after the policy. The index cannot serve it, and the statement reads all the tenant's rows instead,
or all rows: with 200,000 rows `jsonb @>` went from 0.2 to 156 ms.

## Exploit

```sql
SELECT * FROM documents WHERE body @> '{\"state\": \"open\"}';   -- a scan, although body has a GIN index
```

## Remedy

Put the tenant in front (`btree_gin` and `btree_gist` give it the operators), or partition by tenant, or give such tenants a schema or a
database. Never mark the operator's function LEAKPROOF: it is not. Which one is right depends on the queries, so no statement is given.

## Near miss

Indexes on integers, text, timestamps and `uuid` stay silent: their comparisons are leakproof. So does any index that begins with the
tenant.
",
    needs: &[Source::Columns, Source::Indexes],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let sizes = Sizes::of(facts);
    let mut hits = Vec::new();
    for table in facts.relations.iter().filter(|table| table.kind.is_table() && table.rls && !table.partition) {
        let Some(tenant) = audit.tenancy.column(table.oid) else { continue };
        let Some(path) = audit.reach.relation(table).select() else { continue };
        let Some(rows) = sizes.rows(table).filter(|rows| *rows >= ROWS_MIN) else { continue };
        let indexes = facts.indexes_of(table.oid).iter().filter(|index| index.valid && !index.leakproof);
        for index in indexes.filter(|index| index.columns.first() != Some(&tenant.number)) {
            let columns =
                names(facts, table.oid, &index.columns).map_or_else(|| "an expression".to_owned(), |n| n.join(", "));
            let evidence = format!(
                "it is a {} index over {columns} with operators that are not leakproof, on about {rows:.0} rows",
                index.method
            );
            hits.push(Hit::on(Object::part(ObjectKind::Index, &index.name, table), evidence).path(path.clone()));
        }
    }
    hits
}
