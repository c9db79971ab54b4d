//! GRD-PG-104

use super::settings::called_by;
use crate::{
    facts::{Policy, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-104",
    name: "context_user_metadata",
    severity: Severity::Critical,
    protects: Protects::Context,
    title: "A policy trusts metadata that users write about themselves",
    docs: "## What

A policy of a tenant table, or the text of a function that it calls, names `user_metadata` or `raw_user_meta_data`: the part of an
account (and of its JWT) that a user changes through the authentication service.

## Why

A user who writes another tenant's key, or `admin`, into the own metadata gets it signed into the next token.

## Exploit

```sql
-- through the authentication service: update the own user with {data: {tenant_id: '<another tenant>'}}
SELECT * FROM orders;   -- that tenant's orders
```

## Remedy

Read the part that only the service writes (`app_metadata`), or a table of memberships. No SQL is given: the predicate must be
written anew.

## Near miss

A policy that reads `app_metadata` stays silent here.
",
    needs: &[Source::Columns, Source::Policies, Source::Dependencies, Source::Functions],
    check,
};

/// As Supabase calls it; `app_metadata` is the part that the service alone writes.
const WORDS: [&str; 2] = ["user_metadata", "raw_user_meta_data"];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let policies = facts.policies.iter().filter(|policy| audit.tenancy.is_tenants(policy.table));
    policies
        .filter(|policy| policy.roles.iter().any(|role| audit.reach.role(*role).is_some()))
        .filter_map(|policy| {
            let table = facts.relation(policy.table).filter(|table| table.rls)?;
            let path = audit.reach.relation(table).rows()?;
            let evidence = names_it(policy).or_else(|| {
                called_by(facts, policy).find_map(|function| {
                    let word = word_in(function.body.as_deref()?)?;
                    Some(format!("it calls {}, whose text names {word}", Object::function(function).identity))
                })
            })?;
            Some(Hit::on(Object::policy(facts, policy), evidence).path(path))
        })
        .collect()
}

fn names_it(policy: &Policy) -> Option<String> {
    let word = [&policy.using, &policy.check].into_iter().flatten().find_map(|predicate| word_in(predicate))?;
    Some(format!("its predicate names {word}"))
}

fn word_in(text: &str) -> Option<&'static str> {
    WORDS.into_iter().find(|word| text.contains(word))
}
