//! GRD-PG-203

use super::grants;
use crate::{
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-203",
    name: "system_role_reachable",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The application has the privileges of one of PostgreSQL's own roles",
    docs: "## What

The application's role, or a role whose privileges it can use, was granted a role of PostgreSQL's own such as
`pg_read_all_data`, `pg_execute_server_program`, `pg_monitor` or `pg_signal_backend`. The severity is that of what the role may do.

## Why

These roles stand beside the privileges on tables: they read files, run programs, read all relations of all schemas (the
catalog with the password hashes among them), show the statements of every role, or end every session.

## Exploit

```sql
COPY (SELECT '') TO PROGRAM 'id';                    -- pg_execute_server_program
SELECT rolname, rolpassword FROM pg_authid;          -- pg_read_all_data
SELECT pg_terminate_backend(pid) FROM pg_stat_activity;   -- pg_signal_backend
```

## Remedy

Revoke it. Monitoring, backups and exports have logins of their own.

## Near miss

`pg_database_owner` is granted to nobody, and what a monitoring login holds does not matter here.
",
    needs: &[],
    check,
};

/// Name, severity, and what it may do.
const ROLES: &[(&str, Severity, &str)] = &[
    ("pg_execute_server_program", Severity::Critical, "runs programs as the account that PostgreSQL runs as"),
    ("pg_read_server_files", Severity::Critical, "reads any file that PostgreSQL can read, those of its tables among them"),
    ("pg_write_server_files", Severity::Critical, "writes any file that PostgreSQL can write"),
    (
        "pg_read_all_data",
        Severity::High,
        "reads every relation that policies do not guard, pg_authid with the password hashes among them",
    ),
    ("pg_write_all_data", Severity::High, "writes every relation that policies do not guard"),
    ("pg_signal_backend", Severity::High, "ends the session of every role but superusers"),
    ("pg_maintain", Severity::Medium, "locks and rewrites every table (VACUUM FULL, CLUSTER, REINDEX, LOCK TABLE)"),
    ("pg_create_subscription", Severity::Medium, "makes the server connect to others"),
    ("pg_monitor", Severity::Medium, "shows the statements of every role, and every setting"),
    ("pg_read_all_stats", Severity::Medium, "shows the statements of every role"),
    ("pg_stat_scan_tables", Severity::Medium, "holds locks on tables while it scans them"),
    ("pg_use_reserved_connections", Severity::Medium, "takes the connections that are kept for emergencies"),
    ("pg_read_all_settings", Severity::Low, "shows every setting"),
    ("pg_checkpoint", Severity::Low, "starts checkpoints"),
    ("pg_signal_autovacuum_worker", Severity::Low, "ends autovacuum"),
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    ROLES
        .iter()
        .filter_map(|(name, severity, does)| {
            let role = facts.role_named(name)?;
            let path = audit.reach.role(role.oid)?;
            // Not one that only another of PostgreSQL's own passes on, such as pg_monitor: that one is reported.
            let direct = facts.memberships.iter().filter(|one| one.role == role.oid);
            let mut members = direct.filter_map(|one| facts.role(one.member));
            if !members.any(|member| !grants::is_system(&member.name) && audit.reach.role(member.oid).is_some()) {
                return None;
            }
            let hit = Hit::on(Object::role(role), format!("it {does}")).path(path.clone());
            Some(hit.severity(*severity).remedy(grants::leave(audit, role.oid)))
        })
        .collect()
}
