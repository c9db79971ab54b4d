//! GRD-PG-306

use super::revoke;
use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-306",
    name: "outside_functions",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application may call functions that open connections or sessions of their own",
    docs: "## What

An extension that connects to databases, web servers or clouds, or starts sessions of its own, is installed, and the application may
call its functions. One finding an extension.

## Why

A connection that `dblink` opens is a session of its own: it may belong to another role (where the server trusts local connections, any
role at all), has not this session's tenant context and stays open after `DISCARD ALL`, ready for the next tenant. Functions that
send requests carry rows out, and reach whatever the database server reaches.

## Exploit

```sql
SELECT * FROM dblink('host=/run/postgresql user=postgres', 'SELECT note FROM orders') AS t (note text);
```

## Remedy

Take EXECUTE on these functions away. Installing the extension into a schema without USAGE for the application keeps what a later
version adds closed as well.

## Near miss

The extension installed in a schema that the application cannot use stays silent.
",
    needs: &[Source::Functions, Source::Extensions],
    check,
};

/// Extensions, with what their functions do, and those functions that do no harm (`postgres_fdw` works by foreign tables).
const EXTENSIONS: [(&str, &str); 10] = [
    ("dblink", "connects to databases, this one too"),
    ("plproxy", "connects to databases"),
    ("pg_background", "runs statements in sessions of its own"),
    ("http", "sends web requests"),
    ("pg_net", "sends web requests"),
    ("aws_s3", "reads and writes cloud storage"),
    ("aws_lambda", "calls functions in the cloud"),
    ("azure_storage", "reads and writes cloud storage"),
    ("odbc_fdw", "runs queries on other servers"),
    ("postgres_fdw", "shows and closes the connections that the session keeps to other servers"),
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let found = facts.extensions.iter().filter_map(|extension| {
        let (name, does) = EXTENSIONS.into_iter().find(|(name, _)| *name == extension.name)?;
        // A wrapper's own handler and validator do nothing when they are called.
        let callable = facts.functions.iter().filter(|function| {
            function.extension == Some(extension.oid)
                && function.returns != "fdw_handler"
                && !function.name.ends_with("_validator")
        });
        let reached: Vec<_> = callable.filter_map(|function| Some((function, audit.reach.function(function)?))).collect();
        let (_, path) = reached.first()?;
        let severity = if name == "postgres_fdw" { Severity::Note } else { Severity::High };
        let revocations: Option<Vec<String>> =
            reached.iter().map(|(function, _)| revoke::on_function(audit, function)).collect();
        let hit = Hit::on(
            Object::named(ObjectKind::Extension, &extension.name),
            format!("it {does}, and {} of its functions can be called", reached.len()),
        );
        let hit = hit.severity(severity).path(path.clone());
        Some(match revocations {
            Some(sql) => hit.remedy(sql.join("\n")),
            None => hit,
        })
    });
    found.collect()
}
