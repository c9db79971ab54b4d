//! GRD-PG-403

use std::collections::BTreeSet;

use guardian_postgres::{
    harden::{POLICY_OPEN, POLICY_TENANT},
    quote::{ident, qualified},
};

use super::tenant_keys::names;
use crate::{
    Oid,
    facts::{Constraint, ConstraintKind, Relation, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-403",
    name: "child_without_tenant",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "A table belongs to tenants through its parent only, and nothing keeps its rows apart",
    docs: "## What

The application reaches a table that has no tenant column but a foreign key to a tenant table (or to such a child of one), and row-level
security is off on it.

## Why

Its rows are the tenants', through the parent. The parent's policies do not apply to it.

## Exploit

```sql
SELECT * FROM attachments;   -- of every tenant's orders
```

## Remedy

Policies that look the parent up, under whose own policies the look-up stands; each row costs one. A tenant column of its own with a
composite foreign key is faster and stronger: `guardian init` proposes it. Where no statement is given, the application may not read
the parent.

## Near miss

A table with row-level security stays silent here, and so does the table of the tenants themselves.
",
    needs: &[Source::Columns, Source::Constraints, Source::Policies],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let foreign: Vec<&Constraint> =
        facts.constraints.iter().filter(|one| one.kind == ConstraintKind::Foreign && !one.inherited).collect();
    let roots: BTreeSet<Oid> = foreign
        .iter()
        .filter(|one| audit.tenancy.column(one.table).is_some_and(|tenant| one.columns == [tenant.number]))
        .filter_map(|one| one.target)
        .collect();
    let is_child = |table: Oid| audit.tenancy.column(table).is_none() && !roots.contains(&table);
    let mut owned: BTreeSet<Oid> = audit.tenancy.columns.keys().copied().collect();
    let mut hits = Vec::new();
    // Each round finds the children of what the last one found.
    loop {
        let next = foreign.iter().filter(|one| is_child(one.table) && !owned.contains(&one.table));
        let round: Vec<_> = next.filter(|one| one.target.is_some_and(|target| owned.contains(&target))).collect();
        if round.is_empty() {
            return hits;
        }
        for one in round {
            if owned.insert(one.table) {
                hits.extend(judge(audit, one));
            }
        }
    }
}

fn judge(audit: &Audit<'_>, foreign: &Constraint) -> Option<Hit> {
    let facts = audit.facts;
    let table = facts.relation(foreign.table).filter(|table| table.kind.is_table() && !table.rls)?;
    let parent = facts.relation(foreign.target?)?;
    let path = audit.reach.relation(table).rows()?;
    let evidence = format!("it refers to {} by {}", readable_in(&parent.schema, &parent.name), foreign.name);
    let hit = Hit::on(Object::relation(table), format!("{evidence}, has no tenant column, and relrowsecurity is false"));
    let hit = hit.path(path);
    if audit.reach.relation(parent).select().is_none() || !facts.policies_of(table.oid).is_empty() {
        return Some(hit);
    }
    let note = "rows without a parent are then shown to nobody; new rows need a parent of the same tenant";
    Some(hit.remedy(policies(audit, foreign, table, parent)?).note(note))
}

/// The restrictive policy holds whatever others are added; the open one lets it decide alone.
fn policies(audit: &Audit<'_>, foreign: &Constraint, table: &Relation, parent: &Relation) -> Option<String> {
    let facts = audit.facts;
    let own = names(facts, table.oid, &foreign.columns)?;
    let other = names(facts, parent.oid, &foreign.target_columns)?;
    let pairs = own.iter().zip(&other);
    let joined: Vec<String> =
        pairs.map(|(own, other)| format!("parent.{} = {}.{}", ident(other), ident(&table.name), ident(own))).collect();
    let (on, from) = (qualified(&table.schema, &table.name), qualified(&parent.schema, &parent.name));
    Some(format!(
        "BEGIN;\nALTER TABLE {on} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n\
         CREATE POLICY {POLICY_OPEN} ON {on} USING (true);\n\
         CREATE POLICY {POLICY_TENANT} ON {on} AS RESTRICTIVE USING (EXISTS (SELECT FROM {from} AS parent WHERE {}));\nCOMMIT;",
        joined.join(" AND ")
    ))
}
