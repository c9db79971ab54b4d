//! GRD-PG-502

use crate::{
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-502",
    name: "end_of_life",
    severity: Severity::Medium,
    protects: Protects::Rows,
    title: "The server's major version gets no more security fixes",
    docs: "## What

On the day on which the facts were collected, the community's support of the major version had ended (five years after its first release).

## Why

Flaws that are found from then on are published with the next release of the other versions, and stay open in this one.

## Exploit

```sql
SELECT version();   -- and read what the newer releases fixed
```

## Remedy

Upgrade to a supported major version (`pg_upgrade`, or logical replication). No SQL helps. A vendor may sell longer support: then record an exception that says until when.

## Near miss

A version in its last month of support has no finding yet.
",
    needs: &[],
    check,
};

/// Major version and its last day, as PostgreSQL's versioning policy has them.
const LAST_DAYS: &[(i32, &str)] = &[
    (13, "2025-11-13"),
    (14, "2026-11-12"),
    (15, "2027-11-11"),
    (16, "2028-11-09"),
    (17, "2029-11-08"),
    (18, "2030-11-14"),
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let server = &audit.facts.server;
    let major = server.version / 10_000;
    let Some((_, last)) = LAST_DAYS.iter().find(|(version, _)| *version == major) else { return Vec::new() };
    // Dates of this form sort as texts. Facts of a Guardian that did not note the day have none.
    if server.collected_on.is_empty() || server.collected_on.as_str() <= *last {
        return Vec::new();
    }
    let evidence = format!("support of PostgreSQL {major} ended on {last}; the facts are of {}", server.collected_on);
    vec![Hit::on(Object::named(ObjectKind::Server, "postgresql"), evidence).part(major.to_string())]
}
