//! GRD-PG-201

use crate::{
    finding::{Hit, Object, readable},
    rule::{Audit, Protects, Rule, Severity},
};
use guardian_postgres::quote;

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-201",
    name: "bypass_reachable",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application can act as a role that row-level security does not apply to",
    docs: "## What

The application's role is a superuser or has BYPASSRLS, or it can become such a role by `SET ROLE`. A membership that is not
inherited counts: `SET ROLE` needs no inheritance. So does one with only the ADMIN option, because its holder can grant itself
the rest.

## Why

Neither a superuser nor a role with BYPASSRLS is subject to any policy, forced or not.

## Exploit

```sql
SET ROLE reporting; SELECT * FROM orders;   -- reporting has BYPASSRLS
```

## Remedy

Take the attribute from the application's role, or revoke the membership that leads to the role that has it. From a managed
service's own administrator the attribute cannot be taken: let the application connect as another role.

## Near miss

BYPASSRLS is never inherited: a role that the application may not become (PostgreSQL 16: `SET FALSE`) and that only passes its
privileges on stays silent, and so does one for backups that the application is no member of.
",
    needs: &[],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let roles = audit.reach.sessions_as().filter_map(|(oid, path)| Some((facts.role(oid)?, path)));
    roles
        .filter(|(role, _)| role.superuser || role.bypasses_rls)
        .map(|(role, path)| {
            let attributes = [(role.superuser, "SUPERUSER"), (role.bypasses_rls, "BYPASSRLS")];
            let held: Vec<&str> = attributes.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
            let sql = if audit.reach.applications().contains(&role.oid) {
                let taken: Vec<String> = held.iter().map(|attribute| format!("NO{attribute}")).collect();
                format!("ALTER ROLE {} {};", quote::ident(&role.name), taken.join(" "))
            } else {
                revocations(audit, role.oid)
            };
            Hit::on(Object::role(role), format!("{} has {}", readable(&role.name), held.join(" and ")))
                .path(path.clone())
                .remedy(sql)
        })
        .collect()
}

/// Every membership by which the application gets to the role directly.
fn revocations(audit: &Audit<'_>, role: crate::Oid) -> String {
    let facts = audit.facts;
    let memberships = facts.memberships.iter().filter(|one| one.role == role && (one.set || one.admin));
    let held = memberships.filter(|one| audit.reach.becomes(one.member).is_some());
    let statements = held.map(|one| {
        format!("REVOKE {} FROM {};", quote::ident(&facts.role_name(one.role)), quote::ident(&facts.role_name(one.member)))
    });
    statements.collect::<Vec<_>>().join("\n")
}
