//! GRD-PG-507

use super::hba;
use crate::{
    facts::Source,
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-507",
    name: "hba_trust",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "pg_hba.conf lets other machines in without a password",
    docs: "## What

A line of `pg_hba.conf` has the method `trust` for addresses other than this machine's.

## Why

Whoever reaches the port is whatever role of the line they name: the owner, the application, for `all` a superuser.

## Exploit

```sh
psql -h db.internal -U postgres
```

## Remedy

Write `scram-sha-256` in its place, and reload. SQL cannot change the file.

## Near miss

`trust` on local sockets and loopback addresses stays silent: whoever is on the machine is its operator's business.
",
    needs: &[Source::HbaRules],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let far = audit.facts.hba_rules.iter().filter(|rule| rule.method == "trust" && !hba::is_near(rule));
    far.map(|rule| Hit::on(hba::object(rule), format!("line {} asks for no password", rule.line))).collect()
}
