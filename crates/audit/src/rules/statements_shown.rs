//! GRD-PG-222

use guardian_postgres::quote;

use super::grants;
use crate::{
    facts::{Extension, Privilege, Source},
    finding::{Hit, Object, ObjectKind, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-222",
    name: "statements_shown",
    severity: Severity::Low,
    protects: Protects::Metadata,
    title: "The application sees the statements of all tenants in pg_stat_statements",
    docs: "## What

The extension pg_stat_statements is there, tenants share the application's role, and that role may read its view or call its function
(PUBLIC may, by default).

## Why

Each role sees the text of its own statements, and all tenants' statements are of one role. Constants are replaced in most of them,
but not in utility statements such as `ALTER ROLE … PASSWORD`, and how often and how slowly each runs tells the rest.

## Exploit

```sql
SELECT query, calls FROM pg_stat_statements;
```

## Remedy

Revoke it from PUBLIC, and grant it to `pg_read_all_stats`, so that monitoring goes on.

## Near miss

The extension is no finding where neither its view nor its function can be used by the application.
",
    needs: &[Source::Extensions, Source::Functions, Source::Columns],
    check,
};

const NAMES: [&str; 2] = ["pg_stat_statements", "pg_stat_monitor"];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    if grants::shared_tables(audit).is_none() {
        return Vec::new();
    }
    let shown = audit.facts.extensions.iter().filter(|extension| NAMES.contains(&extension.name.as_str()));
    shown.filter_map(|extension| judge(audit, extension)).collect()
}

fn judge(audit: &Audit<'_>, extension: &Extension) -> Option<Hit> {
    let facts = audit.facts;
    let (mut path, mut open, mut lines) = (None, Vec::new(), Vec::new());
    let views = facts.relations.iter().filter(|view| view.extension == Some(extension.oid) && view.name == extension.name);
    for view in views {
        let held = grants::table_holders(audit, view, Privilege::Select);
        let Some(way) = audit.reach.relation(view).select().filter(|_| !held.is_empty()) else { continue };
        path = path.or(Some(way));
        let name = format!("TABLE {}", quote::qualified(&view.schema, &view.name));
        lines.push(grants::revoke(facts, "ALL", &name, &held));
        lines.push(format!("GRANT SELECT ON {name} TO pg_read_all_stats;"));
        open.push(readable_in(&view.schema, &view.name));
    }
    let functions = facts.functions.iter().filter(|one| one.extension == Some(extension.oid) && one.name == extension.name);
    for function in functions {
        let held = grants::holders(audit, &function.acl, function.owner, Privilege::Execute);
        let Some(way) = audit.reach.function(function).filter(|_| !held.is_empty()) else { continue };
        path = path.or(Some(way));
        let name = format!("FUNCTION {}({})", quote::qualified(&function.schema, &function.name), function.arguments);
        lines.push(grants::revoke(facts, "EXECUTE", &name, &held));
        lines.push(format!("GRANT EXECUTE ON {name} TO pg_read_all_stats;"));
        open.push(format!("{}({})", readable_in(&function.schema, &function.name), function.arguments));
    }
    let evidence = format!("all tenants' statements are of the application's role, which may use {}", open.join(" and "));
    let hit = Hit::on(Object::named(ObjectKind::Extension, &extension.name), evidence);
    Some(hit.path(path?).remedy(lines.join("\n")))
}
