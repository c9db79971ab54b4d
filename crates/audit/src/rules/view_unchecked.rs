//! GRD-PG-308

use guardian_postgres::quote;

use super::rights::{is_open, reads};
use crate::{
    facts::{RelationKind, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-308",
    name: "view_unchecked",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application writes through a view whose WHERE clause does not bind the rows it writes",
    docs: "## What

The application may insert or update through an updatable view over a tenant table. Policies do not hold the view's owner back, the
view's WHERE clause is all that does, and the view has no CHECK OPTION.

## Why

Without `WITH CHECK OPTION` the WHERE clause decides which rows are seen, not which are written: a row can be inserted for, or moved to,
another tenant.

## Exploit

```sql
INSERT INTO my_orders (tenant_id, id) VALUES ('another tenant', …);
```

## Remedy

Set the cascaded check option. Policies on the table with a `security_invoker` view are the better way.

## Near miss

A view that the application may only read stays silent, and so does one whose owner the policies hold back.
",
    needs: &[Source::Columns, Source::Dependencies, Source::Policies, Source::Truths],
    check,
};

const UPDATES: i32 = 4;
const INSERTS: i32 = 8;

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let views = facts.relations.iter().filter(|view| view.kind == RelationKind::View && !view.is_invoker_view());
    views
        .filter(|view| view.filters && !view.options.iter().any(|option| option.starts_with("check_option=")))
        .filter_map(|view| {
            let reach = audit.reach.relation(view);
            let inserts = (view.updatable & INSERTS != 0).then(|| reach.insert()).flatten();
            let path = inserts.or_else(|| (view.updatable & UPDATES != 0).then(|| reach.update()).flatten())?;
            let read = reads(facts, view).into_iter().find(|read| is_open(audit, read).is_some())?;
            // A trigger instead of the write, or a rule, makes the option impossible.
            let replaced = !facts.triggers_of(view.oid).is_empty() || !facts.rewrite_rules_of(view.oid).is_empty();
            let table = readable_in(&read.relation.schema, &read.relation.name);
            let name = quote::qualified(&view.schema, &view.name);
            let evidence = format!("rows can be written to {table} through it, and it has no check_option");
            let hit = Hit::on(Object::relation(view), evidence).path(path);
            Some(if replaced { hit } else { hit.remedy(format!("ALTER VIEW {name} SET (check_option = cascaded);")) })
        })
        .collect()
}
