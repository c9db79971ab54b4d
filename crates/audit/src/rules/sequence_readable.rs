//! GRD-PG-406

use std::collections::BTreeMap;

use super::revoke;
use crate::{
    Oid,
    facts::{Catalog, Facts, Privilege, RelationKind, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-406",
    name: "sequence_readable",
    severity: Severity::Medium,
    protects: Protects::Existence,
    title: "The application may read a sequence that all tenants draw from",
    docs: "## What

The application has SELECT on the sequence of a tenant table's column, or on one that no table draws from: then who draws from it is the
application, by `nextval` in its own statements and functions, for every tenant.

## Why

`last_value` tells, at any time and without a trace, how many rows all tenants together have made: read twice, it is their business per
hour.

## Exploit

```sql
SELECT last_value FROM orders_id_seq;
```

## Remedy

Take SELECT away; `nextval` needs USAGE only. USAGE still tells the last value to whoever asks (`pg_sequences`), and so does every new
number: identity columns need no privilege on the sequence, and random ids tell nothing.

## Near miss

A sequence that belongs to a table common to all tenants stays silent, and so does one of an extension's.
",
    needs: &[Source::Columns, Source::Sequences, Source::Dependencies],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let users = users(facts);
    let sequences = facts.relations.iter().filter(|one| one.kind == RelationKind::Sequence);
    sequences
        .filter_map(|sequence| {
            let evidence = match users.get(&sequence.oid) {
                Some(tables) if tables.iter().any(|table| audit.tenancy.is_tenants(*table)) => {
                    "SELECT on it shows last_value, over all tenants"
                }
                None if sequence.extension.is_none() && !is_systems(&sequence.schema) => {
                    "SELECT on it shows last_value; no table draws from it, so that the application does, for all tenants"
                }
                _ => return None,
            };
            let path = audit.reach.relation(sequence).select()?;
            let hit = Hit::on(Object::relation(sequence), evidence).path(path);
            Some(match revoke::on_relation(audit, sequence, &[Privilege::Select]) {
                Some(sql) => hit.remedy(sql),
                None => hit,
            })
        })
        .collect()
}

fn is_systems(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "guardian")
}

/// The tables that draw numbers from each sequence: by ownership, or by a default that names it.
pub(super) fn users(facts: &Facts) -> BTreeMap<Oid, Vec<Oid>> {
    let owners = facts.sequences.iter().filter_map(|one| Some((one.oid, one.owned_by?.0)));
    let defaults = facts.dependencies.iter().filter(|one| one.from == Catalog::Default && one.to == Catalog::Relation);
    let mut users: BTreeMap<Oid, Vec<Oid>> = BTreeMap::new();
    for (sequence, table) in owners.chain(defaults.map(|one| (one.referenced, one.dependent))) {
        users.entry(sequence).or_default().push(table);
    }
    users
}
