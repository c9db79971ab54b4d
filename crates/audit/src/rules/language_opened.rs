//! GRD-PG-218

use guardian_postgres::quote;

use crate::{
    facts::{Privilege, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-218",
    name: "language_opened",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application may write functions in a language that reaches past the database",
    docs: "## What

A language such as C, PL/PythonU or PL/PerlU is marked trusted, and the application's role has USAGE on it. PostgreSQL gives the
mark to no such language itself: somebody updated `pg_language`.

## Why

A function in such a language runs as the account that PostgreSQL runs as: it reads the files of all tables, and every secret of the machine.

## Exploit

```sql
DO LANGUAGE plpython3u $$ import os; os.system('…') $$;
```

## Remedy

Take the mark away. Functions that were made meanwhile stay: look at what there is.

## Near miss

An untrusted language that is installed, with functions that a superuser wrote, stays silent here.
",
    needs: &[Source::Languages],
    check,
};

/// Languages that do not confine what is written in them, as their authors say.
const UNCONFINED: [&str; 11] =
    ["c", "internal", "plperlu", "plpython2u", "plpython3u", "plpythonu", "pltclu", "plsh", "plr", "pljavau", "plluau"];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let opened = audit.facts.languages.iter().filter(|one| one.trusted && UNCONFINED.contains(&one.name.as_str()));
    opened
        .filter_map(|language| {
            let name = format!("language {}", language.name);
            let path = audit.reach.by_acl(&language.acl, Privilege::Usage, language.owner, None, &name)?;
            let sql = format!(
                "UPDATE pg_catalog.pg_language SET lanpltrusted = false WHERE lanname = {};",
                quote::literal(&language.name)
            );
            // There is no kind of object for a language: it is an extension's where it is not built in.
            let object = Object::named(ObjectKind::Extension, &language.name);
            Some(Hit::on(object, "lanpltrusted is true").path(path).remedy(sql).note("needs a superuser"))
        })
        .collect()
}
