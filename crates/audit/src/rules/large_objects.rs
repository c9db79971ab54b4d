//! GRD-PG-225

use super::grants;
use crate::{
    facts::{Privilege, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-225",
    name: "large_objects",
    severity: Severity::Low,
    protects: Protects::Rows,
    title: "Tenants share large objects",
    docs: "## What

Tenants share the application's role, and it may call the functions of large objects (PUBLIC may, by default). When there are large
objects that it may read already, the finding is of medium severity.

## Why

Large objects belong to roles, not to tenants, and no policy guards them. What one tenant stores in them every tenant reads,
changes and deletes; and their numbers are listed in `pg_largeobject_metadata`.

## Exploit

```sql
SELECT oid, lo_get(oid) FROM pg_largeobject_metadata;
```

## Remedy

Revoke the functions from PUBLIC, which needs a superuser; keep such contents in a bytea column under a policy, or outside the database.

## Near miss

Where the functions are revoked, or no tenant table is shared, there is no finding.
",
    needs: &[Source::Functions, Source::LargeObjects, Source::Columns],
    check,
};

const FUNCTIONS: [&str; 14] = [
    "lo_creat",
    "lo_create",
    "lo_from_bytea",
    "lo_put",
    "lo_get",
    "lo_open",
    "lo_unlink",
    "loread",
    "lowrite",
    "lo_truncate",
    "lo_truncate64",
    "lo_lseek",
    "lo_lseek64",
    "lo_close",
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    if grants::shared_tables(audit).is_none() {
        return Vec::new();
    }
    let object = Object::in_schema(ObjectKind::LargeObject, "pg_catalog", "pg_largeobject");
    let readable: i64 = audit
        .facts
        .large_objects
        .iter()
        .filter(|one| audit.reach.by_acl(&one.acl, Privilege::Select, one.owner, None, "large objects").is_some())
        .map(|one| one.count)
        .sum();
    let why = match readable {
        0 => "large objects belong to roles, not to tenants; there are none yet that it may read".to_owned(),
        count => format!("large objects belong to roles, not to tenants; it may read {count} of them"),
    };
    let hit = grants::system_functions(audit, &FUNCTIONS, object, &why, None);
    hit.map(|hit| if readable > 0 { hit.severity(Severity::Medium) } else { hit }).into_iter().collect()
}
