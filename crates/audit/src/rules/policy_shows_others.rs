//! GRD-PG-006

use super::exposure::{self, Culprit, Decider, Exposure, culprits};
use crate::{
    facts::Rows,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-006",
    name: "policy_shows_others",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "A policy shows rows of other tenants while a tenant is set",
    docs: "## What

A policy's USING was true for made-up rows of a second tenant while the first was set, though not for every row. High where the
policy does not depend on the tenant column at all; medium where it does, and something beside it (`OR is_public`) lets rows of others
through; critical where it was true for every row of the other tenant.

## Why

Permissive policies are joined by OR, so the most generous one counts. A policy about something else (not deleted, published, mine)
is no tenant policy. Sharing may be meant; then it should be said to be.

## Exploit

```sql
CREATE POLICY live ON orders USING (NOT deleted);   -- beside the tenant policy
SELECT * FROM orders;   -- every tenant's orders that are not deleted
```

## Remedy

Make the policy restrictive if it was meant to narrow, or add the comparison of the tenant column to it. No SQL is given, because
only its author knows which. Where rows are shared on purpose, write an exception with that reason.

## Near miss

The same policy beside a restrictive tenant policy stays silent, and so does one that only narrows the tenant's own rows.
",
    needs: exposure::NEEDS,
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let pick = |exposure: &Exposure<'_>, decider: &Decider<'_>| {
        let shows = decider.truth.is_some_and(|truth| truth.other_tenant != Rows::None && !truth.always_true);
        let to_blame =
            if decider.policy.permissive { !exposure.partly_held() } else { decider.on_tenant && exposure.lets_through() };
        shows && to_blame && !decider.by_check && exposure.unheld_within() && !exposure.slipped_by_check(audit.facts)
    };
    let hit = |culprit: Culprit<'_>| {
        let Culprit { decider, path, decides, .. } = culprit;
        let every = decider.truth.is_some_and(|truth| truth.other_tenant == Rows::All);
        let (which, severity) = match (every, decider.on_tenant) {
            (true, _) => ("every row", Severity::Critical),
            (false, false) => ("some rows", Severity::High),
            (false, true) => ("some rows", Severity::Medium),
        };
        let tenant = if decider.on_tenant { "" } else { ", and it does not depend on the tenant column" };
        let evidence = format!("its USING was true for {which} of another tenant{tenant}; it decides {decides}");
        Hit::on(Object::policy(audit.facts, decider.policy), evidence).path(path).severity(severity)
    };
    culprits(audit, pick).into_iter().map(hit).collect()
}
