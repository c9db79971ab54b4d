//! 310 to 320: functions, triggers, and what is a part of a table.

use crate::bench::{Case, NearMiss};

/// A definer function that has no other flaw: its body is known, and its owner is nobody.
const TEXT: &str = "CREATE FUNCTION shop.f(x text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER \
    SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN (SELECT count(*) FROM shop.orders WHERE note = x); END'; \
    GRANT EXECUTE ON FUNCTION shop.f TO {app};";

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "GRD-PG-310",
        "a recorded reference",
        "CREATE FUNCTION shop.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER \
           BEGIN ATOMIC SELECT count(*) FROM shop.orders; END; GRANT EXECUTE ON FUNCTION shop.total TO {app}",
        "shop.total()",
    )
    .since(14),
    Case::new(
        "GRD-PG-310",
        "recorded through another function",
        "CREATE FUNCTION shop.inner_total() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM shop.orders; END; \
         CREATE FUNCTION shop.\"Total\"(a int, OUT n bigint) LANGUAGE sql SECURITY DEFINER RETURN shop.inner_total(); \
         GRANT EXECUTE ON FUNCTION shop.\"Total\" TO PUBLIC",
        "shop.\"Total\"(a integer, OUT n bigint)",
    )
    .since(14),
    Case::new("GRD-PG-310", "undecided", TEXT, "shop.f(x text)"),
    Case::new(
        "GRD-PG-310",
        "a procedure of an unforced owner",
        "ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY; CREATE PROCEDURE shop.p() LANGUAGE plpgsql SECURITY DEFINER \
           SET search_path = pg_catalog, pg_temp AS 'BEGIN DELETE FROM shop.orders; END'; \
         ALTER PROCEDURE shop.p OWNER TO {owner}; GRANT EXECUTE ON PROCEDURE shop.p TO {app}",
        "shop.p()",
    ),
    Case::new(
        "GRD-PG-311",
        "no path",
        "CREATE FUNCTION shop.f() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN length(''x''); END'; \
         ALTER FUNCTION shop.f OWNER TO {staff}; GRANT EXECUTE ON FUNCTION shop.f TO {app}",
        "shop.f()",
    ),
    Case::new(
        "GRD-PG-311",
        "no path in a trigger's function",
        "CREATE FUNCTION shop.t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END'; \
         ALTER FUNCTION shop.t OWNER TO {staff}; CREATE TRIGGER stamp BEFORE INSERT ON shop.orders EXECUTE FUNCTION shop.t()",
        "shop.t()",
    ),
    Case::new(
        "GRD-PG-312",
        "a schema that the application owns",
        "CREATE SCHEMA \"App, own\" AUTHORIZATION {app}; CREATE FUNCTION shop.f() RETURNS int LANGUAGE plpgsql SECURITY DEFINER \
           SET search_path = pg_catalog, \"App, own\", shop, pg_temp AS 'BEGIN RETURN length(''x''); END'; \
         ALTER FUNCTION shop.f OWNER TO {staff}; GRANT EXECUTE ON FUNCTION shop.f TO {app}",
        "shop.f()",
    ),
    Case::new(
        "GRD-PG-312",
        "temporary objects come first",
        "GRANT TEMPORARY ON DATABASE {db} TO {app}; CREATE FUNCTION shop.f() RETURNS int LANGUAGE plpgsql SECURITY DEFINER \
           SET search_path = '' AS 'BEGIN RETURN pg_catalog.length(''x''); END'; \
         ALTER FUNCTION shop.f OWNER TO {staff}; GRANT EXECUTE ON FUNCTION shop.f TO {app}",
        "shop.f()",
    )
    .also(&["GRD-PG-214"]),
    Case::new(
        "GRD-PG-313",
        "EXECUTE with arguments",
        "CREATE FUNCTION shop.f(x text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
           AS 'BEGIN EXECUTE ''SELECT '' || x; END'; ALTER FUNCTION shop.f OWNER TO {staff}; GRANT EXECUTE ON FUNCTION shop.f TO {app}",
        "shop.f(x text)",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-314",
        "owned by a superuser",
        "CREATE FUNCTION shop.t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
           AS 'BEGIN UPDATE shop.orders SET note = NULL WHERE id = NEW.order_id; RETURN NEW; END'; \
         CREATE TRIGGER sum AFTER INSERT ON shop.lines FOR EACH ROW EXECUTE FUNCTION shop.t()",
        "shop.t()",
    ),
    Case::new(
        "GRD-PG-315",
        "a user's function",
        "CREATE FUNCTION shop.f(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'; \
         GRANT EXECUTE ON FUNCTION shop.f TO {app}",
        "shop.f(text)",
    ),
    Case::new(
        "GRD-PG-315",
        "a system function",
        "ALTER FUNCTION pg_catalog.jsonb_contains(jsonb, jsonb) LEAKPROOF",
        "pg_catalog.jsonb_contains(jsonb, jsonb)",
    ),
    Case::new(
        "GRD-PG-316",
        "a setting",
        "CREATE FUNCTION shop.me() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT current_setting('backtrace_functions') $$; \
         GRANT EXECUTE ON FUNCTION shop.me TO {app}",
        "shop.me()",
    ),
    Case::new(
        "GRD-PG-316",
        "a table",
        "CREATE FUNCTION shop.n() RETURNS bigint LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT count(*) FROM shop.countries; END; \
         GRANT EXECUTE ON FUNCTION shop.n TO {app}",
        "shop.n()",
    )
    .since(14),
    Case::new(
        "GRD-PG-317",
        "a trigger on somebody else's table",
        "CREATE FUNCTION shop.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER stamp BEFORE INSERT ON shop.countries EXECUTE FUNCTION shop.t(); ALTER FUNCTION shop.t OWNER TO {app}",
        "shop.t()",
    ),
    Case::new(
        "GRD-PG-317",
        "a default of somebody else's table",
        "CREATE FUNCTION shop.d() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$; ALTER FUNCTION shop.d OWNER TO {app}; \
         ALTER TABLE shop.countries ALTER name SET DEFAULT shop.d()",
        "shop.d()",
    ),
    Case::new(
        "GRD-PG-317",
        "a policy, by way of an operator",
        "CREATE FUNCTION shop.same(uuid, uuid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2'; \
         CREATE OPERATOR shop.=== (FUNCTION = shop.same, LEFTARG = uuid, RIGHTARG = uuid); ALTER FUNCTION shop.same OWNER TO {app}; \
         CREATE POLICY more ON shop.orders AS RESTRICTIVE USING (tenant_id OPERATOR(shop.===) tenant_id)",
        "shop.same(uuid, uuid)",
    ),
    Case::new(
        "GRD-PG-318",
        "of somebody else's column",
        "CREATE DOMAIN shop.\"Mail\" AS text CHECK (VALUE <> ''); ALTER TABLE shop.countries ADD COLUMN mail shop.\"Mail\"; \
         ALTER DOMAIN shop.\"Mail\" OWNER TO {app}",
        "shop.\"Mail\"",
    ),
    Case::new(
        "GRD-PG-319",
        "a C function by hand",
        "CREATE FUNCTION shop.crypt(text, text) RETURNS text LANGUAGE c AS '$libdir/pgcrypto', 'pg_crypt'; \
         GRANT EXECUTE ON FUNCTION shop.crypt TO {app}",
        "shop.crypt(text, text)",
    ),
    Case::new(
        "GRD-PG-320",
        "a partition with policies of its own",
        "CREATE TABLE shop.events (tenant_id uuid NOT NULL, at date NOT NULL) PARTITION BY RANGE (at); \
         CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); \
         ALTER TABLE shop.events OWNER TO {owner}; ALTER TABLE shop.events_2026 OWNER TO {owner}; \
         ALTER TABLE shop.events_2026 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY rows_open ON shop.events_2026 TO {app} USING (true); \
         CREATE POLICY tenant_only ON shop.events_2026 AS RESTRICTIVE \
           USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         GRANT SELECT ON shop.events_2026 TO {app}",
        "shop.events_2026",
    ),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new(
        "GRD-PG-310",
        "a recorded body that touches no tenant table",
        "CREATE FUNCTION shop.n() RETURNS bigint LANGUAGE sql SECURITY DEFINER \
           BEGIN ATOMIC SELECT count(*) FROM shop.countries; END; GRANT EXECUTE ON FUNCTION shop.n TO {app}",
    )
    .since(14),
    NearMiss::new(
        "GRD-PG-310",
        "an owner that the policies hold back",
        "CREATE FUNCTION shop.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER \
           BEGIN ATOMIC SELECT count(*) FROM shop.orders; END; ALTER FUNCTION shop.total OWNER TO {owner}; \
         GRANT EXECUTE ON FUNCTION shop.total TO {app}",
    )
    .since(14),
    NearMiss::new(
        "GRD-PG-310",
        "not callable",
        "CREATE FUNCTION shop.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER \
           BEGIN ATOMIC SELECT count(*) FROM shop.orders; END; GRANT EXECUTE ON FUNCTION shop.total TO {staff}",
    )
    .since(14),
    NearMiss::new(
        "GRD-PG-311",
        "names looked up when it was made",
        "CREATE FUNCTION shop.n() RETURNS bigint LANGUAGE sql SECURITY DEFINER \
           BEGIN ATOMIC SELECT count(*) FROM shop.countries; END; GRANT EXECUTE ON FUNCTION shop.n TO {app}",
    )
    .since(14),
    NearMiss::new(
        "GRD-PG-311",
        "its caller's rights",
        "CREATE FUNCTION shop.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; GRANT EXECUTE ON FUNCTION shop.f TO {app}",
    ),
    NearMiss::new("GRD-PG-312", "a path without pg_temp where nobody makes temporary objects", TEXT_WITHOUT_TEMP),
    NearMiss::new(
        "GRD-PG-312",
        "a schema that only somebody else writes",
        "CREATE SCHEMA theirs AUTHORIZATION {staff}; CREATE FUNCTION shop.f() RETURNS int LANGUAGE plpgsql SECURITY DEFINER \
           SET search_path = theirs, pg_temp AS 'BEGIN RETURN 1; END'; GRANT EXECUTE ON FUNCTION shop.f TO {app}",
    ),
    NearMiss::new("GRD-PG-313", "the word is a part of another", TEXT_EXECUTED),
    NearMiss::new(
        "GRD-PG-314",
        "on a table that the application only reads",
        "CREATE FUNCTION shop.t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
           AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER t AFTER INSERT ON shop.countries FOR EACH ROW EXECUTE FUNCTION shop.t()",
    ),
    NearMiss::new(
        "GRD-PG-314",
        "its caller's rights",
        "CREATE FUNCTION shop.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER t AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.t()",
    ),
    NearMiss::new(
        "GRD-PG-315",
        "out of reach",
        "CREATE FUNCTION shop.f(text) RETURNS boolean LANGUAGE sql LEAKPROOF AS 'SELECT true'; GRANT EXECUTE ON FUNCTION shop.f TO {staff}",
    ),
    NearMiss::new(
        "GRD-PG-316",
        "only calculates",
        "CREATE FUNCTION shop.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1'; GRANT EXECUTE ON FUNCTION shop.f TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-316",
        "stable",
        "CREATE FUNCTION shop.me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('backtrace_functions') $$; \
         GRANT EXECUTE ON FUNCTION shop.me TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-317",
        "nothing calls it",
        "CREATE FUNCTION shop.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION shop.f OWNER TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-318",
        "of somebody else's",
        "CREATE DOMAIN shop.mail AS text; ALTER DOMAIN shop.mail OWNER TO {owner}; ALTER TABLE shop.countries ADD COLUMN mail shop.mail",
    ),
    NearMiss::new(
        "GRD-PG-318",
        "that nobody's column is of",
        "CREATE DOMAIN shop.mail AS text; ALTER DOMAIN shop.mail OWNER TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-319",
        "of an extension",
        "CREATE EXTENSION pgcrypto SCHEMA guard; \
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA guard TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-320",
        "reached through its parent",
        "CREATE TABLE shop.events (tenant_id uuid NOT NULL, at date NOT NULL) PARTITION BY RANGE (at); \
         CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); \
         ALTER TABLE shop.events_2026 ENABLE ROW LEVEL SECURITY; GRANT SELECT ON shop.events TO {app}",
    ),
];

const TEXT_WITHOUT_TEMP: &str = "CREATE FUNCTION shop.f() RETURNS int LANGUAGE plpgsql SECURITY DEFINER \
    SET search_path = pg_catalog, shop AS 'BEGIN RETURN 1; END'; GRANT EXECUTE ON FUNCTION shop.f TO {app}";

const TEXT_EXECUTED: &str = "CREATE FUNCTION shop.f(executed int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER \
    SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN executed; END'; GRANT EXECUTE ON FUNCTION shop.f TO {app}";

#[test]
fn code() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
