//! GRD-PG-015

use crate::{
    facts::{Command, Facts, Policy, PredicateKind, Source, Truth},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-015",
    name: "policy_undecided",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "Whether a policy keeps tenants apart is undecided",
    docs: "## What

The application reaches a tenant table, a policy of the table applies to it, and the policy's truth could not be tried: it calls a function
of the application's own or a volatile one, reads another table, or raised an error each time. The rules on what policies show say nothing of it.

## Why

What is not known is not green. Without this finding a policy that calls a function which always returns true would count as closed.

## Exploit

```sql
CREATE POLICY p ON orders USING (is_member(tenant_id));   -- is_member() may well be SELECT true
```

## Remedy

No SQL of ours: say it by PostgreSQL's own operators and functions (`tenant_id = nullif(current_setting('app.tenant', true), '')::uuid`), or
let `guardian audit --attack` try it on rows of two tenants, and accept the finding by an exception with a reason and a date. It counts for
`--fail-on medium` and milder, not for the default.

## Near miss

A policy that was tried stays silent, whatever came of it: other rules say that. So does an undecided one where a restrictive policy for
all commands was shown to hold other tenants' rows back, and an undecided restrictive one where every permissive policy was.
",
    needs: &[Source::Columns, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && table.rls && tenancy.is_tenants(table.oid));
    let mut hits = Vec::new();
    for table in tables {
        let Some(path) = reach.relation(table).rows() else { continue };
        let applies = |policy: &&Policy| policy.roles.iter().any(|role| reach.role(*role).is_some());
        let (permissive, restrictive): (Vec<&Policy>, Vec<&Policy>) =
            facts.policies_of(table.oid).iter().filter(applies).partition(|policy| policy.permissive);
        let is_held = restrictive.iter().any(|policy| policy.command == Command::All && holds_back(facts, policy));
        let none_opens = permissive.iter().all(|policy| holds_back(facts, policy));
        let open = if is_held { [].as_slice() } else { permissive.as_slice() };
        let narrowing = if is_held || none_opens { [].as_slice() } else { restrictive.as_slice() };
        for policy in open.iter().chain(narrowing) {
            if let Some(reason) = undecided(facts, policy) {
                hits.push(Hit::on(Object::policy(facts, policy), format!("undecided: {reason}")).path(path.clone()));
            }
        }
    }
    hits
}

fn truths<'f>(facts: &'f Facts, policy: &Policy) -> Vec<&'f Truth> {
    [PredicateKind::Using, PredicateKind::Check].into_iter().filter_map(|kind| facts.truth(policy.oid, kind)).collect()
}

fn holds_back(facts: &Facts, policy: &Policy) -> bool {
    let truths = truths(facts, policy);
    !truths.is_empty() && truths.iter().all(|truth| truth.holds_back())
}

fn undecided<'f>(facts: &'f Facts, policy: &Policy) -> Option<&'f str> {
    truths(facts, policy).into_iter().find_map(|truth| truth.undecided.as_deref())
}
