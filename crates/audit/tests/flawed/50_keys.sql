-- Keys, sequences, partitions, inheritance, and tables that belong to a tenant through another.
-- as app

-- flaw GRD-PG-401: mailboxes_address on shop.mailboxes, leaks shop.mailboxes
SELECT pg_temp.make('shop.mailboxes');
ALTER TABLE shop.mailboxes ADD COLUMN address text, ADD CONSTRAINT mailboxes_address UNIQUE (address);
-- flaw GRD-PG-401: lower_case on shop.nicknames, leaks shop.nicknames
SELECT pg_temp.make('shop.nicknames');
CREATE UNIQUE INDEX lower_case ON shop.nicknames (lower(note)) WHERE note <> '';
-- flaw GRD-PG-401: one_at_a_time on shop.bookings, leaks shop.bookings
SELECT pg_temp.make('shop.bookings');
ALTER TABLE shop.bookings ADD COLUMN during int4range,
    ADD CONSTRAINT one_at_a_time EXCLUDE USING gist (during WITH &&);
-- near GRD-PG-401: shop.usernames
SELECT pg_temp.make('shop.usernames');
ALTER TABLE shop.usernames ADD UNIQUE (note, tenant_id);
-- near GRD-PG-401: shop.only_read
SELECT pg_temp.make('shop.only_read');
ALTER TABLE shop.only_read ADD UNIQUE (note);
REVOKE INSERT, UPDATE, DELETE ON shop.only_read FROM app;

SELECT pg_temp.make('shop.carts');
ALTER TABLE shop.carts ADD CONSTRAINT carts_id UNIQUE (id);
-- flaw GRD-PG-401: carts_id on shop.carts, leaks shop.carts
-- flaw GRD-PG-402: of_cart on shop.items, leaks shop.items
SELECT pg_temp.make('shop.items');
ALTER TABLE shop.items ADD COLUMN cart uuid, ADD CONSTRAINT of_cart FOREIGN KEY (cart) REFERENCES shop.carts (id) ON DELETE CASCADE;
-- flaw GRD-PG-402: of_cart on shop.reservations, leaks shop.reservations
SELECT pg_temp.make('shop.reservations');
ALTER TABLE shop.reservations ADD COLUMN cart uuid, ADD CONSTRAINT of_cart FOREIGN KEY (cart) REFERENCES shop.carts (id);
-- near GRD-PG-402: shop.deliveries
SELECT pg_temp.make('shop.deliveries');
ALTER TABLE shop.deliveries ADD COLUMN cart uuid,
    ADD FOREIGN KEY (tenant_id, cart) REFERENCES shop.carts (tenant_id, id) ON DELETE CASCADE;
-- flaw GRD-PG-402: of_cart on shop.trolleys
SELECT pg_temp.make('shop.trolleys');
ALTER TABLE shop.trolleys ADD CONSTRAINT of_cart FOREIGN KEY (tenant_id) REFERENCES shop.carts (id);
-- near GRD-PG-401: shop.accounts
SELECT pg_temp.make('shop.accounts');
ALTER TABLE shop.accounts ADD CONSTRAINT own CHECK (tenant_id = id), ADD CONSTRAINT accounts_id UNIQUE (id);
-- near GRD-PG-402: shop.baskets
SELECT pg_temp.make('shop.baskets');
ALTER TABLE shop.baskets ADD CONSTRAINT of_account FOREIGN KEY (tenant_id) REFERENCES shop.accounts (id);
-- near GRD-PG-402: shop.addresses
SELECT pg_temp.make('shop.addresses');
ALTER TABLE shop.addresses ADD COLUMN country text REFERENCES shop.countries;

-- flaw GRD-PG-403: shop.tags, leaks
CREATE TABLE shop.tags (tenant_of uuid NOT NULL, cart uuid NOT NULL, tag text, PRIMARY KEY (tenant_of, cart, tag),
    FOREIGN KEY (tenant_of, cart) REFERENCES shop.carts (tenant_id, id));
ALTER TABLE shop.tags OWNER TO owner;
GRANT SELECT ON shop.tags TO app;
-- near GRD-PG-403: shop.labels
CREATE TABLE shop.labels (tenant_of uuid NOT NULL, cart uuid NOT NULL, label text, PRIMARY KEY (tenant_of, cart, label),
    FOREIGN KEY (tenant_of, cart) REFERENCES shop.carts (tenant_id, id));
ALTER TABLE shop.labels OWNER TO owner;
ALTER TABLE shop.labels ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- also GRD-PG-015: by_cart on shop.labels
CREATE POLICY by_cart ON shop.labels TO app USING (EXISTS (SELECT FROM shop.carts AS c
    WHERE c.tenant_id = tenant_of AND c.id = cart));
