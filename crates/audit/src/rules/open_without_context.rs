//! GRD-PG-103

use super::exposure::{self, Culprit, Decider, Exposure, culprits};
use crate::{
    facts::Rows,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-103",
    name: "open_without_context",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A policy shows rows of tenants while no tenant is set",
    docs: "## What

A policy's predicate was true for made-up rows of tenants while the settings that it reads were unset or empty, and not (or for fewer
rows) while a tenant was set: `current_setting('app.tenant', true) IS NULL OR …`, or a default by `coalesce`.

## Why

A connection that forgot to set the tenant is the commonest mistake of all, and it should show nothing. SQL that is injected can
reset the setting.

## Exploit

```sql
RESET app.tenant;
SELECT * FROM orders;   -- every tenant's orders
```

## Remedy

Take that branch out of the policy, and give work across tenants a role of its own with a policy of its own. No SQL is given: the
predicate must be written anew.

## Near miss

A policy that is false or raises an error without a tenant stays silent.
",
    needs: exposure::NEEDS,
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let pick = |exposure: &Exposure<'_>, decider: &Decider<'_>| {
        let opens = decider.truth.is_some_and(|truth| truth.without_context > truth.other_tenant);
        opens && (decider.policy.permissive || exposure.lets_through())
    };
    let hit = |culprit: Culprit<'_>| {
        let Culprit { decider, path, decides, .. } = culprit;
        let every = decider.truth.is_some_and(|truth| truth.without_context == Rows::All);
        let (which, severity) = if every { ("every row", Severity::Critical) } else { ("some rows", Severity::High) };
        let clause = decider.clause();
        let evidence = format!(
            "its {clause} was true for {which} of tenants while its settings were unset or empty; it decides {decides}"
        );
        Hit::on(Object::policy(audit.facts, decider.policy), evidence).path(path).severity(severity).part(clause)
    };
    culprits(audit, pick).into_iter().map(hit).collect()
}
