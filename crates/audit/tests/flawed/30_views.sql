-- Views, materialised views, foreign tables and rewrite rules.
-- as app

SELECT pg_temp.make('shop.bills');
SELECT pg_temp.make('shop.unforced');
ALTER TABLE shop.unforced NO FORCE ROW LEVEL SECURITY;
-- near GRD-PG-002: shop.unforced

-- flaw GRD-PG-301: shop.every_bill, leaks
CREATE VIEW shop.every_bill AS SELECT * FROM shop.bills;
GRANT SELECT ON shop.every_bill TO app;
-- flaw GRD-PG-301: shop.bill_count, leaks
CREATE VIEW shop.bill_count AS SELECT tenant_id, count(*) AS bills FROM shop.bills GROUP BY tenant_id;
GRANT SELECT ON shop.bill_count TO app;
-- flaw GRD-PG-301: "Shop 2"."Every; bill", leaks
CREATE VIEW closed.below AS SELECT * FROM shop.bills;
CREATE VIEW "Shop 2"."Every; bill" AS SELECT id AS "Id", note AS "The note" FROM closed.below;
GRANT SELECT ("The note") ON "Shop 2"."Every; bill" TO app;
-- flaw GRD-PG-301: shop.unforced_view, leaks
CREATE VIEW shop.unforced_view AS SELECT * FROM shop.unforced;
ALTER VIEW shop.unforced_view OWNER TO owner;
GRANT SELECT ON shop.unforced_view TO app;
-- flaw GRD-PG-301: shop.archive_view, leaks
CREATE TABLE shop.archive (tenant_id uuid NOT NULL, note text);
ALTER TABLE shop.archive OWNER TO owner;
CREATE VIEW shop.archive_view AS SELECT * FROM shop.archive;
ALTER VIEW shop.archive_view OWNER TO owner;
GRANT SELECT ON shop.archive_view TO app;
-- flaw GRD-PG-301: shop.bill_changes, leaks
CREATE VIEW shop.bill_changes AS SELECT tenant_id, id, note FROM shop.bills;
GRANT SELECT, UPDATE, DELETE ON shop.bill_changes TO app;
-- near GRD-PG-301: shop.invoker_view
CREATE VIEW shop.invoker_view WITH (security_invoker = on) AS SELECT * FROM shop.bills;
GRANT SELECT, INSERT ON shop.invoker_view TO app;
-- near GRD-PG-301: shop.outer_view
CREATE VIEW shop.outer_view WITH (security_invoker = true) AS SELECT * FROM shop.invoker_view;
GRANT SELECT ON shop.outer_view TO app;
-- near GRD-PG-301: shop.powerless_view
CREATE ROLE powerless NOLOGIN BYPASSRLS;
CREATE VIEW shop.powerless_view AS SELECT * FROM shop.bills;
ALTER VIEW shop.powerless_view OWNER TO powerless;
GRANT SELECT ON shop.powerless_view TO app;
-- near GRD-PG-301: shop.ungranted_view
CREATE VIEW shop.ungranted_view AS SELECT * FROM shop.bills;
-- near GRD-PG-301: shop.country_view
CREATE VIEW shop.country_view AS SELECT * FROM shop.countries;
GRANT SELECT ON shop.country_view TO app;
-- flaw GRD-PG-302: shop.bound_owner_view
CREATE VIEW shop.bound_owner_view AS SELECT * FROM shop.bills;
ALTER VIEW shop.bound_owner_view OWNER TO owner;
GRANT SELECT ON shop.bound_owner_view TO app;

-- flaw GRD-PG-303: shop.bill_totals, leaks
CREATE MATERIALIZED VIEW shop.bill_totals AS SELECT tenant_id, max(note) AS latest FROM shop.bills GROUP BY tenant_id;
GRANT SELECT ON shop.bill_totals TO app;
-- flaw GRD-PG-303: shop.stored_unforced, leaks
CREATE MATERIALIZED VIEW shop.stored_unforced AS SELECT note FROM shop.unforced;
ALTER MATERIALIZED VIEW shop.stored_unforced OWNER TO owner;
GRANT SELECT ON shop.stored_unforced TO app;
-- near GRD-PG-303: shop.stored_countries
CREATE MATERIALIZED VIEW shop.stored_countries AS SELECT * FROM shop.countries;
GRANT SELECT ON shop.stored_countries TO app;
-- near GRD-PG-303: shop.stored_for_staff
CREATE MATERIALIZED VIEW shop.stored_for_staff AS SELECT * FROM shop.bills;
GRANT SELECT ON shop.stored_for_staff TO staff;

-- flaw GRD-PG-307: shop.filter_view
CREATE VIEW shop.filter_view AS SELECT * FROM shop.bills
    WHERE tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid;
GRANT SELECT ON shop.filter_view TO app;
-- also GRD-PG-301: shop.filter_view, leaks shop.filter_view
-- near GRD-PG-307: shop.barrier_for_staff
CREATE VIEW shop.barrier_for_staff WITH (security_barrier) AS SELECT * FROM shop.bills
    WHERE tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid;
GRANT SELECT ON shop.barrier_for_staff TO staff;
-- flaw GRD-PG-308: shop.writable_view, leaks shop.writable_view
CREATE VIEW shop.writable_view WITH (security_barrier) AS SELECT * FROM shop.bills
    WHERE tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid;
GRANT SELECT, INSERT ON shop.writable_view TO app;
-- also GRD-PG-301: shop.writable_view

-- flaw GRD-PG-304: shop.log_lines
CREATE EXTENSION file_fdw SCHEMA closed;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE shop.log_lines (line text) SERVER files OPTIONS (filename '/dev/null');
GRANT SELECT ON shop.log_lines TO app;
-- near GRD-PG-304: shop.staffs_lines
CREATE FOREIGN TABLE shop.staffs_lines (tenant_id uuid, line text) SERVER files OPTIONS (filename '/dev/null');
GRANT SELECT ON shop.staffs_lines TO staff;

-- flaw GRD-PG-309: stamp on shop.preferences
SELECT pg_temp.make('shop.stamped');
SELECT pg_temp.make_common('shop.preferences');
ALTER TABLE shop.preferences OWNER TO staff;
GRANT UPDATE ON shop.preferences TO app;
CREATE ROLE stamper NOLOGIN BYPASSRLS;
GRANT USAGE ON SCHEMA shop TO stamper;
GRANT SELECT, UPDATE ON shop.stamped TO stamper;
ALTER TABLE shop.preferences OWNER TO stamper;
CREATE RULE stamp AS ON UPDATE TO shop.preferences DO ALSO UPDATE shop.stamped SET note = NEW.name;
-- near GRD-PG-309: shop.units
SELECT pg_temp.make_common('shop.units');
GRANT UPDATE ON shop.units TO app;
CREATE RULE stamp AS ON UPDATE TO shop.units DO ALSO UPDATE shop.stamped SET note = NEW.name;
-- flaw GRD-PG-008: closed.stored, leaks
CREATE MATERIALIZED VIEW closed.stored AS SELECT * FROM shop.bills;
GRANT SELECT ON closed.stored TO app;
