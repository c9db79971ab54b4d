-- What is sound: the roles, the schemas, and how a tenant table is made. The files after this one plant the flaws.
--
-- flaw GRD-PG-229: app
CREATE ROLE owner NOLOGIN;
CREATE ROLE staff LOGIN CONNECTION LIMIT 5 PASSWORD 'x';
CREATE ROLE app LOGIN CONNECTION LIMIT 20 PASSWORD 'x';
REVOKE ALL ON DATABASE "{db}" FROM PUBLIC;
GRANT CONNECT ON DATABASE "{db}" TO app, staff;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE SCHEMA guard;
CREATE SCHEMA closed;
CREATE SCHEMA shop AUTHORIZATION owner;
CREATE SCHEMA "Shop 2" AUTHORIZATION owner;
GRANT USAGE ON SCHEMA guard, shop, "Shop 2" TO app;

-- What PostgreSQL opens to every role, and one role shared by all tenants should not have.
DO $$ DECLARE f record; BEGIN
    FOR f IN SELECT oid::regprocedure AS signature, CASE WHEN proname ~ '^pg_stat_' THEN 'pg_read_all_stats'
            WHEN proname ~ '_backend$' THEN 'pg_signal_backend' END AS successor FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND (proname ~ '^lo_' OR proname IN ('loread', 'lowrite',
            'pg_terminate_backend', 'pg_cancel_backend', 'pg_stat_get_activity', 'pg_stat_get_backend_activity')) LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f.signature);
        IF f.successor IS NOT NULL THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f.signature, f.successor);
        END IF;
    END LOOP;
END $$;

-- Row-level security as it should be: the tenant stands in a parameter that only a superuser can set.
CREATE FUNCTION pg_temp.keep(tenants regclass, who text DEFAULT 'app') RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('ALTER TABLE %s OWNER TO owner', tenants);
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', tenants);
    EXECUTE format('CREATE POLICY rows_open ON %s TO %I USING (true)', tenants, who);
    EXECUTE format('CREATE POLICY tenant_only ON %s AS RESTRICTIVE '
        'USING (tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid)', tenants);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', tenants, who);
END $$;

-- A tenant table with it.
CREATE FUNCTION pg_temp.make(name text, who text DEFAULT 'app') RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('CREATE TABLE %s (tenant_id uuid NOT NULL, id uuid NOT NULL, note text, PRIMARY KEY (tenant_id, id))', name);
    PERFORM pg_temp.keep(name::regclass, who);
END $$;

-- The same with the policy alone that is given, for every command.
CREATE FUNCTION pg_temp.make_with(name text, predicate text, checked text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_temp.make(name);
    EXECUTE format('DROP POLICY rows_open ON %s', name);
    EXECUTE format('DROP POLICY tenant_only ON %s', name);
    EXECUTE format('CREATE POLICY p ON %s USING (%s)%s', name, predicate, ' WITH CHECK (' || checked || ')');
END $$;

-- A table that belongs to no tenant.
CREATE FUNCTION pg_temp.make_common(name text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('CREATE TABLE %s (code text PRIMARY KEY, name text NOT NULL)', name);
    EXECUTE format('ALTER TABLE %s OWNER TO owner', name);
    EXECUTE format('GRANT SELECT ON %s TO app', name);
END $$;

-- near GRD-PG-001: shop.orders
SELECT pg_temp.make('shop.orders');
-- near GRD-PG-001: shop.countries
SELECT pg_temp.make_common('shop.countries');
