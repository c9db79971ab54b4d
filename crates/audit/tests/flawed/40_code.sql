-- Functions and triggers.
-- as app

SELECT pg_temp.make('shop.parcels');

-- flaw GRD-PG-310: shop.parcel_notes(), leaks
CREATE FUNCTION shop.parcel_notes() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT note FROM shop.parcels';
GRANT EXECUTE ON FUNCTION shop.parcel_notes() TO app;
-- flaw GRD-PG-310: shop.parcel_count(), leaks
CREATE FUNCTION shop.parcel_count() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
    BEGIN ATOMIC SELECT count(*) FROM shop.parcels; END;
GRANT EXECUTE ON FUNCTION shop.parcel_count() TO app;
-- flaw GRD-PG-310: shop.parcel_of(whose uuid), leaks
CREATE FUNCTION shop.parcel_of(whose uuid) RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT note FROM shop.parcels WHERE tenant_id = whose';
GRANT EXECUTE ON FUNCTION shop.parcel_of TO app;
-- near GRD-PG-310: shop.country_count()
CREATE FUNCTION shop.country_count() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
    BEGIN ATOMIC SELECT count(*) FROM shop.countries; END;
GRANT EXECUTE ON FUNCTION shop.country_count() TO app;
-- near GRD-PG-310: shop.bound_count()
CREATE FUNCTION shop.bound_count() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
    BEGIN ATOMIC SELECT count(*) FROM shop.parcels; END;
ALTER FUNCTION shop.bound_count() OWNER TO owner;
GRANT EXECUTE ON FUNCTION shop.bound_count() TO app;
-- near GRD-PG-310: shop.invoker_count()
CREATE FUNCTION shop.invoker_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM shop.parcels';
GRANT EXECUTE ON FUNCTION shop.invoker_count() TO app;
-- near GRD-PG-310: shop.staffs_count()
CREATE FUNCTION shop.staffs_count() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
    BEGIN ATOMIC SELECT count(*) FROM shop.parcels; END;
GRANT EXECUTE ON FUNCTION shop.staffs_count() TO staff;

-- flaw GRD-PG-311: shop.anywhere()
CREATE FUNCTION shop.anywhere() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN length(''x''); END';
ALTER FUNCTION shop.anywhere() OWNER TO staff;
GRANT EXECUTE ON FUNCTION shop.anywhere() TO app;
-- flaw GRD-PG-312: shop.in_the_workshop()
CREATE FUNCTION shop.in_the_workshop() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, workshop, pg_temp AS 'BEGIN RETURN length(''x''); END';
ALTER FUNCTION shop.in_the_workshop() OWNER TO staff;
GRANT EXECUTE ON FUNCTION shop.in_the_workshop() TO app;
-- near GRD-PG-312: shop.in_order()
CREATE FUNCTION shop.in_order() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, staffs, pg_temp AS 'BEGIN RETURN length(''x''); END';
ALTER FUNCTION shop.in_order() OWNER TO staff;
GRANT EXECUTE ON FUNCTION shop.in_order() TO app;
-- flaw GRD-PG-313: shop.run_it(what text)
CREATE FUNCTION shop.run_it(what text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'BEGIN EXECUTE ''SELECT '' || what; END';
ALTER FUNCTION shop.run_it OWNER TO staff;
GRANT EXECUTE ON FUNCTION shop.run_it TO app;
-- flaw GRD-PG-314: shop.watch()
SELECT pg_temp.make('shop.watched');
CREATE FUNCTION shop.watch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'BEGIN UPDATE shop.parcels SET note = NULL WHERE id = NEW.id; RETURN NEW; END';
CREATE TRIGGER watch AFTER UPDATE ON shop.watched FOR EACH ROW EXECUTE FUNCTION shop.watch();
-- near GRD-PG-314: shop.stamp()
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER stamp BEFORE UPDATE ON shop.watched FOR EACH ROW EXECUTE FUNCTION shop.stamp();
-- flaw GRD-PG-315: shop.tell(text)
CREATE FUNCTION shop.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 LEAKPROOF AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END';
GRANT EXECUTE ON FUNCTION shop.tell TO app;
-- near GRD-PG-315: shop.tell_staff(text)
CREATE FUNCTION shop.tell_staff(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF AS 'BEGIN RETURN true; END';
GRANT EXECUTE ON FUNCTION shop.tell_staff TO staff;
-- flaw GRD-PG-316: shop.how_many()
CREATE FUNCTION shop.how_many() RETURNS bigint LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT count(*) FROM shop.countries; END;
GRANT EXECUTE ON FUNCTION shop.how_many() TO app;
-- near GRD-PG-316: shop.twice(integer)
CREATE FUNCTION shop.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
GRANT EXECUTE ON FUNCTION shop.twice TO app;
-- flaw GRD-PG-317: shop.first_note()
SELECT pg_temp.make('shop.with_default');
CREATE FUNCTION shop.first_note() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
ALTER FUNCTION shop.first_note() OWNER TO app;
ALTER TABLE shop.with_default ALTER note SET DEFAULT shop.first_note();
-- flaw GRD-PG-318: shop.mail
CREATE DOMAIN shop.mail AS text CHECK (VALUE <> '');
ALTER TABLE shop.with_default ADD COLUMN mail shop.mail;
ALTER DOMAIN shop.mail OWNER TO app;
-- flaw GRD-PG-109: guard.become(t text)
CREATE ROLE setter NOLOGIN;
GRANT SET ON PARAMETER backtrace_functions TO setter;
CREATE FUNCTION guard.become(t text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'BEGIN RETURN set_config(''backtrace_functions'', t, false); END';
ALTER FUNCTION guard.become OWNER TO setter;
GRANT EXECUTE ON FUNCTION guard.become TO app;
-- near GRD-PG-109: guard.cannot(t text)
CREATE FUNCTION guard.cannot(t text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'BEGIN RETURN set_config(''backtrace_functions'', t, false); END';
ALTER FUNCTION guard.cannot OWNER TO staff;
GRANT EXECUTE ON FUNCTION guard.cannot TO app;
