-- Privileges of the application's role on tenant tables, schemas and the database.

-- flaw GRD-PG-208: shop.emptied, leaks
SELECT pg_temp.make('shop.emptied');
GRANT TRUNCATE ON shop.emptied TO app;
-- flaw GRD-PG-209: shop.triggered
SELECT pg_temp.make('shop.triggered');
GRANT TRIGGER ON shop.triggered TO app;
-- flaw GRD-PG-210: shop.referred_to
SELECT pg_temp.make('shop.referred_to');
GRANT REFERENCES ON shop.referred_to TO app;
-- flaw GRD-PG-215: shop.for_everybody
SELECT pg_temp.make('shop.for_everybody');
GRANT SELECT ON shop.for_everybody TO PUBLIC;
-- near GRD-PG-208: shop.managed_by_staff
SELECT pg_temp.make('shop.managed_by_staff');
GRANT ALL ON shop.managed_by_staff TO staff;
-- near GRD-PG-208: shop.currencies
SELECT pg_temp.make_common('shop.currencies');
GRANT TRUNCATE, REFERENCES ON shop.currencies TO app;
-- near GRD-PG-215: shop.languages
SELECT pg_temp.make_common('shop.languages');
GRANT SELECT ON shop.languages TO PUBLIC;
-- flaw GRD-PG-212: workshop
CREATE SCHEMA workshop;
GRANT USAGE, CREATE ON SCHEMA workshop TO app;
-- near GRD-PG-212: staffs
CREATE SCHEMA staffs;
GRANT CREATE ON SCHEMA staffs TO staff;
-- flaw GRD-PG-214: {db}
GRANT TEMPORARY ON DATABASE "{db}" TO app;
-- near GRD-PG-213: {db}
GRANT CREATE ON DATABASE "{db}" TO staff;
-- flaw GRD-PG-217: owner
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA shop GRANT SELECT ON TABLES TO app;
-- near GRD-PG-217: staff
ALTER DEFAULT PRIVILEGES FOR ROLE staff GRANT ALL ON TABLES TO owner;
-- flaw GRD-PG-220: pg_catalog.pg_statistic
GRANT SELECT ON pg_statistic TO app;
-- flaw GRD-PG-221: pg_catalog.pg_ls_dir(text)
GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO app;
-- near GRD-PG-221: pg_catalog.pg_read_file(text)
GRANT EXECUTE ON FUNCTION pg_read_file(text) TO staff;
-- flaw GRD-PG-224: pg_catalog.pg_terminate_backend
GRANT EXECUTE ON FUNCTION pg_cancel_backend(int) TO app;
-- flaw GRD-PG-227: work_mem
GRANT ALTER SYSTEM ON PARAMETER work_mem TO app;

-- Roles, each an application of its own.
CREATE FUNCTION pg_temp.application(name text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT 20 PASSWORD ''x''', name);
    EXECUTE format('CREATE SCHEMA %I AUTHORIZATION owner', name);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %1$I', name);
    EXECUTE format('GRANT CONNECT ON DATABASE "{db}" TO %I', name);
    PERFORM pg_temp.make(name || '.rows', name);
END $$;

-- as bypasses
-- flaw GRD-PG-201: bypasses, leaks bypasses.rows
-- also GRD-PG-201: bypasses, leaks shop.for_everybody
-- also GRD-PG-229: bypasses
SELECT pg_temp.application('bypasses');
ALTER ROLE bypasses BYPASSRLS;

-- as becomes
-- flaw GRD-PG-201: reporter, leaks becomes.rows
-- also GRD-PG-229: becomes
SELECT pg_temp.application('becomes');
CREATE ROLE reporter NOLOGIN BYPASSRLS;
GRANT USAGE ON SCHEMA becomes TO reporter;
GRANT SELECT ON becomes.rows TO reporter;
ALTER ROLE becomes NOINHERIT;
GRANT reporter TO becomes;

-- as creates
-- flaw GRD-PG-202: creates
-- also GRD-PG-229: creates
SELECT pg_temp.application('creates');
ALTER ROLE creates CREATEROLE;

-- as reads_all
-- flaw GRD-PG-203: pg_read_server_files
-- also GRD-PG-229: reads_all
SELECT pg_temp.application('reads_all');
GRANT pg_read_server_files TO reads_all;

-- as replicates
-- flaw GRD-PG-205: replicates
-- flaw GRD-PG-206: replicates
-- flaw GRD-PG-228: replicates
-- also GRD-PG-229: replicates
SELECT pg_temp.application('replicates');
ALTER ROLE replicates REPLICATION CREATEDB CONNECTION LIMIT -1;

-- as owns
-- flaw GRD-PG-207: owns, leaks owns.rows
-- also GRD-PG-229: owns
SELECT pg_temp.application('owns');
ALTER TABLE owns.rows OWNER TO owns;

-- as owns_unforced
-- flaw GRD-PG-002: owns_unforced.rows, leaks
-- also GRD-PG-207: half_owner
-- also GRD-PG-229: owns_unforced
SELECT pg_temp.application('owns_unforced');
CREATE ROLE half_owner NOLOGIN;
ALTER TABLE owns_unforced.rows OWNER TO half_owner;
ALTER TABLE owns_unforced.rows NO FORCE ROW LEVEL SECURITY;
GRANT half_owner TO owns_unforced;

-- as harmless
-- near GRD-PG-201: harmless.rows
-- also GRD-PG-229: harmless
-- Members of the application's role are not what it can become.
SELECT pg_temp.application('harmless');
CREATE ROLE auditor NOLOGIN BYPASSRLS CREATEROLE;
GRANT harmless TO auditor;
GRANT pg_read_all_data TO auditor;

-- as forges
-- flaw GRD-PG-227: backtrace_functions, leaks forges.rows
-- also GRD-PG-101: backtrace_functions
-- also GRD-PG-229: forges
SELECT pg_temp.application('forges');
GRANT SET ON PARAMETER backtrace_functions TO forges;
