//! GRD-PG-001

use guardian_postgres::quote;

use crate::{
    facts::Source,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-001",
    name: "rls_off",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A tenant table that the application reaches has row-level security off",
    docs: "## What

A table has a tenant column, the application's role may read or write it, and `ROW LEVEL SECURITY` is not enabled on it. Tables that
belong to tenants only through a foreign key are GRD-PG-403's.

## Why

Without row-level security only the application's own `WHERE` clauses keep tenants apart. One that is forgotten, or one SQL
injection, reaches every tenant's rows. Policies on the table change nothing as long as it is off. A partition that is granted
by itself needs its own row-level security: the parent's applies only to statements that name the parent.

## Exploit

```sql
SELECT * FROM orders;   -- every tenant's orders
```

## Remedy

Enable and force row-level security, with policies that compare the tenant column with the tenant context. Enabled without any
policy it shows no rows at all, so put the policies in place first; `guardian plan` writes them.

## Near miss

A table with no tenant column (a list of countries) is common to all and stays silent, and so does a tenant table that the
application's role cannot reach.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let tables = audit.facts.relations.iter().filter(|table| table.kind.is_table() && !table.rls);
    tables
        .filter_map(|table| {
            let tenant = audit.tenancy.column(table.oid)?;
            let path = audit.reach.relation(table).rows()?;
            let name = quote::qualified(&table.schema, &table.name);
            let evidence = format!("it has the tenant column {:?}, and relrowsecurity is false", tenant.name);
            let sql = format!(
                "ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {name} FORCE ROW LEVEL SECURITY;"
            );
            let policies = audit.facts.policies_of(table.oid).len();
            let note = if policies == 0 {
                "the table has no policy, so afterwards nobody but a superuser sees a row: add policies first (`guardian plan` writes them)"
            } else {
                "the table's policies begin to apply, to its owner too"
            };
            Some(Hit::on(Object::relation(table), evidence).path(path).remedy(sql).note(note))
        })
        .collect()
}
