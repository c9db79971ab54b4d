//! GRD-PG-505

use crate::{
    facts::Source,
    finding::{Hit, Object, readable},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-505",
    name: "password_md5",
    severity: Severity::Low,
    protects: Protects::Secrets,
    title: "The application's password is kept as md5",
    docs: "## What

The password of the application's role, or of a role that it can become, is kept as an md5 hash.

## Why

The hash is the password: who reads it in a dump of the roles or a backup logs in with it, and without it short work is made of guessing.
PostgreSQL 18 calls it deprecated.

## Exploit

```sh
pg_dumpall --roles-only | grep md5
```

## Remedy

Set `password_encryption = 'scram-sha-256'` and set the password again (`\\password` in psql). No SQL can do it without knowing the
password.

## Near miss

SCRAM, no password at all (certificates, peer), and other roles' passwords stay silent.
",
    needs: &[Source::Passwords],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let roles = audit.reach.sessions_as().filter_map(|(oid, path)| Some((audit.facts.role(oid)?, path)));
    roles
        .filter(|(role, _)| role.password.as_deref() == Some("md5"))
        .map(|(role, path)| {
            let evidence = format!("rolpassword of {} is an md5 hash", readable(&role.name));
            Hit::on(Object::role(role), evidence).path(path.clone())
        })
        .collect()
}
