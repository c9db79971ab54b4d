//! 1xx: the tenant context.

use crate::bench::{Case, NearMiss};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "GRD-PG-101",
        "a setting of the application's",
        "ALTER POLICY tenant_only ON shop.orders USING (tenant_id = nullif(current_setting('App.Tenant', true), '')::uuid); \
         ALTER POLICY tenant_only ON shop.lines USING (tenant_id = nullif(current_setting('App.Tenant', true), '')::uuid)",
        "\"App.Tenant\"",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-101",
        "the name of the application",
        "ALTER POLICY tenant_only ON shop.orders USING (tenant_id::text = current_setting('application_name'))",
        "application_name",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-101",
        "behind a function",
        "CREATE FUNCTION shop.tenant() RETURNS uuid STABLE LANGUAGE sql AS $$SELECT nullif(current_setting('app.tenant', true), '')::uuid$$; \
         ALTER FUNCTION shop.tenant() OWNER TO {owner}; GRANT EXECUTE ON FUNCTION shop.tenant() TO {app}; \
         ALTER POLICY tenant_only ON shop.orders USING (tenant_id = (SELECT shop.tenant()))",
        "\"app.tenant\"",
    )
    .also(&["GRD-PG-015"])
    .without_sql(),
    Case::new(
        "GRD-PG-102",
        "a flag beside the tenant",
        "ALTER POLICY tenant_only ON shop.orders USING (current_setting('app.staff', true) = 'aye' OR \
         tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)",
        "tenant_only on shop.orders",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-102",
        "a boolean flag in a permissive policy",
        "DROP POLICY tenant_only ON shop.orders; ALTER POLICY rows_open ON shop.orders \
         USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         CREATE POLICY staff ON shop.orders USING (coalesce(nullif(current_setting('app.staff', true), '')::boolean, false))",
        "staff on shop.orders",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-103",
        "open while it is unset",
        "ALTER POLICY tenant_only ON shop.orders USING (current_setting('app.tenant', true) IS NULL OR \
         tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)",
        "tenant_only on shop.orders",
    )
    .also(&["GRD-PG-101"])
    .without_sql(),
    Case::new(
        "GRD-PG-103",
        "open by a default",
        "ALTER POLICY tenant_only ON shop.orders USING \
         (tenant_id = coalesce(nullif(current_setting('backtrace_functions'), '')::uuid, tenant_id))",
        "tenant_only on shop.orders",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-104",
        "in a claim",
        "ALTER POLICY rows_open ON shop.orders USING \
         (tenant_id::text = ((current_setting('request.jwt.claims', true)::jsonb -> 'user_metadata') ->> 'tenant'))",
        "rows_open on shop.orders",
    )
    .also(&["GRD-PG-107"])
    .without_sql(),
    Case::new(
        "GRD-PG-105",
        "a role a tenant",
        "CREATE TABLE shop.notes (tenant_id name NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE shop.notes OWNER TO {owner}; GRANT SELECT ON shop.notes TO {app}; \
         ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY by_role ON shop.notes TO {app} USING (tenant_id = current_user); GRANT {staff} TO {app}",
        "by_role on shop.notes",
    )
    .also(&["GRD-PG-015", "GRD-PG-012"]),
    Case::new(
        "GRD-PG-106",
        "a CHECK that says nothing of the empty text",
        "CREATE TABLE shop.notes (tenant_id text NOT NULL CHECK (tenant_id IS NOT NULL), id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE shop.notes OWNER TO {owner}; GRANT SELECT ON shop.notes TO {app}; \
         ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY p ON shop.notes USING (tenant_id = current_setting('backtrace_functions'))",
        "p on shop.notes",
    )
    .also(&["GRD-PG-012"]),
    Case::new(
        "GRD-PG-106",
        "a text key, and a policy that cannot be tried",
        "CREATE TABLE shop.notes (tenant_id text NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE shop.notes OWNER TO {owner}; GRANT SELECT ON shop.notes TO {app}; \
         ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE FUNCTION shop.tenant() RETURNS text STABLE LANGUAGE sql AS $$SELECT 'a'::text$$; ALTER FUNCTION shop.tenant() OWNER TO {owner}; CREATE POLICY p ON shop.notes USING (tenant_id = shop.tenant())",
        "p on shop.notes",
    )
    .also(&["GRD-PG-012", "GRD-PG-015"]),
    Case::new(
        "GRD-PG-106",
        "a text key",
        "CREATE TABLE shop.notes (tenant_id text NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE shop.notes OWNER TO {owner}; GRANT SELECT ON shop.notes TO {app}; \
         ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY p ON shop.notes USING (tenant_id = current_setting('backtrace_functions'))",
        "p on shop.notes",
    )
    .also(&["GRD-PG-012"]),
    Case::new(
        "GRD-PG-107",
        "no nullif",
        "ALTER POLICY tenant_only ON shop.orders USING (tenant_id = current_setting('app.tenant', true)::uuid)",
        "\"app.tenant\"",
    )
    .also(&["GRD-PG-101"])
    .without_sql(),
    Case::new(
        "GRD-PG-108",
        "a tenant that is worked out once",
        "CREATE FUNCTION shop.tenant() RETURNS uuid IMMUTABLE LANGUAGE sql \
           AS $$SELECT nullif(current_setting('backtrace_functions'), '')::uuid$$; \
         ALTER FUNCTION shop.tenant() OWNER TO {owner}; GRANT EXECUTE ON FUNCTION shop.tenant() TO {app}; \
         ALTER POLICY tenant_only ON shop.orders USING (tenant_id = shop.tenant())",
        "shop.tenant()",
    )
    .also(&["GRD-PG-015"]),
    Case::new(
        "GRD-PG-651",
        "nothing was said",
        "CREATE FUNCTION shop.tenant() RETURNS uuid VOLATILE LANGUAGE sql \
           AS $$SELECT nullif(current_setting('backtrace_functions'), '')::uuid$$; \
         ALTER FUNCTION shop.tenant() OWNER TO {owner}; GRANT EXECUTE ON FUNCTION shop.tenant() TO {app}; \
         ALTER POLICY tenant_only ON shop.orders USING (tenant_id = shop.tenant())",
        "shop.tenant()",
    )
    .also(&["GRD-PG-015"]),
    Case::new(
        "GRD-PG-109",
        "a function that believes its caller",
        "CREATE ROLE {other} NOLOGIN; GRANT SET ON PARAMETER backtrace_functions TO {other}; \
         CREATE FUNCTION guard.become(t text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
           AS 'BEGIN RETURN set_config(''backtrace_functions'', t, false); END'; \
         ALTER FUNCTION guard.become OWNER TO {other}; GRANT EXECUTE ON FUNCTION guard.become TO {app}",
        "guard.become(t text)",
    )
    .since(15),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new(
        "GRD-PG-101",
        "beside a restrictive policy that decides",
        "ALTER POLICY rows_open ON shop.orders USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)",
    ),
    NearMiss::new(
        "GRD-PG-101",
        "on a common table",
        "ALTER TABLE shop.countries ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON shop.countries USING (code = current_setting('app.country', true))",
    ),
    NearMiss::new(
        "GRD-PG-102",
        "beside a restrictive policy that decides",
        "ALTER POLICY rows_open ON shop.orders USING (current_setting('app.staff', true) = 'on')",
    ),
    NearMiss::new(
        "GRD-PG-103",
        "closed while it is unset",
        "ALTER POLICY tenant_only ON shop.orders USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)",
    ),
    NearMiss::new(
        "GRD-PG-104",
        "the service's own part",
        "ALTER POLICY rows_open ON shop.orders USING \
         (tenant_id::text = ((current_setting('request.jwt.claims', true)::jsonb -> 'app_metadata') ->> 'tenant'))",
    ),
    NearMiss::new("GRD-PG-105", "a role of its own", "ALTER POLICY rows_open ON shop.orders USING (note = current_user)"),
    NearMiss::new(
        "GRD-PG-106",
        "a CHECK, and a policy that cannot be tried",
        "CREATE TABLE shop.notes (tenant_id text NOT NULL CHECK (tenant_id <> ''), id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE shop.notes OWNER TO {owner}; GRANT SELECT ON shop.notes TO {app}; \
         ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE FUNCTION shop.tenant() RETURNS text STABLE LANGUAGE sql AS $$SELECT 'a'::text$$; ALTER FUNCTION shop.tenant() OWNER TO {owner}; CREATE POLICY p ON shop.notes USING (tenant_id = shop.tenant())",
    ),
    NearMiss::new(
        "GRD-PG-106",
        "a CHECK",
        "CREATE TABLE shop.notes (tenant_id text NOT NULL CHECK (tenant_id <> ''), id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         ALTER TABLE shop.notes OWNER TO {owner}; GRANT SELECT ON shop.notes TO {app}; \
         ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY p ON shop.notes USING (tenant_id = current_setting('backtrace_functions'))",
    ),
    NearMiss::new(
        "GRD-PG-106",
        "nullif",
        "CREATE TABLE shop.notes (tenant_id text NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         GRANT SELECT ON shop.notes TO {app}; ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON shop.notes USING (tenant_id = nullif(current_setting('backtrace_functions'), ''))",
    ),
    NearMiss::new(
        "GRD-PG-107",
        "nullif",
        "ALTER POLICY tenant_only ON shop.orders USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)",
    ),
    NearMiss::new(
        "GRD-PG-108",
        "stable",
        "CREATE FUNCTION shop.tenant() RETURNS uuid STABLE LANGUAGE sql \
           AS $$SELECT nullif(current_setting('backtrace_functions'), '')::uuid$$; \
         GRANT EXECUTE ON FUNCTION shop.tenant() TO {app}; ALTER POLICY tenant_only ON shop.orders USING (tenant_id = shop.tenant())",
    ),
    NearMiss::new(
        "GRD-PG-651",
        "stable",
        "CREATE FUNCTION shop.tenant() RETURNS uuid STABLE LANGUAGE sql \
           AS $$SELECT nullif(current_setting('backtrace_functions'), '')::uuid$$; \
         ALTER FUNCTION shop.tenant() OWNER TO {owner}; GRANT EXECUTE ON FUNCTION shop.tenant() TO {app}; \
         ALTER POLICY tenant_only ON shop.orders USING (tenant_id = shop.tenant())",
    ),
    NearMiss::new(
        "GRD-PG-109",
        "a function of a role that may not, and one that cannot be called",
        "CREATE ROLE {other} NOLOGIN; GRANT SET ON PARAMETER backtrace_functions TO {other}; \
         CREATE FUNCTION guard.a(t text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
           AS 'BEGIN RETURN set_config(''backtrace_functions'', t, false); END'; \
         CREATE FUNCTION guard.b(t text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
           AS 'BEGIN RETURN set_config(''backtrace_functions'', t, false); END'; \
         ALTER FUNCTION guard.a OWNER TO {staff}; ALTER FUNCTION guard.b OWNER TO {other}; GRANT EXECUTE ON FUNCTION guard.a TO {app}",
    )
    .since(15),
];

#[test]
fn context() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