GRANT SELECT ON shop.labels TO app;
-- flaw GRD-PG-404: of_cart on shop.coupons
SELECT pg_temp.make('shop.coupons');
ALTER TABLE shop.coupons ADD COLUMN cart uuid,
    ADD CONSTRAINT of_cart FOREIGN KEY (tenant_id, cart) REFERENCES shop.carts (tenant_id, id) ON DELETE SET NULL;
-- near GRD-PG-404: shop.gifts
SELECT pg_temp.make('shop.gifts');
ALTER TABLE shop.gifts ADD COLUMN cart uuid,
    ADD CONSTRAINT of_cart FOREIGN KEY (tenant_id, cart) REFERENCES shop.carts (tenant_id, id) ON DELETE SET NULL (cart);

-- flaw GRD-PG-405: shop.settable_numbers, leaks
CREATE SEQUENCE shop.settable_numbers;
ALTER SEQUENCE shop.settable_numbers OWNER TO owner;
GRANT USAGE, UPDATE ON SEQUENCE shop.settable_numbers TO app;
-- flaw GRD-PG-406: shop.readable_numbers, leaks
CREATE SEQUENCE shop.readable_numbers;
ALTER SEQUENCE shop.readable_numbers OWNER TO owner;
SELECT pg_temp.make('shop.numbered');
ALTER TABLE shop.numbered ADD COLUMN number bigint DEFAULT nextval('shop.readable_numbers');
GRANT USAGE, SELECT ON SEQUENCE shop.readable_numbers TO app;
-- flaw GRD-PG-407: {db}
-- near GRD-PG-405: shop.drawn_numbers
CREATE SEQUENCE shop.drawn_numbers;
ALTER SEQUENCE shop.drawn_numbers OWNER TO owner;
GRANT USAGE ON SEQUENCE shop.drawn_numbers TO app;

-- Partitions and inheritance.
-- flaw GRD-PG-001: shop.visits_2026, leaks
CREATE TABLE shop.visits (tenant_id uuid NOT NULL, id uuid NOT NULL, at date NOT NULL, note text) PARTITION BY RANGE (at);
SELECT pg_temp.keep('shop.visits');
CREATE TABLE shop.visits_2026 PARTITION OF shop.visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
ALTER TABLE shop.visits_2026 OWNER TO owner;
GRANT SELECT ON shop.visits_2026 TO app;
-- near GRD-PG-001: shop.visits
-- near GRD-PG-001: shop.visits_old
CREATE TABLE shop.visits_old PARTITION OF shop.visits DEFAULT;
ALTER TABLE shop.visits_old OWNER TO owner;
-- flaw GRD-PG-320: shop.calls_2026
CREATE TABLE shop.calls (tenant_id uuid NOT NULL, id uuid NOT NULL, at date NOT NULL, note text) PARTITION BY RANGE (at);
SELECT pg_temp.keep('shop.calls');
CREATE TABLE shop.calls_2026 PARTITION OF shop.calls DEFAULT;
SELECT pg_temp.keep('shop.calls_2026');
-- flaw GRD-PG-001: shop.old_orders, leaks
CREATE TABLE shop.old_orders () INHERITS (shop.orders);
ALTER TABLE shop.old_orders OWNER TO owner;
GRANT SELECT ON shop.old_orders TO app;
-- near GRD-PG-001: shop.older_orders
CREATE TABLE shop.older_orders () INHERITS (shop.orders);
ALTER TABLE shop.older_orders OWNER TO owner;

-- Names, schemas, types.
-- flaw GRD-PG-001: "Shop 2"."Notes; --", leaks
SELECT pg_temp.make('"Shop 2"."Notes; --"');
DROP POLICY rows_open ON "Shop 2"."Notes; --"; DROP POLICY tenant_only ON "Shop 2"."Notes; --";
ALTER TABLE "Shop 2"."Notes; --" DISABLE ROW LEVEL SECURITY;
-- flaw GRD-PG-003: "It's ""open""" on "Shop 2"."Prices", leaks "Shop 2"."Prices"
SELECT pg_temp.make_with('"Shop 2"."Prices"', 'true');
ALTER POLICY p ON "Shop 2"."Prices" RENAME TO "It's ""open""";
-- near GRD-PG-003: "Shop 2"."Orders"
SELECT pg_temp.make('"Shop 2"."Orders"');
-- near GRD-PG-003: "Shop 2"."Keyed"
CREATE DOMAIN "Shop 2"."Key" AS uuid;
CREATE TABLE "Shop 2"."Keyed" (tenant_id "Shop 2"."Key" NOT NULL, id uuid NOT NULL, note text, PRIMARY KEY (tenant_id, id));
SELECT pg_temp.keep('"Shop 2"."Keyed"');
