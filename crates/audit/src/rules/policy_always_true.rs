//! GRD-PG-003

use guardian_postgres::quote;

use super::exposure::{self, Culprit, Decider, Exposure, culprits};
use crate::{
    facts::Truth,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-003",
    name: "policy_always_true",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A permissive policy on a tenant table is true for every row, and no restrictive policy holds it back",
    docs: "## What

A permissive policy that applies to the application's role is true for every row: PostgreSQL itself evaluated its USING on made-up
rows of two tenants and of none, whose other columns varied, with no tenant set, with one set, and with usual flags, and it was true
each time. For at least one command, no restrictive policy that applies to the same role was shown to hold the other tenant's rows back.

## Why

Permissive policies are joined by OR: one that is always true makes all the others void.

## Exploit

```sql
CREATE POLICY tenant ON orders USING (tenant_id = current_setting('app.tenant_id')::uuid);
CREATE POLICY admin ON orders USING (true);
SELECT * FROM orders;   -- every tenant's orders
```

## Remedy

Drop the policy, or add a restrictive one that compares the tenant column with the tenant context: it is joined by AND.

## Near miss

A permissive policy of `USING (true)` beside a restrictive tenant policy is a sound pattern and stays silent. So does an open
policy for a role that the application cannot become. A restrictive policy whose predicate cannot be tried, but depends on the tenant
column, counts as unknown and not as open; the report lists it as undecided.
",
    needs: exposure::NEEDS,
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let pick = |exposure: &Exposure<'_>, decider: &Decider<'_>| {
        decider.policy.permissive
            && !decider.by_check
            && decider.truth.is_some_and(Truth::is_open)
            && exposure.unheld_within()
            && !exposure.partly_held()
            && !exposure.slipped_by_check(facts)
    };
    let hit = |culprit: Culprit<'_>| {
        let Culprit { table, decider, path, decides } = culprit;
        let name = quote::qualified(&table.schema, &table.name);
        let evidence =
            format!("its USING was true on every row and in every context that was tried, and it decides {decides}");
        let note = "where no other permissive policy is left, the table shows no rows: `guardian plan` writes the policies";
        Hit::on(Object::policy(facts, decider.policy), evidence)
            .path(path)
            .remedy(format!("DROP POLICY {} ON {name};", quote::ident(&decider.policy.name)))
            .note(note)
    };
    culprits(audit, pick).into_iter().map(hit).collect()
}
