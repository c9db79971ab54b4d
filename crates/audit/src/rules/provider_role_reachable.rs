//! GRD-PG-204

use super::grants;
use crate::{
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-204",
    name: "provider_role_reachable",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application has the privileges of a managed service's administrator",
    docs: "## What

The application's role is, or has the privileges of, the administrator that a managed service hands out in place of a superuser: `rds_superuser`, `cloudsqlsuperuser`, `azure_pg_admin`, `service_role` and others.

## Why

A service's administrator owns or can take over what the application owns, makes roles and extensions, reads statistics and
statements of all roles, and often has BYPASSRLS. Connecting the application as it is the shortest way to a finding on each table.

## Exploit

```sql
SET ROLE rds_superuser; GRANT orders_owner TO my_app; SET ROLE orders_owner;
```

## Remedy

Revoke it, and let the application connect as a role of its own. Where the application connects as the administrator itself, no SQL helps: make a role for it.

## Near miss

The service's administrator may exist, and be used by people and migrations.
",
    needs: &[],
    check,
};

/// As the services name them in their documentation.
const ROLES: &[(&str, &str)] = &[
    ("rds_superuser", "Amazon RDS and Aurora"),
    ("rdsadmin", "Amazon RDS and Aurora"),
    ("cloudsqlsuperuser", "Google Cloud SQL"),
    ("alloydbsuperuser", "Google AlloyDB"),
    ("azure_pg_admin", "Azure Database for PostgreSQL"),
    ("supabase_admin", "Supabase"),
    ("service_role", "Supabase"),
    ("neon_superuser", "Neon"),
    ("doadmin", "DigitalOcean"),
    ("avnadmin", "Aiven"),
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    ROLES
        .iter()
        .filter_map(|(name, service)| {
            let role = facts.role_named(name)?;
            let path = audit.reach.role(role.oid).or_else(|| audit.reach.becomes(role.oid))?;
            let hit = Hit::on(Object::role(role), format!("it is the administrator of {service}")).path(path.clone());
            let sql = grants::leave(audit, role.oid);
            Some(if sql.is_empty() { hit } else { hit.remedy(sql) })
        })
        .collect()
}
