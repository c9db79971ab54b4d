//! GRD-PG-009

use super::{
    exposure::{is_bound, shields},
    revoke,
    rights::privileges_of,
};
use crate::{
    facts::{Catalog, Command, PredicateKind, Privilege, Relation, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-009",
    name: "policy_trusts_writable",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A policy trusts a table that the application may write",
    docs: "## What

A policy of a tenant table reads another table (by its recorded references), the application's role may insert into that table or
update it, and its own policies were not shown to hold such writes back.

## Why

A policy that asks a table of memberships for the tenant is as strong as the right to write memberships.

## Exploit

```sql
INSERT INTO members (tenant_id, user_id) VALUES ('<another tenant>', '<me>');
SELECT * FROM orders;   -- that tenant's orders too
```

## Remedy

Take INSERT and UPDATE on the trusted table away from the application, and let a function with checks of its own write it.

## Near miss

A table that the application only reads stays silent, and so does one whose policies hold writes for other tenants back.
",
    needs: &[Source::Columns, Source::Policies, Source::Truths, Source::Dependencies],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let mut found = Vec::new();
    for policy in facts.policies.iter().filter(|policy| tenancy.is_tenants(policy.table)) {
        let Some(table) = facts.relation(policy.table).filter(|table| table.rls) else { continue };
        if reach.relation(table).rows().is_none() || !policy.roles.iter().any(|role| reach.role(*role).is_some()) {
            continue;
        }
        let mut last = None;
        for one in facts.references_of(Catalog::Policy, policy.oid).iter().filter(|one| one.to == Catalog::Relation) {
            if one.referenced == policy.table || last.replace(one.referenced) == Some(one.referenced) {
                continue;
            }
            let Some(trusted) = facts.relation(one.referenced).filter(|relation| relation.kind.is_table()) else { continue };
            let writes = [(Privilege::Insert, Command::Insert), (Privilege::Update, Command::Update)];
            let open = writes.into_iter().find_map(|(privilege, command)| {
                let path = reach.relation(trusted).privilege(privilege)?;
                (!holds_writes(audit, trusted, command)).then_some(path)
            });
            let Some(path) = open else { continue };
            let name = readable_in(&trusted.schema, &trusted.name);
            let held =
                if trusted.rls { "its policies were not shown to hold that back" } else { "it has no row-level security" };
            let evidence = format!("it reads {name}, which the application may write, and {held}");
            let severity = if trusted.rls { Severity::High } else { Severity::Critical };
            let hit = Hit::on(Object::policy(facts, policy), evidence).path(path).severity(severity).part(name);
            found.push(match revoke::on_relation(audit, trusted, &[Privilege::Insert, Privilege::Update]) {
                Some(sql) => hit.remedy(sql).note("whatever writes it for the application needs rights of its own"),
                None => hit,
            });
        }
    }
    found
}

/// Whether a restrictive policy, or every permissive one, was shown to hold new rows of other tenants back, for every session.
fn holds_writes(audit: &Audit<'_>, table: &Relation, command: Command) -> bool {
    let Audit { facts, reach, .. } = audit;
    if !table.rls {
        return false;
    }
    reach.sessions_as().all(|(role, _)| {
        let held = privileges_of(facts, role);
        if !is_bound(facts, role, &held, table) {
            return false;
        }
        let policies = facts.policies_of(table.oid).iter().filter(|policy| {
            (policy.command == Command::All || policy.command == command)
                && policy.roles.iter().any(|role| held.contains(role))
        });
        let (permissive, restrictive): (Vec<_>, Vec<_>) = policies.partition(|policy| policy.permissive);
        let holds = |policy: &&crate::facts::Policy| {
            let kind = if policy.check.is_some() { PredicateKind::Check } else { PredicateKind::Using };
            facts.truth(policy.oid, kind).is_some_and(|truth| shields(audit, truth))
        };
        restrictive.iter().any(holds) || permissive.iter().all(holds)
    })
}
