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
    NearMiss::new("GRD-PG-002", "an owner out of reach", "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY"),
];

#[tokio::test(flavor = "multi_thread")]
async fn policies() {
    crate::bench::run_all(CASES, NEAR_MISSES).await;
}
