//! GRD-PG-651

use std::collections::BTreeMap;

use super::{revoke::signature, settings::called_by};
use crate::{
    facts::{Function, Source, Volatility},
    finding::{Hit, Object},
    reach::Path,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-651",
    name: "policy_function_volatile",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "A policy calls a VOLATILE function, once for every row",
    docs: "## What

A policy of a tenant table calls a function that is marked VOLATILE, which is what a function is when nothing else is said.

## Why

A volatile function is called anew for each row, can use no index, and keeps the statement from running in parallel. A look-up that
should cost a fraction of a millisecond reads the whole table, and one tenant slows all.

## Exploit

```sql
EXPLAIN SELECT * FROM orders WHERE id = '<one>';   -- Seq Scan, Filter: (tenant_id = my_tenant())
```

## Remedy

Mark it STABLE, if it writes nothing and answers the same within one statement.

## Near miss

The same function marked STABLE stays silent.
",
    needs: &[Source::Columns, Source::Policies, Source::Dependencies, Source::Functions],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let mut found: BTreeMap<u32, (&Function, Path, String)> = BTreeMap::new();
    for policy in facts.policies.iter().filter(|policy| tenancy.is_tenants(policy.table)) {
        let Some(table) = facts.relation(policy.table).filter(|table| table.rls) else { continue };
        let Some(path) = reach.relation(table).rows() else { continue };
        for function in called_by(facts, policy).filter(|function| function.volatility == Volatility::Volatile) {
            let evidence = format!("the policy {} calls it", Object::policy(facts, policy).identity);
            found.entry(function.oid).or_insert((function, path.clone(), evidence));
        }
    }
    let hit = |(function, path, evidence): (&Function, Path, String)| {
        let note = "only where it writes nothing and answers the same within one statement";
        let sql = format!("ALTER FUNCTION {} STABLE;", signature(function));
        Hit::on(Object::function(function), evidence).path(path).remedy(sql).note(note)
    };
    found.into_values().map(hit).collect()
}
