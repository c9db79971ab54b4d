//! 2xx: attributes, memberships, ownership and privileges.

use guardian_audit::{
    Facts, Severity, audit,
    facts::{Grant, Privilege},
};

use crate::bench::{Bench, Case, NearMiss, set, well_kept};

pub(crate) const CASES: &[Case] = &[
    Case::new("GRD-PG-202", "by itself", "ALTER ROLE {app} CREATEROLE", "{app}"),
    Case::new(
        "GRD-PG-202",
        "by SET ROLE without inheritance",
        "ALTER ROLE {staff} CREATEROLE; ALTER ROLE {app} NOINHERIT; GRANT {staff} TO {app}",
        "{staff}",
    ),
    Case::new("GRD-PG-203", "files", "GRANT pg_read_server_files TO {app}", "pg_read_server_files"),
    Case::new("GRD-PG-203", "through another role", "GRANT pg_monitor TO {staff}; GRANT {staff} TO {app}", "pg_monitor"),
    Case::new("GRD-PG-203", "signals", "GRANT pg_signal_backend TO {app}", "pg_signal_backend"),
    Case::new("GRD-PG-203", "all rows", "GRANT pg_read_all_data TO {app}", "pg_read_all_data").since(14),
    Case::new(
        "GRD-PG-204",
        "a member of it",
        "CREATE ROLE rds_superuser NOLOGIN; GRANT rds_superuser TO {app}",
        "rds_superuser",
    )
    .on_server(&[("cluster_name", "rds")]),
    Case::new("GRD-PG-205", "by itself", "ALTER ROLE {app} REPLICATION", "{app}"),
    Case::new("GRD-PG-206", "by itself", "ALTER ROLE {app} CREATEDB", "{app}"),
    Case::new("GRD-PG-207", "of a table", "ALTER TABLE shop.orders OWNER TO {app}", "{app}"),
    Case::new("GRD-PG-207", "of tables and their schema, by membership", "GRANT {owner} TO {app}", "{owner}"),
    Case::new("GRD-PG-207", "of the schema", "ALTER SCHEMA shop OWNER TO {app}", "{app}"),
    Case::new("GRD-PG-207", "of the database", "ALTER DATABASE \"{db}\" OWNER TO {app}", "{app}"),
    Case::new("GRD-PG-208", "by name", "GRANT TRUNCATE ON shop.orders TO {app}", "shop.orders"),
    Case::new(
        "GRD-PG-208",
        "to a group",
        "GRANT TRUNCATE, TRIGGER ON shop.orders TO {staff}; GRANT {staff} TO {app}",
        "shop.orders",
    )
    .also(&["GRD-PG-209"]),
    Case::new("GRD-PG-209", "by name", "GRANT TRIGGER ON shop.lines TO {app}", "shop.lines"),
    Case::new(
        "GRD-PG-209",
        "on a common table, with temporary functions",
        "GRANT TRIGGER ON shop.countries TO {app}; GRANT TEMPORARY ON DATABASE \"{db}\" TO {app}",
        "shop.countries",
    )
    .also(&["GRD-PG-214"]),
    Case::new(
        "GRD-PG-209",
        "on a common table, with functions in a schema",
        "GRANT TRIGGER ON shop.countries TO PUBLIC; GRANT CREATE ON SCHEMA shop TO {app}",
        "shop.countries",
    )
    .also(&["GRD-PG-212"]),
    Case::new("GRD-PG-210", "by name", "GRANT REFERENCES ON shop.lines TO {app}", "shop.lines"),
    Case::new("GRD-PG-210", "on a column", "GRANT REFERENCES (id) ON shop.lines TO {app}", "shop.lines"),
    Case::new("GRD-PG-212", "to PUBLIC, as before 15", "GRANT CREATE ON SCHEMA public TO PUBLIC", "public"),
    Case::new("GRD-PG-212", "of the tables", "GRANT CREATE ON SCHEMA shop TO {app}", "shop"),
    Case::new("GRD-PG-213", "by name", "GRANT CREATE ON DATABASE \"{db}\" TO {app}", "{db}"),
    Case::new("GRD-PG-214", "to PUBLIC", "GRANT TEMPORARY ON DATABASE \"{db}\" TO PUBLIC", "{db}"),
    Case::new("GRD-PG-215", "of rows", "GRANT SELECT ON shop.orders TO PUBLIC", "shop.orders"),
    Case::new("GRD-PG-215", "of a column", "GRANT SELECT (note) ON shop.orders TO PUBLIC", "shop.orders"),
    Case::new("GRD-PG-216", "the default", "GRANT CONNECT ON DATABASE \"{db}\" TO PUBLIC", "{db}"),
    Case::new(
        "GRD-PG-217",
        "everywhere",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {app}",
        "{owner}",
    ),
    Case::new(
        "GRD-PG-217",
        "to PUBLIC in a schema",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA shop GRANT ALL ON TABLES TO PUBLIC",
        "{owner}",
    ),
    Case::new("GRD-PG-218", "C", "UPDATE pg_language SET lanpltrusted = true WHERE lanname = 'c'", "c"),
    Case::new("GRD-PG-220", "hashes", "GRANT SELECT ON pg_authid TO {app}", "pg_catalog.pg_authid"),
    Case::new(
        "GRD-PG-220",
        "a column",
        "GRANT SELECT (subconninfo) ON pg_subscription TO {app}",
        "pg_catalog.pg_subscription",
    ),
    Case::new("GRD-PG-220", "samples, to PUBLIC", "GRANT SELECT ON pg_statistic TO PUBLIC", "pg_catalog.pg_statistic"),
    Case::new(
        "GRD-PG-221",
        "files",
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {app}",
        "pg_catalog.pg_read_file(text)",
    ),
    Case::new(
        "GRD-PG-222",
        "as installed",
        "CREATE SCHEMA statistics; GRANT USAGE ON SCHEMA statistics TO {app}; CREATE EXTENSION pg_stat_statements SCHEMA statistics",
        "pg_stat_statements",
    ),
    Case::new(
        "GRD-PG-223",
        "the default",
        "GRANT EXECUTE ON FUNCTION pg_stat_get_activity(int) TO PUBLIC",
        "pg_catalog.pg_stat_activity",
    ),
    Case::new(
        "GRD-PG-224",
        "one of the two",
        "GRANT EXECUTE ON FUNCTION pg_cancel_backend(int) TO PUBLIC",
        "pg_catalog.pg_terminate_backend",
    ),
    Case::new(
        "GRD-PG-225",
        "the default",
        "GRANT EXECUTE ON FUNCTION lo_create(oid), lo_get(oid) TO PUBLIC; SELECT lo_from_bytea(0, 'x')",
        "pg_catalog.pg_largeobject",
    ),
    Case::new(
        "GRD-PG-227",
        "triggers off",
        "GRANT SET ON PARAMETER session_replication_role TO {app}",
        "session_replication_role",
    )
    .since(15),
    Case::new("GRD-PG-227", "ALTER SYSTEM", "GRANT ALTER SYSTEM ON PARAMETER work_mem TO {app}", "work_mem").since(15),
    Case::new("GRD-PG-228", "no limit", "ALTER ROLE {app} CONNECTION LIMIT -1", "{app}"),
    Case::new("GRD-PG-229", "as it is", "SELECT", "{app}").without_sql(),
    Case::new("GRD-PG-211", "by name", "SELECT", "shop.orders").pretending(maintained).remedy_not_run(),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new("GRD-PG-202", "no member of it", "ALTER ROLE {staff} CREATEROLE"),
    NearMiss::new("GRD-PG-203", "another's", "GRANT pg_monitor TO {staff}"),
    NearMiss::new("GRD-PG-204", "a name like it", "CREATE ROLE {other} NOLOGIN; GRANT {other} TO {app}"),
    NearMiss::new("GRD-PG-205", "no member of it", "ALTER ROLE {staff} REPLICATION"),
    NearMiss::new("GRD-PG-206", "no member of it", "ALTER ROLE {staff} CREATEDB; GRANT {app} TO {staff}"),
    NearMiss::new("GRD-PG-207", "an owner out of reach", "ALTER TABLE shop.orders OWNER TO {staff}"),
    NearMiss::new("GRD-PG-207", "of a common table", "ALTER TABLE shop.countries OWNER TO {app}"),
    NearMiss::new("GRD-PG-208", "a common table", "GRANT TRUNCATE ON shop.countries TO {app}"),
    NearMiss::new("GRD-PG-208", "another's", "GRANT ALL ON shop.orders TO {staff}"),
    NearMiss::new("GRD-PG-209", "a common table, and no functions", "GRANT TRIGGER ON shop.countries TO {app}"),
    NearMiss::new(
        "GRD-PG-209",
        "functions, and another's common table",
        "GRANT TRIGGER ON shop.countries TO {staff}; GRANT CREATE ON SCHEMA shop TO {app}",
    ),
    NearMiss::new("GRD-PG-210", "a common table", "GRANT REFERENCES ON shop.countries TO {app}"),
    NearMiss::new("GRD-PG-211", "another's", "GRANT ALL ON shop.orders TO {staff}"),
    NearMiss::new("GRD-PG-212", "another's", "GRANT CREATE ON SCHEMA shop TO {staff}"),
    NearMiss::new("GRD-PG-213", "another's", "GRANT CREATE ON DATABASE \"{db}\" TO {staff}"),
    NearMiss::new("GRD-PG-214", "another's", "GRANT TEMPORARY ON DATABASE \"{db}\" TO {staff}"),
    NearMiss::new("GRD-PG-215", "a common table", "GRANT SELECT ON shop.countries TO PUBLIC"),
    NearMiss::new(
        "GRD-PG-215",
        "in a schema that is closed",
        "CREATE TABLE public.t (tenant_id uuid); GRANT SELECT ON public.t TO PUBLIC",
    ),
    NearMiss::new("GRD-PG-216", "by name", "GRANT CONNECT ON DATABASE \"{db}\" TO {owner}"),
    NearMiss::new("GRD-PG-217", "another's", "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON TABLES TO {staff}"),
    NearMiss::new(
        "GRD-PG-217",
        "of functions",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT EXECUTE ON FUNCTIONS TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-218",
        "a confined language",
        "UPDATE pg_language SET lanpltrusted = false WHERE lanname = 'plpgsql'",
    ),
    NearMiss::new("GRD-PG-220", "a column that tells nothing", "GRANT SELECT (rolname) ON pg_authid TO {app}"),
    NearMiss::new("GRD-PG-220", "another's", "GRANT SELECT ON pg_authid TO {staff}"),
    NearMiss::new(
        "GRD-PG-220",
        "one that holds no secrets",
        "REVOKE SELECT ON pg_tables FROM PUBLIC; GRANT SELECT ON pg_tables TO {app}",
    ),
    NearMiss::new("GRD-PG-221", "PostgreSQL's own role", "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO pg_monitor"),
    NearMiss::new(
        "GRD-PG-222",
        "revoked",
        "CREATE SCHEMA statistics; GRANT USAGE ON SCHEMA statistics TO {app}; CREATE EXTENSION pg_stat_statements SCHEMA statistics; \
         REVOKE ALL ON statistics.pg_stat_statements FROM PUBLIC",
    ),
    NearMiss::new("GRD-PG-223", "another's", "GRANT EXECUTE ON FUNCTION pg_stat_get_activity(int) TO {staff}"),
    NearMiss::new("GRD-PG-224", "another's", "GRANT EXECUTE ON FUNCTION pg_cancel_backend(int) TO {staff}"),
    NearMiss::new("GRD-PG-225", "no function to read them", "SELECT lo_from_bytea(0, 'x')"),
    NearMiss::new("GRD-PG-227", "another's", "GRANT SET ON PARAMETER session_replication_role TO {owner}").since(15),
    NearMiss::new("GRD-PG-228", "no login", "ALTER ROLE {app} NOLOGIN CONNECTION LIMIT -1"),
    NearMiss::new("GRD-PG-229", "no tenant table in reach", "REVOKE ALL ON shop.orders, shop.lines FROM {app}"),
];

