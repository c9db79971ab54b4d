//! GRD-PG-212

use guardian_postgres::quote;

use super::grants;
use crate::{
    facts::{Facts, Privilege, Source},
    finding::{Hit, Object, ObjectKind, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-212",
    name: "schema_writable",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "The application may create objects in a schema",
    docs: "## What

CREATE on a schema is granted to the application's role, to a role whose privileges it has, or to PUBLIC (as on `public` in databases
that were made before PostgreSQL 15). When the schema stands in a search path, the finding is of high severity.

## Why

What a tenant puts there is found by others: a function, operator or table with the name of one that a migration, a report or a
function without a pinned path calls (CVE-2018-1058 is about this). It then runs with their rights, or in another tenant's context.
New tables in it have no row-level security.

## Exploit

```sql
CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT steal($1)';
```

## Remedy

Revoke CREATE. USAGE may stay.

## Near miss

USAGE alone stays silent, and so does CREATE for the role that runs the migrations.
",
    needs: &[Source::Settings, Source::RoleSettings],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    facts
        .schemas
        .iter()
        .filter_map(|schema| {
            let held = grants::holders(audit, &schema.acl, schema.owner, Privilege::Create);
            if held.is_empty() {
                return None;
            }
            let name = readable(&schema.name);
            let path = audit.reach.by_acl(&schema.acl, Privilege::Create, schema.owner, None, &format!("schema {name}"))?;
            let mut evidence = format!("CREATE on it is granted to {}", grants::names(facts, &held));
            let path_of = in_search_path(facts, &schema.name);
            if let Some(path_of) = &path_of {
                evidence.push_str(", and it stands in the search path ");
                evidence.push_str(path_of);
            }
            let sql = grants::revoke(facts, "CREATE", &format!("SCHEMA {}", quote::ident(&schema.name)), &held);
            let hit = Hit::on(Object::named(ObjectKind::Schema, &schema.name), evidence).path(path).remedy(sql);
            Some(if path_of.is_some() { hit.severity(Severity::High) } else { hit })
        })
        .collect()
}

/// A search path that names the schema: the server's, the database's or a role's.
fn in_search_path(facts: &Facts, schema: &str) -> Option<String> {
    let server = facts.setting("search_path").map(|setting| setting.reset_value.as_str());
    let roles = facts.role_settings.iter().filter(|one| one.name == "search_path").map(|one| one.value.as_str());
    let names = |path: &&str| path.split(',').any(|part| part.trim().trim_matches('"') == schema);
    server.into_iter().chain(roles).find(names).map(str::to_owned)
}
