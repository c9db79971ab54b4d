//! 6xx: operation and performance.

use crate::bench::{Case, NearMiss};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "GRD-PG-611",
        "admin or tenant",
        "ALTER POLICY tenant_only ON shop.orders USING (pg_has_role(current_user, 'pg_monitor', 'USAGE') \
           OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         UPDATE pg_class SET reltuples = 5e6 WHERE oid = 'shop.orders'::regclass",
        "tenant_only on shop.orders",
    )
    .also(&["GRD-PG-015", "GRD-PG-613"])
    .without_sql(),
    Case::new(
        "GRD-PG-612",
        "by its rows",
        "UPDATE pg_class SET reltuples = 3e8 WHERE oid = 'shop.orders'::regclass",
        "shop.orders",
    )
    .also(&["GRD-PG-613"])
    .without_sql(),
    Case::new(
        "GRD-PG-612",
        "by its partitions' bytes",
        "CREATE TABLE shop.events (tenant_id uuid NOT NULL, id uuid NOT NULL) PARTITION BY HASH (id); \
         CREATE TABLE shop.events_0 PARTITION OF shop.events FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
         CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES WITH (MODULUS 2, REMAINDER 1); \
         ALTER TABLE shop.events OWNER TO {owner}; ALTER TABLE shop.events_0 OWNER TO {owner}; ALTER TABLE shop.events_1 OWNER TO {owner}; \
         ALTER TABLE shop.events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY tenant_only ON shop.events TO {app} USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         GRANT INSERT ON shop.events TO {app}; UPDATE pg_class SET relpages = 7000000 WHERE relname ~ '^events_[01]$'",
        "shop.events",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-613",
        "an analysed table",
        "INSERT INTO shop.countries VALUES ('IS', 'Iceland'); INSERT INTO shop.orders \
           SELECT gen_random_uuid(), gen_random_uuid(), 'IS' FROM generate_series(1, 10); ANALYZE shop.orders",
        "{db}",
    )
    .without_sql(),
    Case::new("GRD-PG-614", "reads everything", "GRANT pg_read_all_data TO {staff}", "{staff}")
    .since(14),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new(
        "GRD-PG-611",
        "the tenant alone",
        "UPDATE pg_class SET reltuples = 5e6 WHERE oid = 'shop.orders'::regclass",
    ),
    NearMiss::new(
        "GRD-PG-611",
        "a small table",
        "ALTER POLICY tenant_only ON shop.orders USING (pg_has_role(current_user, 'pg_monitor', 'USAGE') \
           OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)",
    ),
    NearMiss::new(
        "GRD-PG-612",
        "a common table",
        "UPDATE pg_class SET reltuples = 3e8 WHERE oid = 'shop.countries'::regclass",
    ),
    NearMiss::new(
        "GRD-PG-613",
        "a common table",
        "INSERT INTO shop.countries VALUES ('IS', 'Iceland'); ANALYZE shop.countries",
    ),
    NearMiss::new(
        "GRD-PG-614",
        "not of this database",
        "GRANT pg_read_all_data TO {staff}; REVOKE CONNECT ON DATABASE {db} FROM {staff}",
    )
    .since(14),
    NearMiss::new("GRD-PG-614", "with BYPASSRLS", "GRANT pg_read_all_data TO {staff}; ALTER ROLE {staff} BYPASSRLS")
        .since(14),
];

#[test]
fn operation() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
