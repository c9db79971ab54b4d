//! GRD-PG-227

use super::{grants, session_defaults};
use crate::{
    facts::{Facts, Privilege, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-227",
    name: "parameter_granted",
    severity: Severity::Medium,
    protects: Protects::Context,
    title: "The application may set a parameter that PostgreSQL keeps for superusers",
    docs: "## What

SET or ALTER SYSTEM on a configuration parameter (PostgreSQL 15 and newer) is granted to the application's role, to a role whose
privileges it has, or to PUBLIC. When policies compare rows with that parameter the finding is critical; ALTER SYSTEM is of
high severity.

## Why

Such a parameter can hold a tenant context just because the application cannot set it: with the grant, it can. Others switch triggers
and foreign keys off (`session_replication_role`), open all large objects (`lo_compat_privileges`) or load libraries into every session.

## Exploit

```sql
SET session_replication_role = replica; DELETE FROM tenants WHERE id = '…';   -- no foreign key holds it back
```

## Remedy

Revoke it.

## Near miss

A grant to a role that the application cannot act as (the owner of the function that enters a tenant) stays silent.
",
    needs: &[Source::ParameterGrants, Source::Policies],
    check,
};

/// Parameters that open something by themselves.
const OPENING: [&str; 7] = [
    "session_replication_role",
    "lo_compat_privileges",
    "session_preload_libraries",
    "local_preload_libraries",
    "dynamic_library_path",
    "allow_system_table_mods",
    "jit_provider",
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let privileges = [(Privilege::Set, "SET"), (Privilege::AlterSystem, "ALTER SYSTEM")];
    facts
        .parameter_grants
        .iter()
        .flat_map(|grant| privileges.iter().map(move |privilege| (grant, privilege)))
        .filter_map(|(grant, (privilege, word))| {
            // A parameter has no owner.
            let nobody = crate::Oid::MAX;
            let held = grants::holders(audit, &grant.acl, nobody, *privilege);
            if held.is_empty() {
                return None;
            }
            let path = audit.reach.by_acl(&grant.acl, *privilege, nobody, None, &grant.parameter)?;
            let name = format!("PARAMETER {}", session_defaults::setting_ident(&grant.parameter));
            let mut evidence = format!("{word} is granted to {}", grants::names(facts, &held));
            let severity = if is_in_policies(facts, &grant.parameter) {
                evidence.push_str(", and policies name it");
                Severity::Critical
            } else if *privilege == Privilege::AlterSystem || OPENING.contains(&grant.parameter.as_str()) {
                Severity::High
            } else {
                Severity::Medium
            };
            let hit = Hit::on(Object::named(ObjectKind::Setting, &grant.parameter), evidence).path(path).part(*word);
            Some(hit.severity(severity).remedy(grants::revoke(facts, word, &name, &held)))
        })
        .collect()
}

/// Whether a policy's text has the name in quotes: a hint that decides on the severity alone.
fn is_in_policies(facts: &Facts, parameter: &str) -> bool {
    let literal = format!("'{parameter}'");
    let texts = facts.policies.iter().flat_map(|policy| [&policy.using, &policy.check]).flatten();
    texts.into_iter().any(|text| text.to_ascii_lowercase().contains(&literal))
}
