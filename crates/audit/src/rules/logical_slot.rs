//! GRD-PG-514

use guardian_postgres::quote;

use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-514",
    name: "logical_slot",
    severity: Severity::Note,
    protects: Protects::Rows,
    title: "A logical replication slot keeps what every tenant writes",
    docs: "## What

The database has a logical replication slot. When nobody reads from it, the finding is of low severity.

## Why

A slot keeps every tenant's changes, past all policies, for whoever has REPLICATION and names it. One that nobody reads from keeps them
until the disk is full, and holds VACUUM back.

## Exploit

```sql
SELECT data FROM pg_logical_slot_peek_changes('old_etl', NULL, NULL);
```

## Remedy

Drop a slot that nobody reads from. One that is in use is replication's business: know who reads it.

## Near miss

Physical slots, and slots of other databases, stay silent.
",
    needs: &[Source::Slots],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let slots = audit.facts.slots.iter();
    slots
        .map(|slot| {
            let object = Object::named(ObjectKind::ReplicationSlot, &slot.name);
            if slot.active {
                return Hit::on(object, format!("its changes are read, as {} writes them", slot.plugin));
            }
            let sql = format!("SELECT pg_catalog.pg_drop_replication_slot({});", quote::literal(&slot.name));
            let hit = Hit::on(object, format!("nobody reads from it; its plugin is {}", slot.plugin));
            hit.severity(Severity::Low).remedy(sql).note("what it kept is lost to its subscriber")
        })
        .collect()
}
