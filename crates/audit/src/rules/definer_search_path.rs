//! GRD-PG-311

use guardian_postgres::quote;

use super::{
    definers::{definers, makes_temporary, search_path, writable_schemas},
    revoke,
};
use crate::{
    facts::{Function, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-311",
    name: "definer_search_path",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "A SECURITY DEFINER function that the application runs looks names up where its caller says",
    docs: "## What

The application can have a SECURITY DEFINER function run, by calling it or by a trigger, and the function does not pin its
`search_path`. It is high where the application can make objects in some schema or temporary ones, else medium.

## Why

Its caller's `search_path` decides which table, function, operator or type a bare name in the body means. Whoever can make one of that
name has the function run it with the owner's rights.

## Exploit

```sql
CREATE FUNCTION pg_temp.lower(text) …;         -- or an operator, or a table named like the one the body reads
SET search_path = pg_temp, pg_catalog, public;
SELECT their_function('x');                    -- runs it as the owner
```

## Remedy

Pin the path: the system's schema first, those the body needs, and `pg_temp` last, which is searched first when it is not named. The
remedy names the function's own schema; add others that its body needs.

## Near miss

A body in the standard's form (`BEGIN ATOMIC`) stays silent: its names were looked up when it was made. So does a C function.
",
    needs: &[Source::Functions, Source::Triggers],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, .. } = audit;
    let writable = writable_schemas(facts, reach);
    let can_plant = !writable.is_empty() || makes_temporary(facts, reach);
    let unpinned = definers(audit)
        .into_iter()
        .filter(|definer| looks_names_up(definer.function) && search_path(definer.function).is_none());
    unpinned
        .map(|definer| {
            let function = definer.function;
            let keyword = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
            let own = Some(function.schema.as_str()).filter(|schema| !writable.contains(schema) && *schema != "pg_catalog");
            let own = own.map(|schema| format!(", {}", quote::ident(schema))).unwrap_or_default();
            let sql = format!("ALTER {keyword} {} SET search_path = pg_catalog{own}, pg_temp;", revoke::signature(function));
            let owner = facts.role_name(function.owner);
            let hit = Hit::on(Object::function(function), format!("it runs as {owner:?} and has no search_path of its own"));
            let severity = if can_plant { Severity::High } else { Severity::Medium };
            let note = "add the schemas that its body uses without naming them";
            hit.severity(severity).path(definer.path).remedy(sql).note(note)
        })
        .collect()
}

/// Whether names in the body are looked up each time it runs.
pub(super) fn looks_names_up(function: &Function) -> bool {
    !function.parsed && !matches!(function.language.as_str(), "c" | "internal")
}
