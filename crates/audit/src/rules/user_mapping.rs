//! GRD-PG-305

use guardian_postgres::quote::ident;

use super::revoke;
use crate::{
    facts::{PUBLIC, Privilege, Source},
    finding::{Hit, Object, ObjectKind, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-305",
    name: "user_mapping",
    severity: Severity::High,
    protects: Protects::Secrets,
    title: "The application may use a foreign server through a user mapping, and read the password in its own",
    docs: "## What

The application's role has USAGE on a foreign server (or owns it), and there is a user mapping for it or for everybody.

## Why

With USAGE, a role reads the options of its own user mapping in `pg_user_mappings`, the password in clear among them. It can also
reach the server by `dblink`, or by foreign tables of its own making, as the mapped role: one identity for all tenants. Foreign
tables that others made need no USAGE.

## Exploit

```sql
SELECT umoptions FROM pg_user_mappings;            -- {user=reporting,password=…}
SELECT * FROM dblink('warehouse', 'SELECT …') …    -- as that role
```

## Remedy

Take USAGE on the server away. Foreign tables that are already there go on working.

## Near miss

A user mapping for the application on a server without USAGE stays silent: it serves only foreign tables that others made.
",
    needs: &[Source::ForeignServers, Source::UserMappings],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, .. } = audit;
    let servers = facts.foreign_servers.iter().filter_map(|server| {
        let name = format!("server {}", readable(&server.name));
        let path = reach.by_acl(&server.acl, Privilege::Usage, server.owner, None, &name)?;
        let usable = |user| user == PUBLIC || reach.becomes(user).is_some();
        let mapping = facts.user_mappings.iter().filter(|one| one.server == server.oid && usable(one.user));
        // Of one's own mapping the password can be read, too.
        let mapping = mapping.max_by_key(|one| (one.user != PUBLIC, one.password))?;
        let secret = match (mapping.user != PUBLIC, mapping.password) {
            (false, _) => "everybody's mapping can be used",
            (true, Some(true)) => "its own mapping can be used, and the password in it read",
            (true, Some(false)) => "its own mapping can be used; no password is in it",
            (true, None) => "its own mapping can be used and read; whether it holds a password is unknown",
        };
        let of = facts.role_name(mapping.user);
        let hit = Hit::on(
            Object::named(ObjectKind::ForeignServer, &server.name),
            format!("it has a user mapping for {of}, and the application has USAGE: {secret}"),
        );
        let on = format!("FOREIGN SERVER {}", ident(&server.name));
        let hit = hit.path(path);
        Some(match revoke::on_object(audit, &server.acl, server.owner, Privilege::Usage, &on) {
            Some(sql) => hit.remedy(sql).note("foreign tables of this server that are there already go on working"),
            None => hit,
        })
    });
    servers.collect()
}
