//! GRD-PG-317

use guardian_postgres::quote;

use super::revoke;
use crate::{
    Oid,
    facts::{Catalog, Function, Source},
    finding::{Hit, Object, readable, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-317",
    name: "replaceable_code",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application owns a function that a policy, or somebody else's table, view or trigger, calls",
    docs: "## What

The application's role owns a function, or can act as its owner, and the function is called by a policy (critical), an event trigger
(critical), or by a trigger, a default or a view of an object that is not the application's.

## Why

An owner alters what the function does. A policy then shows what the application wants; a trigger or a view runs the application's code
as whoever writes or reads.

## Exploit

```sql
CREATE OR REPLACE FUNCTION is_mine(uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT * FROM orders;   -- every tenant's
```

## Remedy

Give the function to the owner of what calls it.

## Near miss

A function of the application's that nothing of anybody else's calls stays silent.
",
    needs: &[Source::Functions, Source::Triggers, Source::EventTriggers, Source::Dependencies, Source::Policies],
    check,
};

struct Use {
    by: String,
    /// To whom the function is better given.
    owner: Oid,
    severity: Severity,
}

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let functions = audit.facts.functions.iter().filter(|function| audit.reach.role(function.owner).is_some());
    functions
        .filter_map(|function| {
            let found = uses(audit, function).into_iter().max_by_key(|one| one.severity)?;
            let path = audit.reach.role(function.owner)?.then(format!("owner of {}", revoke::signature(function)));
            let hit = Hit::on(Object::function(function), format!("its owner can change it, and {} calls it", found.by));
            let hit = hit.severity(found.severity).path(path);
            // Giving it to another role of the application's own would change nothing.
            if audit.reach.role(found.owner).is_some() {
                return Some(hit);
            }
            let keyword = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
            let to = quote::ident(&audit.facts.role_name(found.owner));
            let sql = format!("ALTER {keyword} {} OWNER TO {to};", revoke::signature(function));
            Some(hit.remedy(sql).note("read its text first: whoever owned it could have changed it"))
        })
        .collect()
}

fn uses(audit: &Audit<'_>, function: &Function) -> Vec<Use> {
    let facts = audit.facts;
    let mut found = Vec::new();
    for one in facts.event_triggers.iter().filter(|one| one.function == function.oid) {
        let by = format!("the event trigger {}", readable(&one.name));
        found.push(Use { by, owner: one.owner, severity: Severity::Critical });
    }
    let mut on_relation = |relation: Oid, what: &str, severity| {
        if let Some(relation) = facts.relation(relation)
            && (severity == Severity::Critical || audit.reach.role(relation.owner).is_none())
        {
            let by = format!("{what} {}", readable_in(&relation.schema, &relation.name));
            found.push(Use { by, owner: relation.owner, severity });
        }
    };
    for one in facts.triggers.iter().filter(|one| one.function == function.oid) {
        on_relation(one.table, "a trigger on", Severity::High);
    }
    for one in facts.dependencies.iter().filter(|one| one.to == Catalog::Function && one.referenced == function.oid) {
        match one.from {
            Catalog::Policy => {
                if let Some(policy) = facts.policies.iter().find(|policy| policy.oid == one.dependent) {
                    on_relation(policy.table, "a policy on", Severity::Critical);
                }
            }
            // By way of an operator, of which the policy's reference is.
            Catalog::Operator => {
                let through =
                    facts.dependencies.iter().filter(|two| two.to == Catalog::Operator && two.referenced == one.dependent);
                for two in through {
                    if let Some(policy) = facts.policies.iter().find(|policy| policy.oid == two.dependent)
                        && two.from == Catalog::Policy
                    {
                        on_relation(policy.table, "an operator in a policy on", Severity::Critical);
                    }
                }
            }
            Catalog::Default => on_relation(one.dependent, "a default of", Severity::High),
            Catalog::View => on_relation(one.dependent, "the view or rule", Severity::High),
            _ => {}
        }
    }
    found
}
