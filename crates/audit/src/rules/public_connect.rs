//! GRD-PG-216

use guardian_postgres::quote;

use crate::{
    facts::{PUBLIC, Privilege, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-216",
    name: "public_connect",
    severity: Severity::Low,
    protects: Protects::Metadata,
    title: "Every role of the server may connect to the database",
    docs: "## What

CONNECT on the database is granted to PUBLIC: PostgreSQL's default.

## Why

A role that is made for another application, or for one report elsewhere, reaches this database too, with all that PUBLIC may do in
it and the catalog that shows how it is made.

## Exploit

```sh
psql -U another_app this_database
```

## Remedy

Revoke it from PUBLIC, and grant it by name.

## Near miss

CONNECT granted to roles by name stays silent, whoever they are.
",
    needs: &[Source::Databases],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let database = &facts.database;
    let open = database.acl.iter().any(|grant| grant.to == PUBLIC && grant.privileges.contains(&Privilege::Connect));
    if !open {
        return Vec::new();
    }
    let name = quote::ident(&database.name);
    let mut lines = vec![format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;")];
    // What PUBLIC gave them is kept for the application's own roles.
    let logins = audit.reach.applications().iter().filter_map(|role| facts.role(*role)).filter(|role| role.logs_in);
    lines.extend(logins.map(|role| format!("GRANT CONNECT ON DATABASE {name} TO {};", quote::ident(&role.name))));
    let hit = Hit::on(Object::named(ObjectKind::Database, &database.name), "CONNECT is granted to PUBLIC");
    vec![hit.remedy(lines.join("\n")).note("other logins that are to connect need CONNECT by name")]
}
