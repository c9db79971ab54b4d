//! 4xx: keys, indexes and sequences.

use crate::bench::{Case, NearMiss};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "GRD-PG-401",
        "a unique constraint",
        "ALTER TABLE shop.orders ADD COLUMN \"Number\" text, ADD CONSTRAINT \"one; number\" UNIQUE (\"Number\") INCLUDE (note) DEFERRABLE",
        "\"one; number\" on shop.orders",
    ),
    Case::new(
        "GRD-PG-401",
        "a primary key with foreign keys on it",
        "CREATE TABLE shop.notes (tenant_id uuid NOT NULL, id text CONSTRAINT notes_key PRIMARY KEY, parent text REFERENCES shop.notes \
           ON DELETE CASCADE); ALTER TABLE shop.notes OWNER TO {owner}; \
         ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY tenant_only ON shop.notes TO {app} USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         GRANT SELECT, INSERT ON shop.notes TO {app}",
        "notes_key on shop.notes",
    )
    .also(&["GRD-PG-402"]),
    Case::new(
        "GRD-PG-401",
        "a partial unique index over an expression",
        "CREATE UNIQUE INDEX first_note ON shop.orders (lower(note), country) WHERE note IS NOT NULL",
        "first_note on shop.orders",
    ),
    Case::new(
        "GRD-PG-401",
        "an exclusion constraint",
        "ALTER TABLE shop.orders ADD COLUMN during int4range, ADD CONSTRAINT one_at_a_time EXCLUDE USING gist (during WITH &&)",
        "one_at_a_time on shop.orders",
    ),
    Case::new(
        "GRD-PG-401",
        "a key that a table without the tenant refers to",
        "ALTER TABLE shop.orders ADD COLUMN code text UNIQUE; CREATE TABLE shop.prints (code text REFERENCES shop.orders (code)); \
         ALTER TABLE shop.prints OWNER TO {owner}",
        "orders_code_key on shop.orders",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-402",
        "to another table, with an action",
        "ALTER TABLE shop.orders ADD CONSTRAINT orders_id UNIQUE (id); \
         ALTER TABLE shop.lines ADD CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES shop.orders (id) ON DELETE CASCADE",
        "of_order on shop.lines",
    )
    .also(&["GRD-PG-401"]),
    Case::new(
        "GRD-PG-402",
        "to itself, over an index that is not there yet",
        "ALTER TABLE shop.orders ADD COLUMN code text, ADD COLUMN replaces text, ADD CONSTRAINT codes UNIQUE (code), \
           ADD CONSTRAINT replaced FOREIGN KEY (replaces) REFERENCES shop.orders (code) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED",
        "replaced on shop.orders",
    )
    .also(&["GRD-PG-401"])
    .since(15),
    Case::new(
        "GRD-PG-402",
        "with the tenant compared to something else",
        "ALTER TABLE shop.lines ADD COLUMN of_tenant uuid, ADD CONSTRAINT crossed FOREIGN KEY (of_tenant, tenant_id) \
           REFERENCES shop.orders (tenant_id, id)",
        "crossed on shop.lines",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-403",
        "a child",
        "CREATE TABLE shop.tags (tenant_of uuid, order_id uuid, tag text, FOREIGN KEY (tenant_of, order_id) REFERENCES shop.orders); \
         ALTER TABLE shop.tags OWNER TO {owner}; GRANT SELECT, INSERT ON shop.tags TO {app}",
        "shop.tags",
    ),
    Case::new(
        "GRD-PG-403",
        "a grandchild",
        "CREATE TABLE shop.tags (id int PRIMARY KEY, tenant_of uuid, order_id uuid, \
           FOREIGN KEY (tenant_of, order_id) REFERENCES shop.orders); ALTER TABLE shop.tags OWNER TO {owner}; \
         CREATE TABLE shop.marks (tag int REFERENCES shop.tags); ALTER TABLE shop.marks OWNER TO {owner}; \
         GRANT SELECT ON shop.marks TO {app}",
        "shop.marks",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-404",
        "sets the tenant",
        "ALTER TABLE shop.lines DROP CONSTRAINT lines_tenant_id_order_id_fkey; \
         ALTER TABLE shop.lines ALTER order_id DROP NOT NULL, ADD CONSTRAINT of_order FOREIGN KEY (tenant_id, order_id) \
           REFERENCES shop.orders ON DELETE SET NULL",
        "of_order on shop.lines",
    )
    .since(15),
    Case::new(
        "GRD-PG-405",
        "a serial column's",
        "CREATE SEQUENCE shop.\"Numbers\"; ALTER SEQUENCE shop.\"Numbers\" OWNER TO {owner}; \
         GRANT USAGE, UPDATE ON SEQUENCE shop.\"Numbers\" TO PUBLIC; GRANT UPDATE ON SEQUENCE shop.\"Numbers\" TO {app}",
        "shop.\"Numbers\"",
    ),
    Case::new(
        "GRD-PG-406",
        "one that no table draws from",
        "CREATE SEQUENCE shop.numbers; ALTER SEQUENCE shop.numbers OWNER TO {owner}; GRANT USAGE, SELECT ON SEQUENCE shop.numbers TO {app}",
        "shop.numbers",
    ),
    Case::new(
        "GRD-PG-406",
        "a tenant table's",
        "CREATE SEQUENCE shop.numbers; ALTER SEQUENCE shop.numbers OWNER TO {owner}; \
         ALTER TABLE shop.orders ADD COLUMN number bigint DEFAULT nextval('shop.numbers'); \
         GRANT USAGE, SELECT ON SEQUENCE shop.numbers TO {app}",
        "shop.numbers",
    )
    .also(&["GRD-PG-407"]),
    Case::new(
        "GRD-PG-407",
        "an identity column",
        "ALTER TABLE shop.orders ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY",
        "{db}",
    )
    .without_sql(),
    Case::new(
        "GRD-PG-408",
        "the tenant behind",
        "ALTER TABLE shop.lines DROP CONSTRAINT lines_pkey, ADD PRIMARY KEY (id, tenant_id); DROP INDEX shop.lines_of_order; \
         UPDATE pg_class SET reltuples = 5e6 WHERE oid = 'shop.lines'::regclass",
        "shop.lines",
    )
    .also(&["GRD-PG-613"]),
    Case::new(
        "GRD-PG-408",
        "a partitioned table with BRIN only",
        "CREATE TABLE shop.events (tenant_id uuid NOT NULL, id uuid NOT NULL) PARTITION BY HASH (id); \
         CREATE TABLE shop.events_0 PARTITION OF shop.events FOR VALUES WITH (MODULUS 1, REMAINDER 0); \
         CREATE INDEX ON shop.events USING brin (tenant_id); \
         ALTER TABLE shop.events OWNER TO {owner}; ALTER TABLE shop.events_0 OWNER TO {owner}; \
         ALTER TABLE shop.events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY tenant_only ON shop.events TO {app} USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid); \
         GRANT INSERT ON shop.events TO {app}; UPDATE pg_class SET reltuples = 5e6 WHERE oid = 'shop.events_0'::regclass",
        "shop.events",
    ),
    Case::new(
        "GRD-PG-409",
        "a GIN index",
        "ALTER TABLE shop.orders ADD COLUMN body jsonb; CREATE INDEX bodies ON shop.orders USING gin (body); \
         UPDATE pg_class SET reltuples = 200000 WHERE oid = 'shop.orders'::regclass",
        "bodies on shop.orders",
    )
    .also(&["GRD-PG-613"])
    .without_sql(),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new("GRD-PG-401", "the tenant last", "ALTER TABLE shop.orders ADD UNIQUE (note, tenant_id)"),
    NearMiss::new("GRD-PG-401", "of a common table", "GRANT INSERT ON shop.countries TO {app}"),
    NearMiss::new(
        "GRD-PG-401",
        "of a table that is only read",
        "ALTER TABLE shop.orders ADD UNIQUE (note); REVOKE INSERT, UPDATE ON shop.orders FROM {app}",
    ),
    NearMiss::new(
        "GRD-PG-402",
        "to a common table",
        "ALTER TABLE shop.lines ADD COLUMN origin text REFERENCES shop.countries ON DELETE CASCADE",
    ),
    NearMiss::new(
        "GRD-PG-402",
        "the tenant not in front",
        "ALTER TABLE shop.orders ADD UNIQUE (id, tenant_id); \
         ALTER TABLE shop.lines ADD FOREIGN KEY (order_id, tenant_id) REFERENCES shop.orders (id, tenant_id) ON DELETE CASCADE",
    ),
    NearMiss::new(
        "GRD-PG-403",
        "the table of the tenants",
        "CREATE TABLE shop.tenants (id uuid PRIMARY KEY, main_tenant uuid, main_order uuid); GRANT SELECT ON shop.tenants TO {app}; \
         ALTER TABLE shop.orders ADD FOREIGN KEY (tenant_id) REFERENCES shop.tenants; \
         ALTER TABLE shop.tenants ADD FOREIGN KEY (main_tenant, main_order) REFERENCES shop.orders",
    ),
    NearMiss::new(
        "GRD-PG-403",
        "with policies through the parent",
        "CREATE TABLE shop.tags (tenant_of uuid, order_id uuid, FOREIGN KEY (tenant_of, order_id) REFERENCES shop.orders); \
         ALTER TABLE shop.tags ENABLE ROW LEVEL SECURITY; GRANT SELECT ON shop.tags TO {app}; \
         CREATE POLICY by_order ON shop.tags USING (EXISTS (SELECT FROM shop.orders AS o WHERE o.id = order_id))",
    ),
    NearMiss::new(
        "GRD-PG-404",
        "names what it sets",
        "ALTER TABLE shop.lines DROP CONSTRAINT lines_tenant_id_order_id_fkey; \
         ALTER TABLE shop.lines ALTER order_id DROP NOT NULL, ADD FOREIGN KEY (tenant_id, order_id) \
           REFERENCES shop.orders ON DELETE SET NULL (order_id)",
    )
    .since(15),
    NearMiss::new(
        "GRD-PG-405",
        "USAGE alone",
        "CREATE SEQUENCE shop.numbers; GRANT USAGE, SELECT ON SEQUENCE shop.numbers TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-406",
        "USAGE of one that no table draws from",
        "CREATE SEQUENCE shop.numbers; ALTER SEQUENCE shop.numbers OWNER TO {owner}; GRANT USAGE ON SEQUENCE shop.numbers TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-406",
        "of a common table",
        "ALTER TABLE shop.countries ADD COLUMN number serial; GRANT SELECT ON SEQUENCE shop.countries_number_seq TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-407",
        "of a common table",
        "ALTER TABLE shop.countries ADD COLUMN number serial; GRANT INSERT ON shop.countries TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-408",
        "the primary key begins with the tenant",
        "UPDATE pg_class SET reltuples = 5e6 WHERE oid = 'shop.orders'::regclass",
    ),
    NearMiss::new(
        "GRD-PG-408",
        "a small table",
        "ALTER TABLE shop.lines DROP CONSTRAINT lines_pkey; DROP INDEX shop.lines_of_order; \
         UPDATE pg_class SET reltuples = 900 WHERE oid = 'shop.lines'::regclass",
    ),
    NearMiss::new(
        "GRD-PG-409",
        "comparisons that are leakproof",
        "ALTER TABLE shop.orders ADD COLUMN at timestamptz; CREATE INDEX ON shop.orders (at); CREATE INDEX ON shop.orders (note, country); \
         UPDATE pg_class SET reltuples = 200000 WHERE oid = 'shop.orders'::regclass",
    ),
    NearMiss::new(
        "GRD-PG-409",
        "the tenant in front",
        "CREATE EXTENSION btree_gin; ALTER TABLE shop.orders ADD COLUMN body jsonb; \
         CREATE INDEX ON shop.orders USING gin (tenant_id, body); \
         UPDATE pg_class SET reltuples = 200000 WHERE oid = 'shop.orders'::regclass",
    ),
];

#[test]
fn keys() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
