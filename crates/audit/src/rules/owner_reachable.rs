//! GRD-PG-207

use std::collections::BTreeSet;

use guardian_postgres::quote;

use super::grants;
use crate::{
    Path,
    facts::{Facts, Relation, Role, Source},
    finding::{Hit, Object, readable, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-207",
    name: "owner_reachable",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application has the privileges of an owner",
    docs: "## What

The application's role is, or has the privileges of, a role that owns tenant tables, the schema that they are in, or the
database. There is one finding for each such role.

## Why

An owner of a table switches row-level security off, forced or not. An owner of a schema drops every table in it. An owner of
the database drops it, and sets defaults for all sessions.

## Exploit

```sql
ALTER TABLE orders DISABLE ROW LEVEL SECURITY; SELECT * FROM orders;
```

## Remedy

Revoke the membership; or, where the application's own role is the owner, give what it owns to the role that runs the
migrations and grant back the rights on rows. The remedy gives it to the role that runs the remedy.

## Near miss

A role for migrations may own everything, as long as the application is no member of it. Owning tables without a tenant column is not reported.
",
    needs: &[Source::Columns, Source::Databases],
    check,
};

/// Names of a kind in the evidence; the rest is counted.
const NAMES_MAX: usize = 5;

/// What one role owns.
struct Owned<'f> {
    role: &'f Role,
    path: &'f Path,
    tables: Vec<&'f Relation>,
    schemas: Vec<&'f str>,
    database: bool,
}

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    // A superuser owns everything already: that is another rule's finding.
    let roles = audit.reach.held().filter_map(|(oid, path)| Some((facts.role(oid)?, path)));
    roles
        .filter(|(role, _)| !role.superuser && !grants::is_system(&role.name))
        .map(|(role, path)| owned(audit, role, path))
        .filter(|owned| !owned.tables.is_empty() || !owned.schemas.is_empty() || owned.database)
        .map(|owned| {
            let hit = Hit::on(Object::role(owned.role), evidence(facts, &owned)).path(owned.path.clone());
            let hit = if owned.tables.is_empty() && owned.schemas.is_empty() { hit.severity(Severity::High) } else { hit };
            if audit.reach.applications().contains(&owned.role.oid) {
                hit.remedy(give_away(facts, &owned)).note("run it as the role that shall own them")
            } else {
                hit.remedy(grants::leave(audit, owned.role.oid))
            }
        })
        .collect()
}

fn owned<'a>(audit: &Audit<'a>, role: &'a Role, path: &'a Path) -> Owned<'a> {
    let facts = audit.facts;
    let tenants = |table: &&Relation| table.kind.is_table() && audit.tenancy.is_tenants(table.oid);
    let with_tenants: BTreeSet<&str> = facts.relations.iter().filter(tenants).map(|table| table.schema.as_str()).collect();
    let schemas = facts.schemas.iter().filter(|schema| schema.owner == role.oid).map(|schema| schema.name.as_str());
    Owned {
        role,
        path,
        tables: facts.relations.iter().filter(tenants).filter(|table| table.owner == role.oid).collect(),
        schemas: schemas.filter(|schema| with_tenants.contains(schema)).collect(),
        database: facts.database.owner == role.oid,
    }
}

fn evidence(facts: &Facts, owned: &Owned<'_>) -> String {
    let tables = owned.tables.iter().map(|table| readable_in(&table.schema, &table.name)).collect();
    let schemas = owned.schemas.iter().map(|schema| readable(schema)).collect();
    let database = if owned.database { vec![readable(&facts.database.name)] } else { Vec::new() };
    let kinds = [("tenant tables", tables), ("schemas with tenant tables", schemas), ("the database", database)];
    let parts = kinds.into_iter().filter(|(_, names)| !names.is_empty()).map(|(kind, names)| some(kind, &names));
    format!("{} owns {}", readable(&owned.role.name), parts.collect::<Vec<_>>().join("; "))
}

fn some(kind: &str, names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let rest = names.len().saturating_sub(NAMES_MAX);
    if rest == 0 { format!("{kind} {shown}") } else { format!("{kind} {shown} and {rest} more") }
}

fn give_away(facts: &Facts, owned: &Owned<'_>) -> String {
    let role = quote::ident(&owned.role.name);
    let mut lines = Vec::new();
    for table in &owned.tables {
        let name = quote::qualified(&table.schema, &table.name);
        lines.push(format!("ALTER TABLE {name} OWNER TO CURRENT_USER;"));
        lines.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {name} TO {role};"));
    }
    for schema in &owned.schemas {
        let name = quote::ident(schema);
        lines.push(format!("ALTER SCHEMA {name} OWNER TO CURRENT_USER;"));
        lines.push(format!("GRANT USAGE ON SCHEMA {name} TO {role};"));
    }
    if owned.database {
        let name = quote::ident(&facts.database.name);
        lines.push(format!("ALTER DATABASE {name} OWNER TO CURRENT_USER;"));
        lines.push(format!("GRANT CONNECT ON DATABASE {name} TO {role};"));
    }
    lines.join("\n")
}
