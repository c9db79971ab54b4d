//! GRD-PG-401

use super::tenant_keys::{ForeignKeys, key_with_tenant, names, names_tenant};
use crate::{
    facts::{ConstraintKind, Facts, Index, Relation, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-401",
    name: "unique_without_tenant",
    severity: Severity::Medium,
    protects: Protects::Existence,
    title: "A unique or exclusion constraint of a tenant table holds over all tenants",
    docs: "## What

A primary key, unique or exclusion constraint, or unique index of a tenant table lacks the tenant column, and the application may insert
or update rows. It is low where every column of the key is a `uuid`: nobody guesses one.

## Why

Such keys are checked against every tenant's rows, whatever the policies. An insert that fails tells that another tenant has the value,
and one that succeeds takes it from all the others. `ON CONFLICT DO NOTHING` tells it without an error.

## Exploit

```sql
INSERT INTO users (tenant_id, email) VALUES (my tenant, 'ceo@rival.example');   -- duplicate key: rival is a customer
```

## Remedy

Put the tenant in front of the key. Foreign keys that refer to it get the tenant as well, in the same transaction, under a lock;
`guardian plan` does the same step by step, without stopping writers. Where no statement is given, a table without a tenant column refers
to the key. A key that has to hold over all tenants deserves an exception with the reason.

## Near miss

A key with the tenant anywhere in it stays silent, and so does every key of a table that is common to all tenants.
",
    needs: &[Source::Columns, Source::Constraints, Source::Indexes],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let foreign_keys = ForeignKeys::of(facts);
    let mut hits = Vec::new();
    for table in facts.relations.iter().filter(|table| table.kind.is_table() && !table.partition) {
        let Some(tenant) = tenancy.column(table.oid) else { continue };
        let Some(path) = reach.relation(table).insert().or_else(|| reach.relation(table).update()) else { continue };
        let indexes = facts.indexes_of(table.oid).iter().filter(|index| index.unique || index.exclusion);
        let has_tenant = |index: &Index| index.columns.iter().any(|column| names_tenant(audit, table.oid, *column));
        for index in indexes.filter(|index| !index.inherited && !has_tenant(index)) {
            let severity = if is_random(facts, table, index) { Severity::Low } else { Severity::Medium };
            let object = Object::part(kind(facts, table, index), &index.name, table);
            let evidence = evidence(facts, table, index);
            let hit = match key_with_tenant(audit, &foreign_keys, table, index, &tenant.name) {
                Some(sql) => Hit::on(object, evidence).remedy(sql).note(
                    "it rebuilds the key under a lock, and fails, changing nothing, where a view groups by it or where rows \
                     refer to another tenant's",
                ),
                None => Hit::on(object, format!("{evidence}; a foreign key refers to it that cannot take the tenant")),
            };
            hits.push(hit.severity(severity).path(path.clone()));
        }
    }
    hits
}

fn kind(facts: &Facts, table: &Relation, index: &Index) -> ObjectKind {
    let mut constraints = facts.constraints_of(table.oid).iter().filter(|one| one.kind != ConstraintKind::Foreign);
    if constraints.any(|one| one.index == Some(index.oid)) { ObjectKind::Constraint } else { ObjectKind::Index }
}

fn evidence(facts: &Facts, table: &Relation, index: &Index) -> String {
    let columns =
        names(facts, table.oid, &index.columns).map_or_else(|| "an expression".to_owned(), |names| names.join(", "));
    format!("it is over ({columns}), without the tenant column")
}

fn is_random(facts: &Facts, table: &Relation, index: &Index) -> bool {
    const UUID: u32 = 2950;
    index.columns.iter().all(|number| facts.column(table.oid, *number).is_some_and(|column| column.base_type == UUID))
}
