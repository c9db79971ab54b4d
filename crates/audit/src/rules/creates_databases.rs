//! GRD-PG-206

use super::grants;
use crate::{
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-206",
    name: "creates_databases",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "The application can create databases",
    docs: "## What

The application's role has CREATEDB, or it can become a role that has it by `SET ROLE`.

## Why

Each database takes disk space and connections from all tenants. In its own database a role may also make functions, schemas and languages as it likes.

## Exploit

```sql
CREATE DATABASE mine;
```

## Remedy

Take the attribute away, or revoke the membership.

## Near miss

A role for provisioning that has CREATEDB and that the application is no member of stays silent.
",
    needs: &[],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    grants::by_attribute(audit, |role| role.creates_databases, "CREATEDB").into_iter().map(|(_, hit)| hit).collect()
}