/// MAINTAIN, which the release that the tests run on need not have.
fn maintained(facts: &mut Facts) {
    well_kept(facts);
    let orders = facts.relations.iter_mut().find(|table| table.name == "orders").unwrap();
    let app = orders.acl.iter().find(|grant| grant.to != orders.owner).unwrap().to;
    orders.acl.push(Grant { to: app, privileges: vec![Privilege::Maintain], grantable: Vec::new() });
}

/// What the same privilege is worth differs by release, setting and place.
#[tokio::test]
async fn severities() {
    let worth = [
        ("GRD-PG-202", "ALTER ROLE {app} CREATEROLE", before_16 as fn(&mut Facts), Severity::Critical),
        ("GRD-PG-202", "ALTER ROLE {app} CREATEROLE", from_16, Severity::Medium),
        ("GRD-PG-203", "GRANT pg_execute_server_program TO {app}", well_kept, Severity::Critical),
        ("GRD-PG-203", "GRANT pg_monitor TO {app}", well_kept, Severity::Medium),
        ("GRD-PG-205", "ALTER ROLE {app} REPLICATION", well_kept, Severity::High),
        ("GRD-PG-205", "ALTER ROLE {app} REPLICATION", decodes, Severity::Critical),
        ("GRD-PG-207", "GRANT {owner} TO {app}", well_kept, Severity::Critical),
        ("GRD-PG-212", "GRANT CREATE ON SCHEMA public TO {app}", well_kept, Severity::High),
        ("GRD-PG-212", "GRANT CREATE ON SCHEMA shop TO {app}", well_kept, Severity::Medium),
        ("GRD-PG-225", "GRANT EXECUTE ON FUNCTION lo_get(oid) TO {app}", well_kept, Severity::Low),
        (
            "GRD-PG-225",
            "GRANT EXECUTE ON FUNCTION lo_get(oid) TO {app}; SELECT lo_create(7); GRANT SELECT ON LARGE OBJECT 7 TO {app}",
            well_kept,
            Severity::Medium,
        ),
    ];
    for (rule, provoke, pretend, severity) in worth {
        let bench = Bench::new().await;
        bench.execute(provoke).await;
        let mut facts = bench.facts().await;
        pretend(&mut facts);
        let report = audit(&facts, &bench.options()).unwrap();
        let found: Vec<Severity> = report.findings.iter().filter(|one| one.rule == rule).map(|one| one.severity).collect();
        assert_eq!(found, [severity], "{rule}: {provoke}");
    }
}

fn before_16(facts: &mut Facts) {
    facts.server.version = 150_099;
}

fn from_16(facts: &mut Facts) {
    facts.server.version = 160_099;
}

fn decodes(facts: &mut Facts) {
    set(facts, "wal_level", "logical");
}

#[test]
fn privileges() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
