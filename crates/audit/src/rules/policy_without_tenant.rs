//! GRD-PG-010

use guardian_postgres::quote;

use super::{
    exposure::{self, Culprit, Decider, Exposure, culprits},
    settings::{called_by, read_by},
};
use crate::{
    facts::{Catalog, Facts, Policy, PredicateKind, Relation, RelationKind},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-010",
    name: "policy_without_tenant",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "A permissive policy looks rows up, and nothing in it knows the tenant",
    docs: "## What

A permissive policy reads another table, and neither it nor that table's row-level security depends on a tenant: it reads no setting,
asks for no role, calls no function, and the tables that it reads are common or have row-level security off. No restrictive policy holds
it back.

## Why

`tenant_id IN (SELECT id FROM tenants)` is true for every row. A look-up narrows to the tenant only if it is narrowed itself, by its
own WHERE clause or by the policies of the table that it reads.

## Exploit

```sql
CREATE POLICY known ON orders USING (tenant_id IN (SELECT id FROM tenants));
SELECT * FROM orders;   -- every tenant's orders
```

## Remedy

Drop the policy, or compare the tenant column with the tenant context in it.

## Near miss

The same look-up in a table whose own policies narrow it stays silent, and so does one that compares with a setting.
",
    needs: exposure::NEEDS,
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let pick = |exposure: &Exposure<'_>, decider: &Decider<'_>| {
        decider.policy.permissive
            && !decider.by_check
            && decider.truth.is_none()
            && exposure.unheld_within()
            && knows_no_tenant(audit, decider.policy)
    };
    let hit = |culprit: Culprit<'_>| {
        let Culprit { table, decider, path, decides } = culprit;
        let read: Vec<String> =
            looked_up(facts, decider.policy).map(|relation| readable_in(&relation.schema, &relation.name)).collect();
        let evidence = format!(
            "it reads {}, where no row-level security narrows, and neither a setting nor the role; it decides {decides}",
            read.join(", ")
        );
        let name = quote::qualified(&table.schema, &table.name);
        Hit::on(Object::policy(facts, decider.policy), evidence)
            .path(path)
            .remedy(format!("DROP POLICY {} ON {name};", quote::ident(&decider.policy.name)))
            .note("where no other permissive policy is left, the table shows no rows: `guardian plan` writes the policies")
    };
    culprits(audit, pick).into_iter().map(hit).collect()
}

fn knows_no_tenant(audit: &Audit<'_>, policy: &Policy) -> bool {
    let facts = audit.facts;
    let by_role = facts.truth(policy.oid, PredicateKind::Using).is_none_or(|truth| truth.by_role);
    let mut tables = looked_up(facts, policy).peekable();
    tables.peek().is_some()
        && !by_role
        && read_by(facts, policy).is_empty()
        && called_by(facts, policy).next().is_none()
        && !policy
            .using
            .as_deref()
            .is_some_and(|predicate| predicate.contains("session_user") || predicate.contains("SESSION_USER"))
        && tables.all(|table| table.kind.is_table() && !table.rls || table.kind == RelationKind::MaterializedView)
}

/// The other relations that a policy reads, each once.
fn looked_up<'f>(facts: &'f Facts, policy: &Policy) -> impl Iterator<Item = &'f Relation> + use<'f> {
    let (own, references) = (policy.table, facts.references_of(Catalog::Policy, policy.oid).iter());
    let mut last = None;
    references
        .filter(move |one| one.to == Catalog::Relation && one.referenced != own)
        .filter(move |one| last.replace(one.referenced) != Some(one.referenced))
        .filter_map(|one| facts.relation(one.referenced))
}
