//! GRD-PG-402

use guardian_postgres::quote::{ident, qualified};

use super::tenant_keys::{carries_tenant, with_tenant};
use crate::{
    facts::{Constraint, ConstraintKind, Privilege, Source},
    finding::{Hit, Object, ObjectKind, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-402",
    name: "fk_without_tenant",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A foreign key between tenant tables does not carry the tenant",
    docs: "## What

A foreign key from one tenant table to another (or to itself) does not compare the tenant columns of both. It is high where it has an
action (CASCADE, SET NULL, SET DEFAULT), else medium.

## Why

PostgreSQL checks foreign keys past row-level security. A row can refer to another tenant's row: the check tells whether it exists, the
reference keeps that tenant from deleting it, and an action changes or deletes rows of one tenant because of another's statement.

## Exploit

```sql
INSERT INTO lines (tenant_id, order_id) VALUES (my tenant, 4711);   -- accepted: another tenant has order 4711
-- that tenant can no longer delete it; or with ON DELETE CASCADE, its delete takes these rows along
```

## Remedy

A foreign key with the tenant column on both sides, over a unique index that has it. It locks both tables while it is checked;
`guardian plan` does it in steps that do not. Where no statement is given, the key cannot simply be extended (MATCH FULL, an action that
would set the tenant too, or the tenant compared with something else).

## Near miss

A foreign key with the tenant on both sides stays silent, and so does one to a table that is common to all tenants.
",
    needs: &[Source::Columns, Source::Constraints, Source::Indexes],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Audit { facts, reach, tenancy } = audit;
    let between = facts.constraints.iter().filter(|one| {
        one.kind == ConstraintKind::Foreign
            && !one.inherited
            && tenancy.is_tenants(one.table)
            && one.target.is_some_and(|target| tenancy.is_tenants(target))
    });
    between
        .filter(|foreign| !carries_tenant(audit, foreign))
        .filter_map(|foreign| {
            let (table, target) = (facts.relation(foreign.table)?, facts.relation(foreign.target?)?);
            let writes = [Privilege::Insert, Privilege::Update, Privilege::Delete];
            let path = writes.iter().find_map(|privilege| reach.relation(table).privilege(*privilege))?;
            let acts = is_action(foreign);
            let evidence = format!(
                "it refers to {} and does not compare the tenants{}",
                readable_in(&target.schema, &target.name),
                if acts { "; an action of it changes or deletes rows of whichever tenant" } else { "" }
            );
            let severity = if acts { Severity::High } else { Severity::Medium };
            let hit = Hit::on(Object::part(ObjectKind::Constraint, &foreign.name, table), evidence);
            let hit = hit.severity(severity).path(path);
            let Some(moved) = with_tenant(audit, foreign, false) else { return Some(hit) };
            let (name, on) = (ident(&foreign.name), qualified(&table.schema, &table.name));
            let swap = format!("ALTER TABLE {on} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {};", moved.definition);
            let sql = moved.index.map_or_else(|| swap.clone(), |index| format!("{index}\n{swap}"));
            Some(hit.remedy(sql).note("it fails, changing nothing, where rows refer to another tenant's: find those first"))
        })
        .collect()
}

fn is_action(foreign: &Constraint) -> bool {
    [foreign.on_delete, foreign.on_update].into_iter().any(|action| matches!(action, Some('c' | 'n' | 'd')))
}
