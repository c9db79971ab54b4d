//! GRD-PG-011

use guardian_postgres::quote;

use crate::{
    facts::{ConstraintKind, Facts, Policy, PredicateKind, Relation, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-011",
    name: "tenant_nullable",
    severity: Severity::Low,
    protects: Protects::Rows,
    title: "A tenant column may be null",
    docs: "## What

The application reaches a table whose tenant column may be null: by itself, by its domain and by its CHECK constraints. Medium where the
table's policies were true for a made-up row without a tenant.

## Why

A row without a tenant belongs to nobody, or, under `tenant_id IS NULL OR …`, to everybody. It is neither exported nor erased with its
tenant.

## Exploit

```sql
INSERT INTO orders (tenant_id, id) VALUES (NULL, '<any id>');   -- seen by everybody, or lost
```

## Remedy

Give such rows their tenant, then set the column NOT NULL.

## Near miss

A column that is NOT NULL, by itself or by its domain, stays silent.
",
    needs: &[Source::Columns, Source::Constraints, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && table.parents.is_empty());
    tables
        .filter_map(|table| {
            let tenant = audit.tenancy.column(table.oid)?;
            let column = facts.column(table.oid, tenant.number).filter(|column| !column.not_null)?;
            let checked = facts.constraints_of(table.oid).iter().any(|one| {
                one.kind == ConstraintKind::Check && one.columns == [column.number] && one.definition.contains("IS NOT NULL")
            });
            let path = audit.reach.relation(table).rows().filter(|_| !checked)?;
            let (name, ident) = (quote::qualified(&table.schema, &table.name), quote::ident(&column.name));
            let (evidence, severity) = if shows_nobodys(facts, table) {
                ("it is nullable, and the table's policies were true for a row without a tenant", Severity::Medium)
            } else {
                ("it is nullable", Severity::Low)
            };
            let hit = Hit::on(Object::part(ObjectKind::Column, &column.name, table), evidence).path(path).severity(severity);
            let note =
                "it fails where rows without a tenant are there: give them one first; it reads the whole table under a lock";
            Some(hit.remedy(format!("ALTER TABLE {name} ALTER COLUMN {ident} SET NOT NULL;")).note(note))
        })
        .collect()
}

fn shows_nobodys(facts: &Facts, table: &Relation) -> bool {
    let on_null = |policy: &&Policy| {
        facts.truth(policy.oid, PredicateKind::Using).is_some_and(|truth| truth.undecided.is_none() && truth.true_on_null)
    };
    let (permissive, restrictive): (Vec<&Policy>, Vec<&Policy>) =
        facts.policies_of(table.oid).iter().partition(|policy| policy.permissive);
    table.rls && permissive.iter().any(on_null) && restrictive.iter().all(on_null)
}
