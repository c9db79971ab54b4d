//! GRD-PG-512

use super::grants;
use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-512",
    name: "prepared_transactions",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "The application may leave prepared transactions behind",
    docs: "## What

`max_prepared_transactions` is above 0, and tenants share the application's role.

## Why

A prepared transaction keeps its locks without a session, across restarts, until somebody ends it; no timeout does. A tenant that locks a
table and prepares stops all others, and VACUUM with them.

## Exploit

```sql
BEGIN; LOCK TABLE orders; PREPARE TRANSACTION 'stay'; -- and disconnect
```

## Remedy

Set it to 0 (PostgreSQL's default) and restart, unless a transaction manager needs it; then watch `pg_prepared_xacts`. No SQL closes it for one role.

## Near miss

0 stays silent, and so does a role that reaches no tenant table.
",
    needs: &[Source::Settings, Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let max = audit.facts.setting("max_prepared_transactions").map_or("0", |setting| setting.value.as_str());
    let Some(path) = grants::shared_tables(audit).filter(|_| max != "0") else { return Vec::new() };
    let object = Object::named(ObjectKind::Setting, "max_prepared_transactions");
    vec![Hit::on(object, format!("it is {max}; 0 closes it")).path(path)]
}
