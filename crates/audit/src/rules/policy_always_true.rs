//! GRD-PG-003

use guardian_postgres::quote;

use crate::{
    facts::{Command, Facts, PUBLIC, Policy, PredicateKind, Relation, Source},
    finding::{Hit, Object},
    reach::Reach,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-003",
    name: "policy_always_true",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A permissive policy on a tenant table is true for every row, and no restrictive policy holds it back",
    docs: "## What

A permissive policy that applies to the application's role is true on every row: PostgreSQL itself evaluated its predicate on
rows of another tenant, with and without a tenant context, and it was true each time. No restrictive policy for the same
statements stands beside it.

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
policy for a role that the application cannot become.
",
    needs: &[Source::Columns, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let policies = facts.policies.iter().filter(|policy| policy.permissive && tenancy.is_tenants(policy.table));
    policies
        .filter(|policy| applies(policy, reach))
        .filter_map(|policy| {
            let table = facts.relation(policy.table).filter(|table| table.rls)?;
            let open = [PredicateKind::Using, PredicateKind::Check].into_iter().find(|kind| {
                facts.truth(policy.oid, *kind).is_some_and(|truth| truth.undecided.is_none() && truth.always_true)
            })?;
            if held_back(facts, reach, table, policy, open) {
                return None;
            }
            let path = reach.relation(table).rows()?;
            let clause = if open == PredicateKind::Using { "USING" } else { "WITH CHECK" };
            let name = quote::qualified(&table.schema, &table.name);
            let hit = Hit::on(Object::policy(facts, policy), format!("its {clause} was true on every row that was tried"));
            let sql = format!("DROP POLICY {} ON {name};", quote::ident(&policy.name));
            let note =
                "where no other permissive policy is left, the table shows no rows: `guardian plan` writes the policies";
            Some(hit.path(path).remedy(sql).note(note))
        })
        .collect()
}

/// Whether a policy is for a role that the application has the privileges of.
fn applies(policy: &Policy, reach: &Reach<'_>) -> bool {
    policy.roles.iter().any(|role| reach.role(*role).is_some())
}

/// Whether a restrictive policy that is not open itself applies to all that the open one does, for every role.
fn held_back(facts: &Facts, reach: &Reach<'_>, table: &Relation, open: &Policy, kind: PredicateKind) -> bool {
    facts.policies_of(table.oid).iter().filter(|policy| !policy.permissive).any(|policy| {
        let everybody = policy.roles.contains(&PUBLIC) || reach.sessions_as().all(|(role, _)| policy.roles.contains(&role));
        let covers = policy.command == Command::All || policy.command == open.command;
        // Without a WITH CHECK of its own, a policy's USING checks new rows too.
        let predicate = if kind == PredicateKind::Check && policy.check.is_some() { kind } else { PredicateKind::Using };
        let is_open = facts.truth(policy.oid, predicate).is_some_and(|truth| truth.undecided.is_none() && truth.always_true);
        everybody && covers && !is_open
    })
}
