//! GRD-PG-205

use super::grants;
use crate::{
    facts::Source,
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-205",
    name: "replication_reachable",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application can act as a replication role",
    docs: "## What

The application's role has REPLICATION, or it can become a role that has it by `SET ROLE`.

## Why

Replication carries every row of every tenant, past all policies. With `wal_level = logical` two function calls are enough, and
the finding is critical; otherwise a connection of kind `replication` copies the whole server, where `pg_hba.conf` lets it in.

## Exploit

```sql
SELECT pg_create_logical_replication_slot('s', 'test_decoding');
SELECT data FROM pg_logical_slot_get_changes('s', NULL, NULL);   -- what every tenant writes
```

## Remedy

Take the attribute away, or revoke the membership. Replication has a login of its own.

## Near miss

A replication role that the application is no member of stays silent.
",
    needs: &[Source::Settings],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let logical = audit.facts.setting("wal_level").is_some_and(|setting| setting.value == "logical");
    let hits = grants::by_attribute(audit, |role| role.replicates, "REPLICATION");
    hits.into_iter().map(|(_, hit)| if logical { hit.severity(Severity::Critical) } else { hit }).collect()
}
