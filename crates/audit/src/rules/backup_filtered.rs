//! GRD-PG-614

use std::collections::BTreeSet;

use guardian_postgres::quote;

use super::rights::privileges_of;
use crate::{
    facts::{Facts, Oid, Privilege, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-614",
    name: "backup_filtered",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "A role that reads everything for backups is held back by row-level security",
    docs: "## What

A login that may connect to this database, and that the application cannot become, has the privileges of `pg_read_all_data` but not BYPASSRLS, and a tenant table has row-level
security.

## Why

`pg_dump` sets `row_security = off` and then fails at the first table whose policies apply to it. With `--enable-row-security`, and with
`COPY … TO`, it saves what the policies show: no rows at all without a tenant context. Such a backup looks well until it is needed.

## Exploit

```sql
SET row_security = off; COPY orders TO STDOUT;   -- query would be affected by row-level security policy
```

## Remedy

Give a role that makes backups BYPASSRLS, and guard its login accordingly. For a role that is for something else, write an exception.

## Near miss

A role with BYPASSRLS stays silent, as does one that may not connect, and a database without row-level security.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let guarded = facts.relations.iter().find(|table| table.rls && audit.tenancy.is_tenants(table.oid));
    let (Some(table), Some(reader)) = (guarded, facts.role_named("pg_read_all_data")) else { return Vec::new() };
    let logins = facts.roles.iter().filter(|role| role.logs_in && !role.bypasses_rls && !role.superuser);
    logins
        .filter(|role| audit.reach.becomes(role.oid).is_none())
        .filter(|role| {
            let held = privileges_of(facts, role.oid);
            held.contains(&reader.oid) && connects(facts, &held)
        })
        .map(|role| {
            let table = readable_in(&table.schema, &table.name);
            let evidence = format!("it may read everything, and policies apply to it, those of {table} for one");
            let hit = Hit::on(Object::role(role), evidence);
            let sql = format!("ALTER ROLE {} BYPASSRLS;", quote::ident(&role.name));
            hit.remedy(sql).note("only if it makes backups: it then reads every tenant's rows")
        })
        .collect()
}

/// Roles belong to the whole server, and most have no business in this database.
fn connects(facts: &Facts, held: &BTreeSet<Oid>) -> bool {
    let database = &facts.database;
    let mut grants = database.acl.iter().filter(|grant| grant.privileges.contains(&Privilege::Connect));
    held.contains(&database.owner) || grants.any(|grant| held.contains(&grant.to))
}
