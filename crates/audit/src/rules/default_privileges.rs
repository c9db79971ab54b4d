//! GRD-PG-217

use guardian_postgres::quote;

use super::grants;
use crate::{
    facts::{Facts, PUBLIC, Source},
    finding::{Hit, Object, ObjectKind, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-217",
    name: "default_privileges",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "Tables that do not exist yet are granted to the application",
    docs: "## What

Default privileges grant rights on new tables to the application's role, to a role whose privileges it has, or to PUBLIC.

## Why

A new table has no row-level security. From the moment a migration makes it until somebody thinks of the policies, every tenant
reads every row in it, and nothing looks wrong.

## Exploit

```sql
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO my_app;
CREATE TABLE invoices (tenant_id uuid, total numeric);   -- open at once
```

## Remedy

Revoke it, and grant each table where its policies are made.

## Near miss

Default privileges for a role that the application cannot act as, or on functions and sequences, stay silent here.
",
    needs: &[Source::DefaultPrivileges],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let of_tables = facts.default_privileges.iter().filter(|default| default.kind == 'r');
    of_tables
        .flat_map(|default| {
            let grants = default.acl.iter().filter(move |grant| grant.to != default.owner && is_ours(audit, grant.to));
            grants.filter_map(move |grant| {
                let path = audit.reach.role(grant.to)?.clone();
                let words: Vec<&str> = grant.privileges.iter().map(|privilege| privilege.as_str()).collect();
                let schema = default.schema.as_deref();
                let place =
                    schema.map_or_else(|| "every schema".to_owned(), |schema| format!("schema {}", readable(schema)));
                let to = if grant.to == PUBLIC { "PUBLIC".to_owned() } else { readable(&facts.role_name(grant.to)) };
                let evidence = format!("its new tables in {place} are granted to {to}: {}", words.join(", "));
                let owner = facts.role_name(default.owner);
                let hit = Hit::on(Object::named(ObjectKind::Role, &owner), evidence).path(path);
                Some(hit.part(format!("{place}\0{to}")).remedy(revocation(facts, &owner, schema, grant.to)))
            })
        })
        .collect()
}

/// What the application makes itself it owns, which is another finding.
fn is_ours(audit: &Audit<'_>, role: crate::Oid) -> bool {
    audit.reach.role(role).is_some() && !grants::is_system(&audit.facts.role_name(role))
}

fn revocation(facts: &Facts, owner: &str, schema: Option<&str>, from: crate::Oid) -> String {
    let within = schema.map_or_else(String::new, |schema| format!("IN SCHEMA {} ", quote::ident(schema)));
    let owner = quote::ident(owner);
    format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} {within}REVOKE ALL ON TABLES FROM {};", grants::grantee(facts, from))
}
