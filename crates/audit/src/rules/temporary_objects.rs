//! GRD-PG-214

use guardian_postgres::quote;

use super::grants;
use crate::{
    facts::{Privilege, Source},
    finding::{Hit, Object, ObjectKind, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-214",
    name: "temporary_objects",
    severity: Severity::Low,
    protects: Protects::Rows,
    title: "The application may create temporary objects",
    docs: "## What

TEMPORARY on the database is granted to the application's role, to a role whose privileges it has, or to PUBLIC: PostgreSQL's default.

## Why

Temporary tables and types are found before all others by whatever does not pin its search path, so that a function may read a
tenant's table in place of the real one. They outlive their transaction, and behind a pooler that keeps connections they meet the
next tenant. They also fill the disk of all.

## Exploit

```sql
CREATE TEMP TABLE plans AS SELECT 'enterprise' AS plan;   -- shadows the real table for what comes next
```

## Remedy

Revoke it from PUBLIC, and grant it by name to who needs it.

## Near miss

TEMPORARY for a role of reports that the application cannot act as stays silent.
",
    needs: &[Source::Databases],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let database = &facts.database;
    let held = grants::holders(audit, &database.acl, database.owner, Privilege::Temporary);
    if held.is_empty() {
        return Vec::new();
    }
    let name = format!("database {}", readable(&database.name));
    let Some(path) = audit.reach.by_acl(&database.acl, Privilege::Temporary, database.owner, None, &name) else {
        return Vec::new();
    };
    let sql = grants::revoke(facts, "TEMPORARY", &format!("DATABASE {}", quote::ident(&database.name)), &held);
    let evidence = format!("TEMPORARY is granted to {}", grants::names(facts, &held));
    vec![
        Hit::on(Object::named(ObjectKind::Database, &database.name), evidence)
            .path(path)
            .remedy(sql)
            .note("statements that create temporary tables fail afterwards"),
    ]
}
