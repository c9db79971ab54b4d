//! GRD-PG-408

use guardian_postgres::quote::{idents, qualified};

use super::{size::Sizes, tenant_keys::names};
use crate::{
    facts::{Facts, Relation, RelationKind, Source},
    finding::{Hit, Object, readable},
    rule::{Audit, Protects, Rule, Severity},
    tenancy::TenantColumn,
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-408",
    name: "tenant_index_missing",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "No index of a large tenant table begins with the tenant",
    docs: "## What

A tenant table of 10,000 rows or more, by the planner's own estimate, has no B-tree index whose first column is the tenant. Where there
is one with the tenant further behind, or one of another kind (BRIN, hash), the evidence says so.

## Why

Every statement of a tenant is bound to its tenant column. Without such an index a small tenant's statement reads all tenants' rows, and
its time grows with everybody else's business.

## Exploit

```sql
SELECT * FROM orders;   -- ten rows of mine, and a scan of ten million
```

## Remedy

An index that begins with the tenant, built without stopping writers; on a partitioned table that is not possible.

## Near miss

A primary key that begins with the tenant is such an index, and small tables stay silent. So do tables that were never analysed: their
size is not known.
",
    needs: &[Source::Columns, Source::Constraints, Source::Indexes],
    check,
};

/// Below it a scan is as good.
pub(super) const ROWS_MIN: f64 = 10_000.0;

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let sizes = Sizes::of(facts);
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && !table.partition);
    tables
        .filter_map(|table| {
            let tenant = audit.tenancy.column(table.oid)?;
            let path = audit.reach.relation(table).rows()?;
            let rows = sizes.rows(table).filter(|rows| *rows >= ROWS_MIN)?;
            let indexes = facts.indexes_of(table.oid);
            let leads = indexes.iter().filter(|index| index.columns.first() == Some(&tenant.number));
            if leads.clone().any(|index| index.valid && !index.partial && index.method == "btree") {
                return None;
            }
            let behind = indexes.iter().find(|index| index.columns.contains(&tenant.number));
            let but = match (leads.clone().next(), behind) {
                (Some(index), _) if index.method != "btree" => {
                    format!("; {} does, but is {}", readable(&index.name), index.method.to_uppercase())
                }
                (Some(index), _) => format!("; {} does, but is partial or not valid", readable(&index.name)),
                (None, Some(index)) => format!("; {} has it further behind", readable(&index.name)),
                (None, None) => String::new(),
            };
            let evidence = format!("about {rows:.0} rows, and no index begins with {:?}{but}", tenant.name);
            let sql = statement(facts, table, tenant)?;
            let hit = Hit::on(Object::relation(table), evidence).path(path).remedy(sql);
            Some(hit.note(if table.kind == RelationKind::Partitioned {
                "writers wait while it is built; to avoid that, build it on each partition concurrently first"
            } else {
                "outside a transaction; where it fails it leaves an invalid index to drop"
            }))
        })
        .collect()
}

fn statement(facts: &Facts, table: &Relation, tenant: &TenantColumn) -> Option<String> {
    let primary = facts.indexes_of(table.oid).iter().find(|index| index.primary);
    let rest: Vec<i16> = primary.map(|index| index.columns.clone()).unwrap_or_default();
    let columns: Vec<i16> =
        [tenant.number].into_iter().chain(rest.into_iter().filter(|one| *one != tenant.number)).collect();
    let columns = idents(&names(facts, table.oid, &columns)?);
    let concurrently = if table.kind == RelationKind::Partitioned { "" } else { " CONCURRENTLY" };
    Some(format!("CREATE INDEX{concurrently} ON {} ({columns});", qualified(&table.schema, &table.name)))
}
