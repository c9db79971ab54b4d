//! GRD-PG-404

use guardian_postgres::quote::{ident, idents, qualified};

use super::tenant_keys::{actions, names};
use crate::{
    facts::{Constraint, ConstraintKind, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-404",
    name: "fk_sets_tenant",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A foreign key's SET NULL or SET DEFAULT also sets the tenant column",
    docs: "## What

A foreign key of a tenant table has the tenant column among its columns and ON DELETE SET NULL or SET DEFAULT, without a list of the
columns to set. It is medium where the tenant column may be null or the action sets its default, else low.

## Why

The action sets every column of the key: rows lose their tenant and are then nobody's (or everybody's, under a policy that lets nulls
pass), or the delete fails because the tenant must not be null.

## Exploit

```sql
DELETE FROM categories WHERE id = 1;   -- the products in it now have no tenant
```

## Remedy

PostgreSQL 15 and newer: name the columns to set. Older: another action, or a trigger.

## Near miss

A foreign key that names the columns to set stays silent.
",
    needs: &[Source::Columns, Source::Constraints],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let foreign = facts.constraints.iter().filter(|one| one.kind == ConstraintKind::Foreign && !one.inherited);
    foreign
        .filter_map(|foreign| {
            let tenant = audit.tenancy.column(foreign.table).filter(|tenant| foreign.columns.contains(&tenant.number))?;
            let action = action(foreign)?;
            let (table, target) = (facts.relation(foreign.table)?, facts.relation(foreign.target?)?);
            // Whoever deletes the row that is referred to sets it off.
            let path = audit.reach.relation(target).delete()?;
            let column = facts.column(table.oid, tenant.number)?;
            let fails = column.not_null && action == "SET NULL";
            let severity = if fails { Severity::Low } else { Severity::Medium };
            let evidence = format!("ON DELETE {action} sets {:?} too", tenant.name);
            let hit = Hit::on(Object::part(ObjectKind::Constraint, &foreign.name, table), evidence);
            let hit = hit.severity(severity).path(path);
            let kept: Vec<i16> = foreign.columns.iter().copied().filter(|number| *number != tenant.number).collect();
            if facts.server.version < 150_000 || kept.is_empty() {
                return Some(hit);
            }
            let (own, other) =
                (names(facts, table.oid, &foreign.columns)?, names(facts, target.oid, &foreign.target_columns)?);
            let (on, name) = (qualified(&table.schema, &table.name), ident(&foreign.name));
            let sql = format!(
                "ALTER TABLE {on} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} FOREIGN KEY ({}) REFERENCES {} ({}){}{};",
                idents(&own),
                qualified(&target.schema, &target.name),
                idents(&other),
                if foreign.definition.contains(" MATCH FULL") { " MATCH FULL" } else { "" },
                actions(foreign, &names(facts, table.oid, &kept)?)
            );
            Some(hit.remedy(sql).note("it locks both tables while the rows are checked"))
        })
        .collect()
}

/// The action that sets all columns; with a list PostgreSQL writes a parenthesis after it.
fn action(foreign: &Constraint) -> Option<&'static str> {
    let word = match foreign.on_delete? {
        'n' => "SET NULL",
        'd' => "SET DEFAULT",
        _ => return None,
    };
    (!foreign.definition.contains(&format!("ON DELETE {word} ("))).then_some(word)
}
