//! GRD-PG-210

use super::grants;
use crate::{
    facts::{Privilege, Source},
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-210",
    name: "references_granted",
    severity: Severity::Medium,
    protects: Protects::Existence,
    title: "The application may point foreign keys at a tenant table",
    docs: "## What

REFERENCES on a tenant table, or on a column of it, is granted to the application's role, to a role whose privileges it has, or to PUBLIC.

## Why

A foreign key is checked past all policies. With a table of its own that points at the tenant table, a tenant learns which keys
exist, and keeps others from deleting the rows. `GRANT ALL` grants REFERENCES.

## Exploit

```sql
CREATE TABLE probe (id uuid REFERENCES orders (id));
INSERT INTO probe VALUES ('…');   -- an error, or not: another tenant's order exists
```

## Remedy

Revoke it; foreign keys come from migrations.

## Near miss

Foreign keys that are there already are judged by other rules; REFERENCES on tables without a tenant column stays silent.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    grants::on_tenant_tables(audit, Privilege::References)
}
