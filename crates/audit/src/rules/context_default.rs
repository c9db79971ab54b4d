//! GRD-PG-511

use super::session_defaults::session_defaults;
use crate::{
    facts::{Facts, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-511",
    name: "context_default",
    severity: Severity::High,
    protects: Protects::Context,
    title: "Sessions begin inside a tenant",
    docs: "## What

A setting that policies name has a default for the application's role, the database or the server, so that a session has a tenant context that nobody gave it.

## Why

No tenant context must mean no rows. With a default, a connection whose context was forgotten reads and writes one tenant's rows, and
RESET or DISCARD ALL brings that tenant back.

## Exploit

```sql
ALTER ROLE my_app SET app.tenant_id = '11111111-1111-1111-1111-111111111111';   -- left over from a test
RESET ALL; SELECT * FROM orders;   -- that tenant's
```

## Remedy

Take the default away.

## Near miss

An empty default stays silent, and so does one of a setting that no policy names.
",
    needs: &[Source::Policies, Source::RoleSettings, Source::Settings],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let mut names: Vec<&str> = facts.role_settings.iter().map(|one| one.name.as_str()).collect();
    names.extend(facts.settings.iter().filter(|one| one.name.contains('.')).map(|one| one.name.as_str()));
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| is_in_policies(facts, name))
        .flat_map(|name| session_defaults(audit, name).into_iter().map(move |default| (name, default)))
        .filter(|(_, default)| !default.value.is_empty())
        .map(|(name, default)| {
            let place = default.place.words(facts);
            let hit =
                Hit::on(Object::named(ObjectKind::Setting, name), format!("it has a value {place}, and policies name it"));
            hit.part(place).remedy(default.place.undo(facts, name, "")).note(default.place.note())
        })
        .collect()
}

/// Whether a policy's text has the name in quotes; names of settings are the same in any case.
fn is_in_policies(facts: &Facts, name: &str) -> bool {
    let literal = format!("'{}'", name.to_ascii_lowercase());
    let texts = facts.policies.iter().flat_map(|policy| [&policy.using, &policy.check]).flatten();
    texts.into_iter().any(|text| text.to_ascii_lowercase().contains(&literal))
}
