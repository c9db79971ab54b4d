//! GRD-PG-106

use guardian_postgres::quote;

use crate::{
    facts::{ConstraintKind, PredicateKind, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-106",
    name: "context_empty",
    severity: Severity::Medium,
    protects: Protects::Context,
    title: "An empty tenant context matches rows whose tenant is empty",
    docs: "## What

With its settings empty, a policy was true for a made-up row whose text key is the empty string, and nothing keeps such rows out of
the tenant column: it has no CHECK constraint and no foreign key.

## Why

A setting that was set in a transaction is empty, not unset, on the same connection afterwards. Rows that were written by mistake with an
empty tenant are then everybody's.

## Exploit

```sql
SELECT * FROM orders;   -- with no tenant: the rows that anybody wrote without one
```

## Remedy

Keep empty keys out of the column by a CHECK constraint; `nullif(current_setting(…), '')` in the policy does the same from the
other side.

## Near miss

A policy with `nullif`, a column of another type, or one with a CHECK constraint or a foreign key stays silent.
",
    needs: &[Source::Columns, Source::Policies, Source::Truths, Source::Constraints],
    check,
};

/// text, varchar, char
const TEXTS: [u32; 3] = [25, 1043, 1042];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let policies = facts.policies.iter().filter(|policy| policy.roles.iter().any(|role| reach.role(*role).is_some()));
    policies
        .filter_map(|policy| {
            let table = facts.relation(policy.table).filter(|table| table.rls)?;
            let tenant = tenancy.column(table.oid)?;
            let column = facts.column(table.oid, tenant.number).filter(|column| TEXTS.contains(&column.base_type))?;
            let path = reach.relation(table).rows()?;
            let truth = facts.truth(policy.oid, PredicateKind::Using).filter(|truth| truth.undecided.is_none())?;
            // Where other rows show too, that is the flaw.
            let only_empty = truth.true_on_empty && truth.without_context == crate::facts::Rows::None;
            let kept_out = facts.constraints_of(table.oid).iter().any(|one| {
                matches!(one.kind, ConstraintKind::Check | ConstraintKind::Foreign) && one.columns.contains(&column.number)
            });
            if !only_empty || kept_out {
                return None;
            }
            let evidence = format!(
                "its USING was true with empty settings for a row whose {:?} is empty, and no constraint forbids that",
                column.name
            );
            let sql = format!(
                "ALTER TABLE {} ADD CHECK ({} <> '');",
                quote::qualified(&table.schema, &table.name),
                quote::ident(&column.name)
            );
            let note = "it fails where such rows are there: give them their tenant first";
            Some(Hit::on(Object::policy(facts, policy), evidence).path(path).remedy(sql).note(note))
        })
        .collect()
}
