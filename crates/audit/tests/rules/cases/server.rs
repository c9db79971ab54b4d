//! 5xx: the server, its settings and its release.

use guardian_audit::Facts;

use crate::bench::{Case, NearMiss, set, well_kept};

/// Removes what the fix of CVE-2024-4317 added.
const OLD_VIEW: &str = "SET allow_system_table_mods = on; DO $$ BEGIN \
    EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_stats_ext_exprs WITH (security_barrier) AS ' \
        || regexp_replace(pg_get_viewdef('pg_catalog.pg_stats_ext_exprs'), '\\mWHERE\\M.*$', ''); END $$";

/// Writes a line into the server's own file; it is read by the view at once and by the server only when it is told to.
macro_rules! hba {
    ($line:literal) => {
        concat!("DO $$ BEGIN EXECUTE format('COPY (SELECT %L) TO %L', '", $line, "', current_setting('hba_file')); END $$")
    };
}

const OWN: &[(&str, &str)] = &[("cluster_name", "own")];
const FEW_LOCKS: &[(&str, &str)] =
    &[("max_connections", "20"), ("max_locks_per_transaction", "10"), ("max_prepared_transactions", "0")];

pub(crate) const CASES: &[Case] = &[
    Case::new("GRD-PG-501", "flaws of policies", "SELECT", "postgresql").without_sql().pretending(release_15_3),
    Case::new("GRD-PG-502", "14, the day after", "SELECT", "postgresql").without_sql().pretending(past_14),
    Case::new("GRD-PG-503", "not fixed in this database", OLD_VIEW, "pg_catalog.pg_stats_ext_exprs")
        .pretending(views_as_they_are)
        .since(14),
    Case::new(
        "GRD-PG-504",
        "triggers off, by the database",
        "ALTER DATABASE \"{db}\" SET session_replication_role = replica",
        "session_replication_role",
    ),
    Case::new(
        "GRD-PG-504",
        "by the role in the database",
        "ALTER ROLE {app} IN DATABASE \"{db}\" SET row_security = off",
        "row_security",
    ),
    Case::new("GRD-PG-504", "md5", "ALTER ROLE {app} SET password_encryption = 'md5'", "password_encryption"),
    Case::new("GRD-PG-504", "by the server", "SELECT", "lo_compat_privileges")
        .pretending(large_objects_open)
        .remedy_not_run(),
    Case::new("GRD-PG-505", "md5", "SET password_encryption = 'md5'; ALTER ROLE {app} PASSWORD 'x'", "{app}").without_sql(),
    Case::new("GRD-PG-506", "everywhere", "SELECT", "ssl").without_sql().pretending(listens_everywhere),
    Case::new(
        "GRD-PG-507",
        "a network",
        hba!("host all all 10.0.0.0/8 trust"),
        "pg_hba.conf: host all all 10.0.0.0 255.0.0.0 trust",
    )
    .without_sql()
    .on_server(OWN),
    Case::new(
        "GRD-PG-508",
        "everybody from everywhere, in clear",
        hba!("host all all 0.0.0.0/0 password"),
        "pg_hba.conf: host all all 0.0.0.0 0.0.0.0 password",
    )
    .without_sql()
    .on_server(OWN),
    Case::new(
        "GRD-PG-509",
        "slow statements",
        "ALTER DATABASE \"{db}\" SET log_min_duration_statement = 100; ALTER DATABASE \"{db}\" SET log_parameter_max_length = -1",
        "log_parameter_max_length",
    ),
    Case::new(
        "GRD-PG-509",
        "on errors",
        "ALTER ROLE {app} IN DATABASE \"{db}\" SET log_parameter_max_length_on_error = -1",
        "log_parameter_max_length_on_error",
    ),
    Case::new(
        "GRD-PG-510",
        "many tables",
        "DO $$ BEGIN FOR n IN 1..160 LOOP EXECUTE format('CREATE TABLE public.t%s ()', n); END LOOP; END $$",
        "max_locks_per_transaction",
    )
    .without_sql()
    .on_server(FEW_LOCKS),
    Case::new(
        "GRD-PG-511",
        "left over for the role",
        "ALTER POLICY tenant_only ON shop.orders \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid AND current_setting('app.tenant', true) <> 'x'); \
         ALTER ROLE {app} SET app.tenant = '11111111-1111-1111-1111-111111111111'",
        "\"app.tenant\"",
    )
    .also(&["GRD-PG-101"]),
    Case::new("GRD-PG-512", "as these servers are", "SELECT", "max_prepared_transactions")
        .without_sql()
        .pretending(prepared_as_they_are),
    Case::new("GRD-PG-513", "of everything", "CREATE PUBLICATION everything FOR ALL TABLES", "everything"),
    Case::new("GRD-PG-513", "of a tenant table", "CREATE PUBLICATION named FOR TABLE shop.orders, shop.countries", "named"),
    Case::new("GRD-PG-514", "unused", "SELECT pg_create_logical_replication_slot('old_etl', 'pgoutput')", "old_etl")
        .on_server(&[("wal_level", "logical")]),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new("GRD-PG-501", "the newest", "SELECT").since(14),
    NearMiss::new("GRD-PG-502", "14 on its last day", "SELECT").pretending(on_the_last_day_of_14),
    NearMiss::new("GRD-PG-503", "not for PUBLIC", OLD_VIEW_FOR_NOBODY).pretending(views_as_they_are).since(14),
    NearMiss::new("GRD-PG-504", "another's", "ALTER ROLE {staff} SET session_replication_role = replica"),
    NearMiss::new(
        "GRD-PG-504",
        "behind a better one",
        "ALTER DATABASE \"{db}\" SET row_security = off; ALTER ROLE {app} SET row_security = on",
    ),
    NearMiss::new("GRD-PG-505", "another's", "SET password_encryption = 'md5'; ALTER ROLE {staff} PASSWORD 'x'"),
    NearMiss::new("GRD-PG-506", "this machine", "SELECT"),
    NearMiss::new("GRD-PG-507", "this machine", hba!("host all all 127.0.0.1/32 trust")).on_server(OWN),
    NearMiss::new("GRD-PG-508", "a network with SCRAM", hba!("hostssl shop my_app 10.0.0.0/8 scram-sha-256")).on_server(OWN),
    NearMiss::new(
        "GRD-PG-509",
        "without parameters",
        "ALTER DATABASE \"{db}\" SET log_statement = 'all'; ALTER DATABASE \"{db}\" SET log_parameter_max_length = -1; ALTER ROLE {app} SET log_parameter_max_length = 0",
    ),
    NearMiss::new("GRD-PG-510", "few tables", "SELECT"),
    NearMiss::new("GRD-PG-511", "named by no policy", "ALTER ROLE {app} SET app.theme = 'dark'"),
    NearMiss::new("GRD-PG-512", "0", "SELECT"),
    NearMiss::new("GRD-PG-513", "of a common table", "CREATE PUBLICATION named FOR TABLE shop.countries"),
    NearMiss::new("GRD-PG-514", "a physical one", "SELECT pg_create_physical_replication_slot('standby')").on_server(OWN),
];

