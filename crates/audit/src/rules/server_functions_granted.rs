//! GRD-PG-221

use guardian_postgres::quote;

use super::grants;
use crate::{
    facts::{Privilege, Source},
    finding::{Hit, Object},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-221",
    name: "server_functions_granted",
    severity: Severity::Critical,
    protects: Protects::Rows,
    title: "The application may call a function that PostgreSQL keeps for administrators",
    docs: "## What

EXECUTE on a system function that is closed by default was granted to the application's role, to a role whose privileges it has, or
to PUBLIC: reading and writing files, promotion, the write-ahead log, the configuration. The severity is that of what it does.

## Why

These functions work on the server as a whole. `pg_read_file` reads the files that the tables of all tenants are in.

## Exploit

```sql
SELECT pg_read_binary_file('base/16384/16397');   -- the pages of a table
```

## Remedy

Revoke it.

## Near miss

Functions that are open by default and check the caller themselves stay silent, and so do grants to PostgreSQL's own roles.
",
    needs: &[Source::Functions],
    check,
};

/// Name, severity, and what it does.
const FUNCTIONS: &[(&str, Severity, &str)] = &[
    ("pg_read_file", Severity::Critical, "reads files of the server"),
    ("pg_read_binary_file", Severity::Critical, "reads files of the server"),
    ("lo_import", Severity::Critical, "reads files of the server"),
    ("lo_export", Severity::Critical, "writes files of the server"),
    ("pg_ls_dir", Severity::Medium, "lists folders of the server"),
    ("pg_stat_file", Severity::Medium, "looks at files of the server"),
    ("pg_ls_logdir", Severity::Low, "lists the server's log files"),
    ("pg_ls_waldir", Severity::Low, "lists the write-ahead log"),
    ("pg_ls_tmpdir", Severity::Low, "lists temporary files of all sessions"),
    ("pg_ls_archive_statusdir", Severity::Low, "lists the archive's state"),
    ("pg_current_logfile", Severity::Low, "tells the server's log file"),
    ("pg_hba_file_rules", Severity::Low, "shows who may connect from where"),
    ("pg_show_all_file_settings", Severity::Low, "shows the server's configuration files"),
    ("pg_promote", Severity::High, "makes a standby a primary"),
    ("pg_reload_conf", Severity::Medium, "reloads the configuration"),
    ("pg_rotate_logfile", Severity::Low, "rotates the server's log"),
    ("pg_switch_wal", Severity::Medium, "fills the archive"),
    ("pg_create_restore_point", Severity::Low, "writes to the write-ahead log"),
    ("pg_backup_start", Severity::Medium, "begins a backup"),
    ("pg_start_backup", Severity::Medium, "begins a backup"),
    ("pg_stat_reset", Severity::Low, "wipes the statistics that autovacuum works by"),
];

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let facts = audit.facts;
    let system = facts.functions.iter().filter(|function| function.schema == "pg_catalog");
    system
        .filter_map(|function| {
            let (name, severity, does) = FUNCTIONS.iter().find(|(name, ..)| *name == function.name)?;
            let held = grants::holders(audit, &function.acl, function.owner, Privilege::Execute);
            if held.is_empty() {
                return None;
            }
            let path = audit.reach.function(function)?;
            let signature = format!("{}({})", quote::qualified("pg_catalog", name), function.arguments);
            let sql = grants::revoke(facts, "EXECUTE", &format!("FUNCTION {signature}"), &held);
            let evidence = format!("it {does}, and EXECUTE is granted to {}", grants::names(facts, &held));
            Some(Hit::on(Object::function(function), evidence).path(path).severity(*severity).remedy(sql))
        })
        .collect()
}
