//! GRD-PG-106

use guardian_postgres::quote;

use crate::{
    facts::{Column, Constraint, ConstraintKind, PredicateKind, Source},
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
the tenant column: it has no CHECK constraint beyond IS NOT NULL, and no foreign key. Low where nothing keeps such rows out and the policy's
truth is undecided: it may take the empty setting for a tenant.

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
            if facts.constraints_of(table.oid).iter().any(|one| keeps_out(one, column)) {
                return None;
            }
            let truth = facts.truth(policy.oid, PredicateKind::Using)?;
            // Where other rows show too, that is the flaw.
            let only_empty = truth.true_on_empty && truth.without_context == crate::facts::Rows::None;
            let (evidence, severity) = match &truth.undecided {
                Some(_) if is_plain(column) => (
                    format!(
                        "whether its USING is true with empty settings is undecided, and no constraint forbids an empty {:?}",
                        column.name
                    ),
                    Severity::Low,
                ),
                None if only_empty => (
                    format!(
                        "its USING was true with empty settings for a row whose {:?} is empty, and no constraint forbids that",
                        column.name
                    ),
                    RULE.severity,
                ),
                _ => return None,
            };
            let sql = format!(
                "ALTER TABLE {} ADD CHECK ({} <> '');",
                quote::qualified(&table.schema, &table.name),
                quote::ident(&column.name)
            );
            let note = "it fails where such rows are there: give them their tenant first";
            Some(Hit::on(Object::policy(facts, policy), evidence).severity(severity).path(path).remedy(sql).note(note))
        })
        .collect()
}

/// Whether a constraint may keep empty keys out; what a CHECK says beyond IS NOT NULL is not judged.
fn keeps_out(one: &Constraint, column: &Column) -> bool {
    // PostgreSQL quotes only the names that need it.
    let names = [column.name.clone(), quote::ident(&column.name)];
    let only_null = || names.iter().any(|name| one.definition == format!("CHECK (({name} IS NOT NULL))"));
    match one.kind {
        ConstraintKind::Foreign => one.columns.contains(&column.number),
        ConstraintKind::Check => one.columns.contains(&column.number) && !only_null(),
        _ => false,
    }
}

/// A text type itself: a domain's own CHECK may keep the empty string out.
fn is_plain(column: &Column) -> bool {
    ["text", "character varying", "character"].iter().any(|name| column.written_type.starts_with(name))
}
