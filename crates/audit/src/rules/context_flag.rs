//! GRD-PG-102

use super::{
    exposure::{self, Culprit, Decider, Exposure, culprits},
    settings::who_may_set,
};
use crate::{
    facts::Flag,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-102",
    name: "context_flag",
    severity: Severity::Critical,
    protects: Protects::Context,
    title: "A setting that the application may set opens a policy to other tenants",
    docs: "## What

A policy's predicate became true for made-up rows of another tenant when one of the settings that it reads was given a flag's value
(`on`, `true`, `admin`, or a constant of the predicate), and the application's session may set it.

## Why

A bypass flag for administrators is as strong as the right to set it, and any session may set a setting with a dot in its name.

## Exploit

```sql
SET app.is_admin = 'on';
SELECT * FROM orders;   -- every tenant's orders
```

## Remedy

Take the flag out of the policy, and give administrators a role of their own with a policy `TO` that role. No SQL is given: the
predicate must be written anew.

## Near miss

The same flag beside a restrictive tenant policy that does not read it stays silent, and so does one in a setting that only a
superuser may set.
",
    needs: exposure::NEEDS,
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let flag = |decider: &Decider<'_>| -> Option<(Flag, String)> {
        let mut flags = decider.truth?.opened_by.iter();
        flags.find_map(|flag| Some((flag.clone(), who_may_set(audit, &flag.setting)?)))
    };
    let pick = |exposure: &Exposure<'_>, decider: &Decider<'_>| {
        flag(decider).is_some() && (decider.policy.permissive || exposure.lets_through())
    };
    let hit = |culprit: Culprit<'_>| {
        let Culprit { decider, path, decides, .. } = culprit;
        let (Flag { setting, value }, who) = flag(&decider)?;
        let clause = decider.clause();
        let evidence = format!(
            "its {clause} was true for rows of another tenant with {setting} set to {value:?}, and {who}; it decides {decides}"
        );
        Some(Hit::on(Object::policy(audit.facts, decider.policy), evidence).path(path).part(clause))
    };
    culprits(audit, pick).into_iter().filter_map(hit).collect()
}
