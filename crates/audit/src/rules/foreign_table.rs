//! GRD-PG-304

use super::revoke;
use crate::{
    facts::{Privilege, RelationKind, Source},
    finding::{Hit, Object, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-304",
    name: "foreign_table",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application reaches a foreign table, to which no policy can apply",
    docs: "## What

The application may read or write a foreign table. With a tenant column it holds tenants' rows; without one, what stands behind it
is not known here, and the finding is milder.

## Why

PostgreSQL has no row-level security for foreign tables. The other server checks policies, if it has any, for the role of the user
mapping: one and the same for all tenants, and without this session's tenant context. A foreign table can also point back at a
table of this very database, past its policies.

## Exploit

```sql
SELECT * FROM remote_orders;   -- every tenant's
```

## Remedy

Take the application's privileges on it away, and offer a `security_barrier` view that compares the tenant column with the tenant
context. One that holds nothing of any tenant deserves an exception with the reason.

## Near miss

A foreign table that the application cannot reach stays silent.
",
    needs: &[Source::Columns, Source::ForeignServers],
    check,
};

const PRIVILEGES: [Privilege; 4] = [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let tables = facts.relations.iter().filter(|table| table.kind == RelationKind::ForeignTable);
    tables
        .filter_map(|table| {
            let path = audit.reach.relation(table).rows()?;
            let server = table.foreign_server.and_then(|server| facts.foreign_server(server))?;
            let behind = format!("it stands for a table behind the server {}", readable(&server.name));
            let (evidence, severity) = match audit.tenancy.column(table.oid) {
                Some(tenant) => (format!("{behind}, and has the tenant column {:?}", tenant.name), Severity::Critical),
                None => (format!("{behind}; it has no tenant column, and whose rows it holds is unknown"), Severity::Medium),
            };
            let hit = Hit::on(Object::relation(table), evidence).severity(severity).path(path);
            Some(match revoke::on_relation(audit, table, &PRIVILEGES) {
                Some(sql) => hit.remedy(sql).note("what uses it as the application needs another way first"),
                None => hit,
            })
        })
        .collect()
}
