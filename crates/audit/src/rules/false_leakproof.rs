//! GRD-PG-315

use super::revoke;
use crate::{
    facts::{Function, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-315",
    name: "false_leakproof",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "A function that is no part of PostgreSQL, or is known to leak, is marked LEAKPROOF",
    docs: "## What

A function of a user's or an extension's, or a system function that PostgreSQL itself does not call leakproof, is marked LEAKPROOF,
and the application may call it.

## Why

PostgreSQL runs leakproof functions before a policy has decided whether a row may be seen, and gives them the values of every row. One
error, notice or noticeable delay tells of other tenants' values. The mark is often set to get an index back under row-level security.

## Exploit

```sql
SELECT * FROM orders WHERE note ~ 'secret';   -- runs on every tenant's rows when textregexeq() is marked
```

## Remedy

Take the mark off. A query that loses its index by it needs the tenant first in that index, partitions by tenant, or a schema or
database a tenant.

## Near miss

What PostgreSQL itself calls leakproof (equality of integers, say) stays silent, and so does a function out of the application's reach.
",
    needs: &[Source::Functions],
    check,
};

/// OIDs below are PostgreSQL's own.
const FIRST_OF_USERS: u32 = 16384;

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let marked = audit.facts.functions.iter().filter(|function| function.leakproof && is_doubtful(function));
    marked
        .filter_map(|function| {
            let path = audit.reach.function(function)?;
            let whose = match (function.oid >= FIRST_OF_USERS, function.extension) {
                (false, _) => "a system function that can tell of its arguments by errors",
                (true, Some(_)) => "an extension's",
                (true, None) => "a user's",
            };
            let evidence = format!("it is {whose}, in language {:?}, and proleakproof is set", function.language);
            let sql = format!("ALTER FUNCTION {} NOT LEAKPROOF;", revoke::signature(function));
            let note = "conditions that use it then run after the policies, and lose their indexes";
            Some(Hit::on(Object::function(function), evidence).path(path).remedy(sql).note(note))
        })
        .collect()
}

fn is_doubtful(function: &Function) -> bool {
    function.oid >= FIRST_OF_USERS || crate::facts::LEAKY.contains(&function.name.as_str())
}
