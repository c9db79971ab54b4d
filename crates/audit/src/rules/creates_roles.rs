//! GRD-PG-202

use super::grants;
use crate::{
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-202",
    name: "creates_roles",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application can create roles",
    docs: "## What

The application's role has CREATEROLE, or it can become a role that has it by `SET ROLE`.

## Why

Before PostgreSQL 16, whoever has CREATEROLE may grant any role but a superuser to anybody, itself included: the owner of the
tables, a role with BYPASSRLS, `pg_execute_server_program`. From 16 on it reaches only roles that it has the ADMIN option for,
and those that it makes; it can still make logins that nobody knows of, so the finding is of medium severity there.

## Exploit

```sql
GRANT orders_owner TO my_app;   -- PostgreSQL 15 and older
```

## Remedy

Take the attribute away, or revoke the membership. Roles are made by migrations or by an administrator.

## Near miss

A role for administration that has CREATEROLE and that the application is no member of stays silent. A membership that is only inherited does not pass the attribute on.
",
    needs: &[],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let bounded = audit.facts.server.version >= 160_000;
    let hits = grants::by_attribute(audit, |role| role.creates_roles, "CREATEROLE");
    hits.into_iter().map(|(_, hit)| if bounded { hit.severity(Severity::Medium) } else { hit }).collect()
}
