//! GRD-PG-008

use guardian_postgres::quote;

use crate::{
    facts::{Oid, Privilege, Relation, RelationKind, Source},
    finding::{Hit, Object, readable_in},
    reach::Path,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-008",
    name: "closed_statistics",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A tenant table in a schema that is closed to the application is granted to it, so that pg_stats shows its values",
    docs: "## What

The application's role has SELECT on a tenant table or a materialised view of one, or on a column, has no USAGE on the table's schema, and row-level security
is off. The role cannot name the table, but `pg_stats` asks for the table's privileges only.

## Why

`pg_stats` holds the most common values and bounds of a histogram of each column, of all tenants together, and `pg_stats_ext` those of
combinations. PostgreSQL keeps them from whoever may not SELECT the column, and from whoever row-level security applies to on that table.
The privileges of the schema are not looked at.

## Exploit

```sql
SELECT attname, most_common_vals, histogram_bounds FROM pg_stats WHERE schemaname = 'internal';
```

## Remedy

Revoke the privileges, which are of no other use without the schema.

## Near miss

A table of a closed schema that is not granted stays silent, and so does one under row-level security. One in a schema that is open
is GRD-PG-001's.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let closed = |table: &&Relation| !table.rls && !audit.reach.schema(&table.schema) && audit.tenancy.is_tenants(table.oid);
    let has_rows = |table: &&Relation| table.kind.is_table() || table.kind == RelationKind::MaterializedView;
    let tables = audit.facts.relations.iter().filter(has_rows).filter(closed);
    tables
        .filter_map(|table| {
            let path = shown(audit, table)?;
            let name = readable_in(&table.schema, &table.name);
            let evidence = format!("it may SELECT {name}, and relrowsecurity is false");
            let hit = Hit::on(Object::relation(table), evidence).path(path.then("SELECT on pg_catalog.pg_stats"));
            Some(hit.remedy(revoke(audit, table)))
        })
        .collect()
}

/// The way to a privilege to read, whatever the schema says.
fn shown(audit: &Audit<'_>, table: &Relation) -> Option<Path> {
    let name = readable_in(&table.schema, &table.name);
    let by_acl = |acl, owner| audit.reach.by_acl(acl, Privilege::Select, owner, None, &name);
    by_acl(&table.acl, table.owner)
        // Nobody owns a column.
        .or_else(|| audit.facts.columns_of(table.oid).iter().find_map(|column| by_acl(&column.acl, Oid::MAX)))
}

/// A statement for each role that holds the privilege; what is granted on columns goes with the table's.
fn revoke(audit: &Audit<'_>, table: &Relation) -> String {
    let columns = audit.facts.columns_of(table.oid).iter().flat_map(|column| &column.acl);
    let grants = table.acl.iter().chain(columns).filter(|grant| grant.privileges.contains(&Privilege::Select));
    let mut roles: Vec<String> = grants
        .filter(|grant| grant.to != table.owner && audit.reach.role(grant.to).is_some())
        .map(|grant| {
            if grant.to == crate::facts::PUBLIC {
                "PUBLIC".to_owned()
            } else {
                quote::ident(&audit.facts.role_name(grant.to))
            }
        })
        .collect();
    roles.sort();
    roles.dedup();
    let name = quote::qualified(&table.schema, &table.name);
    format!("REVOKE SELECT ON {name} FROM {};", roles.join(", "))
}
