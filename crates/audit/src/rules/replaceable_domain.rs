//! GRD-PG-318

use guardian_postgres::quote;

use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-318",
    name: "replaceable_domain",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application owns a domain that columns of somebody else's table are of",
    docs: "## What

The application's role owns a domain, or can act as its owner, and a table that is not the application's has a column of that type.

## Why

A domain's owner may add a check that calls any function. It runs as whoever writes such a column or casts to the domain: a migration,
an administrator, a SECURITY DEFINER function.

## Exploit

```sql
CREATE FUNCTION mine(text) RETURNS boolean …;          -- does what it likes with its caller's rights
ALTER DOMAIN email ADD CHECK (mine(VALUE)) NOT VALID;   -- and waits for a superuser to insert
```

## Remedy

Give the domain to the table's owner.

## Near miss

A domain of somebody else's stays silent, and so does one that only the application's own tables use.
",
    needs: &[Source::Domains],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, .. } = audit;
    let domains = facts.domains.iter().filter_map(|domain| {
        let path = reach.role(domain.owner)?;
        let tables = domain.tables.iter().filter_map(|table| facts.relation(*table));
        let table = tables.into_iter().find(|table| reach.role(table.owner).is_none())?;
        let identity = readable_in(&domain.schema, &domain.name);
        let object = Object::in_schema(ObjectKind::Domain, &domain.schema, &domain.name);
        let evidence =
            format!("{} has a column of it, and its owner can add checks", readable_in(&table.schema, &table.name));
        let to = quote::ident(&facts.role_name(table.owner));
        let sql = format!("ALTER DOMAIN {} OWNER TO {to};", quote::qualified(&domain.schema, &domain.name));
        let hit = Hit::on(object, evidence).path(path.then(format!("owner of {identity}")));
        Some(hit.remedy(sql).note("read its checks first: whoever owned it could have added one"))
    });
    domains.collect()
}
