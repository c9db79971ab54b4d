//! GRD-PG-223

use super::grants;
use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-223",
    name: "activity_shown",
    severity: Severity::Low,
    protects: Protects::Metadata,
    title: "The application sees the statements that run for other tenants in pg_stat_activity",
    docs: "## What

Tenants share the application's role, and it may call the functions behind `pg_stat_activity` (PUBLIC may, by default).

## Why

A role sees the full text of the statements of its own sessions, and all tenants' sessions are of one role. What an application writes
into the text of a statement (an address, a token) is shown to every tenant that can run SQL.

## Exploit

```sql
SELECT query, client_addr FROM pg_stat_activity;
```

## Remedy

Revoke the functions from PUBLIC, and grant them to `pg_read_all_stats`, so that monitoring goes on; it needs a superuser. Where that is
no choice (a managed service), send values as bind parameters and never in the text.

## Near miss

Where the functions are revoked, or no tenant table is shared, there is no finding.
",
    needs: &[Source::Functions, Source::Columns],
    check,
};

const FUNCTIONS: [&str; 2] = ["pg_stat_get_activity", "pg_stat_get_backend_activity"];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    if grants::shared_tables(audit).is_none() {
        return Vec::new();
    }
    let object = Object::in_schema(ObjectKind::View, "pg_catalog", "pg_stat_activity");
    let why = "all tenants' sessions are of the application's role, which sees the statements of its own";
    grants::system_functions(audit, &FUNCTIONS, object, why, Some("pg_read_all_stats")).into_iter().collect()
}
