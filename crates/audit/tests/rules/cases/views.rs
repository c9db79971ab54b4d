//! 3xx: views, functions and code.

use crate::bench::{Case, NearMiss};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "GRD-PG-301",
        "owned by a superuser",
        "CREATE VIEW shop.totals AS SELECT tenant_id, count(*) AS n FROM shop.orders GROUP BY 1; GRANT SELECT ON shop.totals TO {app}",
        "shop.totals",
    ),
    Case::new(
        "GRD-PG-301",
        "owned by the owner of a table that is not forced",
        "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY; CREATE VIEW shop.v AS SELECT * FROM shop.orders; \
         ALTER VIEW shop.v OWNER TO {owner}; GRANT SELECT ON shop.v TO {app}",
        "shop.v",
    ),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new(
        "GRD-PG-301",
        "an invoker view",
        "CREATE VIEW shop.v WITH (security_invoker = on) AS SELECT * FROM shop.orders; GRANT SELECT ON shop.v TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-301",
        "an owner that policies apply to",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER VIEW shop.v OWNER TO {owner}; GRANT SELECT ON shop.v TO {app}",
    ),
];

#[test]
fn views() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
