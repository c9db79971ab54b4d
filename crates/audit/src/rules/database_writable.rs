//! GRD-PG-213

use guardian_postgres::quote;

use super::grants;
use crate::{
    facts::{Privilege, Source},
    finding::{Hit, Object, ObjectKind, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-213",
    name: "database_writable",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "The application may create schemas in the database",
    docs: "## What

CREATE on the database is granted to the application's role, to a role whose privileges it has, or to PUBLIC.

## Why

A schema of a tenant's own is a place for functions, operators and tables that others may come to use, and for foreign keys that
tell which keys exist. Several of PostgreSQL's own flaws needed just this privilege (CVE-2023-2454).

## Exploit

```sql
CREATE SCHEMA mine;
```

## Remedy

Revoke it; schemas come from migrations.

## Near miss

CREATE for the role that runs the migrations, and the database's owner, stay silent here.
",
    needs: &[Source::Databases],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let database = &facts.database;
    let held = grants::holders(audit, &database.acl, database.owner, Privilege::Create);
    if held.is_empty() {
        return Vec::new();
    }
    let name = format!("database {}", readable(&database.name));
    let Some(path) = audit.reach.by_acl(&database.acl, Privilege::Create, database.owner, None, &name) else {
        return Vec::new();
    };
    let sql = grants::revoke(facts, "CREATE", &format!("DATABASE {}", quote::ident(&database.name)), &held);
    let evidence = format!("CREATE is granted to {}", grants::names(facts, &held));
    vec![Hit::on(Object::named(ObjectKind::Database, &database.name), evidence).path(path).remedy(sql)]
}
