//! GRD-PG-509

use guardian_postgres::quote;

use super::session_defaults::session_defaults;
use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-509",
    name: "parameters_logged",
    severity: Severity::Low,
    protects: Protects::Secrets,
    title: "The server's log holds the values of the application's statements",
    docs: "## What

The application's statements are logged (`log_statement`, `log_min_duration_statement` or a sample of them), and their bind parameters
with them (`log_parameter_max_length` is not 0); or those of statements that fail (`log_parameter_max_length_on_error`).

## Why

Rows of all tenants, and secrets that a statement carries (a password, the capability by which a session enters a tenant), then stand
in a file that more people read than the database.

## Exploit

```sh
grep 'parameters: ' postgresql.log
```

## Remedy

Switch it off for the application's role; a superuser can.

## Near miss

Statements that are logged without their parameters stay silent, and so does a server that logs no statements.
",
    needs: &[Source::Settings, Source::RoleSettings],
    check,
};

/// Settings that have statements logged, and the value at which they do not.
const LOGGING: [(&str, &[&str]); 4] = [
    ("log_statement", &["none", "ddl"]),
    ("log_min_duration_statement", &["-1"]),
    ("log_min_duration_sample", &["-1"]),
    ("log_transaction_sample_rate", &["0"]),
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let is = |name, quiet: &[&str]| session_defaults(audit, name).iter().all(|default| quiet.contains(&default.value));
    let logged: Vec<&str> = LOGGING.iter().filter(|(name, quiet)| !is(name, quiet)).map(|(name, _)| *name).collect();
    let cases = [
        ("log_parameter_max_length", !logged.is_empty(), logged.join(", ")),
        ("log_parameter_max_length_on_error", true, "statements that fail are logged".to_owned()),
    ];
    cases
        .into_iter()
        .filter(|(name, logged, _)| *logged && !is(name, &["0"]))
        .map(|(name, _, by)| {
            let database = quote::ident(&audit.facts.database.name);
            let roles = audit.reach.applications().iter().map(|role| quote::ident(&audit.facts.role_name(*role)));
            let lines = roles.map(|role| format!("ALTER ROLE {role} IN DATABASE {database} SET {name} = 0;"));
            let evidence = format!("{name} is not 0, and statements are logged by {by}");
            let sql = lines.collect::<Vec<_>>().join("\n");
            Hit::on(Object::named(ObjectKind::Setting, name), evidence).remedy(sql).note("needs a superuser")
        })
        .collect()
}
