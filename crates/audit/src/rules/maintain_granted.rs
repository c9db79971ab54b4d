//! GRD-PG-211

use super::grants;
use crate::{
    facts::{Privilege, Source},
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-211",
    name: "maintain_granted",
    severity: Severity::Medium,
    protects: Protects::Availability,
    title: "The application may lock and rewrite a tenant table",
    docs: "## What

MAINTAIN (PostgreSQL 17 and newer) on a tenant table is granted to the application's role, to a role whose privileges it has, or to PUBLIC.

## Why

VACUUM FULL, CLUSTER, REINDEX and `LOCK TABLE … ACCESS EXCLUSIVE` stop every other tenant for as long as they run. `GRANT ALL` grants MAINTAIN.

## Exploit

```sql
BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE;   -- and stay
```

## Remedy

Revoke it; maintenance is autovacuum's and the administrator's.

## Near miss

MAINTAIN for a maintenance role that the application cannot act as stays silent.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    grants::on_tenant_tables(audit, Privilege::Maintain)
}
