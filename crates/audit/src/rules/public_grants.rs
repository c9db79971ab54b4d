//! GRD-PG-215

use guardian_postgres::quote;

use crate::{
    facts::{Acl, PUBLIC, Privilege, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-215",
    name: "public_grants",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A tenant table is granted to PUBLIC",
    docs: "## What

A privilege on a tenant table, or on a column of it, is granted to PUBLIC.

## Why

Every role of the server has it, those that are yet to be made too. Policies that name roles do not hold for all of them, and what
is granted to PUBLIC cannot be taken from one role.

## Exploit

```sql
SET ROLE any_role_at_all; SELECT * FROM orders;
```

## Remedy

Revoke it from PUBLIC. The remedy grants what PUBLIC could do with rows to the application's role, which keeps it working.

## Near miss

A table without a tenant column may be granted to PUBLIC, and so may one in a schema in which the application may use no names.
",
    needs: &[Source::Columns],
    check,
};

const ON_ROWS: [Privilege; 4] = [Privilege::Select, Privilege::Insert, Privilege::Update, Privilege::Delete];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && audit.tenancy.is_tenants(table.oid));
    tables
        .filter(|table| audit.reach.schema(&table.schema))
        .filter_map(|table| {
            let whole = to_public(&table.acl);
            let columns = facts.columns_of(table.oid).iter().any(|column| !to_public(&column.acl).is_empty());
            if whole.is_empty() && !columns {
                return None;
            }
            let name = quote::qualified(&table.schema, &table.name);
            let words: Vec<&str> = whole.iter().map(|privilege| privilege.as_str()).collect();
            let evidence = if whole.is_empty() {
                "a column of it is granted to PUBLIC".to_owned()
            } else {
                format!("{} is granted to PUBLIC", words.join(", "))
            };
            let mut lines = vec![format!("REVOKE ALL ON TABLE {name} FROM PUBLIC;")];
            let kept: Vec<&str> = ON_ROWS.iter().filter(|one| whole.contains(one)).map(|one| one.as_str()).collect();
            if !kept.is_empty() {
                let applications = audit.reach.applications().iter().map(|role| quote::ident(&facts.role_name(*role)));
                lines.extend(applications.map(|role| format!("GRANT {} ON TABLE {name} TO {role};", kept.join(", "))));
            }
            let path = audit.reach.role(PUBLIC)?.clone();
            Some(Hit::on(Object::relation(table), evidence).path(path).remedy(lines.join("\n")))
        })
        .collect()
}

fn to_public(acl: &Acl) -> Vec<Privilege> {
    acl.iter().filter(|grant| grant.to == PUBLIC).flat_map(|grant| grant.privileges.iter().copied()).collect()
}