const OLD_VIEW_FOR_NOBODY: &str = "REVOKE SELECT ON pg_catalog.pg_stats_ext_exprs, pg_catalog.pg_stats_ext FROM PUBLIC; \
    SET allow_system_table_mods = on; DO $$ BEGIN \
    EXECUTE 'CREATE OR REPLACE VIEW pg_catalog.pg_stats_ext_exprs WITH (security_barrier) AS ' \
        || regexp_replace(pg_get_viewdef('pg_catalog.pg_stats_ext_exprs'), '\\mWHERE\\M.*$', ''); END $$";

/// 15.3 has the fix of CVE-2023-2455, and not that of CVE-2023-39418.
fn release_15_3(facts: &mut Facts) {
    well_kept(facts);
    facts.server.version = 150_003;
}

fn past_14(facts: &mut Facts) {
    well_kept(facts);
    facts.server.version = 140_099;
    "2026-11-13".clone_into(&mut facts.server.collected_on);
}

fn on_the_last_day_of_14(facts: &mut Facts) {
    well_kept(facts);
    facts.server.version = 140_099;
    "2026-11-12".clone_into(&mut facts.server.collected_on);
}

fn views_as_they_are(facts: &mut Facts) {
    let open = facts.server.open_statistics.clone();
    well_kept(facts);
    facts.server.open_statistics = open;
}

fn large_objects_open(facts: &mut Facts) {
    well_kept(facts);
    set(facts, "lo_compat_privileges", "on");
}

fn listens_everywhere(facts: &mut Facts) {
    well_kept(facts);
    set(facts, "listen_addresses", "*");
}

fn prepared_as_they_are(facts: &mut Facts) {
    let setting = facts.setting("max_prepared_transactions").unwrap().value.clone();
    well_kept(facts);
    set(facts, "max_prepared_transactions", &setting);
}

#[test]
fn server() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
