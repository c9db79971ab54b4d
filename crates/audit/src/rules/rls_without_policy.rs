//! GRD-PG-005

use super::{exposure::is_bound, rights::privileges_of};
use crate::{
    facts::Source,
    finding::{Hit, Object, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-005",
    name: "rls_without_policy",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "Row-level security is on and no policy lets the application's role see a row",
    docs: "## What

Row-level security is enabled on a tenant table that the application's role may use, and no permissive policy applies to that role:
there is none, or they are for other roles. Partitions and inheriting tables are left out, since their parents' policies serve.

## Why

Without a permissive policy everything is refused. Nothing leaks, but the application sees an empty table and its writes fail, and
whoever repairs that in a hurry tends to switch row-level security off.

## Exploit

```sql
SELECT count(*) FROM orders;   -- 0, whoever asks
```

## Remedy

Create policies for the role. What they must say depends on the application; `guardian plan` writes them.

## Near miss

A table with a policy for the role, for PUBLIC, or for a role whose privileges it has, stays silent.
",
    needs: &[Source::Columns, Source::Policies],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && table.rls && table.parents.is_empty());
    tables
        .filter(|table| tenancy.is_tenants(table.oid))
        .filter_map(|table| {
            let path = reach.relation(table).rows()?;
            let policies = facts.policies_of(table.oid);
            let served = reach.sessions_as().any(|(role, _)| {
                let held = privileges_of(facts, role);
                !is_bound(facts, role, &held, table)
                    || policies.iter().any(|policy| policy.permissive && policy.roles.iter().any(|role| held.contains(role)))
            });
            if served {
                return None;
            }
            let mut others: Vec<String> = policies
                .iter()
                .filter(|policy| policy.permissive)
                .flat_map(|policy| &policy.roles)
                .map(|role| readable(&facts.role_name(*role)))
                .collect();
            others.sort();
            others.dedup();
            let evidence = if others.is_empty() {
                "it has no permissive policy".to_owned()
            } else {
                format!("its permissive policies are for {} only", others.join(", "))
            };
            Some(Hit::on(Object::relation(table), evidence).path(path))
        })
        .collect()
}
