//! 301 to 309: views, materialised views, foreign tables, rewrite rules.

use guardian_audit::Facts;

use crate::bench::{Case, NearMiss, well_kept};

/// The facts of a release without `security_invoker`.
fn of_14(facts: &mut Facts) {
    well_kept(facts);
    facts.server.version = 140_099;
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "GRD-PG-301",
        "owned by a superuser",
        "CREATE VIEW shop.totals AS SELECT tenant_id, count(*) AS n FROM shop.orders GROUP BY 1; GRANT SELECT ON shop.totals TO {app}",
        "shop.totals",
    )
    .since(15),
    Case::new(
        "GRD-PG-301",
        "before there were invoker views",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders; GRANT SELECT ON shop.v TO {app}",
        "shop.v",
    )
    .pretending(of_14)
    .without_sql(),
    Case::new(
        "GRD-PG-301",
        "owned by the owner of a table that is not forced",
        "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY; CREATE VIEW shop.v AS SELECT * FROM shop.orders; \
         ALTER VIEW shop.v OWNER TO {owner}; GRANT SELECT ON shop.v TO {app}",
        "shop.v",
    )
    .since(15),
    Case::new(
        "GRD-PG-301",
        "owned by a member of the owner of a table that is not forced",
        "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY; GRANT {owner} TO {staff}; \
         CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER VIEW shop.v OWNER TO {staff}; GRANT SELECT ON shop.v TO {app}",
        "shop.v",
    )
    .since(15),
    Case::new(
        "GRD-PG-301",
        "through a chain of views that the application cannot reach",
        "CREATE SCHEMA inner_views; CREATE VIEW inner_views.a AS SELECT * FROM shop.orders; \
         CREATE VIEW inner_views.\"B\" AS SELECT * FROM inner_views.a; \
         CREATE VIEW shop.v AS SELECT id FROM inner_views.\"B\"; GRANT SELECT (id) ON shop.v TO {app}",
        "shop.v",
    )
    .since(15),
    Case::new(
        "GRD-PG-301",
        "owned by a role that has an open policy",
        "GRANT SELECT ON shop.orders TO {staff}; CREATE POLICY reports ON shop.orders TO {staff} USING (true); \
         ALTER POLICY tenant_only ON shop.orders TO {app}; \
         CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER VIEW shop.v OWNER TO {staff}; GRANT SELECT ON shop.v TO {app}",
        "shop.v",
    )
    .since(15),
    Case::new(
        "GRD-PG-301",
        "a table without row-level security that is reached by the view alone",
        "CREATE TABLE shop.archive (tenant_id uuid NOT NULL, note text); ALTER TABLE shop.archive OWNER TO {owner}; \
         CREATE VIEW shop.v AS SELECT * FROM shop.archive; ALTER VIEW shop.v OWNER TO {owner}; GRANT SELECT ON shop.v TO {app}",
        "shop.v",
    )
    .since(15),
    Case::new(
        "GRD-PG-301",
        "a materialised view below",
        "CREATE MATERIALIZED VIEW shop.m AS SELECT tenant_id, count(*) AS n FROM shop.orders GROUP BY 1; \
         CREATE VIEW shop.v AS SELECT * FROM shop.m; GRANT SELECT ON shop.v TO {app}",
        "shop.v",
    )
    .since(15),
    Case::new(
        "GRD-PG-302",
        "owned by a role that policies hold back",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER VIEW shop.v OWNER TO {owner}; GRANT SELECT ON shop.v TO {app}",
        "shop.v",
    )
    .since(15),
    Case::new(
        "GRD-PG-303",
        "filled by a superuser",
        "CREATE MATERIALIZED VIEW shop.m AS SELECT count(*) AS n FROM shop.orders; GRANT SELECT ON shop.m TO {app}",
        "shop.m",
    ),
    Case::new(
        "GRD-PG-303",
        "filled through an invoker view",
        "CREATE VIEW shop.v WITH (security_invoker = on) AS SELECT note FROM shop.orders; \
         CREATE MATERIALIZED VIEW shop.m AS SELECT * FROM shop.v; GRANT SELECT ON shop.m TO PUBLIC",
        "shop.m",
    )
    .since(15),
    Case::new(
        "GRD-PG-304",
        "with a tenant column",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw; \
         CREATE FOREIGN TABLE shop.remote (tenant_id uuid, note text) SERVER there; GRANT SELECT ON shop.remote TO {app}",
        "shop.remote",
    ),
    Case::new(
        "GRD-PG-304",
        "without a tenant column",
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; \
         CREATE FOREIGN TABLE shop.\"Log\" (line text) SERVER files OPTIONS (filename 'log'); GRANT SELECT (line) ON shop.\"Log\" TO {app}",
        "shop.\"Log\"",
    ),
    Case::new(
        "GRD-PG-307",
        "a condition on the tenant",
        "CREATE VIEW shop.mine AS SELECT * FROM shop.orders \
           WHERE tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid; GRANT SELECT ON shop.mine TO {app}",
        "shop.mine",
    )
    .also(&["GRD-PG-301"]),
    Case::new(
        "GRD-PG-308",
        "inserts of other tenants",
        "CREATE VIEW shop.mine WITH (security_barrier) AS SELECT * FROM shop.orders \
           WHERE tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid; GRANT SELECT, INSERT ON shop.mine TO {app}",
        "shop.mine",
    )
    .also(&["GRD-PG-301"]),
    Case::new(
        "GRD-PG-309",
        "on a common table",
        "CREATE TABLE shop.settings (key text PRIMARY KEY, value text); GRANT SELECT, UPDATE ON shop.settings TO {app}; \
         CREATE RULE \"stamp it\" AS ON UPDATE TO shop.settings DO ALSO UPDATE shop.orders SET note = NEW.value",
        "\"stamp it\" on shop.settings",
    ),
    Case::new(
        "GRD-PG-309",
        "on the tenant table itself, which is not forced",
        "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY; \
         CREATE RULE soft AS ON DELETE TO shop.orders DO INSTEAD UPDATE shop.orders SET note = 'gone' WHERE id = OLD.id",
        "soft on shop.orders",
    ),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new(
        "GRD-PG-302",
        "owned by a role without any right on the table",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER VIEW shop.v OWNER TO {staff}; GRANT SELECT ON shop.v TO {app}",
    )
    .since(15),
    NearMiss::new(
        "GRD-PG-301",
        "an invoker view",
        "CREATE VIEW shop.v WITH (security_invoker = on) AS SELECT * FROM shop.orders; GRANT SELECT ON shop.v TO {app}",
    )
    .since(15),
    NearMiss::new(
        "GRD-PG-301",
        "an owner that policies apply to",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER VIEW shop.v OWNER TO {owner}; GRANT SELECT ON shop.v TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-301",
        "an owner without any right on the table",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER ROLE {staff} BYPASSRLS; ALTER VIEW shop.v OWNER TO {staff}; \
         GRANT SELECT ON shop.v TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-301",
        "an invoker view below an owner's view",
        "CREATE VIEW shop.below WITH (security_invoker = true) AS SELECT * FROM shop.orders; \
         CREATE VIEW shop.v AS SELECT * FROM shop.below; GRANT SELECT ON shop.v TO {app}",
    )
    .since(15),
    NearMiss::new(
        "GRD-PG-301",
        "an owner whose open policy a restrictive one holds back",
        "GRANT SELECT ON shop.orders TO {staff}; CREATE POLICY reports ON shop.orders TO {staff} USING (true); \
         CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER VIEW shop.v OWNER TO {staff}; GRANT SELECT ON shop.v TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-302",
        "over a common table",
        "CREATE VIEW shop.v AS SELECT * FROM shop.countries; ALTER VIEW shop.v OWNER TO {owner}; GRANT SELECT ON shop.v TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-302",
        "before there were invoker views",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders; ALTER VIEW shop.v OWNER TO {owner}; GRANT SELECT ON shop.v TO {app}",
    )
    .pretending(of_14),
    NearMiss::new(
        "GRD-PG-303",
        "over a common table",
        "CREATE MATERIALIZED VIEW shop.m AS SELECT * FROM shop.countries; GRANT SELECT ON shop.m TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-303",
        "that the application cannot read",
        "CREATE MATERIALIZED VIEW shop.m AS SELECT * FROM shop.orders; GRANT SELECT ON shop.m TO {staff}",
    ),
    NearMiss::new(
        "GRD-PG-304",
        "that the application cannot reach",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw; \
         CREATE FOREIGN TABLE shop.remote (tenant_id uuid, note text) SERVER there",
    ),
    NearMiss::new(
        "GRD-PG-307",
        "an owner that policies hold back",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders WHERE note IS NOT NULL; ALTER VIEW shop.v OWNER TO {owner}; \
         GRANT SELECT ON shop.v TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-307",
        "no condition at all",
        "CREATE VIEW shop.v AS SELECT o.note, c.name FROM shop.orders AS o JOIN shop.countries AS c ON c.code = o.country; \
         GRANT SELECT ON shop.v TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-308",
        "read only",
        "CREATE VIEW shop.v AS SELECT * FROM shop.orders WHERE note IS NOT NULL; GRANT SELECT ON shop.v TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-309",
        "with an owner that policies hold back",
        "CREATE TABLE shop.settings (key text PRIMARY KEY, value text); ALTER TABLE shop.settings OWNER TO {owner}; \
         GRANT SELECT, UPDATE ON shop.settings TO {app}; \
         CREATE RULE stamp AS ON UPDATE TO shop.settings DO ALSO UPDATE shop.orders SET note = NEW.value",
    ),
];

#[test]
fn views() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
