//! GRD-PG-307

use guardian_postgres::quote;

use super::rights::{is_open, reads};
use crate::{
    facts::{RelationKind, Source},
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-307",
    name: "view_leaky_filter",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "A view keeps rows of a tenant table back by its WHERE clause only, and is no security barrier",
    docs: "## What

The application reads a view that has a WHERE clause over a tenant table whose policies do not hold the view's owner back, and the
view is not a `security_barrier` view.

## Why

Without the barrier the planner may run the caller's own conditions before the view's. A function in them that tells what it is given
(by an error or a notice, and casts do) sees the rows that the view hides.

## Exploit

```sql
SELECT * FROM my_orders WHERE 1 / (amount - 4711) > 0;   -- an error where any tenant has an order of 4711
```

## Remedy

Make it a `security_barrier` view. Policies on the table with a `security_invoker` view are the better way: the barrier does not make
the condition right.

## Near miss

A view whose owner the table's policies hold back stays silent: policies are barriers by themselves.
",
    needs: &[Source::Columns, Source::Dependencies, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let views = facts.relations.iter().filter(|view| view.kind == RelationKind::View && !view.is_invoker_view());
    views
        .filter(|view| view.filters && !view.option("security_barrier"))
        .filter_map(|view| {
            let path = audit.reach.relation(view).rows()?;
            let read = reads(facts, view).into_iter().find(|read| is_open(audit, read).is_some())?;
            let table = readable_in(&read.relation.schema, &read.relation.name);
            let name = quote::qualified(&view.schema, &view.name);
            let hit = Hit::on(
                Object::relation(view),
                format!("it has a WHERE clause over {table}, whose policies do not apply in it, and no security_barrier"),
            );
            let note = "conditions that are not leakproof then run after the view's own and may lose their indexes";
            Some(hit.path(path).remedy(format!("ALTER VIEW {name} SET (security_barrier = true);")).note(note))
        })
        .collect()
}
