//! GRD-PG-229

use super::grants;
use crate::{
    facts::Source,
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-229",
    name: "shared_role",
    severity: Severity::Note,
    protects: Protects::Availability,
    title: "All tenants work as one role, which leaves some things open that no SQL can close",
    docs: "## What

The application's one role reads or writes tenant tables, so that all tenants' sessions are of that role. PostgreSQL has no means
against what a session of it may then do to another one. This is one finding for all of it, and true of every such installation.

## Why

- `LOCK TABLE` needs only rights on rows, and stops all tenants as long as the transaction runs.
- Advisory locks are numbers that all sessions of a database share, and NOTIFY channels have no access list.
- A role may change its own password and its own defaults (`ALTER ROLE … SET`) for all sessions to come.
- `statement_timeout`, `lock_timeout` and `idle_in_transaction_session_timeout` can be set to 0 by whom they are to hold back.

## Exploit

```sql
BEGIN; LOCK TABLE orders;                         -- everybody waits
LISTEN invoices;                                  -- whatever others notify
ALTER ROLE my_app SET search_path = evil, public;   -- for every later session
```

## Remedy

None by SQL. Bound transactions in time and number outside the session (Guardian's SQL gateway does, and puts a role right that a
session altered); pin settings in the start-up packet; derive lock numbers and channel names from the tenant, and put no row into
a payload; keep those tenants in schemas or databases of their own for whom this is not enough.

## Near miss

A role that reaches no tenant table stays silent, and so does a database in which no table has a tenant column.
",
    needs: &[Source::Columns],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let Some(path) = grants::shared_tables(audit) else { return Vec::new() };
    let Some(role) = audit.reach.applications().first().and_then(|role| audit.facts.role(*role)) else {
        return Vec::new();
    };
    let evidence = "LOCK TABLE, advisory locks, NOTIFY, ALTER ROLE on oneself and user-settable timeouts work across tenants; \
                    bound transactions outside the session, and pin settings in the start-up packet";
    vec![Hit::on(Object::role(role), evidence).path(path)]
}
