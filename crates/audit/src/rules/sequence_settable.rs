//! GRD-PG-405

use super::revoke;
use crate::{
    facts::{Privilege, RelationKind, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-405",
    name: "sequence_settable",
    severity: Severity::High,
    protects: Protects::Availability,
    title: "The application may set a sequence that all tenants draw from",
    docs: "## What

The application has UPDATE on a sequence, or owns it.

## Why

UPDATE allows `setval`. One tenant can set it back, and every tenant's inserts fail with duplicate keys; or to its end, and they fail for
good. A sequence is not rolled back with the transaction, and no policy applies to it.

## Exploit

```sql
SELECT setval('orders_id_seq', 1);
```

## Remedy

Take UPDATE away. `nextval`, which a serial column's default calls, needs only USAGE; an identity column needs no privilege at all.

## Near miss

USAGE alone stays silent here.
",
    needs: &[Source::Columns, Source::Sequences],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let sequences = audit.facts.relations.iter().filter(|one| one.kind == RelationKind::Sequence);
    sequences
        .filter_map(|sequence| {
            let path = audit.reach.relation(sequence).update()?;
            let hit = Hit::on(Object::relation(sequence), "setval() on it is allowed: UPDATE").path(path);
            Some(match revoke::on_relation(audit, sequence, &[Privilege::Update]) {
                Some(sql) => hit.remedy(sql).note("whoever calls nextval() and has not USAGE needs it then"),
                None => hit,
            })
        })
        .collect()
}
