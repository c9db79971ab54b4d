//! GRD-PG-208

use super::grants;
use crate::{
    facts::{Privilege, Source},
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-208",
    name: "truncate_granted",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application may TRUNCATE a tenant table",
    docs: "## What

TRUNCATE on a tenant table is granted to the application's role, to a role whose privileges it has, or to PUBLIC.

## Why

Policies do not apply to TRUNCATE: it empties the table for all tenants. `GRANT ALL` grants it.

## Exploit

```sql
TRUNCATE orders;   -- every tenant's
```

## Remedy

Revoke it, and grant SELECT, INSERT, UPDATE and DELETE by name.

## Near miss

TRUNCATE on a table without a tenant column, or granted to a role that the application cannot act as, stays silent.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    grants::on_tenant_tables(audit, Privilege::Truncate)
}
