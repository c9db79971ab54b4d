//! GRD-PG-105

use guardian_postgres::quote::ident;

use crate::{
    facts::{Policy, PredicateKind, Source},
    finding::{Hit, Object, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-105",
    name: "context_by_role",
    severity: Severity::High,
    protects: Protects::Context,
    title: "Policies go by the current role, and the application's session can become other roles",
    docs: "## What

A policy of a tenant table asks for the current role (`current_user`, `pg_has_role`), and the application's role is a member of
others that it may `SET ROLE` to.

## Why

Where the role says which tenant it is, whoever may change the role may change the tenant.

## Exploit

```sql
SET ROLE other_tenant;
SELECT * FROM orders;   -- that tenant's orders
```

## Remedy

Take the memberships away, so that each tenant's role logs in by itself.

## Near miss

A policy by `current_user` for a role that is a member of nothing stays silent.
",
    needs: &[Source::Columns, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let others: Vec<_> = reach.sessions_as().filter(|(role, _)| !reach.applications().contains(role)).collect();
    let Some((_, way)) = others.first() else { return Vec::new() };
    let mut names: Vec<String> = others.iter().map(|(role, _)| readable(&facts.role_name(*role))).collect();
    names.sort();
    let direct = reach.applications().iter().flat_map(|role| facts.memberships_of(*role));
    let revokes: Vec<String> = direct
        .filter(|one| one.set || one.admin)
        .map(|one| format!("REVOKE {} FROM {};", ident(&facts.role_name(one.role)), ident(&facts.role_name(one.member))))
        .collect();
    let by_role = |policy: &&Policy| {
        [PredicateKind::Using, PredicateKind::Check]
            .into_iter()
            .filter_map(|kind| facts.truth(policy.oid, kind))
            .any(|truth| truth.by_role)
    };
    let policies = facts.policies.iter().filter(|policy| tenancy.is_tenants(policy.table)).filter(by_role);
    policies
        .filter(|policy| policy.roles.iter().any(|role| reach.role(*role).is_some()))
        .filter_map(|policy| {
            let table = facts.relation(policy.table).filter(|table| table.rls)?;
            reach.relation(table).rows()?;
            let evidence = format!("it asks for the current role, and the session may become {}", names.join(", "));
            Some(Hit::on(Object::policy(facts, policy), evidence).path((*way).clone()).remedy(revokes.join("\n")))
        })
        .collect()
}
