//! GRD-PG-510

use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-510",
    name: "lock_table_small",
    severity: Severity::Medium,
    protects: Protects::Availability,
    title: "The server's lock table is too small to dump the database",
    docs: "## What

The database has more tables than three quarters of the locks that the server has room for: `max_locks_per_transaction` times
`max_connections` and `max_prepared_transactions` together. Databases with a schema a tenant come to this.

## Why

`pg_dump` locks every table in one transaction, and so does whatever works over all schemas. It ends with *out of shared memory*, and so do
the statements of tenants that need a lock meanwhile. It shows on the day of the restore.

## Exploit

```sh
pg_dump big > /dev/null   # ERROR: out of shared memory. HINT: You might need to increase max_locks_per_transaction.
```

## Remedy

Set `max_locks_per_transaction` as high as the evidence says, and restart. Or dump schema by schema.

## Near miss

Many rows in few tables need no locks; a database well below the limit stays silent.
",
    needs: &[Source::Settings],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let number = |name| facts.setting(name).and_then(|setting| setting.value.parse::<usize>().ok());
    let (Some(each), Some(connections)) = (number("max_locks_per_transaction"), number("max_connections")) else {
        return Vec::new();
    };
    let holders = connections + number("max_prepared_transactions").unwrap_or(0);
    let locks = each * holders;
    let tables = facts.relations.iter().filter(|table| table.kind.is_table()).count();
    if tables * 4 <= locks * 3 {
        return Vec::new();
    }
    // Room for the tables of tomorrow, and for everybody else while the dump runs.
    let wanted = (tables * 2).div_ceil(holders.max(1));
    let evidence =
        format!("{tables} tables, and room for {locks} locks; max_locks_per_transaction is {each}, and {wanted} would do");
    vec![Hit::on(Object::named(ObjectKind::Setting, "max_locks_per_transaction"), evidence)]
}
