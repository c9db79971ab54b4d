//! GRD-PG-108

use std::collections::BTreeMap;

use super::{revoke::signature, settings::called_by};
use crate::{
    facts::{Catalog, Function, Source, Volatility},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-108",
    name: "context_function_immutable",
    severity: Severity::High,
    protects: Protects::Context,
    title: "A policy calls a function marked IMMUTABLE that reads settings, roles or tables",
    docs: "## What

A policy of a tenant table calls a function that is marked IMMUTABLE, and that reads a table (by its recorded references) or whose
text names `current_setting`, `current_user` or `session_user`.

## Why

PostgreSQL works an immutable function out when a statement is planned, and keeps the result in cached plans. The next tenant on the
connection is served by the plan, and by the tenant, of the one before.

## Exploit

```sql
PREPARE mine AS SELECT * FROM orders;
EXECUTE mine;                       -- tenant A's orders
SET app.tenant_id = '<B>';
EXECUTE mine;                       -- still A's
```

## Remedy

Mark it STABLE.

## Near miss

The same function marked STABLE stays silent, and so does an IMMUTABLE one that only calculates.
",
    needs: &[Source::Columns, Source::Policies, Source::Dependencies, Source::Functions],
    check,
};

const WORDS: [&str; 3] = ["current_setting", "current_user", "session_user"];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let mut found = BTreeMap::new();
    for policy in facts.policies.iter().filter(|policy| tenancy.is_tenants(policy.table)) {
        let Some(table) = facts.relation(policy.table).filter(|table| table.rls) else { continue };
        let Some(path) = reach.relation(table).rows() else { continue };
        for function in called_by(facts, policy).filter(|function| function.volatility == Volatility::Immutable) {
            let by = Object::policy(facts, policy).identity;
            if let Some(what) = what_it_reads(audit, function) {
                found.entry(function.oid).or_insert((
                    function,
                    path.clone(),
                    format!("the policy {by} calls it, and {what}"),
                ));
            }
        }
    }
    let hit = |(function, path, evidence): (&Function, crate::reach::Path, String)| {
        let sql = format!("ALTER FUNCTION {} STABLE;", signature(function));
        Hit::on(Object::function(function), evidence).path(path).remedy(sql)
    };
    found.into_values().map(hit).collect()
}

fn what_it_reads(audit: &Audit<'_>, function: &Function) -> Option<String> {
    let mut references = audit.facts.references_of(Catalog::Function, function.oid).iter();
    if references.any(|one| one.to == Catalog::Relation) {
        return Some("it reads a table".to_owned());
    }
    let body = function.body.as_deref()?.to_ascii_lowercase();
    WORDS.into_iter().find(|word| body.contains(word)).map(|word| format!("its text names {word}"))
}
