//! GRD-PG-312

use guardian_postgres::quote;

use super::{
    definer_search_path::looks_names_up,
    definers::{definers, makes_temporary, search_path, writable_schemas},
    revoke,
};
use crate::{
    facts::Source,
    finding::{Hit, Object, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-312",
    name: "definer_path_writable",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "A SECURITY DEFINER function looks names up in a schema that the application can write",
    docs: "## What

The application can have a SECURITY DEFINER function run whose pinned `search_path` has a schema in which the application may create
objects; or the application may make temporary objects, and the path does not put `pg_temp` last.

## Why

The application puts an object of a better fitting name or type there, and the function runs it with its owner's rights. `pg_temp` is
searched *first* for tables and types when the path does not name it: a temporary domain named like a type in the body is enough.

## Exploit

```sql
CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (run_as_owner(VALUE));
SELECT their_function('x');
```

## Remedy

The same path without these schemas, and with `pg_temp` last.

## Near miss

A path without `pg_temp` stays silent as long as the application may not make temporary objects.
",
    needs: &[Source::Functions, Source::Triggers],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, .. } = audit;
    let writable = writable_schemas(facts, reach);
    let temporary = makes_temporary(facts, reach);
    let hits = definers(audit).into_iter().filter(|definer| looks_names_up(definer.function)).filter_map(|definer| {
        let function = definer.function;
        let path = search_path(function)?;
        let owner = facts.role_name(function.owner);
        // Inside the function it is the owner that "$user" stands for.
        let means = |name: &str| if name == "$user" { owner.clone() } else { name.to_owned() };
        let open: Vec<&String> = path.iter().filter(|name| writable.contains(&means(name).as_str())).collect();
        let evidence = if let Some(schema) = open.first() {
            format!("its search_path has {}, where the application may create objects", readable(&means(schema)))
        } else if temporary && path.last().is_none_or(|last| last != "pg_temp") {
            "its search_path does not end with pg_temp, and the application may make temporary objects".to_owned()
        } else {
            return None;
        };
        let kept = path.iter().filter(|name| !open.contains(name) && *name != "pg_temp").map(|name| quote::ident(name));
        let kept: Vec<String> = kept.chain(["pg_temp".to_owned()]).collect();
        let keyword = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
        let sql = format!("ALTER {keyword} {} SET search_path = {};", revoke::signature(function), kept.join(", "));
        let note = "what its body uses of a schema that goes must be named with the schema";
        Some(Hit::on(Object::function(function), evidence).path(definer.path).remedy(sql).note(note))
    });
    hits.collect()
}
