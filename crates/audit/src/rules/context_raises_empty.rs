//! GRD-PG-107

use std::collections::BTreeMap;

use crate::{
    facts::{Relation, Source},
    finding::{Hit, Object, ObjectKind, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-107",
    name: "context_raises_empty",
    severity: Severity::Note,
    protects: Protects::Availability,
    title: "A policy raises an error once the tenant context was set and reset on the connection",
    docs: "## What

A policy's predicate shows no rows while its settings are unset, and raises an error while they are empty: a cast of the empty string,
with no `nullif` around the setting. There is one finding a setting.

## Why

After a transaction that set it with `SET LOCAL`, a setting is empty and not unset. Statements without a tenant then fail on used
connections and succeed, with no rows, on fresh ones. Nothing leaks; the difference is found in production.

## Exploit

```sql
BEGIN; SET LOCAL app.tenant_id = '<mine>'; COMMIT;
SELECT count(*) FROM orders;   -- ERROR: invalid input syntax for type uuid
```

## Remedy

Write `nullif(current_setting('app.tenant_id', true), '')`; or leave the `true` out, so that it fails in both cases. No SQL is given:
the predicate must be written anew.

## Near miss

A policy with `nullif`, or one that raises in both cases, stays silent.
",
    needs: &[Source::Columns, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let mut found: BTreeMap<&str, &Relation> = BTreeMap::new();
    for truth in facts.truths.iter().filter(|truth| truth.undecided.is_none() && truth.raises_when_empty) {
        let policy = facts.policies.iter().find(|policy| policy.oid == truth.policy);
        let table = policy.and_then(|policy| facts.relation(policy.table));
        let Some(table) = table.filter(|table| table.rls && tenancy.is_tenants(table.oid)) else { continue };
        if reach.relation(table).rows().is_some() {
            for setting in &truth.settings {
                found.entry(setting).or_insert(table);
            }
        }
    }
    let hit = |(setting, table): (&str, &Relation)| {
        let name = readable_in(&table.schema, &table.name);
        let evidence = format!("a policy of {name} raised an error on every row with it empty, and on none with it unset");
        Hit::on(Object::named(ObjectKind::Setting, setting), evidence)
    };
    found.into_iter().map(hit).collect()
}
