//! GRD-PG-002

use guardian_postgres::quote;

use crate::{
    facts::Source,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-002",
    name: "owner_not_forced",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application can act as the owner of a tenant table whose row-level security is not forced",
    docs: "## What

Row-level security is enabled on a tenant table but not forced, and the application's role is the table's owner or can act as
it through memberships.

## Why

Policies do not apply to a table's owner unless they are forced. Everything looks right (policies are there, row-level security is
on) and not one row is kept back.

## Exploit

```sql
SELECT * FROM orders;                       -- connected as the owner: every tenant's orders
SET ROLE orders_owner; SELECT * FROM orders;   -- or as a member of the owner
```

## Remedy

Force row-level security. An owner can switch that off again, so the application should also connect as a role that owns
nothing and is a member of no owner.

## Near miss

An owner that the application's role cannot act as (a role for migrations) may stay unforced.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let tables = audit.facts.relations.iter().filter(|table| table.kind.is_table() && table.rls && !table.rls_forced);
    tables
        .filter(|table| audit.tenancy.is_tenants(table.oid))
        .filter_map(|table| {
            let path = audit.reach.relation(table).owner()?;
            let owner = audit.facts.role_name(table.owner);
            let name = quote::qualified(&table.schema, &table.name);
            let hit = Hit::on(Object::relation(table), format!("its owner is {owner:?}, and relforcerowsecurity is false"));
            let note = "an owner can also undo it: let the application connect as a role that owns nothing";
            Some(hit.path(path).remedy(format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY;")).note(note))
        })
        .collect()
}
