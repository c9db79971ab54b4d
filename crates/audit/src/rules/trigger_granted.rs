//! GRD-PG-209

use super::grants;
use crate::{
    facts::{Privilege, Source},
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-209",
    name: "trigger_granted",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application may put triggers on a tenant table",
    docs: "## What

TRIGGER on a tenant table is granted to the application's role, to a role whose privileges it has, or to PUBLIC.

## Why

A trigger's function runs in the session of whoever changes the table, in that session's tenant context: one tenant's code works
on another tenant's rows. It needs a function of the tenant's own, which CREATE on any schema or TEMP gives. `GRANT ALL` grants TRIGGER.

## Exploit

```sql
CREATE FUNCTION pg_temp.copy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_notify(''x'', NEW::text); RETURN NEW; END';
CREATE TRIGGER copy AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION pg_temp.copy();
```

## Remedy

Revoke it; triggers come from migrations.

## Near miss

Triggers that are there already, and TRIGGER held by a role that the application cannot act as, stay silent.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    grants::on_tenant_tables(audit, Privilege::Trigger)
}
