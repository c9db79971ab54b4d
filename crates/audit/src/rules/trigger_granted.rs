//! GRD-PG-209

use super::grants;
use crate::{
    facts::{Privilege, Relation, Source},
    finding::{Hit, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-209",
    name: "trigger_granted",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application may put triggers on a table that other tenants use",
    docs: "## What

TRIGGER on a tenant table is granted to the application's role, to a role whose privileges it has, or to PUBLIC. On a table that is common
to all tenants it is found where the application may also create functions: by CREATE on a schema, or CREATE or TEMPORARY on the database.

## Why

A trigger's function runs in the session of whoever changes the table, in that session's tenant context: one tenant's code works
on another tenant's rows, or with the rights of whoever keeps a common table. It needs a function of the tenant's own, which CREATE on any
schema or TEMP gives. `GRANT ALL` grants TRIGGER.

## Exploit

```sql
CREATE FUNCTION pg_temp.copy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_notify(''x'', NEW::text); RETURN NEW; END';
CREATE TRIGGER copy AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION pg_temp.copy();
```

## Remedy

Revoke it; triggers come from migrations.

## Near miss

Triggers that are there already, TRIGGER held by a role that the application cannot act as, and TRIGGER on a common table while the
application may create no function stay silent.
",
    needs: &[Source::Columns, Source::Databases],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let mut hits = grants::on_tenant_tables(audit, Privilege::Trigger);
    if let Some(place) = creates_functions(audit) {
        let common = |table: &Relation| {
            !audit.tenancy.is_tenants(table.oid) && !matches!(table.schema.as_str(), "pg_catalog" | "information_schema")
        };
        let more = format!("; the table is common to all tenants, and the role may create functions in {place}");
        let found = grants::on_tables(audit, Privilege::Trigger, common);
        hits.extend(found.into_iter().map(|hit| hit.besides(&more)));
    }
    hits
}

/// Where the application may create a function, if anywhere.
fn creates_functions(audit: &Audit<'_>) -> Option<String> {
    let facts = audit.facts;
    let schema = facts.schemas.iter().find(|schema| {
        audit.reach.schema(&schema.name)
            && audit.reach.by_acl(&schema.acl, Privilege::Create, schema.owner, None, &schema.name).is_some()
    });
    let database = &facts.database;
    let may = |privilege| audit.reach.by_acl(&database.acl, privilege, database.owner, None, &database.name).is_some();
    match schema {
        Some(schema) => Some(format!("schema {}", readable(&schema.name))),
        None if may(Privilege::Temporary) => Some("its temporary schema".to_owned()),
        None if may(Privilege::Create) => Some("a schema of its own".to_owned()),
        None => None,
    }
}
