//! GRD-PG-319

use super::{definers::is_trigger_function, revoke};
use crate::{
    facts::{Function, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-319",
    name: "native_code",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "The application calls a function that runs outside PostgreSQL's rules, as the server's own user",
    docs: "## What

The application may call a function in an untrusted language (`plpython3u`, `plperlu` …), or a C function that belongs to no extension.

## Why

Such code runs as the operating system's user of the server: it can read the files of every tenant's tables, keep values between
sessions and open connections. What it does is beyond any catalog; it has to be read.

## Exploit

```sql
SELECT fetch_url('file:///var/lib/postgresql/data/…');
```

## Remedy

Take EXECUTE away from the application, or write an exception once the code has been read.

## Near miss

A C function of an extension stays silent here, and so does code in a trusted language.
",
    needs: &[Source::Functions],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let native = audit.facts.functions.iter().filter(|function| is_native(function) && !is_trigger_function(function));
    native
        .filter_map(|function| {
            let path = audit.reach.function(function)?;
            let hit = Hit::on(Object::function(function), format!("it is written in {:?}", function.language)).path(path);
            Some(match revoke::on_function(audit, function) {
                Some(sql) => hit.remedy(sql),
                None => hit,
            })
        })
        .collect()
}

fn is_native(function: &Function) -> bool {
    let by_hand = function.extension.is_none() && !matches!(function.schema.as_str(), "pg_catalog" | "information_schema");
    by_hand && (function.language_untrusted || function.language == "c")
}
