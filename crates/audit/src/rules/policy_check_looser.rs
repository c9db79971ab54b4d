//! GRD-PG-007

use guardian_postgres::quote;

use super::exposure::{self, Culprit, Decider, Exposure, culprits};
use crate::{
    facts::{Command, PredicateKind, Rows},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-007",
    name: "policy_check_looser",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A policy lets the application write rows into other tenants",
    docs: "## What

A policy's WITH CHECK was true for made-up new rows of another tenant, and no restrictive policy holds them back. The policy's USING,
where it has one, is narrower. (Without a WITH CHECK, USING checks new rows too.)

## Why

USING decides which rows are seen, WITH CHECK which may come into being. Where only the first is right, a tenant adds rows to another
tenant, or hands its own rows over: forged invoices, messages, members.

## Exploit

```sql
INSERT INTO orders (tenant_id, id) VALUES ('<another tenant>', '<any id>');
UPDATE orders SET tenant_id = '<another tenant>' WHERE id = '<mine>';
```

## Remedy

Give WITH CHECK the predicate of USING. A policy for INSERT that checks nothing is dropped: write one that compares the tenant
column with the tenant context.

## Near miss

A policy without WITH CHECK, whose USING is right, stays silent, and so does `WITH CHECK (true)` beside a restrictive tenant
policy.
",
    needs: exposure::NEEDS,
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let using = |decider: &Decider<'_>| {
        facts.truth(decider.policy.oid, PredicateKind::Using).filter(|truth| truth.undecided.is_none())
    };
    let pick = |exposure: &Exposure<'_>, decider: &Decider<'_>| {
        let lets = decider.truth.map_or(Rows::None, |truth| truth.other_tenant);
        // As loose a USING is the flaw by itself.
        let narrower = using(decider).is_none_or(|truth| truth.other_tenant < lets);
        let to_blame = if decider.policy.permissive {
            !exposure.slipped_by_check(facts)
        } else {
            exposure.lets_through() && using(decider).is_some()
        };
        decider.by_check && lets != Rows::None && narrower && to_blame && exposure.unheld_within()
    };
    let hit = |culprit: Culprit<'_>| {
        let Culprit { table, decider, path, decides } = culprit;
        let policy = decider.policy;
        let every = decider.truth.is_some_and(|truth| truth.other_tenant == Rows::All);
        let which = if every { "every new row" } else { "some new rows" };
        let evidence = format!("its WITH CHECK was true for {which} of another tenant; it decides {decides}");
        let on = format!("{} ON {}", quote::ident(&policy.name), quote::qualified(&table.schema, &table.name));
        let severity = if every { Severity::Critical } else { Severity::High };
        let hit = Hit::on(Object::policy(facts, policy), evidence).path(path).severity(severity);
        match &policy.using {
            Some(predicate) if using(&decider).is_some_and(|truth| truth.other_tenant == Rows::None) => hit
                .remedy(format!("ALTER POLICY {on} WITH CHECK ({predicate});"))
                .note("new rows are then checked as old ones are"),
            None if policy.command == Command::Insert => hit
                .remedy(format!("DROP POLICY {on};"))
                .note("nothing can be inserted by it any more: `guardian plan` writes the policies"),
            _ => hit,
        }
    };
    culprits(audit, pick).into_iter().map(hit).collect()
}
