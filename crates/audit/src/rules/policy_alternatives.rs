//! GRD-PG-611

use super::{size::Sizes, tenant_index_missing::ROWS_MIN};
use crate::{
    facts::{Catalog, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-611",
    name: "policy_alternatives",
    severity: Severity::Low,
    protects: Protects::Availability,
    title: "A policy of a large tenant table compares the tenant in an OR, which an index rarely serves",
    docs: "## What

A policy on a tenant table of 10,000 rows or more depends on the tenant column and has an OR in it (`is_admin() OR tenant_id = …`).

## Why

PostgreSQL uses an index for an OR only when every alternative has one. `admin OR tenant` has none for the first half, so every tenant's
statement reads all rows: three orders of magnitude slower than the tenant's comparison alone. It is also one mistake away from open.

## Exploit

```sql
SELECT * FROM orders WHERE id = 4711;   -- a scan of every tenant's orders
```

## Remedy

Two policies for two roles: the tenant's comparison alone for the application, and an open one for a role that only administrators use.
The text has to be rewritten by somebody who knows what it means, so no statement is given.

## Near miss

A policy that only compares the tenant stays silent, and so does an OR on a small table.
",
    needs: &[Source::Columns, Source::Policies, Source::Dependencies],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let sizes = Sizes::of(facts);
    let policies = facts.policies.iter().filter(|policy| policy.alternatives);
    policies
        .filter_map(|policy| {
            let tenant = audit.tenancy.column(policy.table)?;
            let table = facts.relation(policy.table).filter(|table| table.rls)?;
            if !policy.roles.iter().any(|role| audit.reach.role(*role).is_some()) {
                return None;
            }
            let path = audit.reach.relation(table).rows()?;
            let rows = sizes.rows(table).filter(|rows| *rows >= ROWS_MIN)?;
            let references = facts.references_of(Catalog::Policy, policy.oid).iter();
            let mut on_tenant =
                references.filter(|one| one.referenced == table.oid && one.column == i32::from(tenant.number));
            on_tenant.next()?;
            let evidence = format!("it has an OR and compares {:?}, on about {rows:.0} rows", tenant.name);
            Some(Hit::on(Object::policy(facts, policy), evidence).path(path))
        })
        .collect()
}
