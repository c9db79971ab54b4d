//! 0xx: row-level security and policies.

use crate::bench::{Case, NearMiss};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "GRD-PG-015",
        "a function of the application's own",
        "CREATE FUNCTION shop.mine(t uuid) RETURNS boolean STABLE LANGUAGE sql AS $$SELECT true$$; ALTER FUNCTION shop.mine(uuid) OWNER TO {owner}; ALTER POLICY tenant_only ON shop.orders USING (shop.mine(tenant_id))",
        "tenant_only on shop.orders",
    )
    .without_sql(),
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
    )
    .also(&["GRD-PG-207"]),
    Case::new(
        "GRD-PG-002",
        "only by SET ROLE",
        "ALTER ROLE {app} NOINHERIT; GRANT {owner} TO {app}; ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY",
        "shop.orders",
    )
    .also(&["GRD-PG-207"]),
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
    Case::new(
        "GRD-PG-001",
        "a partition granted by itself",
        "CREATE TABLE shop.events (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id); \
         CREATE TABLE shop.\"Events 0\" PARTITION OF shop.events FOR VALUES WITH (MODULUS 1, REMAINDER 0); \
         ALTER TABLE shop.events OWNER TO {owner}; ALTER TABLE shop.\"Events 0\" OWNER TO {owner}; \
         GRANT SELECT ON shop.\"Events 0\" TO {app}",
        "shop.\"Events 0\"",
    ),
    Case::new(
        "GRD-PG-001",
        "a child by inheritance in another schema",
        "CREATE SCHEMA \"Old\"; GRANT USAGE ON SCHEMA \"Old\" TO {app}; CREATE TABLE \"Old\".orders () INHERITS (shop.orders); \
         ALTER TABLE \"Old\".orders ADD PRIMARY KEY (tenant_id, id); ALTER TABLE \"Old\".orders OWNER TO {owner}; \
         GRANT UPDATE ON \"Old\".orders TO {app}",
        "\"Old\".orders",
    ),
    Case::new(
        "GRD-PG-003",
        "beside an unrelated restrictive policy",
        "DROP POLICY tenant_only ON shop.orders; CREATE POLICY noted ON shop.orders AS RESTRICTIVE USING (note IS NOT NULL)",
        "rows_open on shop.orders",
    ),
    Case::new(
        "GRD-PG-003",
        "restricted for SELECT only",
        "DROP POLICY tenant_only ON shop.orders; CREATE POLICY tenant_only ON shop.orders AS RESTRICTIVE FOR SELECT \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)",
        "rows_open on shop.orders",
    ),
    Case::new(
        "GRD-PG-003",
        "restricted for another role only",
        "ALTER POLICY tenant_only ON shop.orders TO {staff}",
        "rows_open on shop.orders",
    ),
    Case::new(
        "GRD-PG-003",
        "OR-ed open beside a sound permissive policy",
        "DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         CREATE POLICY support ON shop.orders FOR UPDATE USING (coalesce(length(note), 0) >= 0)",
        "support on shop.orders",
    ),
    Case::new(
        "GRD-PG-004",
        "on a common table",
        "CREATE POLICY named ON shop.countries USING (name <> '')",
        "shop.countries",
    ),
    Case::new("GRD-PG-005", "no policy", "DROP POLICY rows_open ON shop.orders", "shop.orders").without_sql(),
    Case::new("GRD-PG-005", "for another role", "ALTER POLICY rows_open ON shop.orders TO {staff}", "shop.orders")
        .without_sql(),
    Case::new(
        "GRD-PG-006",
        "not about the tenant",
        "DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         CREATE POLICY noted ON shop.orders USING (note <> 'deleted')",
        "noted on shop.orders",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-006",
        "shared rows",
        "ALTER TABLE shop.orders ADD public boolean NOT NULL DEFAULT false; ALTER POLICY tenant_only ON shop.orders \
         USING (public OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid) \
         WITH CHECK (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)",
        "tenant_only on shop.orders",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-007",
        "WITH CHECK (true)",
        "DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid) WITH CHECK (true)",
        "rows_open on shop.orders",
    ),
    Case::new(
        "GRD-PG-007",
        "a restrictive policy that forgets new rows",
        "ALTER POLICY tenant_only ON shop.orders WITH CHECK (country <> '')",
        "tenant_only on shop.orders",
    ),
    Case::new(
        "GRD-PG-007",
        "an open policy for INSERT",
        "DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         CREATE POLICY \"Add; --\" ON shop.orders FOR INSERT WITH CHECK (id IS NOT NULL OR tenant_id IS NOT NULL)",
        "\"Add; --\" on shop.orders",
    ),
    Case::new(
        "GRD-PG-008",
        "granted in a closed schema",
        "CREATE SCHEMA closed; CREATE TABLE closed.\"Notes\" (tenant_id uuid NOT NULL, note text); \
         ALTER TABLE closed.\"Notes\" OWNER TO {owner}; GRANT SELECT (note) ON closed.\"Notes\" TO {app}",
        "closed.\"Notes\"",
    ),
    Case::new(
        "GRD-PG-009",
        "members that anybody may add to",
        "CREATE TABLE shop.members (id uuid PRIMARY KEY, org uuid NOT NULL); ALTER TABLE shop.members OWNER TO {owner}; \
         GRANT SELECT, INSERT ON shop.members TO {app}; DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders \
         USING (tenant_id IN (SELECT m.org FROM shop.members AS m \
           WHERE m.id = nullif(current_setting('backtrace_functions'), '')::uuid))",
        "rows_open on shop.orders",
    )
    .also(&["GRD-PG-015"]),
    Case::new(
        "GRD-PG-010",
        "a look-up that is true for everybody",
        "CREATE TABLE shop.tenants (id uuid PRIMARY KEY); ALTER TABLE shop.tenants OWNER TO {owner}; GRANT SELECT ON shop.tenants TO {app}; \
         DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders USING (tenant_id IN (SELECT t.id FROM shop.tenants AS t))",
        "rows_open on shop.orders",
    )
    .also(&["GRD-PG-015"]),
    Case::new("GRD-PG-011", "NOT NULL taken away", "CREATE TABLE shop.\"Old Notes\" (\"id\" int PRIMARY KEY, tenant_id uuid); \
         ALTER TABLE shop.\"Old Notes\" OWNER TO {owner}; GRANT SELECT ON shop.\"Old Notes\" TO {app}; \
         ALTER TABLE shop.\"Old Notes\" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON shop.\"Old Notes\" \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)", "shop.\"Old Notes\".tenant_id"),
    Case::new(
        "GRD-PG-012",
        "text among uuid",
        "CREATE TABLE shop.notes (tenant_id varchar(36) NOT NULL CHECK (tenant_id <> ''), id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE shop.notes OWNER TO {owner}; GRANT SELECT ON shop.notes TO {app}; \
         ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON shop.notes \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), ''))",
        "shop.notes.tenant_id",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-014",
        "one tenant's key",
        "ALTER TABLE shop.orders ALTER tenant_id SET DEFAULT '0190b6a0-0000-7000-8000-000000000001'",
        "shop.orders.tenant_id",
    ),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new(
        "GRD-PG-015",
        "a restrictive policy that holds is tried",
        "CREATE FUNCTION shop.mine(t uuid) RETURNS boolean STABLE LANGUAGE sql AS $$SELECT true$$; ALTER FUNCTION shop.mine(uuid) OWNER TO {owner}; CREATE POLICY also ON shop.orders USING (shop.mine(tenant_id)); \
         CREATE POLICY held ON shop.orders AS RESTRICTIVE \
           USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)",
    ),
    NearMiss::new(
        "GRD-PG-015",
        "a restrictive one beside a permissive one that holds",
        "CREATE FUNCTION shop.mine(t uuid) RETURNS boolean STABLE LANGUAGE sql AS $$SELECT true$$; ALTER FUNCTION shop.mine(uuid) OWNER TO {owner}; CREATE POLICY narrower ON shop.orders AS RESTRICTIVE USING (shop.mine(tenant_id))",
    ),
    NearMiss::new(
        "GRD-PG-015",
        "for a role out of reach",
        "CREATE FUNCTION shop.mine(t uuid) RETURNS boolean STABLE LANGUAGE sql AS $$SELECT true$$; ALTER FUNCTION shop.mine(uuid) OWNER TO {owner}; CREATE POLICY also ON shop.orders TO {staff} USING (shop.mine(tenant_id))",
    ),
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
    NearMiss::new(
        "GRD-PG-001",
        "a partition behind its parent",
        "CREATE TABLE shop.events (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id); \
         CREATE TABLE shop.events_0 PARTITION OF shop.events FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    ),
    NearMiss::new(
        "GRD-PG-003",
        "restricted command by command",
        "DROP POLICY tenant_only ON shop.orders; DO $$ DECLARE c text; BEGIN \
         FOREACH c IN ARRAY ARRAY['SELECT', 'UPDATE', 'DELETE'] LOOP EXECUTE format('CREATE POLICY for_%s ON shop.orders AS RESTRICTIVE \
           FOR %s USING (tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid)', c, c); END LOOP; END $$; \
         CREATE POLICY for_insert ON shop.orders AS RESTRICTIVE FOR INSERT \
           WITH CHECK (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)",
    ),
    NearMiss::new(
        "GRD-PG-003",
        "not deleted is not always true",
        "ALTER TABLE shop.orders ADD deleted boolean; DROP POLICY tenant_only ON shop.orders; \
         ALTER POLICY rows_open ON shop.orders USING (coalesce(deleted, false) = false)",
    ),
    NearMiss::new(
        "GRD-PG-003",
        "a domain, a wrapped setting and quoted names",
        "CREATE DOMAIN shop.\"Key\" AS text CHECK (VALUE <> ''); CREATE TABLE shop.\"Notes\" (tenant_id shop.\"Key\" NOT NULL, \
           id int NOT NULL, PRIMARY KEY (tenant_id, id)); ALTER TABLE shop.\"Notes\" OWNER TO {owner}; GRANT SELECT ON shop.\"Notes\" TO {app}; \
         ALTER TABLE shop.\"Notes\" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY o ON shop.\"Notes\" USING (true); \
         CREATE POLICY t ON shop.\"Notes\" AS RESTRICTIVE USING (tenant_id = (SELECT current_setting('backtrace_functions')))",
    ),
    NearMiss::new(
        "GRD-PG-004",
        "switched on",
        "ALTER TABLE shop.countries ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON shop.countries USING (true)",
    ),
    NearMiss::new("GRD-PG-005", "for PUBLIC", "ALTER POLICY rows_open ON shop.orders TO PUBLIC"),
    NearMiss::new(
        "GRD-PG-006",
        "narrowed beside the restrictive policy",
        "ALTER POLICY rows_open ON shop.orders USING (note <> 'deleted')",
    ),
    NearMiss::new(
        "GRD-PG-006",
        "the tenant's own rows, narrowed",
        "ALTER POLICY tenant_only ON shop.orders USING (note IS NULL AND \
         tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)",
    ),
    NearMiss::new(
        "GRD-PG-007",
        "beside the restrictive policy",
        "ALTER POLICY rows_open ON shop.orders USING (note <> '') WITH CHECK (true)",
    ),
    NearMiss::new(
        "GRD-PG-008",
        "under row-level security, or not to be read",
        "CREATE SCHEMA closed; CREATE TABLE closed.notes (tenant_id uuid NOT NULL, note text); GRANT SELECT ON closed.notes TO {app}; \
         ALTER TABLE closed.notes ENABLE ROW LEVEL SECURITY; CREATE TABLE closed.more (tenant_id uuid NOT NULL, note text); \
         GRANT INSERT ON closed.more TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-009",
        "members that are only read",
        "CREATE TABLE shop.members (id uuid PRIMARY KEY, org uuid NOT NULL); GRANT SELECT ON shop.members TO {app}; \
         ALTER POLICY rows_open ON shop.orders USING (tenant_id IN (SELECT m.org FROM shop.members AS m))",
    ),
    NearMiss::new(
        "GRD-PG-010",
        "a look-up that policies narrow",
        "DROP POLICY tenant_only ON shop.lines; ALTER POLICY rows_open ON shop.lines USING (EXISTS (SELECT FROM shop.orders AS o \
         WHERE o.tenant_id = lines.tenant_id AND o.id = lines.order_id))",
    ),
    NearMiss::new(
        "GRD-PG-011",
        "NOT NULL by a domain",
        "CREATE DOMAIN shop.key AS uuid NOT NULL; CREATE TABLE shop.notes (tenant_id shop.key, id int); GRANT SELECT ON shop.notes TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-012",
        "a domain over the usual type",
        "CREATE DOMAIN shop.key AS uuid; CREATE TABLE shop.notes (tenant_id shop.key NOT NULL, id int); GRANT SELECT ON shop.notes TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-014",
        "the tenant context",
        "ALTER TABLE shop.orders ALTER tenant_id SET DEFAULT nullif(current_setting('backtrace_functions'), '')::uuid",
    ),
    NearMiss::new("GRD-PG-002", "an owner out of reach", "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY"),
];

#[test]
fn policies() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
