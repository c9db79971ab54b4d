//! GRD-PG-109

use std::collections::BTreeSet;

use super::{definers::definers, revoke, rights::privileges_of, settings::read_by};
use crate::{
    facts::{Function, Privilege, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-109",
    name: "context_by_definer",
    severity: Severity::Medium,
    protects: Protects::Context,
    title: "The application calls a function that runs as a role which may set the parameter of the tenant context",
    docs: "## What

Policies read a parameter that the application may not set, a role was granted `SET` on it, and the application may call a SECURITY
DEFINER function of that role. Whether the function asks for a secret before it sets the parameter cannot be read off the catalog.

## Why

The parameter is as safe as the functions of the roles that may set it. One that sets it to what its caller says gives the tenant
context away. PostgreSQL records of a function neither that it sets a parameter nor what it asked for before.

## Exploit

```sql
SELECT guard.become('<another tenant>');   -- set_config('backtrace_functions', $1, false), as its owner
SELECT * FROM orders;                      -- that tenant's orders
```

## Remedy

Read the function. Where it has no need of the right, give it to another role, or revoke EXECUTE. Where it is the door to the tenants,
it must compare a secret that only the application's middleware knows; accept the finding with that reason.

## Near miss

The functions `enter`, `redeem` and `tenant_key` of the schema `guardian` stay silent: they ask for a capability or set nothing, and `guardian plan` compares their text. So
do functions of a superuser, who may set everything: those are GRD-PG-310's.
",
    needs: &[
        Source::Columns,
        Source::Policies,
        Source::Truths,
        Source::Dependencies,
        Source::Functions,
        Source::Triggers,
        Source::Settings,
        Source::ParameterGrants,
    ],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let policies = facts.policies.iter().filter(|policy| audit.tenancy.is_tenants(policy.table));
    let read: BTreeSet<String> =
        policies.flat_map(|policy| read_by(facts, policy)).map(|name| name.to_ascii_lowercase()).collect();
    let grants: Vec<_> =
        facts.parameter_grants.iter().filter(|grant| read.contains(&grant.parameter.to_ascii_lowercase())).collect();
    if grants.is_empty() {
        return Vec::new();
    }
    definers(audit)
        .into_iter()
        .filter(|definer| !is_guardians(definer.function))
        .filter_map(|definer| {
            let function = definer.function;
            if facts.role(function.owner).is_none_or(|owner| owner.superuser) {
                return None;
            }
            let held = privileges_of(facts, function.owner);
            let holds = |grant: &&crate::facts::Grant| grant.privileges.contains(&Privilege::Set) && held.contains(&grant.to);
            let granted = grants.iter().find(|grant| grant.acl.iter().any(|one| holds(&one)))?;
            let owner = facts.role_name(function.owner);
            let name = &granted.parameter;
            let evidence = format!("undecided: it runs as {owner:?}, which may SET {name}, and policies take the tenant from that");
            let keyword = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
            let sql = format!("ALTER {keyword} {} SECURITY INVOKER;", revoke::signature(function));
            let note = "it can then set nothing that its caller may not; where it is the door to the tenants, accept the finding instead";
            Some(Hit::on(Object::function(function), evidence).path(definer.path).remedy(sql).note(note))
        })
        .collect()
}

/// By their names: a text that was changed is drift, which `guardian plan` shows.
fn is_guardians(function: &Function) -> bool {
    function.schema == "guardian" && matches!(function.name.as_str(), "enter" | "redeem" | "tenant_key")
}
