//! GRD-PG-101

use std::collections::BTreeMap;

use super::{
    exposure::{on_tenant, shields},
    rights::privileges_of,
    settings::{called_by, read_by, who_may_set},
};
use crate::{
    facts::{Command, Facts, PUBLIC, Policy, PredicateKind, Relation, Source},
    finding::{Hit, Object, ObjectKind, readable_in},
    reach::Path,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-101",
    name: "context_forgeable",
    severity: Severity::High,
    protects: Protects::Context,
    title: "Policies take the tenant from a setting that the application's session may set",
    docs: "## What

Policies of tenant tables read a setting (in their predicates, or in the text of functions that they call) that every session, or the
application's role, may give any value. There is one finding a setting, which names the tables.

## Why

The policies are as strong as the right to set it. They help against a forgotten WHERE clause, and not against SQL that is injected, nor
against a pooled connection that keeps the last tenant's value.

## Exploit

```sql
SET app.tenant_id = '<another tenant>';
SELECT * FROM orders;   -- that tenant's orders
```

## Remedy

Keep the tenant where the application's SQL cannot write it: a parameter that only a superuser, or a holder of `GRANT SET ON
PARAMETER`, may set, entered by a function that asks for a secret. `guardian apply` installs that. No statement by itself does it.

## Near miss

A tenant in a parameter that the role may not set stays silent, and so do tables whose restrictive policy reads only such a
parameter, whatever their other policies read. Functions that run with their owner's rights are left out: they may check what they
read.
",
    needs: &[Source::Columns, Source::Policies, Source::Truths, Source::Dependencies, Source::Settings, Source::Functions],
    check,
};

const TABLES_NAMED: usize = 3;

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let mut trusted: BTreeMap<String, (Path, Vec<String>)> = BTreeMap::new();
    let tables = facts.relations.iter().filter(|table| table.kind.is_table() && table.rls && tenancy.is_tenants(table.oid));
    for table in tables {
        let Some(path) = reach.relation(table).rows() else { continue };
        if is_anchored(audit, table) {
            continue;
        }
        let policies = facts.policies_of(table.oid).iter().filter(|policy| applies(audit, policy));
        let mut settings: Vec<String> = policies
            .flat_map(|policy| read_by(facts, policy).into_iter().filter(|name| !is_flag(facts, policy, name)))
            .collect();
        settings.sort();
        settings.dedup();
        for name in settings {
            let (_, tables) = trusted.entry(name).or_insert_with(|| (path.clone(), Vec::new()));
            tables.push(readable_in(&table.schema, &table.name));
        }
    }
    let hit = |(name, (path, tables)): (String, (Path, Vec<String>))| {
        let who = who_may_set(audit, &name)?;
        let evidence = format!("{who}, and policies of {} trust it", listed(&tables));
        Some(Hit::on(Object::named(ObjectKind::Setting, &name), evidence).path(path.then(format!("SET {name}"))))
    };
    trusted.into_iter().filter_map(hit).collect()
}

fn listed(tables: &[String]) -> String {
    let named = tables.iter().take(TABLES_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match tables.len().saturating_sub(TABLES_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn applies(audit: &Audit<'_>, policy: &Policy) -> bool {
    policy.roles.iter().any(|role| audit.reach.role(*role).is_some())
}

/// A bypass flag is another rule's.
fn is_flag(facts: &Facts, policy: &Policy, name: &str) -> bool {
    let truths = [PredicateKind::Using, PredicateKind::Check].into_iter().filter_map(|kind| facts.truth(policy.oid, kind));
    truths.flat_map(|truth| &truth.opened_by).any(|flag| flag.setting == name)
}

/// Whether a restrictive policy for every command and every role that the session can be decides by nothing that the session may
/// set or become.
fn is_anchored(audit: &Audit<'_>, table: &Relation) -> bool {
    let Audit { facts, reach, .. } = audit;
    let for_all = |policy: &Policy| {
        policy.roles.contains(&PUBLIC)
            || reach.sessions_as().all(|(role, _)| {
                let held = privileges_of(facts, role);
                policy.roles.iter().any(|role| held.contains(role))
            })
    };
    facts.policies_of(table.oid).iter().filter(|policy| !policy.permissive && policy.command == Command::All).any(|policy| {
        let truth = facts.truth(policy.oid, PredicateKind::Using);
        let holds = match truth.filter(|truth| truth.undecided.is_none()) {
            Some(truth) => shields(audit, truth),
            // A function that runs with its owner's rights may check what it is given.
            None => on_tenant(audit, policy) && called_by(facts, policy).any(|function| function.definer),
        };
        let own = || read_by(facts, policy).iter().all(|name| who_may_set(audit, name).is_none());
        for_all(policy) && holds && own() && truth.is_some_and(|truth| !truth.by_role)
    })
}
