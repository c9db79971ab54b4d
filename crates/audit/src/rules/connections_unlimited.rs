//! GRD-PG-228

use guardian_postgres::quote;

use crate::{
    facts::Source,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-228",
    name: "connections_unlimited",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "The application's role may take every connection of the server",
    docs: "## What

The application's role logs in, and has no CONNECTION LIMIT.

## Why

One tenant's burst, or a pool that leaks, takes all that `max_connections` allows: the other applications of the server, the
migrations and the monitoring then cannot connect either.

## Exploit

```sh
for i in $(seq 100); do psql -U my_app -c 'SELECT pg_sleep(3600)' & done
```

## Remedy

Set a limit that the application's pools stay under. The remedy allows three quarters of `max_connections`.

## Near miss

A role that cannot log in, or that has a limit, stays silent.
",
    needs: &[Source::Settings],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let max: i32 = facts.setting("max_connections").and_then(|setting| setting.value.parse().ok()).unwrap_or(100);
    let logins = audit.reach.applications().iter().filter_map(|role| facts.role(*role));
    // No limit holds for a superuser, which is another finding.
    logins
        .filter(|role| role.logs_in && role.connections_max < 0 && !role.superuser)
        .map(|role| {
            let sql = format!("ALTER ROLE {} CONNECTION LIMIT {};", quote::ident(&role.name), (max - max / 4).max(1));
            let hit = Hit::on(Object::role(role), format!("rolconnlimit is -1, and max_connections is {max}"));
            hit.remedy(sql).note("connections that are open stay open")
        })
        .collect()
}
