//! GRD-PG-503

use guardian_postgres::quote;

use crate::{
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-503",
    name: "statistics_views_open",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A view of extended statistics shows values of tables that are not the reader's",
    docs: "## What

`pg_stats_ext` or `pg_stats_ext_exprs` of this database has the definition from before the fix of CVE-2024-4317, and PUBLIC may read it.
PostgreSQL 14 to 16 have the flaw. The definition is looked at, not the version.

## Why

The views show the most common values of columns and expressions on which somebody made extended statistics, past privileges and
policies. Updating the server to 14.12, 15.7 or 16.3 fixes databases that are made afterwards, and none that are there.

## Exploit

```sql
SELECT tablename, expr, most_common_vals FROM pg_stats_ext_exprs;   -- other tenants' values
```

## Remedy

Run `fix-CVE-2024-4317.sql`, which the server's package brings, in each database as a superuser (in `template0` too); or revoke the views
from PUBLIC, as the remedy does.

## Near miss

A fixed view stays silent on a server of any version, and so does one that PUBLIC may not read.
",
    needs: &[],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let open = audit.facts.server.open_statistics.iter();
    open.map(|view| {
        let evidence = "its definition does not ask whether the reader owns the table, and PUBLIC may read it";
        let sql = format!("REVOKE SELECT ON TABLE {} FROM PUBLIC;", quote::qualified("pg_catalog", view));
        Hit::on(Object::in_schema(ObjectKind::View, "pg_catalog", view), evidence)
            .remedy(sql)
            .note("needs a superuser; fix-CVE-2024-4317.sql keeps the view open for owners")
    })
    .collect()
}
