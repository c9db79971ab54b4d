-- A small application whose tenants are kept apart: no rule may find anything in it.
REVOKE ALL ON DATABASE "{db}" FROM PUBLIC;
GRANT CONNECT ON DATABASE "{db}" TO {app}, {staff};
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA guard;
GRANT USAGE ON SCHEMA guard TO {app};
CREATE SCHEMA shop AUTHORIZATION {owner};
GRANT USAGE ON SCHEMA shop TO {app};
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

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

CREATE TABLE shop.countries (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE shop.orders (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    country text NOT NULL REFERENCES shop.countries,
    note text,
    PRIMARY KEY (tenant_id, id)
);
CREATE TABLE shop.lines (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    order_id uuid NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, order_id) REFERENCES shop.orders (tenant_id, id)
);
CREATE INDEX lines_of_order ON shop.lines (tenant_id, order_id);
ALTER TABLE shop.countries OWNER TO {owner};
ALTER TABLE shop.orders OWNER TO {owner};
ALTER TABLE shop.lines OWNER TO {owner};
GRANT SELECT ON shop.countries TO {app};

-- The tenant context stands in a parameter that only a superuser can set.
DO $$ DECLARE t text; BEGIN
    FOREACH t IN ARRAY ARRAY['orders', 'lines'] LOOP
        EXECUTE format('ALTER TABLE shop.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY rows_open ON shop.%I TO {app} USING (true)', t);
        EXECUTE format('CREATE POLICY tenant_only ON shop.%I AS RESTRICTIVE '
            'USING (tenant_id = nullif(current_setting(''backtrace_functions''), '''')::uuid)', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON shop.%I TO {app}', t);
    END LOOP;
END $$;
