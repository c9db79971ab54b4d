//! 0xx: row-level security and policies.

use crate::bench::{Case, NearMiss};

pub(crate) const CASES: &[Case] = &[
    Case::new("GRD-PG-001", "switched off", "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY", "shop.orders"),
    Case::new(
        "GRD-PG-001",
        "a new table",
        "CREATE TABLE shop.\"Notes; --\" (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE shop.\"Notes; --\" OWNER TO {owner}; GRANT SELECT ON shop.\"Notes; --\" TO {app}",
        "shop.\"Notes; --\"",
    ),
    Case::new(
        "GRD-PG-002",
        "member of the owner",
        "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY; ALTER TABLE shop.orders OWNER TO {staff}; GRANT {staff} TO {app}",
        "shop.orders",
    ),
    Case::new(
        "GRD-PG-002",
        "only by SET ROLE",
        "ALTER ROLE {app} NOINHERIT; GRANT {owner} TO {app}; ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY",
        "shop.orders",
    ),
    Case::new(
        "GRD-PG-003",
        "beside no restrictive policy",
        "DROP POLICY tenant_only ON shop.orders",
        "rows_open on shop.orders",
    ),
    Case::new(
        "GRD-PG-003",
        "true by arithmetic",
        "DROP POLICY tenant_only ON shop.orders; \
         ALTER POLICY rows_open ON shop.orders USING (tenant_id IS NULL OR tenant_id IS NOT NULL)",
        "rows_open on shop.orders",
    ),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new(
        "GRD-PG-001",
        "no grant",
        "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY; REVOKE ALL ON shop.orders FROM {app}",
    ),
    NearMiss::new(
        "GRD-PG-001",
        "no way into the schema",
        "CREATE SCHEMA s; CREATE TABLE s.t (tenant_id uuid); GRANT ALL ON s.t TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-003",
        "a permissive tenant policy alone",
        "DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)",
    ),
    NearMiss::new(
        "GRD-PG-003",
        "open for a role out of reach",
        "DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders TO {staff}",
    ),
    NearMiss::new(
        "GRD-PG-003",
        "a predicate that runs a query is not run by us",
        "DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders \
         USING (table_to_xml('shop.countries'::regclass, true, false, '') IS NOT NULL)",
    ),
    NearMiss::new("GRD-PG-002", "an owner out of reach", "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY"),
];

#[test]
fn policies() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
