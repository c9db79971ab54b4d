//! GRD-PG-313

use super::definers::{definers, mentions};
use crate::{
    facts::Source,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-313",
    name: "definer_dynamic_sql",
    severity: Severity::Low,
    protects: Protects::Rows,
    title: "A SECURITY DEFINER function with arguments seems to put SQL together: undecided",
    docs: "## What

The application may call a SECURITY DEFINER function that takes arguments, is written in `plpgsql`, and has the word EXECUTE in its
body. Whether an argument gets into the statement unquoted is *undecided*: no parser of ours judges it. This is a list to read, not
a verdict.

## Why

A statement that is put together from arguments runs whatever a caller writes, with the owner's rights.

## Exploit

```sql
SELECT search_orders('x'' OR true --');
```

## Remedy

Read the body: values belong into `USING`, names into `format('%I')`. No statement can do that, so there is none here. When it is right,
write an exception with the reason.

## Near miss

A function without arguments stays silent, and so does one that runs with its caller's rights.
",
    needs: &[Source::Functions, Source::Triggers],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let suspects = definers(audit).into_iter().filter(|definer| {
        let function = definer.function;
        let body = function.body.as_deref().unwrap_or_default();
        function.language == "plpgsql" && !function.arguments.is_empty() && mentions(body, "execute")
    });
    suspects
        .map(|definer| {
            let owner = audit.facts.role_name(definer.function.owner);
            let evidence =
                format!("undecided: the word EXECUTE stands in its text, it takes arguments and runs as {owner:?}");
            Hit::on(Object::function(definer.function), evidence).path(definer.path)
        })
        .collect()
}
