//! GRD-PG-220

use guardian_postgres::quote;

use super::grants;
use crate::{
    Oid,
    facts::{Privilege, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-220",
    name: "secret_catalog_readable",
    severity: Severity::High,
    protects: Protects::Secrets,
    title: "The application may read a catalog that PostgreSQL keeps to itself",
    docs: "## What

SELECT on a system catalog that is closed by default was granted to the application's role, to a role whose privileges it has, or to
PUBLIC: password hashes, connection strings, sampled values of every column, large objects, the server's configuration.

## Why

No policy guards a catalog: what stands in it is shown for all roles, tables and tenants.

## Exploit

```sql
SELECT rolname, rolpassword FROM pg_authid;
SELECT stavalues1 FROM pg_statistic;   -- the most common values of every tenant table
```

## Remedy

Revoke it. Passwords that were readable must be changed.

## Near miss

The views that filter by privileges (`pg_stats`, `pg_roles`, `pg_user_mappings`) stay silent.
",
    needs: &[Source::Columns],
    check,
};

/// Columns that tell by themselves, where SELECT is granted on columns only.
const COLUMNS: [&str; 4] = ["rolpassword", "passwd", "umoptions", "subconninfo"];

/// Name, severity, and what stands in it.
const CATALOGS: &[(&str, Severity, &str)] = &[
    ("pg_authid", Severity::High, "password hashes of all roles"),
    ("pg_shadow", Severity::High, "password hashes of all logins"),
    ("pg_user_mapping", Severity::High, "passwords for other servers"),
    ("pg_subscription", Severity::High, "connection strings with passwords"),
    ("pg_statistic", Severity::High, "sampled values of every column"),
    ("pg_statistic_ext_data", Severity::High, "sampled values of columns"),
    ("pg_largeobject", Severity::High, "the contents of all large objects"),
    ("pg_hba_file_rules", Severity::Low, "who may connect from where"),
    ("pg_ident_file_mappings", Severity::Low, "which accounts may connect as which roles"),
    ("pg_file_settings", Severity::Low, "the server's configuration files"),
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let catalogs = facts.relations.iter().filter(|relation| relation.schema == "pg_catalog");
    catalogs
        .filter_map(|relation| {
            let (name, severity, holds) = CATALOGS.iter().find(|(name, ..)| *name == relation.name)?;
            let secret = facts.columns_of(relation.oid).iter().filter(|one| COLUMNS.contains(&one.name.as_str()));
            let acls = [&relation.acl].into_iter().chain(secret.map(|column| &column.acl));
            let mut held: Vec<Oid> =
                acls.flat_map(|acl| grants::holders(audit, acl, relation.owner, Privilege::Select)).collect();
            held.sort_unstable();
            held.dedup();
            let path = audit.reach.relation(relation).select()?;
            if held.is_empty() {
                return None;
            }
            let evidence = format!("it holds {holds}, and SELECT is granted to {}", grants::names(facts, &held));
            let sql = grants::revoke(facts, "SELECT", &format!("TABLE {}", quote::qualified("pg_catalog", name)), &held);
            Some(Hit::on(Object::relation(relation), evidence).path(path).severity(*severity).remedy(sql))
        })
        .collect()
}
