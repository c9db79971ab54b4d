//! GRD-PG-314

use super::{
    definers::{OpenTables, definers, mentions},
    revoke,
};
use crate::{
    facts::Source,
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-314",
    name: "definer_trigger",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "A trigger that the application sets off runs as an owner whom no tenant policy holds back",
    docs: "## What

A trigger on a table that the application may write calls a SECURITY DEFINER function, and there are tenant tables whose policies do
not hold the function's owner back. What its text touches is *undecided*: medium when such a table's name stands in it, else low.

## Why

Whatever the function does with the values of the row, it does past the policies: it may write another tenant's rows, or tell by an
error what they hold.

## Exploit

```sql
INSERT INTO lines (order_id, …) VALUES (another tenant's order, …);   -- the trigger adds it to that order's total
```

## Remedy

Let the trigger's function run with the rights of whoever writes the row. Where it needs more, give it to a role of its own that the
policies apply to.

## Near miss

A trigger whose function has its caller's rights stays silent, and so does one on a table that the application cannot write.
",
    needs: &[Source::Columns, Source::Functions, Source::Triggers, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let mut tables = OpenTables::default();
    let triggers = definers(audit).into_iter().filter(|definer| definer.by_trigger);
    triggers
        .filter_map(|definer| {
            let function = definer.function;
            let open = tables.to(audit, function.owner);
            let body = function.body.as_deref().unwrap_or_default();
            let named = open.iter().find(|(table, _)| mentions(body, &table.name));
            let (table, why) = *named.or_else(|| open.first())?;
            let (owner, label) = (audit.facts.role_name(function.owner), readable_in(&table.schema, &table.name));
            let clue = if named.is_some() { "; its text names that table" } else { "" };
            let evidence = format!("undecided: it runs as {owner:?}, which {why} (as to {label}){clue}");
            let severity = if named.is_some() { Severity::Medium } else { Severity::Low };
            let sql = format!("ALTER FUNCTION {} SECURITY INVOKER;", revoke::signature(function));
            let note = "whoever writes the row then needs its privileges; or give it to a role that the policies apply to";
            let hit = Hit::on(Object::function(function), evidence).severity(severity);
            Some(hit.path(definer.path).remedy(sql).note(note))
        })
        .collect()
}
