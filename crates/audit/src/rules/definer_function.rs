//! GRD-PG-310

use super::{
    definers::{Definer, OpenTables, Touch, definers, mentions, touch},
    revoke,
};
use crate::{
    facts::Source,
    finding::{Hit, Object, readable_in},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-310",
    name: "definer_function",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application calls a SECURITY DEFINER function whose owner no tenant policy holds back",
    docs: "## What

The application may call a function that runs with its owner's rights, and there are tenant tables whose policies do not hold that
owner back: it is a superuser, has BYPASSRLS, owns them unforced, or is under an open policy. Functions that defaults, generated columns
and checks call are among them: they need EXECUTE too.

A body in the standard's form (`BEGIN ATOMIC`, `RETURN`) is known by its recorded references: the finding is high where it touches such
a table, and silent where it does not. What a body in text touches is *undecided*: medium when a table's name stands in the text,
low otherwise.

## Why

Inside, only the function's own conditions keep tenants apart.

## Exploit

```sql
SELECT order_total(id) FROM generate_series(1, 1000) AS id;   -- orders of every tenant, one by one
```

## Remedy

Let it run with its caller's rights. Where it needs more than its caller has, give it instead to a role of its own that has only those
privileges and that the policies apply to: `ALTER FUNCTION … OWNER TO …`.

## Near miss

A function whose owner has no way past the policies stays silent, and so does one that the application may not call.
",
    needs: &[Source::Columns, Source::Functions, Source::Triggers, Source::Dependencies, Source::Policies, Source::Truths],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let mut open = OpenTables::default();
    let called = definers(audit).into_iter().filter(|definer| !definer.by_trigger);
    called.filter_map(|definer| judge(audit, definer, &mut open)).collect()
}

fn judge<'f>(audit: &Audit<'f>, definer: Definer<'_>, open: &mut OpenTables<'f>) -> Option<Hit> {
    let Definer { function, path, .. } = definer;
    let owner = audit.facts.role_name(function.owner);
    let (evidence, severity) = match touch(audit, function) {
        Touch::No => return None,
        Touch::Recorded(table, why) => {
            let name = readable_in(&table.schema, &table.name);
            (format!("it uses {name} as {owner:?}, which {why}; its conditions are not judged"), Severity::High)
        }
        Touch::Undecided(reason) => {
            let open = open.to(audit, function.owner);
            let (first, why) = *open.first()?;
            let body = function.body.as_deref().unwrap_or_default();
            let named = open.iter().find(|(table, _)| mentions(body, &table.name));
            let (table, why) = named.copied().unwrap_or((first, why));
            let name = readable_in(&table.schema, &table.name);
            let hint = if named.is_some() { format!("; its text names {name}") } else { String::new() };
            let evidence = format!("undecided: {reason}; it runs as {owner:?}, which {why} (as to {name}){hint}");
            (evidence, if named.is_some() { Severity::Medium } else { Severity::Low })
        }
    };
    let keyword = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
    let sql = format!("ALTER {keyword} {} SECURITY INVOKER;", revoke::signature(function));
    let note = "its callers then need its privileges; or give it to a role that the policies apply to (ALTER … OWNER TO)";
    Some(Hit::on(Object::function(function), evidence).severity(severity).path(path).remedy(sql).note(note))
}
