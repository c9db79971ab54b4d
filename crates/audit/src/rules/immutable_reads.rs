//! GRD-PG-316

use std::collections::BTreeSet;

use super::{definers::mentions, revoke};
use crate::{
    facts::{Catalog, Function, Oid, Source, Volatility},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-316",
    name: "immutable_reads",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A function marked IMMUTABLE reads tables or settings",
    docs: "## What

The application may call a function that is marked IMMUTABLE and that reads a table (by its recorded references), or in whose text
`current_setting`, `current_user` or `session_user` stands. Functions that policies call are looked at by other rules.

## Why

PostgreSQL works out an immutable function once, when a statement is planned, and keeps the result in the plan. A prepared statement
or a function's cached plan then answers with the tenant of whoever was served first on the connection.

## Exploit

```sql
PREPARE mine AS SELECT * FROM orders WHERE tenant_id = my_tenant();
-- the connection passes on to the next tenant
EXECUTE mine;   -- still the first one's tenant
```

## Remedy

Mark it STABLE.

## Near miss

The same function marked STABLE stays silent, and so does an IMMUTABLE one that only calculates.
",
    needs: &[Source::Functions, Source::Dependencies],
    check,
};

const WORDS: [&str; 3] = ["current_setting", "current_user", "session_user"];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let references = facts.dependencies.iter().filter(|one| one.from == Catalog::Policy && one.to == Catalog::Function);
    let of_policies: BTreeSet<Oid> = references.map(|one| one.referenced).collect();
    let functions = facts.functions.iter().filter(|function| {
        function.volatility == Volatility::Immutable
            && function.extension.is_none()
            && !matches!(function.language.as_str(), "c" | "internal")
    });
    functions
        .filter(|function| !of_policies.contains(&function.oid))
        .filter_map(|function| {
            let path = audit.reach.function(function)?;
            let evidence = what_it_reads(audit, function)?;
            let sql = format!("ALTER FUNCTION {} STABLE;", revoke::signature(function));
            let note = "indexes and generated columns that call it were never right: make them again without it";
            Some(Hit::on(Object::function(function), evidence).path(path).remedy(sql).note(note))
        })
        .collect()
}

fn what_it_reads(audit: &Audit<'_>, function: &Function) -> Option<String> {
    let references = audit.facts.references_of(Catalog::Function, function.oid).iter();
    let mut tables =
        references.filter(|one| one.to == Catalog::Relation).filter_map(|one| audit.facts.relation(one.referenced));
    if let Some(table) = tables.next() {
        return Some(format!("it is marked IMMUTABLE and reads {}", readable_in(&table.schema, &table.name)));
    }
    let body = function.body.as_deref()?;
    let word = WORDS.into_iter().find(|word| mentions(body, word))?;
    Some(format!("it is marked IMMUTABLE, and its text names {word}"))
}
