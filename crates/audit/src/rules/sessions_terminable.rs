//! GRD-PG-224

use super::grants;
use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-224",
    name: "sessions_terminable",
    severity: Severity::Medium,
    protects: Protects::Availability,
    title: "The application may end the sessions of other tenants",
    docs: "## What

Tenants share the application's role, and it may call `pg_terminate_backend` or `pg_cancel_backend` (PUBLIC may, by default).

## Why

A role may end sessions of its own, and all tenants' sessions are of one role: any tenant that can run SQL throws all others out, again and again.

## Exploit

```sql
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid();
```

## Remedy

Revoke both from PUBLIC, and grant them to `pg_signal_backend`; it needs a superuser. Process numbers are small, so that hiding
`pg_stat_activity` is no protection.

## Near miss

Where the functions are revoked, or no tenant table is shared, there is no finding.
",
    needs: &[Source::Functions, Source::Columns],
    check,
};

const FUNCTIONS: [&str; 2] = ["pg_terminate_backend", "pg_cancel_backend"];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    if grants::shared_tables(audit).is_none() {
        return Vec::new();
    }
    let object = Object::in_schema(ObjectKind::Function, "pg_catalog", "pg_terminate_backend");
    let why = "all tenants' sessions are of the application's role, which may end its own";
    grants::system_functions(audit, &FUNCTIONS, object, why, Some("pg_signal_backend")).into_iter().collect()
}
